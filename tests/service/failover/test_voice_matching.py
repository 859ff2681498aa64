"""Substitute voices that resemble the requested one in traits, rate and loudness."""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from steadyvoice import Accepted, AudioChunk, AudioFormat, SpeechRequest, SynthesisOffer, Voice
from steadyvoice.audio.conversion import convert
from steadyvoice.audio.crossfade import apply_gain, speech_level
from steadyvoice.audio.word_tones import synthesize_tones
from steadyvoice.speech.errors import TTSServerError
from steadyvoice.speech.format import Codec

from ..conftest import MakeService
from ..scripted_provider import ScriptedProvider
from ..word_tone_provider import Fault, WordToneProvider
from .voiced_provider import OtherVendor, VoicedProvider

pytestmark = pytest.mark.looptime

DOWN = TTSServerError("HTTP 503", status=503)
TEXT = "The rain has stopped. We walk home now, slowly, and nobody says a word."
NARRATOR = Voice("n", "en-GB", "female", 150, -18.0)
ANNA, BERT = Voice("a", "en", "female", 200, -22.0), Voice("b", "en", "male", 150, -18.0)
PCM = AudioFormat.parse("pcm_8000")


class Down(VoicedProvider):
    """Provider that has the narrator's voice, and is down."""

    async def speak(self, *args: Any, **kwargs: Any) -> Any:
        raise DOWN
        yield


def down() -> Down:
    return Down(name="down", voices={"narrator": NARRATOR})


def loudness(audio: bytes, form: AudioFormat = PCM) -> float:
    samples = convert(audio, form, AudioFormat(Codec.PCM, form.sample_rate))
    return speech_level(array("h", samples), form.sample_rate) or 0.0


@pytest.mark.parametrize("form", ["pcm_8000", "mp3_44100_128", "wav_24000", "opus_48000_64"])
@pytest.mark.parametrize("options", [{}, {"on_midstream": "restart"}, {"on_midstream": "error"}], ids=str)
async def test_substitute_resembles_the_voice_in_rate_and_loudness(
    make_service: MakeService, form: str, options: dict[str, Any]
) -> None:
    other = OtherVendor(name="other", voices={"default": BERT, "anna": ANNA})
    tts = make_service(down(), other)

    speech = await tts.synthesize(TEXT, voice="narrator", format=form, speed=1.2, **options)
    async with tts.stream(TEXT, voice="narrator", format=form, speed=1.2, **options) as stream:
        streamed = b"".join([data async for data in stream])

    assert (speech.outcome, speech.provider, speech.voice, stream.voice) == ("substituted", "other", "a", "a")
    assert {request.speed for request in other.requests} == {1.2 * 150 / 200}
    assert tts.get_error_state()["providers"]["other"]["voice"] == "a"
    as_loud = loudness(convert(synthesize_tones(TEXT, sample_rate=8000)[0], PCM, PCM))
    for audio in (speech.audio, streamed):
        assert loudness(audio, speech.format) == pytest.approx(as_loud, rel=0.1)


async def test_voice_of_the_same_name_is_matched_as_well(make_service: MakeService) -> None:
    other = OtherVendor(name="other", voices={"narrator": ANNA})
    speech = await make_service(down(), other).synthesize(TEXT, voice="narrator", format="pcm_8000")
    assert (speech.voice, other.requests[0].speed) == ("a", 0.75)
    assert loudness(speech.audio) == pytest.approx(loudness(synthesize_tones(TEXT, sample_rate=8000)[0]), rel=0.02)


@pytest.mark.parametrize("options", [{}, {"on_midstream": "error"}], ids=str)
@pytest.mark.parametrize("voice", [replace(ANNA, rate=None, loudness=None), replace(ANNA, rate=150, loudness=-18.0)])
async def test_matching_or_undeclared_voice_is_passed_through(
    make_service: MakeService, voice: Voice, options: dict[str, Any]
) -> None:
    other = OtherVendor(name="other", voices={"anna": voice})
    speech = await make_service(down(), other).synthesize(TEXT, voice="narrator", format="mp3_44100_128", **options)
    assert speech.audio == convert(
        synthesize_tones(TEXT, sample_rate=44100)[0], AudioFormat(Codec.PCM, 44100), speech.format
    )
    assert other.requests[0].speed == 1.0


async def test_preferred_voice_is_never_changed(make_service: MakeService) -> None:
    first = VoicedProvider(name="first", voices={"narrator": ANNA})
    tts = make_service(first, OtherVendor(name="other", voices={"narrator": NARRATOR}))
    speech = await tts.synthesize(TEXT, voice="narrator", format="mp3_44100_128", speed=1.1)
    quiet = apply_gain(array("h", synthesize_tones(TEXT, sample_rate=44100)[0]), 10 ** (-4 / 20)).tobytes()
    assert speech.audio == convert(quiet, AudioFormat(Codec.PCM, 44100), speech.format)
    assert (speech.outcome, first.requests[0].speed) == ("spoken", 1.1)


async def test_every_piece_of_a_long_text_is_matched(make_service: MakeService) -> None:
    other = OtherVendor(name="other", voices={"anna": ANNA}, max_characters=30)
    speech = await make_service(down(), other).synthesize(TEXT, voice="narrator", format="pcm_8000")
    assert len(other.requests) > 2
    assert {request.speed for request in other.requests} == {0.75}
    rate = PCM.sample_rate
    for span in speech.report.spans:
        piece = speech.audio[2 * round(span.start * rate) : 2 * round(span.stop * rate)]
        assert loudness(piece) == pytest.approx(loudness(synthesize_tones(TEXT, sample_rate=8000)[0]), rel=0.15)


async def test_resuming_voice_resembles_the_one_that_broke_off(make_service: MakeService) -> None:
    first = VoicedProvider([Fault("cut", 0.5)], name="first", voices={"narrator": NARRATOR})
    other = OtherVendor(name="other", voices={"default": BERT, "anna": ANNA})
    async with make_service(first, other).stream(TEXT, voice="narrator", format="pcm_8000") as stream:
        audio = b"".join([data async for data in stream])
    assert [(span.provider, span.voice) for span in stream.report.spans] == [("first", "n"), ("other", "a")]
    assert other.requests[0].speed == 0.75
    seam = 2 * round(stream.report.spans[1].start * PCM.sample_rate)
    assert loudness(audio[seam:]) == pytest.approx(loudness(audio[:seam]), rel=0.15)


async def test_plugin_without_declared_voices_is_a_substitute(make_service: MakeService) -> None:
    other = ScriptedProvider(name="other")
    speech = await make_service(down(), other).synthesize(TEXT, voice="narrator", format="pcm_8000", speed=1.5)
    assert (speech.provider, speech.voice, other.requests[0].speed) == ("other", "other-voice", 1.5)
    assert other.requests[0].text == TEXT


async def test_recording_of_a_matched_voice_is_cached_separately(make_service: MakeService, tmp_path: Path) -> None:
    other = OtherVendor(name="other", voices={"anna": ANNA})
    tts = make_service(down(), other, cache=tmp_path)
    matched = await tts.synthesize(TEXT, voice="narrator", format="pcm_8000")
    asked_for = await tts.synthesize(TEXT, voice="anna", format="pcm_8000")
    again = await tts.synthesize(TEXT, voice="anna", format="pcm_8000")
    await tts.aclose()
    assert (matched.voice, asked_for.voice, again.voice) == ("a", "a", "a")
    assert [matched.outcome, asked_for.outcome, again.outcome] == ["substituted", "spoken", "cached"]
    assert len(other.requests) == 2
    assert loudness(asked_for.audio) < loudness(matched.audio)


async def test_faster_voice_is_not_rejected_as_too_short(make_service: MakeService, tmp_path: Path) -> None:
    slow = OtherVendor(name="slow", voices={"default": Voice("s", rate=75)})
    tts = make_service(down(), slow, cache=tmp_path)
    await tts.synthesize(TEXT, voice="narrator", format="pcm_8000")
    await tts.aclose()
    assert slow.requests[0].speed == 2.0
    assert tts.get_error_state()["cache"]["kept"] == 1


class ScriptDependentVoice(WordToneProvider):
    """Provider that reads texts with a question mark in another voice."""

    voices: ClassVar[list[str]] = []

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return replace(super().offer(request), voice="curious" if "?" in request.text else "calm")

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.voices.append(offer.voice)
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            yield event


async def test_all_pieces_are_spoken_by_one_voice(make_service: MakeService) -> None:
    provider = ScriptDependentVoice(max_characters=30)
    speech = await make_service(provider).synthesize("It rains today. Do we walk home now? We do.", format="pcm_8000")
    assert len(provider.requests) > 1
    assert set(provider.voices) == {speech.voice} == {"curious"}
