"""Recorded message: it is heard where silence would be, never passes for the text, and is checked at start."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from steadyvoice import AudioFormat, CacheConfig, Tone, TTSConfigurationError, TTSService
from steadyvoice.audio.conversion import convert
from steadyvoice.audio.word_tones import synthesize_tones, words_in
from steadyvoice.speech.errors import TTSServerError
from steadyvoice.speech.request import OnMidstream

from ...gateway.running_gateway import ELEVENLABS, OPENAI, elevenlabs_body, openai_body, running_gateway
from ..conftest import MakeService
from ..conversation.turns import spoken
from ..scripted_provider import RATE, Say, ScriptedProvider

DOWN = TTSServerError("HTTP 503", status=503)
TEXT = "This text is never spoken by anything."
MESSAGE = "Please hold."
WORDS = MESSAGE.split()


def write_message(path: Path, format: str = "wav_24000") -> Path:
    pcm, _ = synthesize_tones(MESSAGE, sample_rate=24_000)
    path.write_bytes(convert(pcm, AudioFormat.parse("pcm_24000"), AudioFormat.parse(format)))
    return path


@pytest.fixture
def message(tmp_path: Path) -> Path:
    return write_message(tmp_path / "sorry.wav")


@pytest.mark.looptime
@pytest.mark.parametrize("format", ["pcm_8000", "mp3_44100_128", "wav_24000", "opus_48000_64", "ulaw_8000"])
async def test_message_is_heard_in_the_requested_format(make_service: MakeService, message: Path, format: str) -> None:
    speech = await make_service(ScriptedProvider([DOWN]), recorded=message).synthesize(TEXT, format=format)
    assert (speech.outcome, speech.provider) == ("recorded", None)
    assert words_in(speech.audio, format) == WORDS
    assert not speech.alignment.characters, "it is not the text"
    (span,) = speech.report.spans
    assert (span.begin, span.end) == (0, len(TEXT))


@pytest.mark.looptime
async def test_any_local_voice_comes_before_the_message(make_service: MakeService, message: Path) -> None:
    speech = await make_service(ScriptedProvider([DOWN]), Tone(), recorded=message).synthesize(TEXT)
    assert (speech.outcome, speech.provider) == ("substituted", "tone")


@pytest.mark.looptime
async def test_message_is_heard_where_no_other_voice_is_wanted(make_service: MakeService, message: Path) -> None:
    tts = make_service(ScriptedProvider([DOWN]), Tone(), recorded=message, voice_substitution="never")
    assert (await tts.synthesize(TEXT)).outcome == "recorded"


@pytest.mark.looptime
async def test_message_is_off_where_silence_is_off(make_service: MakeService, message: Path) -> None:
    tts = make_service(ScriptedProvider([DOWN]), recorded=message, muted=False)
    with pytest.raises(TTSServerError):
        await tts.synthesize(TEXT)
    turn = make_service(ScriptedProvider([DOWN]), recorded=message).conversation().turn()
    assert isinstance((await spoken(turn, TEXT)).error, TTSServerError)


@pytest.mark.looptime
async def test_cache_comes_before_the_message_and_never_has_it(
    make_service: MakeService, message: Path, tmp_path: Path
) -> None:
    vendor = ScriptedProvider([DOWN, DOWN, Say(), DOWN])
    cache = CacheConfig(tmp_path / "cache")
    async with make_service(vendor, recorded=message, cache=cache) as tts:
        outcomes = [(await tts.synthesize(TEXT, format="pcm_8000")).outcome]
        tts.reset_circuit_breaker()
        while outcomes[-1] == "recorded" and len(outcomes) < 6:
            outcomes.append((await tts.synthesize(TEXT, format="pcm_8000")).outcome)
            tts.reset_circuit_breaker()
        outcomes.append((await tts.synthesize(TEXT, format="pcm_8000")).outcome)
    assert outcomes[0] == "recorded"
    assert outcomes[-2:] == ["spoken", "cached"]


@pytest.mark.looptime
@pytest.mark.parametrize("on_midstream", ["resume", "restart"])
async def test_message_takes_the_place_of_a_rest(
    make_service: MakeService, message: Path, on_midstream: OnMidstream
) -> None:
    text = "The beginning is spoken well. The rest of it breaks off somewhere in the middle."
    vendor = ScriptedProvider([Say(seconds=4.0, then=DOWN, aligned=True), DOWN], format=AudioFormat.parse("pcm_8000"))
    tts = make_service(vendor, recorded=message, on_midstream=on_midstream)
    stream = tts.stream(text, format="pcm_8000")
    audio = b"".join([chunk async for chunk in stream])
    assert stream.outcome == "recorded"
    assert words_in(audio, "pcm_8000")[-2:] == WORDS
    assert words_in(audio, "pcm_8000").count("hold.") == 1
    assert len(audio) / 2 / RATE == pytest.approx(stream.duration, abs=0.01)


@pytest.mark.looptime
async def test_message_is_heard_once_in_a_turn(make_service: MakeService, message: Path) -> None:
    async with make_service(ScriptedProvider([DOWN]), recorded=message) as tts:
        conversation = tts.conversation(muted=True, format="pcm_24000")
        for _ in range(2):
            turn = conversation.turn()
            listener = await spoken(turn, "It rains today. We stay at home. Tomorrow is another day.")
            assert turn.outcome == "recorded"
            assert words_in(listener.audio, "pcm_24000") == WORDS
            assert listener.words == []


@pytest.mark.parametrize("format", ["mp3_44100_128", "flac_24000", "opus_48000_64"])
def test_other_files_than_wav_are_decoded(tmp_path: Path, format: str) -> None:
    file = write_message(tmp_path / "sorry.bin", format)
    with TTSService([ScriptedProvider([DOWN])], recorded=str(file)) as tts:
        assert words_in(tts.synthesize(TEXT, format="pcm_24000").audio, "pcm_24000") == WORDS


def test_stereo_file_of_another_rate_is_decoded(tmp_path: Path) -> None:
    pcm, _ = synthesize_tones(MESSAGE, sample_rate=44_100)
    samples = memoryview(pcm).cast("h")
    with wave.open(str(tmp_path / "stereo.wav"), "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
        file.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) * 2 for sample in samples))
    with TTSService([ScriptedProvider([DOWN])], recorded=tmp_path / "stereo.wav") as tts:
        assert words_in(tts.synthesize(TEXT, format="pcm_24000").audio, "pcm_24000") == WORDS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot read .*: No such file"),
        (b"", "no audio that can be decoded"),
        (b"These are words." * 100, "no audio that can be decoded"),
        (b"RIFF\xff\xff\xff\xffWAVE", "no audio that can be decoded"),
    ],
)
def test_impossible_file_is_refused_at_start_with_its_key(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "sorry.wav"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(TTSConfigurationError, match=f"^recorded: .*{reason}"):
        TTSService([Tone()], recorded=file)
    config = tmp_path / "c.toml"
    config.write_text(f'[fallback]\nrecorded = "{file}"\n[[providers]]\nkind = "tone"\n')
    with pytest.raises(TTSConfigurationError, match=rf"^fallback\.recorded: .*{reason}"):
        TTSService.from_config(config)


def test_long_recording_is_refused(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 8000 * 61))
    with pytest.raises(TTSConfigurationError, match=r"^recorded: .* longer than 60 s"):
        TTSService([Tone()], recorded=tmp_path / "long.wav")
    with pytest.raises(TTSConfigurationError, match=r"^recorded: must be the path of an audio file, got 3"):
        TTSService([Tone()], recorded=3)  # type: ignore[arg-type]


@pytest.mark.looptime
async def test_file_is_read_again_only_when_it_is_set_again(make_service: MakeService, message: Path) -> None:
    async with make_service(ScriptedProvider([DOWN]), recorded=message) as tts:
        message.unlink()  # noqa: ASYNC240
        await tts.reconfigure(muted=True)
        assert (await tts.synthesize(TEXT)).outcome == "recorded"
        with pytest.raises(TTSConfigurationError):
            await tts.reconfigure(recorded=message, muted=False)
        assert tts.settings["muted"], "a refused change changes nothing"
        await tts.reconfigure(recorded=None)
        assert (await tts.synthesize(TEXT)).outcome == "muted"


async def test_gateway_says_that_it_was_the_message(message: Path) -> None:
    async with running_gateway(ScriptedProvider([DOWN]), recorded=message) as gateway:
        for endpoint, body in ((ELEVENLABS, elevenlabs_body(TEXT)), (OPENAI, openai_body(TEXT, response_format="wav"))):
            answer = await gateway.post(endpoint, body)
            audio = await answer.read()
            assert (answer.status, answer.headers["x-steadyvoice-outcome"]) == (200, "recorded")
            assert words_in(audio, "wav_24000" if endpoint == OPENAI else "mp3_44100_128") == WORDS
        metrics = await (await gateway.get("/metrics")).text()
        assert 'outcome="recorded"' in metrics


def test_command_ends_with_the_status_of_silence(message: Path, tmp_path: Path) -> None:
    from tests.cli.shell import Shell, one_provider

    shell = Shell(tmp_path)
    shell.write("one.toml", one_provider(base_url="http://127.0.0.1:9", extra={"fallback": f'recorded = "{message}"'}))
    ended = shell.run("say", TEXT, "--config", "one.toml", "-o", "a.wav")
    assert ended.status == 3
    assert "recorded: the message instead of the text in a.wav, because elevenlabs: " in ended.err
    assert words_in((tmp_path / "a.wav").read_bytes(), "wav_24000") == WORDS
