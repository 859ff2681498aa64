"""Muted mode: silence of the right length with captions, and a report that says so."""

from __future__ import annotations

import json
import wave
from io import BytesIO

import pytest

from steadyvoice import Alignment, TTSCircuitOpenError, TTSError
from steadyvoice.service.result import UtteranceReport
from steadyvoice.speech.errors import TTSInvalidKeyError, TTSServerError

from ..conftest import MakeService
from ..scripted_provider import Say, ScriptedProvider, pcm

pytestmark = pytest.mark.looptime

DOWN = TTSServerError("HTTP 503", status=503)
TEXT = "Nobody is there to say this."


async def test_silence_lasts_as_long_as_the_speech_would_have(make_service: MakeService) -> None:
    speech = await make_service(ScriptedProvider([DOWN])).synthesize(TEXT, format="pcm_8000")
    assert (speech.outcome, speech.provider) == ("muted", None)
    assert speech.duration == pytest.approx(len(TEXT) * 0.06)
    assert speech.audio == bytes(2 * round(speech.duration * 8000))


async def test_rate_of_silence_is_learned_from_the_voice(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(seconds=len(TEXT) * 0.1), DOWN])
    tts = make_service(vendor)
    await tts.synthesize(TEXT, format="pcm_8000")
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert speech.outcome == "muted"
    assert speech.duration == pytest.approx(len(TEXT) * 0.1, rel=0.01)


async def test_captions_contain_the_unspoken_text(make_service: MakeService) -> None:
    speech = await make_service(ScriptedProvider([DOWN])).synthesize(TEXT, format="pcm_8000")
    words = speech.alignment.words()
    assert [word.text for word in words] == TEXT.split()
    assert words[0].start == 0.0
    assert words[-1].stop == pytest.approx(speech.duration)
    assert speech.captions().startswith("WEBVTT\n")
    assert not speech.alignment.exact


async def test_state_is_muted_until_a_provider_speaks_again(make_service: MakeService) -> None:
    vendor = ScriptedProvider([DOWN, DOWN, Say()])
    tts = make_service(vendor)
    assert (await tts.synthesize(TEXT, format="pcm_8000")).outcome == "muted"
    state = tts.get_error_state()
    assert state["is_muted"]
    json.dumps(state)
    tts.reset_circuit_breaker("scripted")
    assert not tts.get_error_state()["is_muted"]
    assert (await tts.synthesize(TEXT, format="pcm_8000")).outcome == "spoken"


@pytest.mark.parametrize("form", ["wav_24000", "mp3_44100_128", "opus_48000_64", "ulaw_8000", "flac_24000"])
async def test_silence_has_the_requested_format(make_service: MakeService, form: str) -> None:
    speech = await make_service(ScriptedProvider([DOWN])).synthesize(TEXT, format=form)
    assert speech.outcome == "muted"
    if form.startswith("wav"):
        with wave.open(BytesIO(speech.audio)) as wav:
            assert wav.getframerate() == 24000
            assert wav.getnframes() / 24000 == pytest.approx(speech.duration)
    marks = {"mp3": b"\xff", "opus": b"OggS", "flac": b"fLaC", "wav": b"RIFF", "ulaw": b""}
    assert speech.audio.startswith(marks[form.split("_")[0]])


async def test_muted_false_raises_an_error(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([DOWN]), muted=False)
    with pytest.raises(TTSServerError):
        await tts.synthesize(TEXT, format="pcm_8000")
    with pytest.raises(TTSCircuitOpenError):
        await tts.synthesize(TEXT, format="pcm_8000")


async def test_rest_of_a_broken_stream_is_silence_with_captions(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(), DOWN], max_characters=12)
    speech = await make_service(vendor).synthesize("First part. Second part.", format="pcm_8000")
    assert speech.outcome == "muted"
    assert [(span.provider, span.begin, span.end) for span in speech.report.spans] == [
        ("scripted", 0, 12),
        (None, 12, 24),
    ]
    assert speech.alignment.text == "First part. Second part."
    assert speech.audio.startswith(pcm(12 * 0.06))


@pytest.mark.parametrize("provider", ["first", "second"])
async def test_outcome_is_muted_from_the_first_moment_of_silence(provider: str) -> None:
    spoken = UtteranceReport("first")
    spoken.current_speaker.start(provider)
    spoken.add(provider, 0, 12, 0.7, Alignment())

    spoken.current_speaker.silent = True

    assert spoken.outcome == "muted"


async def test_empty_text_is_zero_seconds_without_a_request(make_service: MakeService) -> None:
    vendor = ScriptedProvider()
    for text in ("", "  \n\t ", "\x00\x07\ufeff"):
        speech = await make_service(vendor).synthesize(text, format="wav_24000")
        assert (speech.duration, speech.outcome, speech.provider) == (0.0, "spoken", None)
        with wave.open(BytesIO(speech.audio)) as wav:
            assert wav.getnframes() == 0
    assert not vendor.requests


async def test_held_credential_counts_as_an_outage(make_service: MakeService) -> None:
    bad = TTSInvalidKeyError("HTTP 401", status=401)
    assert (await make_service(ScriptedProvider([bad])).synthesize(TEXT, format="pcm_8000")).outcome == "muted"
    with pytest.raises(TTSError, match="check the API key"):
        await make_service(ScriptedProvider([bad]), muted=False).synthesize(TEXT, format="pcm_8000")
