"""Faults of connections, before their first request."""

from __future__ import annotations

import asyncio
import socket
import ssl

import aiohttp
import pytest

from steadyvoice.simulator import Ending, Fault, FaultError, Script, Simulator, read_script
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.actions import TlsFlaw

from ..client import Client, End, until
from ..clock import SimulatorClock

AT_CONNECTIONS = sorted(
    name for name, action in actions.ACTIONS.items() if actions.FaultTarget.CONNECTION in action.targets
)

in_virtual_time = pytest.mark.looptime(noop_cycles=50)


async def served(sim: Simulator) -> bool:
    """Return whether a connection is accepted and answered. A connection that is reset raises."""
    try:
        seen = await Client(sim.url).get("/v1/voices")
    except ConnectionRefusedError:
        return False
    assert (seen.status, seen.end) == (200, End.CLOSED)
    return True


async def test_refused_connection_is_refused_by_the_kernel(sim: Simulator) -> None:
    sim.faults.set(actions.RefuseConnection())
    assert not await served(sim)
    assert not await served(sim)
    url = sim.url
    sim.faults.clear()
    assert await served(sim)
    assert sim.url == url


async def test_stopped_simulator_releases_its_port() -> None:
    async with Simulator(voice="tones") as sim:
        pass
    sim.faults.set(actions.RefuseConnection())
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(sim.url.rpartition(":")[2])))


async def test_port_stays_bound_while_connections_are_refused(sim: Simulator) -> None:
    sim.faults.set(actions.RefuseConnection())
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", int(sim.url.rpartition(":")[2])))


async def test_refusing_closes_idle_connections_and_keeps_busy_ones(sim: Simulator) -> None:
    busy = asyncio.create_task(Client(sim.url).speak(fault="slow-first-byte;seconds=0.1"))
    await until(lambda: sim.ledger.charged > 0)
    async with aiohttp.ClientSession(headers={"xi-api-key": "any"}) as session:
        async with session.get(f"{sim.url}/v1/voices") as answer:
            await answer.read()
        sim.faults.set(actions.RefuseConnection())
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{sim.url}/v1/voices")
    assert (await busy).terminated


@in_virtual_time
async def test_refusing_starts_and_ends_with_its_times() -> None:
    async with Simulator(voice="tones") as sim:
        sim.faults.set(Fault(actions.RefuseConnection(), start=10, end=20, period=30))
        found = []
        for _ in range(8):
            found.append(await served(sim))
            await asyncio.sleep(5)
    assert found == [True, True, False, False, True, True, True, True]


@in_virtual_time
async def test_nth_connection_is_refused() -> None:
    async with Simulator(voice="tones") as sim:
        sim.faults.set(Fault(actions.RefuseConnection(seconds=3), nth=2))
        assert await served(sim)
        assert not await served(sim)
        assert not await served(sim), "for all of three seconds"
        await asyncio.sleep(3.1)
        assert await served(sim)
        assert await served(sim)


@in_virtual_time
async def test_times_limits_the_number_of_refusals() -> None:
    async with Simulator(voice="tones") as sim:
        sim.faults.set(Fault(actions.RefuseConnection(seconds=2), times=3))
        found = []
        for _ in range(4):
            found.append(await served(sim))
            await asyncio.sleep(2)
    assert found == [False, False, False, True]


@in_virtual_time
async def test_probability_refuses_some_connections_and_repeats_with_its_seed() -> None:
    days = []
    for seed in (1, 1, 2):
        async with Simulator(voice="tones", seed=seed) as sim:
            sim.faults.set(Fault(actions.RefuseConnection(seconds=1), probability=0.5))
            found = []
            for _ in range(24):
                found.append(await served(sim))
                await asyncio.sleep(1.1)
            days.append(found)
    assert days[0] == days[1] != days[2]
    assert 6 < sum(days[0]) < 18


@in_virtual_time
async def test_connection_accepted_just_before_refusing_is_reset() -> None:
    clock = SimulatorClock()
    async with Simulator(voice="tones", clock=clock) as sim:
        sim.faults.set(Fault(actions.RefuseConnection(), start=10))
        clock.now = 10  # and nobody has looked at it yet
        assert (await Client(sim.url).get("/v1/voices")).end is End.RESET
        assert (sim.ledger[0].fault, sim.ledger[0].ending) == ("refuse-connection", Ending.CUT)
        assert not await served(sim)


async def test_control_port_is_served_while_connections_are_refused(sim: Simulator) -> None:
    back = Client(sim.control_url)
    assert (await back.ask("POST", "/sim/faults", b"refuse-connection")).status == 200
    assert not await served(sim)
    assert (await back.get("/sim/ledger")).json["totals"]["requests"] == 0
    assert (await back.ask("DELETE", "/sim/faults")).json == {"faults": []}
    assert await served(sim)


async def test_control_port_has_no_vendor_routes(sim: Simulator) -> None:
    assert (await Client(sim.control_url).get("/v1/voices")).status == 404


@pytest.mark.parametrize("name", AT_CONNECTIONS)
async def test_connection_fault_in_a_header_is_rejected(client: Client, name: str) -> None:
    seen = await client.speak(fault=name)
    assert seen.status == 400
    assert seen.json["error"] == (
        f"x-sim-fault: {name} happens before there is a request: set it in the script or at /sim/faults"
    )


@in_virtual_time
async def test_slow_accept_delays_the_first_request() -> None:
    async with Simulator(voice="tones") as sim:
        sim.faults.set(Fault(actions.SlowAccept(seconds=3), nth=1))
        assert await served(sim)
        waited, request = sim.ledger
        assert (waited.endpoint, waited.fault, waited.ending) == ("connection", "slow-accept", Ending.COMPLETED)
        assert request.received - waited.received >= 3
        assert await served(sim)
        assert sim.ledger[-1].received - request.received < 1


async def test_simulator_stops_while_a_connection_is_delayed() -> None:
    async with Simulator(voice="tones") as sim:
        sim.faults.set(actions.SlowAccept(seconds=60))
        waiting = asyncio.create_task(Client(sim.url).get("/v1/voices"))
        await until(lambda: len(sim.ledger) == 1)
    assert (await waiting).status == 0
    assert sim.ledger[0].ending is Ending.CLOSED
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("handshake", "HANDSHAKE_FAILURE"),
        ("name", "IP address mismatch"),
        ("authority", "unable to get local issuer"),
        ("expired", "certificate has expired"),
    ],
)
async def test_tls_fails_with_each_flaw(flaw: TlsFlaw, message: str) -> None:
    async with Simulator(voice="tones", tls=True) as sim:
        sim.faults.set(Fault(actions.TlsFailure(flaw), times=1))
        trusted = ssl.create_default_context(cafile=sim.ca_file)
        async with aiohttp.ClientSession(headers={"xi-api-key": "any"}) as session:
            with pytest.raises(aiohttp.ClientConnectorError, match=message):
                await session.get(f"{sim.url}/v1/voices", ssl=trusted)
            async with session.get(f"{sim.url}/v1/voices", ssl=trusted) as answer:
                assert answer.status == 200
        faulty, served = sim.ledger
        assert (faulty.endpoint, faulty.fault, faulty.ending) == ("connection", "tls-failure", Ending.CUT)
        assert served.fault is None


async def test_tls_failure_without_tls_is_rejected(sim: Simulator, client: Client) -> None:
    with pytest.raises(FaultError, match="needs TLS; enable it with --tls, or tls = true"):
        Simulator(Script(faults=(Fault(actions.TlsFailure()),)))
    sim.faults.set(actions.Empty())
    with pytest.raises(FaultError, match="needs TLS"):
        sim.faults.set(actions.TlsFailure())
    assert (await client.ask("PUT", "/sim/faults", b"tls-failure")).status == 422
    assert [fault.name for fault in sim.faults] == ["empty"], "what was there is still there"


async def test_script_can_enable_tls_and_its_failure() -> None:
    script = read_script('tls = true\nvoice = "tones"\n[[faults]]\nfault = "tls-failure"\nflaw = "name"\n')
    async with Simulator(script) as sim:
        assert sim.url.startswith("https://")
        assert [fault.name for fault in sim.faults] == ["tls-failure"]


async def test_all_addresses_of_a_host_share_one_port() -> None:
    async with Simulator(voice="tones", host="localhost") as sim:
        port = int(sim.url.rpartition(":")[2])
        families = {family for family, *_ in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}
        for family in families:
            _, writer = await asyncio.open_connection("localhost", port, family=family)
            writer.close()
            await writer.wait_closed()
