"""Outage from beginning to end: a provider fails, its circuit opens, it is probed and recovers."""

from __future__ import annotations

import asyncio
import logging

import pytest

from steadyvoice import CircuitState, TTSCircuitOpenError
from steadyvoice.speech.errors import TTSServerError

from ..conftest import MakeService
from ..scripted_provider import Say, ScriptedProvider

pytestmark = pytest.mark.looptime

DOWN = TTSServerError("HTTP 503", status=503)


async def test_circuit_opens_refuses_probes_and_closes(
    make_service: MakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    vendor = ScriptedProvider([DOWN, DOWN, Say()], name="vendor")
    tts = make_service(vendor, muted=False)

    assert tts.get_error_state()["circuit_state"] == "closed"
    with pytest.raises(TTSServerError):
        await tts.synthesize("Hello", format="pcm_8000", deadline=0.2)
    for _ in range(5):
        if tts.circuits["vendor"].state is CircuitState.OPEN:
            break
        with pytest.raises(TTSServerError):
            await tts.synthesize("Hello", format="pcm_8000", deadline=0.2)
    state = tts.get_error_state()
    assert state["circuit_state"] == "open"
    assert state["circuit_opened_at"].startswith("2026-01-01T00:00:0")
    assert state["window"] == {"size": 4, "calls": 2, "failures": 2}
    assert state["failure_rate"] == 1.0
    assert state["last_error"]["kind"] == "server_error"
    assert 59 < state["retry_after"] <= 60

    asked = len(vendor.requests)
    with pytest.raises(TTSCircuitOpenError) as refusal:
        await tts.synthesize("Hello", format="pcm_8000")
    assert len(vendor.requests) == asked
    assert refusal.value.retry_after == pytest.approx(60, abs=1)
    assert refusal.value.state is CircuitState.OPEN

    await asyncio.sleep(61)
    speech = await tts.synthesize("Hello", format="pcm_8000")
    assert speech.outcome == "spoken"
    assert tts.get_error_state()["circuit_state"] == "half_open"
    await tts.synthesize("Hello", format="pcm_8000")
    state = tts.get_error_state()
    assert state["circuit_state"] == "closed"
    assert state["recoveries"]["count"] == 1
    assert state["recoveries"]["last_seconds"] == pytest.approx(61, abs=1)
    records = [vars(record) for record in caplog.records if record.name == "steadyvoice.circuit"]
    moves = [(record["from_state"], record["to_state"]) for record in records]
    assert moves == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]
    assert all(record["reason"] and record["at"] for record in records)
