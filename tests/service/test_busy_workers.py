"""What waits for our own threads is no sign that a provider hangs."""

from __future__ import annotations

import asyncio
import threading

import pytest

from steadyvoice import CircuitBreakerConfig, CircuitState

from .conftest import MakeService
from .scripted import Say, Scripted
from .tales import TEXT

QUICK_TO_JUDGE = CircuitBreakerConfig(failure_threshold=0.5, window_size=4, minimum_calls=1, hung_after=0.2)


@pytest.mark.looptime
async def test_call_whose_audio_waits_to_be_converted_does_not_hang(make_service: MakeService) -> None:
    tts = make_service(Scripted([Say(pieces=3)]), circuit=QUICK_TO_JUDGE)
    free = threading.Event()
    busy = [asyncio.create_task(tts._workers.run(free.wait, 30)) for _ in range(8)]
    await asyncio.sleep(0)
    calls = [asyncio.create_task(tts.synthesize(TEXT, format="mp3_44100_128")) for _ in range(3)]
    await asyncio.sleep(0.5)
    circuit = tts.circuits["scripted"]
    try:
        circuit.acquire().ignore()  # which looks at the calls in flight
        assert circuit.state is CircuitState.CLOSED
        assert circuit.snapshot().failures == 0
    finally:
        free.set()
    await asyncio.gather(*busy)
    assert [speech.outcome for speech in await asyncio.gather(*calls)] == ["spoken"] * 3
    await tts.aclose()
