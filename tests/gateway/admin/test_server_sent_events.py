"""Server-sent events of the event log: order, reconnects, slow readers."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

import aiohttp
import pytest

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, Tone
from steadyvoice.gateway.admin import server_sent_events
from steadyvoice.gateway.http_server.output import MAX_UNSENT_BYTES
from steadyvoice.gateway.observability.event_log import OTHERS_KEPT
from steadyvoice.gateway.observability.event_recorder import MAX_CALLS_PER_SECOND
from steadyvoice.gateway.observability.recent_calls import RecentCalls
from steadyvoice.gateway.server import Gateway
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.options import ResolvedOptions
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions

from ..conftest import Run
from ..event_reader import EventReader, reading_events
from ..running_gateway import ELEVENLABS, OPENAI, Clock, RunningGateway, elevenlabs_body, openai_body, running_gateway

ONE_STRIKE = CircuitBreakerConfig(consecutive_failures=1, cooldown_period=30, success_threshold=1)


@pytest.mark.slow
async def test_events_of_an_outage() -> None:
    clock = Clock()
    async with running_gateway(circuit=ONE_STRIKE, clock=clock) as gateway, reading_events(gateway) as reader:
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(), headers={"x-request-id": "call-1"})
        opened = await reader.next()
        assert (opened.kind, opened.data["from"], opened.data["to"]) == ("transition", "closed", "open")
        assert opened.data["provider"] == "elevenlabs"
        assert opened.data["cause"] == "consecutive_failures"
        assert opened.data["reason"]
        assert opened.data["retry_after"] == pytest.approx(30)
        assert opened.data["at"].endswith("Z")
        assert "by" not in opened.data, "it did so by itself"

        call = await reader.next()
        assert (call.kind, call.data["request_id"], call.data["outcome"]) == ("call", "call-1", "substituted")
        assert [each["provider"] for each in call.data["attempts"]] == ["elevenlabs", "openai"]
        second = await reader.next()
        assert (second.kind, second.data["calls"], second.data["shown"]) == ("calls", 1, 1)
        assert second.data["outcomes"] == {"substituted": 1}

        gateway.sim.faults.clear()
        clock.ahead += 31
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        moves = [(await reader.next("transition")).data["to"] for _ in range(2)]
        assert moves == ["half_open", "closed"]


@pytest.mark.parametrize(
    "event_id", ["{0}-" + "0" * 5000, "{0}-" + "9" * 5000, "{0}-x", "{0}-", "-", "\xb2", "{0}-\xb2", "x" * 900]
)
async def test_invalid_event_id_starts_at_the_beginning(event_id: str) -> None:
    async with running_gateway(Tone()) as gateway:
        event_log = gateway.context.event_log
        event_log.add("action", {"provider": "tone"})
        async with reading_events(gateway, event_id.format(event_log.edition)) as reader:
            assert (await reader.next()).kind == "lost"
            assert (await reader.next()).kind == "action"


async def test_reconnect_continues_after_the_last_event() -> None:
    async with running_gateway(Tone()) as gateway:
        async with reading_events(gateway) as reader:
            gateway.service.circuits["tone"].force_open("first")
            first = await reader.next("transition")
        gateway.service.circuits["tone"].close("second")
        gateway.service.circuits["tone"].force_open("third")
        async with reading_events(gateway, first.id) as again:
            assert [(await again.next()).data["reason"] for _ in range(2)] == ["second", "third"]
        async with reading_events(gateway, "0") as reconnected:
            assert [(await reconnected.next()).data["reason"] for _ in range(3)] == ["first", "second", "third"]


async def test_late_reader_gets_the_number_of_missing_entries() -> None:
    async with running_gateway(Tone()) as gateway:
        async with reading_events(gateway) as reader:
            gateway.context.event_log.add("action", {"n": 0})
            first = await reader.next()
        for n in range(OTHERS_KEPT + 7):
            gateway.context.event_log.add("action", {"n": n})
        async with reading_events(gateway, first.id) as again:
            lost, oldest = await again.next(), await again.next()
            assert (lost.kind, lost.data["entries"]) == ("lost", 7)
            assert (oldest.kind, oldest.data["n"]) == ("action", 7)


@pytest.mark.parametrize("last_id", ["abcd1234-5", "nonsense", "-", "99", "\u0661-1".encode().decode("latin-1")])
async def test_reader_from_before_a_restart_gets_a_lost_event(last_id: str) -> None:
    async with running_gateway(Tone()) as gateway:
        gateway.service.circuits["tone"].force_open("since")
        async with reading_events(gateway, last_id) as reader:
            lost, moved = await reader.next(), await reader.next()
            assert (lost.kind, lost.data["reason"]) == ("lost", "the gateway was restarted")
            assert moved.data["reason"] == "since"


@pytest.mark.slow
async def test_of_a_thousand_calls_few_are_logged_and_all_are_counted() -> None:
    async with running_gateway(Tone(), muted=False) as gateway, reading_events(gateway) as reader:
        for _ in range(MAX_CALLS_PER_SECOND + 5):
            await gateway.fetch("POST", OPENAI, json=openai_body("Hi.", response_format="pcm"))
        gateway.service.circuits["tone"].force_open()
        await gateway.fetch("POST", OPENAI, json=openai_body("Hi.", response_format="pcm"))
        shown: list[str] = []
        counted = 0
        while counted < MAX_CALLS_PER_SECOND + 6:
            seen = await reader.next("call", "calls")
            if seen.kind == "call":
                shown.append(seen.data["outcome"])
            else:
                counted += seen.data["calls"]
        assert "failed" in shown, "what went wrong is seen among many that went well"
        gateway.service.circuits["tone"].close()
        await gateway.fetch("POST", OPENAI, json=openai_body("Hi.", response_format="pcm"))
        assert (await reader.next("call")).data["outcome"] == "spoken", "another second has begun"


async def test_many_calls_do_not_push_out_transitions() -> None:
    async with running_gateway(Tone()) as gateway:
        gateway.service.circuits["tone"].force_open("long ago")
        for n in range(5_000):
            gateway.context.event_log.add("call", {"n": n})
        async with reading_events(gateway, "0") as reader:
            lost, moved = await reader.next(), await reader.next()
            assert lost.data["entries"] == 4_500
            assert moved.data["reason"] == "long ago"


async def test_heartbeat_is_sent_without_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_sent_events, "HEARTBEAT", 0.01)
    async with running_gateway(Tone()) as gateway, reading_events(gateway) as reader:
        assert (await reader.next()).kind == "comment"


async def test_event_streams_end_at_shutdown() -> None:
    async with running_gateway(Tone()) as gateway, reading_events(gateway) as reader:
        cut = await gateway.gateway.stop()
        assert cut == 0
        assert [seen.kind for seen in await reader.rest()] == ["closing"]


async def test_number_of_event_streams_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_sent_events, "MAX_READERS", 2)
    async with running_gateway(Tone()) as gateway:
        async with reading_events(gateway), reading_events(gateway):
            refused = await gateway.fetch("GET", "/admin/events")
            assert refused.status == 503
            assert (await refused.json())["error"]["code"] == "too_many_readers"
        while (await gateway.fetch("HEAD", "/admin/events")).status == 503:
            pass  # until the places are given back


async def test_reader_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_sent_events, "_WRITE_TIMEOUT", 0.05)
    async with running_gateway(Tone()) as gateway, reading_events(gateway) as reader:
        event_log = gateway.context.event_log
        for _ in range(400):
            event_log.add("action", {"reason": "x" * 50_000})
        while gateway.context.traffic().requests:
            await gateway.fetch("GET", "/healthz")
        with pytest.raises((aiohttp.ClientError, EOFError)):
            await _read(reader, 400)


def test_little_is_buffered_for_a_reader_that_does_not_read(run: Run) -> None:
    """Run on both event loops: on some versions of Python, `writelines()` of asyncio's never says to wait."""

    async def scenario() -> None:
        async with running_gateway(Tone()) as gateway, reading_events(gateway):
            for _ in range(400):
                gateway.context.event_log.add("action", {"reason": "x" * 50_000})
                assert held(gateway) <= MAX_UNSENT_BYTES
                await gateway.fetch("GET", "/healthz")
            assert held(gateway) <= MAX_UNSENT_BYTES

    run(scenario())


def held(gateway: RunningGateway) -> int:
    """Bytes that wait in memory until they are read."""
    connections: list[Any] = list(gateway.gateway._listener._connections.all)
    return max(int(connection.transport.get_write_buffer_size()) for connection in connections)


async def _read(reader: EventReader, many: int) -> None:
    for _ in range(many):
        await reader.next()


async def test_stopped_gateway_releases_its_service() -> None:
    async with AsyncTTSService([Tone()]) as service:
        gateway = Gateway(service, ServerConfig(port=0))
        context = ref(gateway.context)
        async with gateway:
            pass
        del gateway
        gc.collect()
        assert context() is None


async def test_recent_call_keeps_no_other_object_alive() -> None:
    async with running_gateway(muted=False) as gateway:
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        request, account = await gateway.next_call()
        order = GatewaySpeechRequest("text", ResolvedOptions.resolve({}))
        call = RecentCalls().add(request, "elevenlabs", order, account, now=1.0, wall_time=1.0, text=False)
        attempt, failure = call.attempts[0]
        assert account.attempts[0].error is not None
        assert attempt.error is None, "an error holds its traceback, and that all it went through"
        assert failure is not None
        assert failure.kind == "server_error"
