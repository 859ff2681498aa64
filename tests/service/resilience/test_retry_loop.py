"""Retry loop shared by the error handler and the speech pipeline."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import pairwise
from random import Random

import pytest

from steadyvoice import (
    Accepted,
    AudioChunk,
    CircuitBreakerConfig,
    RetryConfig,
    SpeechRequest,
    SynthesisOffer,
    TTSErrorHandler,
)
from steadyvoice.service.resilience.failover import GiveUp, TryProvider, WaitForProvider
from steadyvoice.service.resilience.retry import RetryLoop
from steadyvoice.speech.errors import TTSServerError

from ..conftest import MakeService, loop_clock
from ..scripted_provider import ScriptedProvider

pytestmark = pytest.mark.looptime

PATIENT = CircuitBreakerConfig(window_size=50, minimum_calls=50)


async def test_pause_is_slept_by_the_next_call_only() -> None:
    slept: list[float] = []
    decisions: list[TryProvider | WaitForProvider | GiveUp] = [
        TryProvider(0, 5.0),
        WaitForProvider(0.25),
        TryProvider(0, 4.0),
        GiveUp(),
    ]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    loop = RetryLoop(lambda: decisions.pop(0), sleep)

    assert await loop.next() == TryProvider(0, 5.0)
    assert await loop.next() == WaitForProvider(0.25)
    assert slept == []
    assert await loop.next() == TryProvider(0, 4.0)
    assert slept == [0.25]
    assert await loop.next() == GiveUp()
    assert slept == [0.25]


async def test_handler_and_pipeline_pause_equally_between_attempts(make_service: MakeService) -> None:
    retry = RetryConfig(max_attempts=3, base_delay=0.5)
    failure = TTSServerError("HTTP 503", status=503)
    by_handler: list[float] = []

    async def operation() -> None:
        by_handler.append(loop_clock())
        raise failure

    handler = TTSErrorHandler("scripted", PATIENT, retry, clock=loop_clock, rng=Random(1))
    with pytest.raises(TTSServerError):
        await handler.execute_with_retry(operation)

    by_pipeline: list[float] = []

    class Failing(ScriptedProvider):
        async def speak(
            self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
        ) -> AsyncGenerator[Accepted | AudioChunk, None]:
            by_pipeline.append(loop_clock())
            async for event in super().speak(request, offer, connection_timeout=connection_timeout):
                yield event

    async with make_service(Failing([failure]), retry=retry, circuit=PATIENT, muted=False) as tts:
        with pytest.raises(TTSServerError):
            await tts.synthesize("Hello", format="pcm_8000")

    assert len(by_handler) == 3
    assert pauses(by_pipeline) == pytest.approx(pauses(by_handler))


def pauses(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]
