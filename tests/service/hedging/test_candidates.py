"""Candidates for hedges: none with an open circuit, in a queue, on the same account, or with another voice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, Credential, SpeechRequest, SynthesisOffer
from steadyvoice.speech.errors import TTSReadTimeoutError

from ..conftest import MakeService, loop_clock
from ..scripted_provider import Hang, Say, ScriptedProvider
from .late_provider import DOWN, ONCE, READY, TEXT, USUAL, SlowFirstCall, hedge_counts, late_provider, warm_up

pytestmark = pytest.mark.looptime


async def assert_not_hedged(tts: AsyncTTSService, **options: Any) -> None:
    speech = await tts.synthesize(TEXT, format="pcm_8000", **options)
    assert not any(attempt.hedge for attempt in speech.attempts)
    assert tts.get_error_state()["hedging"]["no_candidate"] == 1
    assert hedge_counts(tts) == (0, 0, 0)


async def test_caller_without_time_gets_no_hedge(make_service: MakeService) -> None:
    first, second = late_provider(Hang()), ScriptedProvider([Hang()], name="second")
    tts = await warm_up(make_service(first, second, hedging=READY, retry=ONCE))
    speech = await tts.synthesize(TEXT, format="pcm_8000", deadline=0.1)
    assert not any(attempt.hedge for attempt in speech.attempts)


async def test_provider_with_a_circuit_not_closed_gets_no_hedge(make_service: MakeService) -> None:
    first, second = late_provider(Say(first_after=1.0)), ScriptedProvider([DOWN], name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    tts.circuits["second"].force_open("maintenance")
    await assert_not_hedged(tts)


async def test_probe_is_not_used_as_a_hedge(make_service: MakeService) -> None:
    first, second = late_provider(Say(first_after=1.0)), ScriptedProvider(name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    for _ in range(2):
        tts.circuits["second"].acquire().failure(DOWN)
    await asyncio.sleep(61.0)
    assert tts.handler("second").probes
    await assert_not_hedged(tts)
    assert not second.requests


async def test_recovering_provider_gets_no_hedge(make_service: MakeService) -> None:
    gently = CircuitBreakerConfig(window_size=2, cooldown_period=10, success_threshold=1, ramp_up=600.0)
    first, second = late_provider(Say(first_after=1.0)), ScriptedProvider(name="second")
    tts = await warm_up(make_service(first, second, hedging=READY, circuits={"second": gently}))
    tts.circuits["second"].acquire().failure(DOWN)
    await asyncio.sleep(11.0)
    tts.circuits["second"].acquire().success()
    assert tts.circuits["second"].state.value == "closed"
    await assert_not_hedged(tts)


async def test_probe_has_its_own_timeout_and_no_hedge(make_service: MakeService) -> None:
    first, second = late_provider(Hang()), ScriptedProvider(name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    for _ in range(2):
        tts.circuits["first"].acquire().failure(DOWN)
    await asyncio.sleep(61.0)
    assert tts.handler("first").probes
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert [(a.provider, a.hedge) for a in speech.attempts] == [("first", False), ("second", False)]
    assert isinstance(speech.attempts[0].error, TTSReadTimeoutError)


async def test_held_provider_gets_no_hedge(make_service: MakeService) -> None:
    from steadyvoice.speech.errors import TTSInvalidKeyError

    first, second = late_provider(Say(first_after=1.0)), ScriptedProvider(name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    handler = tts.handler("second")
    handler.holds.place(TTSInvalidKeyError("HTTP 401", status=401), None, loop_clock())
    await assert_not_hedged(tts)


async def test_hedge_never_queues(make_service: MakeService) -> None:
    first, second = (
        late_provider(Say(first_after=1.0)),
        ScriptedProvider([Say(seconds=1.0, pieces=10, every=1.0)], name="second"),
    )
    second.credential = Credential("theirs", initial_concurrency=1)  # type: ignore[attr-defined]
    tts = await warm_up(make_service(first, second, hedging=READY))
    async with tts.handler("second").queue_slot(1.0, waits_anyway=False):
        await assert_not_hedged(tts)


async def test_second_hedge_for_one_slot_does_not_queue(make_service: MakeService) -> None:
    first, second = late_provider(Say(first_after=3.0)), ScriptedProvider(name="second")
    second.speak = SlowFirstCall(second, 1.0).speak  # type: ignore[method-assign]
    second.credential = Credential("theirs", initial_concurrency=1)  # type: ignore[attr-defined]
    tts = await warm_up(make_service(first, second, hedging=READY))
    speeches = await asyncio.gather(*(tts.synthesize(TEXT, format="pcm_8000") for _ in range(2)))
    assert [speech.provider for speech in speeches] == ["second", "first"]
    assert [attempt.refused for attempt in speeches[1].attempts if attempt.hedge] == [True], "at once"
    assert len(second.requests) == 1


async def test_same_account_gets_no_hedge(make_service: MakeService) -> None:
    first, second = late_provider(Say(first_after=1.0)), ScriptedProvider(name="second")
    first.credential = second.credential = Credential("ours")  # type: ignore[attr-defined]
    await assert_not_hedged(await warm_up(make_service(first, second, hedging=READY)))


async def test_local_voice_gets_no_hedge(make_service: MakeService) -> None:
    first, second = late_provider(Say(first_after=1.0)), ScriptedProvider(name="second", local=True)
    await assert_not_hedged(await warm_up(make_service(first, second, hedging=READY)))


async def test_substitution_never_means_no_hedge_by_another_voice(make_service: MakeService) -> None:
    first, second = late_provider(Say(first_after=1.0)), ScriptedProvider(name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000", voice_substitution="never")
    assert (speech.outcome, len(speech.attempts)) == ("spoken", 1)
    assert not second.requests


async def test_same_voice_on_another_account_gets_a_hedge(make_service: MakeService) -> None:
    class SameVoice(ScriptedProvider):
        def offer(self, request: SpeechRequest) -> SynthesisOffer:
            return SynthesisOffer(self.format or request.format, voice="george")

    first, second = SameVoice([*USUAL, Hang()], name="first"), SameVoice(name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000", voice_substitution="never")
    assert (speech.outcome, speech.provider) == ("substituted", "second")
