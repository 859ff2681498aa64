"""Cancellation of hedged calls at any moment: nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from steadyvoice import (
    Accepted,
    AudioChunk,
    CircuitBreakerConfig,
    Credential,
    HedgeConfig,
    SpeechRequest,
    SynthesisOffer,
    TTSError,
    TTSStreamInterruptedError,
)
from steadyvoice.speech.errors import TTSHedgedError

from ..conftest import MakeService, loop_clock
from ..scripted_provider import Hang, Say, ScriptedProvider, pcm
from .late_provider import DOWN, READY, SHORT_READ_TIMEOUT, TEXT, USUAL, hedge_counts, is_idle, late_provider, warm_up

pytestmark = [pytest.mark.looptime, pytest.mark.slow]


async def test_error_while_cancelling_is_no_failure(make_service: MakeService) -> None:
    class Sore(ScriptedProvider):
        async def speak(self, *given: Any, **more: Any) -> AsyncGenerator[Any, None]:
            try:
                async for event in super().speak(*given, **more):
                    yield event
            except asyncio.CancelledError:
                raise DOWN from None

    first, second = Sore([*USUAL, Hang()], name="first"), ScriptedProvider(name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert speech.provider == "second"
    state = tts.get_error_state()
    assert (state["totals"]["failures"], state["last_error"]) == (0, None)
    assert is_idle(tts)


async def test_slow_cancellation_delays_no_caller(make_service: MakeService) -> None:
    class Polite(ScriptedProvider):
        async def speak(self, *given: Any, **more: Any) -> AsyncGenerator[Any, None]:
            try:
                async for event in super().speak(*given, **more):
                    yield event
            finally:
                await asyncio.sleep(10.0)

    first, second = Polite([*USUAL, Hang()], name="first"), ScriptedProvider([Say(4.0, every=1.0)], name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    began = loop_clock()
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="error")
    await anext(stream)
    assert loop_clock() - began == pytest.approx(0.2, abs=0.01)
    assert tts.get_error_state()["concurrency"]["in_use"] == 1, "its place is its own until it is gone"
    assert [chunk async for chunk in stream]
    assert loop_clock() - began < 10.0, "nor does its end"
    assert not is_idle(tts)
    await tts.aclose()
    assert is_idle(tts)


async def test_leaving_caller_cancels_both_attempts(make_service: MakeService) -> None:
    first, second = late_provider(Hang()), ScriptedProvider([Hang()], name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    waiting = asyncio.create_task(tts.synthesize(TEXT, format="pcm_8000"))
    await asyncio.sleep(1.0)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert (first.cut_short, second.cut_short) == (1, 1)
    assert is_idle(tts)


async def test_closing_the_service_cancels_both_attempts(make_service: MakeService) -> None:
    tts = await warm_up(make_service(late_provider(Hang()), ScriptedProvider([Hang()], name="second"), hedging=READY))
    stream = tts.stream(TEXT, format="pcm_8000")
    listening = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(1.0)
    assert [state["concurrency"]["in_use"] for state in tts.get_error_state()["providers"].values()] == [1, 1]
    await tts.aclose()
    with pytest.raises(TTSStreamInterruptedError):
        await listening
    assert is_idle(tts)
    assert [attempt.error.kind.value for attempt in stream.attempts if attempt.error] == ["cancelled", "cancelled"]
    assert stream.wasted == 2 * len(TEXT)
    assert hedge_counts(tts) == (1, 0, 1)


@pytest.mark.timeout(180)
async def test_thousand_leaving_callers_leave_nothing_behind(make_service: MakeService) -> None:
    rng = Random(19)

    class Moody(ScriptedProvider):
        async def speak(
            self, request: SpeechRequest, offer: SynthesisOffer, **more: float
        ) -> AsyncGenerator[Any, None]:
            self.requests.append(request)
            await asyncio.sleep(rng.choice([0.0, 0.05, 0.1, 1.0]))
            if rng.random() < 0.1:
                raise DOWN
            yield Accepted(characters_billed=len(request.text))
            await asyncio.sleep(rng.choice([0.0, 0.05, 0.1, 0.1, 5.0]))
            for _ in range(4):
                yield AudioChunk(pcm(0.5))
                await asyncio.sleep(rng.choice([0.0, 0.1]))

    patient = CircuitBreakerConfig(failure_threshold=1.0, window_size=1000, minimum_calls=1000, hung_after=600.0)
    vendors = [Moody(name=name) for name in ("first", "second", "third")]
    for vendor in vendors:
        vendor.credential = Credential(vendor.name, initial_concurrency=30)  # type: ignore[attr-defined]
    tts = make_service(
        *vendors, hedging=HedgeConfig(percentile=0.5, budget=0.5), circuit=patient, timeouts=SHORT_READ_TIMEOUT
    )
    accounts = []

    async def caller() -> None:
        await asyncio.sleep(rng.uniform(0.0, 60.0))
        stream = tts.stream(TEXT, format="pcm_8000", on_midstream=rng.choice(["resume", "error"]))
        accounts.append(stream)
        with suppress(TTSError):
            async with stream:
                async for _ in stream:
                    if rng.random() < 0.1:
                        return

    callers = [asyncio.create_task(caller()) for _ in range(1_000)]
    loop = asyncio.get_running_loop()
    for task in callers:
        if rng.random() < 0.7:
            loop.call_later(rng.choice([rng.uniform(0.0, 62.0), round(rng.uniform(0.0, 62.0), 1)]), task.cancel)
    ended = await asyncio.gather(*callers, return_exceptions=True)
    assert sum(isinstance(end, asyncio.CancelledError) for end in ended) > 300
    assert not [end for end in ended if isinstance(end, Exception)]
    started, won, lost = hedge_counts(tts)
    assert started > 50
    assert started == won + lost
    state = tts.get_error_state()["hedging"]
    assert state["hedged_characters"] <= 0.5 * state["characters"] <= 0.5 * 1_000 * len(TEXT)
    assert is_idle(tts)
    assert tts._hedging is not None
    assert not tts._hedging.closing
    assert {circuit.snapshot().in_flight for circuit in tts.circuits.values()} == {0}
    attempts = [attempt for account in accounts for attempt in account.attempts]
    asked = sum(len(vendor.requests) for vendor in vendors)
    assert sum(not attempt.refused for attempt in attempts) == asked
    assert sum(attempt.hedge for attempt in attempts) == started
    assert sum(isinstance(attempt.error, TTSHedgedError) for attempt in attempts) > 30
