"""Audio validation: an answer is accepted only if it is audible audio in the promised format."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice import AudioFormat, SpeechRequest, TTSError, TTSStreamInterruptedError
from steadyvoice.audio.conversion import convert, silence
from steadyvoice.service.pipeline.audio_validation import MAX_LEADING_SILENCE, AudioValidator
from steadyvoice.speech.failure_kinds import Billed, FailureKind, meaning_of
from steadyvoice.speech.text import SECONDS_PER_CHARACTER

from ..conftest import MakeService
from ..scripted_provider import RATE, Say, ScriptedProvider, Send, pcm

TEXT = "The quick brown fox jumps over the lazy dog, and then it does so again."
LONG = len(TEXT) * SECONDS_PER_CHARACTER
PCM = AudioFormat.parse("pcm_8000")
FORMATS = (
    "pcm_8000",
    "wav_24000",
    "mp3_44100_128",
    "opus_48000_64",
    "ulaw_8000",
    "alaw_8000",
    "aac_24000_64",
    "flac_24000",
)


def encoded_tone(name: str, seconds: float = LONG, *, hush: float = 0.0) -> bytes:
    return convert(bytes(2 * round(hush * RATE)) + tone(seconds), PCM, AudioFormat.parse(name))


def tone(seconds: float) -> bytes:
    return (pcm(0.001) + pcm(0.001, -1000)) * round(seconds * 500)


def validator_for(text: str = TEXT, name: str = "pcm_8000") -> AudioValidator:
    request = SpeechRequest(text, AudioFormat.parse(name))
    return AudioValidator(request, request.format, lambda kind, message: kind(message, provider="vendor"))


async def validated_parts(audio: bytes, text: str = TEXT, name: str = "pcm_8000", *, size: int = 1000) -> list[bytes]:
    """Return all validated bytes, part by part; b"" where some were held."""
    validator = validator_for(text, name)
    handed = [await validator.validate(audio[offset : offset + size]) for offset in range(0, len(audio), size)]
    return [*handed, await validator.end()]


async def rejection(audio: bytes, text: str = TEXT, name: str = "pcm_8000") -> TTSError:
    with pytest.raises(TTSError) as failed:
        await validated_parts(audio, text, name)
    return failed.value


@pytest.mark.parametrize("name", FORMATS)
async def test_audio_is_returned_byte_for_byte(name: str) -> None:
    audio = encoded_tone(name)
    assert b"".join(await validated_parts(audio, name=name)) == audio


@pytest.mark.parametrize("name", FORMATS)
async def test_silence_instead_of_speech_is_rejected(name: str) -> None:
    error = await rejection(b"".join(silence(AudioFormat.parse(name), LONG)), name=name)
    assert error.kind is FailureKind.SILENT_AUDIO
    assert "of silence" in str(error)


async def test_endless_silence_is_rejected_after_five_seconds() -> None:
    validator = validator_for()
    assert await validator.validate(pcm(MAX_LEADING_SILENCE - 0.1, 0)) == b""
    with pytest.raises(TTSError, match=r"5\.0 s of silence"):
        await validator.validate(pcm(0.1, 0))


@pytest.mark.parametrize("name", FORMATS)
async def test_quiet_beginning_is_held_until_a_word_and_kept(name: str) -> None:
    audio = encoded_tone(name, hush=2.0)
    parts = await validated_parts(audio, name=name, size=200)
    assert b"".join(parts) == audio
    assert parts[0] == b""


async def test_faint_voice_is_decoded_before_it_is_rejected() -> None:
    # In FLAC a constant takes a few bytes, however loud it is.
    audio = convert(pcm(LONG), PCM, AudioFormat.parse("flac_24000"))
    assert b"".join(await validated_parts(audio, name="flac_24000")) == audio
    longer = convert(pcm(MAX_LEADING_SILENCE + 2.0), PCM, AudioFormat.parse("flac_24000"))
    assert await validator_for(name="flac_24000").validate(longer) == longer, "and then it is validator at once"


async def test_header_is_not_audio_yet() -> None:
    validator = validator_for(name="wav_24000")
    await validator.validate(encoded_tone("wav_24000")[:44])
    assert not validator.has_audio
    await validator.validate(encoded_tone("wav_24000")[44:])
    assert validator.has_audio
    assert (await rejection(encoded_tone("wav_24000")[:44], name="wav_24000")).kind is FailureKind.NOT_AUDIO


@pytest.mark.parametrize("text", ["...", "?!", "-- --"])
async def test_text_without_words_may_be_silence(text: str) -> None:
    assert b"".join(await validated_parts(pcm(0.5, 0), text)) == pcm(0.5, 0)


@pytest.mark.parametrize("text", ["...", "?!"])
async def test_text_without_words_may_be_empty(text: str) -> None:
    assert b"".join(await validated_parts(b"", text)) == b""


@pytest.mark.parametrize("name", ["wav_24000", "mp3_44100_128", "aac_24000_64", "flac_24000"])
async def test_wrong_sample_rate_is_rejected(name: str) -> None:
    asked = AudioFormat.parse(name)
    other = convert(tone(LONG), PCM, AudioFormat(asked.codec, 16000, asked.bitrate))
    assert (await rejection(other, name=name)).kind is FailureKind.WRONG_FORMAT


async def test_wrong_container_is_named() -> None:
    error = await rejection(encoded_tone("wav_24000"), name="mp3_44100_128")
    assert error.kind is FailureKind.WRONG_FORMAT
    assert "answered with a WAV, expected mp3_44100_128" in str(error)


@pytest.mark.parametrize("name", FORMATS)
async def test_error_message_after_the_audio_is_rejected(name: str) -> None:
    error = await rejection(encoded_tone(name) + b'{"detail":{"status":"internal_server_error"}}', name=name)
    assert error.kind is FailureKind.NOT_AUDIO


async def test_end_within_a_frame_is_a_cut() -> None:
    assert (await rejection(encoded_tone("mp3_44100_128")[:-10], name="mp3_44100_128")).kind is FailureKind.CUT


async def test_voice_that_does_not_stop_is_rejected() -> None:
    validator = validator_for("Good morning")
    await validator.validate(tone(24.0))
    with pytest.raises(TTSError, match="without an end") as failed:
        await validator.validate(tone(1.0))
    assert failed.value.kind is FailureKind.TOO_LONG


@pytest.mark.parametrize("kind", [FailureKind.SILENT_AUDIO, FailureKind.WRONG_FORMAT, FailureKind.TOO_LONG])
def test_rejected_audio_is_billed_and_counted(kind: FailureKind) -> None:
    meaning = meaning_of(kind)
    assert (meaning.billed, meaning.circuit_weight, meaning.fail_over) == (Billed.YES, 1.0, True)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(FORMATS),
    hush=st.floats(0, 4.5),
    cuts=st.lists(st.integers(1, 4000), min_size=1, max_size=8),
)
def test_validated_bytes_do_not_depend_on_chunk_sizes(name: str, hush: float, cuts: list[int]) -> None:
    audio = encoded_tone(name, hush=hush)
    pieces: list[bytes] = []
    offset = 0
    while offset < len(audio):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(audio[offset : offset + size])
        offset += size

    async def run() -> bytes:
        validator = validator_for(name=name)
        handed = [await validator.validate(piece) for piece in pieces]
        return b"".join([*handed, await validator.end()])

    assert asyncio.run(run()) == audio


@pytest.mark.looptime
async def test_rejected_answer_is_reported_with_the_vendors_request_id(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Send(pcm(6.0, 0))], name="vendor")
    speech = await make_service(vendor, ScriptedProvider(name="second")).synthesize("Good morning", format="pcm_8000")
    error = speech.attempts[0].error
    assert error is not None
    assert error.request_id == "request-1"


@pytest.mark.looptime
async def test_silence_of_a_replaced_vendor_is_not_delivered(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Send(pcm(6.0, 0))], name="vendor")
    tts = make_service(vendor, ScriptedProvider(name="second"))
    stream = tts.stream("Good morning", format="pcm_8000")
    validator = b"".join([chunk async for chunk in stream])
    assert validator == pcm(len(validator) / 2 / RATE)
    assert stream.provider == "second"
    state = tts.get_error_state()
    assert (state["last_error"]["kind"], state["totals"]["failures"]) == ("silent_audio", 1)
    assert len(vendor.requests) == 1


@pytest.mark.looptime
async def test_listener_gets_the_error_at_once_when_the_voice_does_not_stop(
    make_service: MakeService,
) -> None:
    vendor = ScriptedProvider([Say(seconds=1000.0, pieces=1000)], name="vendor")
    tts = make_service(vendor, ScriptedProvider(name="second"))
    with pytest.raises(TTSStreamInterruptedError) as broken:
        _ = [chunk async for chunk in tts.stream("Good morning", format="pcm_8000", on_midstream="error")]
    assert broken.value.delivered == pytest.approx(25.0, abs=1.0)
    assert tts.get_error_state()["last_error"]["kind"] == "too_long"
