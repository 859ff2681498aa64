"""Stores in memory and in a real server: records, leases, failures. Both follow the same rules."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from steadyvoice.breaker import CircuitBreaker, CircuitRegistry, CircuitState
from steadyvoice.fleet import Fleet, FleetState, FleetStore, FleetStoreError, FleetURLError, LeaseClaim
from steadyvoice.fleet.redis_store import RedisStore
from steadyvoice.fleet.testing import InMemoryFleet
from steadyvoice.gateway.workers.channel import encode_message, take_message
from steadyvoice.gateway.workers.fleet_store import StoreServer, WorkerStore

from .redis_server import DelayingProxy, RedisServer, redis_server

pytestmark = pytest.mark.slow

Connect = Callable[[], FleetStore]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["memory", "workers", "redis"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    if request.param == "memory":
        yield InMemoryFleet(time.monotonic).connect
        return
    if request.param == "workers":
        with ExitStack() as lines:
            supervisor = StoreServer(time.monotonic)
            yield lambda: connected_worker(supervisor, lines)
        return
    server: RedisServer = request.getfixturevalue("server")
    with Redis(port=server.port) as client:
        client.flushall()
    stores: list[RedisStore] = []

    def connect() -> RedisStore:
        stores.append(RedisStore(server.url, "voices"))
        return stores[-1]

    yield connect
    for store in stores:
        store.close()


def connected_worker(supervisor: StoreServer, lines: ExitStack) -> WorkerStore:
    """Return the store of a worker, whose supervisor answers in a thread."""
    line, other_end = (lines.enter_context(each) for each in socket.socketpair())

    def answer() -> None:
        received = bytearray()
        while data := other_end.recv(65536):
            received += data
            while message := take_message(received):
                number, *question = message
                other_end.sendall(encode_message(number, supervisor.answer(*question)))

    thread = threading.Thread(target=answer)
    thread.start()
    lines.callback(thread.join)
    lines.callback(line.shutdown, socket.SHUT_RDWR)
    return WorkerStore(line)


def probe(wanted: int = 1, limit: int = 1, life: float = 30.0, grace: float = 0.0) -> LeaseClaim:
    return LeaseClaim("probe/voice\nß", wanted, limit, life, grace)


def test_replicas_see_the_records_of_the_others(connect: Connect) -> None:
    first, second = connect(), connect()
    assert first.beat("a", b"one\xff\x00", 3, []).records == []
    (seen,) = second.beat("b", b"two", 3, []).records
    assert (seen.replica, seen.payload) == ("a", b"one\xff\x00")
    assert 0 <= seen.age < 3
    (seen,) = first.beat("a", b"three", 3, []).records
    assert (seen.replica, seen.payload) == ("b", b"two")
    first.leave("a")
    assert second.beat("b", b"two", 3, []).records == []


def test_record_is_gone_after_its_life(connect: Connect) -> None:
    first, second = connect(), connect()
    first.beat("a", b"one", 0.001, [])
    deadline = time.monotonic() + 5
    while second.beat("b", b"two", 0.001, []).records and time.monotonic() < deadline:
        pass
    assert second.beat("b", b"two", 0.001, []).records == []


def test_lease_is_held_by_one_until_it_is_returned(connect: Connect) -> None:
    first, second = connect(), connect()
    (resource, *_) = claim = probe()
    assert first.beat("a", b"", 3, [claim]).leased == {resource: 1}
    assert second.beat("b", b"", 3, [claim]).leased == {resource: 0}
    assert first.beat("a", b"", 3, [claim]).leased == {resource: 1}  # renewed
    first.beat("a", b"", 3, [probe(wanted=0)])
    assert second.beat("b", b"", 3, [claim]).leased == {resource: 1}
    second.leave("b")
    assert first.beat("a", b"", 3, [claim]).leased == {resource: 1}


def test_units_are_never_more_than_the_limit(connect: Connect) -> None:
    first, second = connect(), connect()
    claims = [probe(wanted=7, limit=10), LeaseClaim("other", 2, 2, 30)]
    assert list(first.beat("a", b"", 3, claims).leased.values()) == [7, 2]
    assert list(second.beat("b", b"", 3, claims).leased.values()) == [3, 0]
    first.beat("a", b"", 3, [probe(wanted=4, limit=10)])
    assert list(second.beat("b", b"", 3, claims).leased.values()) == [6, 0]
    assert list(first.beat("a", b"", 3, [probe(wanted=9, limit=5)]).leased.values()) == [0]


def test_lease_that_ran_out_is_lent_again_after_its_grace(connect: Connect) -> None:
    first, second = connect(), connect()
    first.beat("a", b"", 3, [probe(life=0.001, grace=30)])
    time.sleep(0.005)
    assert list(second.beat("b", b"", 3, [probe()]).leased.values()) == [0]
    first.beat("a", b"", 3, [probe(life=0.001)])
    time.sleep(0.005)
    assert list(second.beat("b", b"", 3, [probe()]).leased.values()) == [1]


def test_units_of_a_replica_that_died_are_stated_while_they_are_withheld(connect: Connect) -> None:
    first, second = connect(), connect()
    claim = probe(wanted=3, limit=10, life=0.0, grace=30.0)
    first.beat("a", b"", 0.001, [claim])
    assert second.beat("b", b"", 30.0, [claim]).withheld[claim.resource] in (0, 3)
    deadline = time.monotonic() + 5
    while (reply := second.beat("b", b"", 0.001, [claim])).records and time.monotonic() < deadline:
        pass
    assert (reply.withheld, reply.leased) == ({claim.resource: 3}, {claim.resource: 3})


def test_closed_store_refuses_beats(connect: Connect) -> None:
    store = connect()
    run = store.beat("a", b"", 3, []).run
    assert connect().beat("b", b"", 3, []).run == run
    store.close()
    with pytest.raises(FleetStoreError, match="closed"):
        store.beat("a", b"", 3, [])


# ---------------------------------------------------------------- Redis only


def test_data_that_was_lost_begins_another_run(server: RedisServer) -> None:
    store = RedisStore(server.url, "voices")
    run = store.beat("a", b"", 3, []).run
    with Redis(port=server.port) as client:
        client.flushall()
    assert store.beat("a", b"", 3, []).run != run
    store.close()


def test_nothing_is_left_behind_for_ever(server: RedisServer) -> None:
    store = RedisStore(server.url, "tidy")
    store.beat("a", b"", 3, [probe()])
    with Redis(port=server.port) as client:
        lives = [client.ttl(key) for key in client.keys("*tidy*")]
        assert len(lives) == 5
        assert all(isinstance(life, int) and 0 < life <= 3600 for life in lives)
    store.close()


def test_keys_of_another_program_are_an_error(server: RedisServer) -> None:
    store = RedisStore(server.url, "taken")
    with Redis(port=server.port) as client:
        client.set("{steadyvoice:taken}:records", "mine")
    with pytest.raises(FleetStoreError, match="another program uses the keys"):
        store.beat("a", b"", 3, [])
    store.close()


def test_replica_that_left_is_not_brought_back_by_a_beat_that_was_given_up(server: RedisServer) -> None:
    proxy = DelayingProxy(server.port)
    late, other = RedisStore(proxy.url, "left"), RedisStore(server.url, "left")
    with Redis(port=server.port) as client:
        client.flushall()
        late.beat("a", b"first", 30, [probe(wanted=3, limit=10)])
        proxy.delay = 1.0
        with pytest.raises(FleetStoreError):
            late.beat("a", b"given up", 30, [probe(wanted=3, limit=10)])
        proxy.delay = 0.0
        late.leave("a")
        refused = client.info("errorstats")
        wait_until(lambda: client.info("errorstats") != refused)
    reply = other.beat("b", b"", 30, [probe(wanted=10, limit=10)])
    assert reply.records == []
    assert list(reply.leased.values()) == [10]
    for each in (late, other, proxy):
        each.close()


def test_clock_of_the_server_that_was_set_back_wedges_nothing(server: RedisServer) -> None:
    first, second = RedisStore(server.url, "clock"), RedisStore(server.url, "clock")
    first.beat("a", b"", 3, [probe()])
    with Redis(port=server.port) as client:  # as if both were written five minutes from now
        client.zincrby("{steadyvoice:clock}:written", 300_000, "a")
        field = f"{probe().resource}\na"
        units, free_at, span = client.hget("{steadyvoice:clock}:leases", field).split()
        client.hset("{steadyvoice:clock}:leases", field, f"{int(units)} {int(free_at) + 300_000} {int(span)}")
    reply = second.beat("b", b"", 3, [probe()])
    assert reply.records == []
    assert list(reply.leased.values()) == [1]
    first.close()
    second.close()


def test_beat_that_is_carried_out_late_changes_nothing(server: RedisServer) -> None:
    proxy = DelayingProxy(server.port)
    late, other = RedisStore(proxy.url, "late"), RedisStore(server.url, "late")
    with Redis(port=server.port) as client:
        client.flushall()
        late.beat("a", b"first", 30, [probe(wanted=3, limit=10)])
        proxy.delay = 1.0
        with pytest.raises(FleetStoreError):
            late.beat("a", b"given up", 30, [probe(wanted=1, limit=10)])
        proxy.delay = 0.0
        late.beat("a", b"last", 30, [probe(wanted=5, limit=10)])
        refused = client.info("errorstats")
        wait_until(lambda: client.info("errorstats") != refused)  # the one that was given up
    reply = other.beat("b", b"", 30, [probe(wanted=10, limit=10)])
    assert [record.payload for record in reply.records] == [b"last"]
    assert list(reply.leased.values()) == [5]
    restarted = RedisStore(server.url, "late")  # begins to count at one
    assert restarted.beat("a", b"", 30, []).run == reply.run
    for each in (late, other, restarted, proxy):
        each.close()


def test_wrong_password_is_an_error_that_does_not_show_it(tmp_path: Path, server: RedisServer) -> None:
    with redis_server(tmp_path, "--requirepass", "right-one") as locked:
        wrong = RedisStore(f"redis://:wrong-one@127.0.0.1:{locked.port}", "voices")
        with pytest.raises(FleetStoreError) as raised:
            wrong.beat("a", b"", 3, [])
        assert "wrong-one" not in str(raised.value)
        assert "password" in str(raised.value).lower()
        right = RedisStore(f"redis://:right-one@127.0.0.1:{locked.port}", "voices")
        assert right.beat("a", b"", 3, []).run
        assert "right-one" not in right.address
        wrong.close()
        right.close()


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_circuits_go_on_while_the_server_hangs_and_rejoin_when_it_is_back(server: RedisServer) -> None:
    registry = CircuitRegistry()
    with Fleet(server.url, registry, name="hang") as fleet:
        circuit = registry.circuit("geocoder")
        wait_until(lambda: fleet.state is FleetState.TOGETHER and "geocoder" in fleet.status().circuits)
        server.stop()
        try:
            wait_until(lambda: fleet.state is FleetState.ALONE)
            for _ in range(5):
                circuit.acquire().failure("down")
            assert circuit.state is CircuitState.OPEN
            assert "Timeout" in (fleet.status().last_error or "")
        finally:
            server.proceed()
        wait_until(lambda: fleet.state is FleetState.TOGETHER)


def test_server_that_died_and_came_back_is_joined_again(tmp_path: Path, server: RedisServer) -> None:
    with redis_server(tmp_path) as mortal, Fleet(mortal.url, name="mortal") as fleet:
        wait_until(lambda: fleet.state is FleetState.TOGETHER)
        mortal.kill()
        wait_until(lambda: fleet.state is FleetState.ALONE)
        mortal.start()
        wait_until(lambda: fleet.state is FleetState.TOGETHER)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_is_a_replica_of_its_own(server: RedisServer) -> None:
    circuit = CircuitBreaker("geocoder")
    with Fleet(server.url, [circuit], name="prefork") as fleet:
        wait_until(lambda: fleet.state is FleetState.TOGETHER)
        parent, child = fleet.replica, os.fork()
        if child == 0:
            status = 1
            try:
                assert fleet.replica != parent
                wait_until(lambda: parent in fleet.status().replicas)
                for _ in range(5):
                    circuit.acquire().failure("down")
                wait_until(lambda: fleet.status().circuits["geocoder"].states_elsewhere[parent] == "closed")
                time.sleep(1)
                status = 0
            finally:
                os._exit(status)
        wait_until(lambda: "open" in fleet.status().circuits["geocoder"].states_elsewhere.values())
        assert circuit.state is CircuitState.CLOSED  # the child alone is no quorum
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize("name", ["", "x" * 101, "a{b", "a\nb"])
def test_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(FleetURLError, match="name: must be"):
        RedisStore("redis://localhost", name)
