"""Disconnects of clients during a vendor's silence count against its circuit at every endpoint."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from steadyvoice import TimeoutConfig
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions

from ..running_gateway import ELEVENLABS, OPENAI, elevenlabs_body, openai_body, running_gateway

HURRIED = TimeoutConfig(overdue_after=0.6)

REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": (ELEVENLABS, elevenlabs_body()),
    "stream": (f"{ELEVENLABS}/stream", elevenlabs_body()),
    "timestamps": (f"{ELEVENLABS}/stream/with-timestamps", elevenlabs_body()),
    "openai": (OPENAI, openai_body(response_format="pcm")),
    "openai events": (OPENAI, openai_body(response_format="pcm", stream_format="sse")),
}


@pytest.mark.parametrize(("path", "document"), REQUESTS.values(), ids=REQUESTS)
async def test_disconnects_during_silence_count_against_the_vendor(path: str, document: dict[str, Any]) -> None:
    async with running_gateway(only_elevenlabs=True, timeouts=HURRIED) as gateway:
        gateway.sim.faults.set(Fault(actions.Hang(), endpoint="text-to-speech*"))
        outcomes = []
        for patience in (0.05, 0.9):
            with pytest.raises(asyncio.TimeoutError):
                await gateway.post(path, document, timeout=aiohttp.ClientTimeout(total=patience))
            _, account = await gateway.next_call()
            (attempt,) = account.attempts
            outcomes.append(attempt.error and attempt.error.kind.value)
        assert outcomes == ["cancelled", "abandoned_in_silence"]
        async with gateway.get("/admin/calls") as answer:
            calls = (await answer.json())["calls"]
        kinds = [attempt["error"]["kind"] for call in calls for attempt in call["attempts"]]
        assert sorted(kinds) == ["abandoned_in_silence", "cancelled"]
        async with gateway.get("/metrics") as answer:
            metrics = await answer.text()
        assert 'result="abandoned_in_silence"' in metrics
        state = gateway.service.get_error_state()
        assert state["window"]["failures"] == 0.5
        assert state["last_error"]["kind"] == "abandoned_in_silence"
