"""Configuration reload while calls run: all of the file is applied, or nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from steadyvoice import AsyncTTSService
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import LoadedConfig, load_config
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection import actions

from ..event_reader import reading_events
from ..running_gateway import ELEVENLABS, OPENAI, TEXT, CallWitness, RunningGateway, elevenlabs_body, openai_body

pytestmark = pytest.mark.slow

FILE = """
[server]
port = 0
{server}

[circuit]
failure_threshold = 0.5
window_size = 4
cooldown_period = 30

[timeouts]
total_timeout = {total}

[[providers]]
name = "elevenlabs"
kind = "elevenlabs"
api_key = "{key}"
base_url = "{url}"

{others}
"""
OPENAI_TOO = '[[providers]]\nname = "openai"\nkind = "openai"\napi_key = "sk_two"\nbase_url = "{url}/v1"\n'
TONE_TOO = '[[providers]]\nname = "tone"\nkind = "tone"\n'


class File:
    """Configuration file that is edited."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self._facts = {"server": "", "total": "45.0", "key": "sk_one", "url": url, "others": TONE_TOO}

    def write(self, **facts: str) -> None:
        self._facts |= facts
        self.path.write_text(FILE.format(**self._facts), encoding="utf-8")


@asynccontextmanager
async def served(folder: Path, **facts: str) -> AsyncIterator[tuple[RunningGateway, File]]:
    """A gateway that was started with a file."""
    async with Simulator(voice="tones") as sim:
        file = File(folder / "steadyvoice.toml", sim.url)
        file.write(**facts)
        source = partial(_read, file.path)
        loaded = source(None)
        async with (
            AsyncTTSService(**loaded.plan) as service,
            Gateway(service, loaded.server, source=source, loaded=loaded) as gateway,
            aiohttp.ClientSession() as client,
        ):
            gateway.context.observers.append(witness := CallWitness())
            yield RunningGateway(sim, service, gateway, client, witness), file


def _read(path: Path, former: LoadedConfig | None) -> LoadedConfig:
    return load_config(path, os.environ, former)


async def reloaded(gateway: RunningGateway) -> dict[str, Any]:
    """Differences that a reload reports."""
    answer = await gateway.fetch("POST", "/admin/reload")
    assert answer.status == 200, await answer.text()
    changes: dict[str, Any] = await answer.json()
    return changes


async def test_provider_timeouts_apply_from_the_next_request(tmp_path: Path) -> None:
    async with served(tmp_path) as (gateway, file):
        before = gateway.service.providers
        file.write(others=f"{TONE_TOO}[providers.timeouts]\nfirst_audio_timeout = 3\n")
        changes = await reloaded(gateway)
        assert changes["before"] == {"provider_timeouts.tone.first_audio_timeout": None}
        assert changes["after"] == {"provider_timeouts.tone.first_audio_timeout": 3}
        assert gateway.service.providers == before, "nothing was built anew"
        async with gateway.get("/admin/state") as answer:
            states = (await answer.json())["providers"]
        assert [state["timeouts"]["first_audio_timeout"] for state in states.values()] == [8.0, 3]
        file.write(total="45.0\nread_timeout = 30.0")
        assert (await reloaded(gateway))["after"] == {"timeouts.read_timeout_is_set": True}
        file.write(others=f"{TONE_TOO}[providers.timeouts]\nfirst_audio_timeout = 0\n")
        refused = await gateway.fetch("POST", "/admin/reload")
        assert (refused.status, (await refused.json())["error"]["field"]) == (
            422,
            "providers.1.timeouts.first_audio_timeout",
        )


async def test_reload_applies_the_file_and_returns_the_differences(tmp_path: Path) -> None:
    async with served(tmp_path) as (gateway, file), reading_events(gateway) as reader:
        assert await reloaded(gateway) == {"before": {}, "after": {}, "needs_restart": []}
        file.write(total="20.0", server='api_keys = ["caller-1"]')
        changes = await reloaded(gateway)
        assert changes["before"] == {"server.api_keys": 0, "timeouts.total_timeout": 45}
        assert changes["after"] == {"server.api_keys": 1, "timeouts.total_timeout": 20}
        events = [await reader.next("config") for _ in range(2)]
        assert events[1].data["after"] == changes["after"]
        assert events[1].data["by"]["address"] == "127.0.0.1"
        assert (await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())).status == 401
        answer = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(), headers={"xi-api-key": "caller-1"})
        assert answer.status == 200


async def test_new_key_is_used_and_the_circuit_keeps_its_window(tmp_path: Path) -> None:
    async with served(tmp_path) as (gateway, file):
        gateway.sim.faults.set(Fault(actions.Refuse(status=401, code="invalid_api_key"), endpoint="text-to-speech*"))
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        gateway.sim.faults.clear()
        await gateway.fetch("POST", OPENAI, json=openai_body())
        before = gateway.service.get_error_state()
        assert before["holds"], "the old key is set aside"
        circuit = gateway.service.circuits["elevenlabs"]
        file.write(key="sk_another")
        changes = await reloaded(gateway)
        assert list(changes["after"]) == ["providers.elevenlabs.credential"]
        assert "sk_another" not in str(changes)
        answer = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        assert answer.headers["x-steadyvoice-provider"] == "elevenlabs"
        assert gateway.service.circuits["elevenlabs"] is circuit
        after = gateway.service.get_error_state()
        assert not after["holds"]
        assert after["totals"]["calls"] == before["totals"]["calls"] + 1
        assert after["bills"]["billed"] == len(TEXT)


async def test_running_call_is_completed_by_a_removed_provider(tmp_path: Path) -> None:
    async with served(tmp_path) as (gateway, file):
        gateway.sim.faults.set(Fault(actions.SlowFirstByte(seconds=1.0), endpoint="text-to-speech*"))
        waits = asyncio.create_task(
            gateway.fetch("POST", f"{ELEVENLABS}/stream?output_format=pcm_16000", json=elevenlabs_body())
        )
        while not gateway.sim.ledger.requests:
            await gateway.fetch("GET", "/healthz")
        gone = gateway.service.providers[0]
        text = file.path.read_text(encoding="utf-8")
        file.path.write_text(text.replace('kind = "elevenlabs"\napi_key = "sk_one"', 'kind = "openai"\napi_key = "x"'))
        await reloaded(gateway)
        assert gateway.service.providers[0] is not gone
        assert (await waits).headers["x-steadyvoice-outcome"] == "spoken"
        _, account = await gateway.next_call()
        assert (account.outcome, account.provider) == ("spoken", "elevenlabs")
        assert [entry.endpoint for entry in gateway.sim.ledger] == ["text-to-speech/stream/with-timestamps"]


async def test_unchanged_providers_stay_the_same_objects(tmp_path: Path) -> None:
    async with served(tmp_path) as (gateway, file), reading_events(gateway) as reader:
        first, tone = gateway.service.providers
        file.write(others=OPENAI_TOO.format(url=gateway.sim.url) + TONE_TOO)
        changes = await reloaded(gateway)
        assert changes["after"]["providers"] == ["elevenlabs", "openai", "tone"]
        assert (gateway.service.providers[0], gateway.service.providers[2]) == (first, tone)
        await gateway.fetch("POST", "/admin/circuits/openai/open", json={})
        assert (await reader.next("transition")).data["provider"] == "openai", "it is listened to as well"
        file.write(others="")
        assert (await reloaded(gateway))["after"]["providers"] == ["elevenlabs"]
        assert (await gateway.fetch("GET", "/admin/circuits/tone")).status == 404
        assert (await gateway.fetch("GET", "/metrics")).status == 200


async def test_reload_overrides_manual_changes(tmp_path: Path) -> None:
    async with served(tmp_path) as (gateway, _):
        await gateway.fetch("PATCH", "/admin/circuits/elevenlabs", json={"failure_threshold": 0.9})
        changes = await reloaded(gateway)
        assert changes["after"] == {"circuits.elevenlabs.failure_threshold": 0.5}


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"total": "-1"}, "timeouts.total_timeout"),
        ({"others": f"{TONE_TOO}[providers.circuit]\nwindow_size = -4"}, "providers.1.circuit.window_size"),
        ({"server": "alowed_hosts = []"}, "server.alowed_hosts"),
        ({"key": "two words"}, "providers.0.api_key"),
        ({"others": '[[providers]]\nname = "elevenlabs"\nkind = "tone"'}, "providers"),
        ({"total": "45.0", "others": "}"}, None),
        ({"server": 'admin_token = "env:NOT_SET_ANYWHERE"'}, "server.admin_token"),
    ],
)
async def test_invalid_file_changes_nothing(tmp_path: Path, facts: dict[str, str], field: str) -> None:
    async with served(tmp_path) as (gateway, file), reading_events(gateway) as reader:
        before = await (await gateway.fetch("GET", "/admin/config")).json()
        file.write(**{"total": "10.0", "server": 'api_keys = ["new"]', **facts})
        answer = await gateway.fetch("POST", "/admin/reload")
        assert answer.status == 422
        error = (await answer.json())["error"]
        assert field is None or error["field"] == field
        assert await (await gateway.fetch("GET", "/admin/config")).json() == before
        assert (await reader.next("action")).data["error"]
        assert (await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())).status == 200


async def test_settings_that_need_a_restart_are_listed_and_kept(tmp_path: Path) -> None:
    async with served(tmp_path) as (gateway, file):
        file.write(server='host = "0.0.0.0"\napi_keys = ["k"]')
        changes = await reloaded(gateway)
        assert changes["needs_restart"] == ["server.host"]
        assert changes["after"] == {"server.api_keys": 1}


async def test_new_limits_apply_to_new_connections(tmp_path: Path) -> None:
    async with served(tmp_path) as (gateway, file):
        file.write(server="header_timeout = 0.2\nmax_text_characters = 3")
        await reloaded(gateway)
        assert (await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())).status == 413
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nHost:")
        assert b"within 0.2 s" in await reader.read()
        writer.close()


async def test_reload_clears_the_catalog_cache(tmp_path: Path) -> None:
    path = "/v1/user/subscription"
    async with served(tmp_path) as (gateway, _):
        theirs = await (await gateway.fetch("GET", path)).json()
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="*"))
        assert await (await gateway.fetch("GET", path)).json() == theirs, "it was asked just now"
        await reloaded(gateway)
        assert await (await gateway.fetch("GET", path)).json() != theirs


async def test_reload_without_a_file_is_refused() -> None:
    from ..running_gateway import running_gateway

    async with running_gateway() as gateway:
        answer = await gateway.fetch("POST", "/admin/reload")
        assert (answer.status, (await answer.json())["error"]["code"]) == (409, "no_file")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
async def test_sighup_reloads_the_file(tmp_path: Path) -> None:
    file = File(tmp_path / "steadyvoice.toml", "http://127.0.0.1:9")
    file.write()
    command = [sys.executable, "-m", "steadyvoice", "serve", "--config", str(file.path), "--port", "0"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout
    try:
        while "ElevenLabs" not in (line := (await process.stdout.readline()).decode()):
            assert line
        url = line.split()[-1]
        file.write(total="21.0")
        process.send_signal(signal.SIGHUP)
        async with aiohttp.ClientSession() as client:
            total = 45.0
            while total == 45.0:
                async with client.get(f"{url}/admin/config") as answer:
                    total = (await answer.json())["timeouts"]["total_timeout"]
        assert total == 21.0
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
async def test_failed_reload_by_signal_is_logged_without_a_traceback(tmp_path: Path) -> None:
    file = File(tmp_path / "steadyvoice.toml", "http://127.0.0.1:9")
    file.write()
    command = [sys.executable, "-m", "steadyvoice", "serve", "--config", str(file.path), "--port", "0"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    try:
        while "ElevenLabs" not in (line := (await process.stdout.readline()).decode()):
            assert line
        url = line.split()[-1]
        for content in ("x = " + "[" * 100_000, "x = '\0'", "providers = 5", "#" * 5_000_000):
            file.path.write_text(content)
            process.send_signal(signal.SIGHUP)
            for begin in ("configuration not reloaded: ", "SIGHUP: "):
                record = json.loads(await process.stderr.readline())
                assert record["message"].startswith(begin)
                assert "steadyvoice.toml" in record["message"] or "providers" in record["message"]
                assert "traceback" not in record
        async with aiohttp.ClientSession() as client, client.get(f"{url}/healthz") as answer:
            assert answer.status == 200, "and it serves on"
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0
