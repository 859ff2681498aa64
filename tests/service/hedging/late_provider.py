"""Late provider for the tests of hedging, and helpers for the outcome of the race."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from steadyvoice import AsyncTTSService, HedgeConfig, RetryConfig, TimeoutConfig
from steadyvoice.speech.errors import TTSServerError

from ..scripted_provider import Say, ScriptedProvider

TEXT = "Good morning, is anybody there?"
DOWN = TTSServerError("HTTP 503", status=503)
READY = HedgeConfig(minimum_samples=4, budget=1.0)
USUAL = [Say(first_after=0.1)] * 4
"""Answers of the first provider before it is late: its own 95th percentile is a tenth of a second."""
ONCE = RetryConfig(max_attempts=1)
SHORT_READ_TIMEOUT = TimeoutConfig(read_timeout=2.0)


def late_provider(*acts: Any, **more: Any) -> ScriptedProvider:
    return ScriptedProvider([*USUAL, *acts], name="first", **more)


async def warm_up(tts: AsyncTTSService) -> AsyncTTSService:
    for _ in USUAL:
        assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "first"
    return tts


def hedge_counts(tts: AsyncTTSService) -> tuple[int, int, int]:
    state = tts.get_error_state()["hedging"]
    return state["started"], state["won"], state["lost"]


def is_idle(tts: AsyncTTSService) -> bool:
    """Return whether no call runs or waits, and no permit or task is left."""
    states = tts.get_error_state()["providers"].values()
    places = [(state["concurrency"]["in_use"], state["concurrency"]["waiting"]) for state in states]
    permits = sum(circuit.snapshot().in_flight or 0 for circuit in tts.circuits.values())
    # A task that is left would end with the loop, and its leak go unnoticed.
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return places == [(0, 0)] * len(places) and not permits and not tasks


class SlowFirstCall:
    """Provider wrapper that delays the first call."""

    def __init__(self, provider: Any, seconds: float) -> None:
        self._speak, self._seconds = provider.speak, seconds

    async def speak(self, *given: Any, **more: Any) -> AsyncGenerator[Any, None]:
        seconds, self._seconds = self._seconds, 0.0
        await asyncio.sleep(seconds)
        async for event in self._speak(*given, **more):
            yield event
