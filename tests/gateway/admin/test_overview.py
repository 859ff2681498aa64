"""Overview: equal to a slow reference implementation, and encoded without blocking the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, Tone
from steadyvoice.breaker import CircuitOpenError, CircuitState
from steadyvoice.gateway.admin.overview import Overview, _encode
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.observability.event_recorder import EventRecorder
from steadyvoice.gateway.observability.hourly_statistics import STEP_SECONDS, STEPS_KEPT
from steadyvoice.gateway.observability.recent_calls import RecentCall

from ..reference_overview import ReferenceOverview
from .test_hourly_statistics import NOON, Wall, call

pytestmark = pytest.mark.slow

CONFIGS = (
    CircuitBreakerConfig.adaptive(),
    CircuitBreakerConfig.production(),
    CircuitBreakerConfig(failure_threshold=0.5, window_seconds=20, cooldown_period=7, success_threshold=3),
    CircuitBreakerConfig(failure_threshold=0.4, window_size=9, cooldown_period=40, success_threshold=1),
)


@dataclass
class World:
    """A gateway without a socket, at a time that is set by hand."""

    context: GatewayContext
    recorder: EventRecorder
    overview: Overview
    wall_clock: Wall
    reference: ReferenceOverview = field(default_factory=ReferenceOverview)

    def over(self, one: RecentCall) -> None:
        """A call is over."""
        self.recorder.statistics.add_call(one)
        self.reference.calls.append((self.wall_clock.now, one))

    async def document(self, since: int = 1) -> Any:
        return json.loads((await self.overview.response(since)).body)

    async def expected_document(self, since: int = 1) -> Any:
        return self.reference.overview(self.context, self.recorder.statistics, since)


@asynccontextmanager
async def world(providers: int) -> AsyncIterator[World]:
    wall_clock, voices = Wall(), [Tone(name=f"p{number}") for number in range(providers)]
    async with AsyncTTSService(voices, clock=wall_clock, wall_clock=wall_clock, rng=Random(1)) as service:
        context = GatewayContext(service, clock=wall_clock, wall_clock=wall_clock)
        recorder = EventRecorder(context)
        yield World(context, recorder, Overview(context, recorder.statistics), wall_clock)
        context.stopped()


def a_moment(gateway: World, rng: Random) -> None:
    """Random calls, failures and manual actions."""
    gateway.wall_clock.now += rng.choice((0.6, 4.0, STEP_SECONDS, 3 * STEP_SECONDS))
    for name, circuit in gateway.context.service.circuits.items():
        try:
            permit = circuit.acquire()
        except CircuitOpenError:
            gateway.over(call("muted", (name, "circuit_open"), first_audio=None))
            continue
        if rng.random() < 0.75:
            permit.success()
            gateway.over(call("spoken", (name, None), first_audio=rng.random()))
        else:
            permit.failure(OSError("it broke"), weight=rng.choice((0.5, 1.0)))
            gateway.over(call("failed", (name, "server_error"), first_audio=None))
    if rng.random() < 0.1:
        circuit = gateway.context.service.circuits[f"p{rng.randrange(4)}"]
        rng.choice((circuit.force_open, circuit.disable, circuit.monitor))("by hand", rng.choice((None, 30.0)))
    elif rng.random() < 0.1:
        gateway.context.service.reset_circuit_breaker(f"p{rng.randrange(4)}")


@pytest.mark.parametrize("seed", range(3))
async def test_overview_equals_the_reference_implementation(seed: int) -> None:
    rng = Random(seed)
    seen: set[CircuitState] = set()
    async with world(providers=5) as gateway:
        circuits = gateway.context.service.circuits
        for circuit, config in zip(circuits.values(), CONFIGS, strict=False):
            circuit.update(config)
        for moment in range(300):
            a_moment(gateway, rng)
            states = {circuit.state for circuit in circuits.values()}
            if moment % 30 == 0 or not states <= seen:
                seen |= states
                await assert_equals_reference(gateway)
        assert gateway.wall_clock.now - NOON > STEPS_KEPT * STEP_SECONDS, "or else nothing was forgotten"
    assert seen >= {"closed", "open", "forced_open", "half_open"}, "or else there was little to tell"


async def assert_equals_reference(gateway: World) -> None:
    now = int(gateway.wall_clock.now // STEP_SECONDS)
    for since in (1, now - 1, now + 1):
        overview, reference = await gateway.document(since), await gateway.expected_document(since)
        assert overview == json.loads(json.dumps(reference))
        assert list(overview["providers"]) == list(reference["providers"])


async def test_old_samples_do_not_count_as_current() -> None:
    async with world(providers=1) as gateway:
        gateway.over(call("spoken", ("p0", None), first_audio=0.9))
        gateway.wall_clock.now += 299
        gateway.over(call("spoken", ("p0", None), first_audio=0.4))
        gateway.wall_clock.now += 1
        assert await gateway.document() == json.loads(json.dumps(await gateway.expected_document()))
        gateway.wall_clock.now += 300
        assert (await gateway.document())["providers"]["p0"]["first_audio"] is None


async def test_event_loop_runs_while_the_overview_is_encoded() -> None:
    async with world(providers=50) as gateway:
        turns, writing = 0, asyncio.create_task(gateway.document())
        while not writing.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 10
        assert len(writing.result()["providers"]) == 50


async def test_concurrent_clients_get_one_encoding() -> None:
    async with world(providers=50) as gateway:
        first, second = await asyncio.gather(gateway.overview.response(1), gateway.overview.response(1))
        assert first is second


async def test_change_during_the_encoding_is_in_the_next_overview() -> None:
    async with world(providers=50) as gateway:
        early = asyncio.create_task(gateway.document())
        await asyncio.sleep(0)
        gateway.context.service.circuits["p0"].force_open("just now")
        late = asyncio.create_task(gateway.document())
        assert (await early)["providers"]["p0"]["state"]["circuit_state"] == "closed"
        assert (await late)["providers"]["p0"]["state"]["circuit_state"] == "forced_open"


async def test_disconnect_during_the_encoding_leaves_no_partial_overview() -> None:
    async with world(providers=50) as gateway:
        gone = asyncio.create_task(gateway.document())
        await asyncio.sleep(0)
        gone.cancel()
        assert len((await gateway.document())["providers"]) == 50


def test_values_without_a_json_form_are_encoded_as_elsewhere() -> None:
    values = {"endless": float("inf"), "text": "Grüße, \ud83d", "at": (NOON, [None])}
    assert _encode(values) == b'{"endless":null,"text":"Gr\xc3\xbc\xc3\x9fe, \\ud83d","at":[1800000000.0,[null]]}'
