"""Privacy: no text of a caller in logs, states and lists of calls; files that only their owner can read."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from steadyvoice import CircuitBreakerConfig
from steadyvoice.gateway.observability.access_log import JSONFormatter
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions

from ..running_gateway import ELEVENLABS, OPENAI, elevenlabs_body, openai_body, running_gateway
from ..websocket.clients import MULTI, PIPECAT

SECRET = "My doctor said that I am ill."
WATCHED = ("/admin/state", "/admin/calls", "/admin/overview", "/admin/circuits/elevenlabs", "/readyz", "/metrics")


@pytest.mark.parametrize("code", ["server_error", "invalid_parameters", "voice_not_found", "system_busy"])
async def test_text_quoted_by_a_vendor_appears_nowhere(code: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="steadyvoice")
    quoting = actions.Refuse(code, status=400, message=f"cannot speak '{SECRET}'\r\nat once")
    circuit = CircuitBreakerConfig(window_size=2, minimum_calls=1)
    async with running_gateway(circuit=circuit, muted=False) as gateway:
        for _ in range(2):  # the second request is refused without asking, for the reason of the first
            for path, body in ((f"{ELEVENLABS}/stream", elevenlabs_body(SECRET)), (OPENAI, openai_body(SECRET))):
                gateway.sim.faults.set(Fault(quoting))
                await gateway.fetch("POST", path, json=body)
        async with connect(gateway.url.replace("http", "ws", 1) + MULTI + PIPECAT) as client:
            await client.send(json.dumps({"text": SECRET, "context_id": "a", "flush": True}))
            await client.send(json.dumps({"context_id": "a", "close_context": True}))
            async for message in client:
                if json.loads(message).get("isFinal"):
                    break
        shown = [await (await gateway.fetch("GET", path)).text() for path in WATCHED]
        kept = gateway.context.event_log
        shown += [json.dumps(entry, default=str) for entry in vars(kept).values()]
    lines = [JSONFormatter().format(record) for record in caplog.records]
    assert any("[text]" in each for each in (*shown, *lines)), "the vendor's message is shown, without the text"
    for each in (*shown, *lines):
        assert "doctor said" not in each
    assert not any("\n" in line or "\r" in line for line in lines), "a record is one line, whatever a vendor writes"


async def test_state_file_is_its_owners_only(tmp_path: Path) -> None:
    file = tmp_path / "circuits.json"
    file.with_name("circuits.json.part").write_text("left by a crash")
    file.with_name("circuits.json.part").chmod(0o666)
    async with running_gateway(server={"state_file": str(file)}) as gateway:
        gateway.sim.faults.set(Fault(actions.Refuse(status=500)))
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
    assert json.loads(file.read_text())["circuits"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["circuits.json"]
