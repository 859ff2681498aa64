"""Failures of either attempt of a hedged call: no third request, and time counts once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from steadyvoice import HedgeConfig, SpeechRequest, SynthesisOffer, TimeoutConfig, TTSError
from steadyvoice.audio.word_tones import words_in
from steadyvoice.service.pipeline.utterance import Utterance
from steadyvoice.speech.errors import TTSBadRequestError, TTSReadTimeoutError, TTSServerError

from ..conftest import MakeService, loop_clock
from ..scripted_provider import Hang, Say, ScriptedProvider
from ..word_tone_provider import Fault, WordToneProvider
from .late_provider import DOWN, ONCE, READY, TEXT, USUAL, SlowFirstCall, hedge_counts, is_idle, late_provider, warm_up

pytestmark = pytest.mark.looptime


async def test_hedge_continues_when_the_first_fails(make_service: MakeService) -> None:
    class Dies(ScriptedProvider):
        async def speak(
            self, request: SpeechRequest, offer: SynthesisOffer, **kwargs: float
        ) -> AsyncGenerator[Any, None]:
            if len(self.requests) == len(USUAL):
                self.requests.append(request)
                await asyncio.sleep(0.5)
                raise DOWN
            async for event in super().speak(request, offer, **kwargs):
                yield event

    first, second, third = (
        Dies(USUAL, name="first"),
        ScriptedProvider([Say(first_after=2.0)], name="second"),
        ScriptedProvider(),
    )
    tts = await warm_up(make_service(first, second, third, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert [(a.provider, a.hedge, a.error) for a in speech.attempts] == [("first", False, DOWN), ("second", True, None)]
    assert len(first.requests) == 5, "nor is it asked again"
    assert not third.requests
    assert tts.get_error_state()["totals"]["failures"] == 1
    assert hedge_counts(tts) == (1, 1, 0)


@pytest.mark.parametrize("trouble", [DOWN, TTSBadRequestError("no such option", status=400)])
async def test_first_continues_when_the_hedge_fails(make_service: MakeService, trouble: TTSError) -> None:
    first, second, third = (
        late_provider(Say(first_after=1.0)),
        ScriptedProvider([trouble], name="second"),
        ScriptedProvider(),
    )
    tts = await warm_up(make_service(first, second, third, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    failed, spoke = speech.attempts
    assert (failed.provider, type(failed.error), spoke.provider, spoke.error) == (
        "second",
        type(trouble),
        "first",
        None,
    )
    assert not third.requests
    assert hedge_counts(tts) == (1, 0, 1)


async def test_when_both_fail_the_next_continues_and_time_counts_once(make_service: MakeService) -> None:
    first, second, third = late_provider(Hang()), ScriptedProvider([Hang()], name="second"), ScriptedProvider()
    timeouts = TimeoutConfig(first_audio_timeout=2.0, total_timeout=45.0)
    tts = await warm_up(make_service(first, second, third, hedging=READY, timeouts=timeouts))
    began = loop_clock()
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="error")
    utterance = stream._utterance
    assert isinstance(utterance, Utterance)
    assert [chunk async for chunk in stream]
    assert [(a.provider, type(a.error)) for a in stream.attempts] == [
        ("first", TTSReadTimeoutError),
        ("second", TTSReadTimeoutError),
        ("scripted", type(None)),
    ]
    assert [a.waited for a in stream.attempts] == pytest.approx([2.0, 2.0, 0.1])
    assert loop_clock() - began == pytest.approx(2.2, abs=0.01), "each has its own two seconds"
    assert utterance._deadline.elapsed == pytest.approx(2.2, abs=0.01)


async def test_time_and_audio_of_a_hedge_count_for_the_utterance(make_service: MakeService) -> None:
    first, third = late_provider(Hang()), ScriptedProvider([Say(2.0)])
    second = ScriptedProvider([Say(2.0, pieces=2, every=0.7, then=TTSServerError("broke off"))], name="second")
    tts = await warm_up(make_service(first, second, third, hedging=READY))
    began = loop_clock()
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="restart")
    utterance = stream._utterance
    assert isinstance(utterance, Utterance)
    assert [chunk async for chunk in stream]
    assert [attempt.provider for attempt in stream.attempts] == ["first", "second", "scripted"]
    deadline = utterance._deadline
    assert deadline.elapsed == pytest.approx(loop_clock() - began) == pytest.approx(1.0, abs=0.01)
    assert (deadline.delivered, utterance.delivered) == (4.0, 4.0)


async def test_both_attempts_have_the_same_deadline(make_service: MakeService) -> None:
    first, second = late_provider(Hang()), ScriptedProvider([Hang()], name="second")
    tts = await warm_up(make_service(first, second, hedging=READY, retry=ONCE))
    began = loop_clock()
    speech = await tts.synthesize(TEXT, format="pcm_8000", deadline=3.0)
    assert speech.outcome == "muted"
    assert loop_clock() - began == pytest.approx(3.0)
    assert is_idle(tts)


@pytest.mark.parametrize("name", ["pcm_8000", "mp3_44100_128", "opus"])
async def test_broken_hedge_is_resumed(make_service: MakeService, name: str) -> None:
    text = "The rain has stopped. We walk home now, slowly, and nobody says a word."
    first, second = WordToneProvider(name="first"), WordToneProvider([Fault("cut", 0.5)], name="second", pitch=1.5)
    tts = make_service(first, second, hedging=HedgeConfig(minimum_samples=1, budget=1.0))
    await tts.synthesize(text, format=name)
    first.speak = SlowFirstCall(first, 60.0).speak  # type: ignore[method-assign]
    stream = tts.stream(text, format=name)
    audio = b"".join([chunk async for chunk in stream])
    assert words_in(audio, stream.format) == text.split()
    assert stream.outcome == "resumed"
    assert [span.provider for span in stream.report.spans] == ["second", "first"]
    assert [(a.provider, a.hedge) for a in stream.attempts] == [("first", False), ("second", True), ("first", False)]


async def test_lost_hedge_resumes_before_the_broken_provider(make_service: MakeService) -> None:
    """By then both may have charged for the text, but one of them has shown that it breaks off."""
    text = "The rain has stopped. We walk home now, slowly, and nobody says a word."
    first, second = WordToneProvider(name="first"), WordToneProvider(name="second", pitch=1.5)
    tts = make_service(first, second, hedging=HedgeConfig(minimum_samples=1, budget=1.0))
    await tts.synthesize(text, format="pcm_8000")
    breaks, hangs = SlowFirstCall(WordToneProvider([Fault("cut", 0.5)], name="first"), 2.0), SlowFirstCall(second, 60.0)
    first.speak, second.speak = breaks.speak, hangs.speak  # type: ignore[method-assign]
    stream = tts.stream(text, format="pcm_8000")
    audio = b"".join([chunk async for chunk in stream])
    assert words_in(audio, stream.format) == text.split()
    assert [span.provider for span in stream.report.spans] == ["first", "second"]
