"""Fleets in virtual time: outages, broken replicas, partitions, stopped processes, upgrades."""

from __future__ import annotations

from functools import cache, partial

import pytest

from steadyvoice.breaker import Cause, CircuitBreaker, CircuitBreakerConfig, CircuitState
from steadyvoice.fleet import Fleet, FleetState
from steadyvoice.fleet.heartbeat import BEAT_INTERVAL
from steadyvoice.fleet.records import config_digest

from .simulation import SimulatedReplica, Simulation

ADAPTIVE = CircuitBreakerConfig.adaptive()
CONSECUTIVE = CircuitBreakerConfig.consecutive(7, cooldown_period=4, success_threshold=2)
RATE = CircuitBreakerConfig(failure_threshold=0.5, window_size=20, cooldown_period=4, success_threshold=2)
TIMED = CircuitBreakerConfig(failure_threshold=0.5, window_seconds=8, minimum_calls=6, cooldown_period=4)
CONFIGS = pytest.mark.parametrize(
    "config", [ADAPTIVE, CONSECUTIVE, RATE, TIMED], ids=["adaptive", "run", "rate", "timed"]
)


def causes(replica: SimulatedReplica) -> list[Cause]:
    return [change.cause for change in replica.transitions]


@cache
def failures_alone(config: CircuitBreakerConfig) -> int:
    """Return how many failures one replica with all the traffic needs until its circuit is open."""
    alone = Simulation(1, config)
    alone.run(8)
    alone.failure_rate = 1.0
    alone.run_until(lambda: alone.open_replicas == 1, 30)
    return alone.total("failures")


@CONFIGS
def test_ten_replicas_open_after_as_many_failures_as_one_needs(config: CircuitBreakerConfig) -> None:
    fleet = Simulation(10, config)
    fleet.run(8)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.open_replicas == 10, 30)
    assert fleet.open_replicas == 10
    # What comes while two beats pass is added: ten calls a second.
    assert fleet.total("failures") <= failures_alone(config) + 2 * 3 * BEAT_INTERVAL * 10


@pytest.mark.parametrize(
    ("config", "replicas", "rate"),
    [(ADAPTIVE, 10, 1.0), (CONSECUTIVE, 10, 1.0), (ADAPTIVE, 3, 5.0), (RATE, 3, 5.0), (TIMED, 3, 5.0)],
)
def test_one_replica_with_a_broken_network_opens_only_itself(
    config: CircuitBreakerConfig, replicas: int, rate: float, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = Simulation(replicas, config)
    broken, *others = fleet.replicas
    broken.rate = rate  # half of all calls, in the smaller fleet
    fleet.run(8)
    broken.failure_rate = 1.0
    fleet.run(12)
    assert broken.is_open
    assert all(replica.transitions == [] for replica in others)
    assert broken.fleet.status().circuits["voice"].is_outlier
    assert "look at this machine's own network" in caplog.text


@pytest.mark.parametrize("config", [ADAPTIVE, RATE], ids=["adaptive", "rate"])
def test_three_of_fifty_with_traffic_open(config: CircuitBreakerConfig) -> None:
    fleet = Simulation(50, config)
    for number, replica in enumerate(fleet.replicas):
        replica.rate = 3.0 if number < 3 else 0.0
    fleet.run(4)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: all(replica.is_open for replica in fleet.replicas[:3]), 20)
    assert fleet.total("failures") <= failures_alone(config) + 3 * 3 * BEAT_INTERVAL * 9
    assert all(replica.is_open for replica in fleet.replicas[:3])


@CONFIGS
def test_two_replicas_learn_of_each_other(config: CircuitBreakerConfig) -> None:
    fleet = Simulation(2, config)
    fleet.run(8)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.open_replicas == 2, 30)
    assert fleet.total("failures") <= failures_alone(config) + 8


@pytest.mark.parametrize(("config", "failure_rate"), [(ADAPTIVE, 0.15), (RATE, 0.05)], ids=["adaptive", "rate"])
def test_usual_failures_of_all_together_open_nothing(config: CircuitBreakerConfig, failure_rate: float) -> None:
    fleet = Simulation(8, config, calls_per_second=30)
    fleet.failure_rate = failure_rate
    fleet.run(30)
    # One circuit may open by its own evidence, as it would without the others: settings of these tests are strict.
    assert all(Cause.ADOPTED not in causes(replica) for replica in fleet.replicas)


def test_fifty_half_open_replicas_send_one_probe_at_a_time() -> None:
    fleet = Simulation(50, ADAPTIVE, calls_per_second=100)
    fleet.run(3)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.open_replicas == 50, 20)
    fleet.run(6)
    assert fleet.open_replicas == 50
    assert fleet.most_probes == 1
    assert sum(replica.fleet.status().circuits["voice"].duplicate_probes for replica in fleet.replicas) == 0
    fleet.failure_rate = 0.0
    # The longest cooldown, a probe's turn, and five seconds in which the replicas return.
    seconds = fleet.run_until(lambda: fleet.open_replicas == 0, 30)
    assert fleet.open_replicas == 0
    assert seconds < 12


def test_probe_comes_soon_where_only_two_of_fifty_have_traffic() -> None:
    fleet = Simulation(50, CONSECUTIVE)
    for number, replica in enumerate(fleet.replicas):
        replica.rate = 5.0 if number < 2 else 0.0
    fleet.run(3)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.replicas[0].is_open and fleet.replicas[1].is_open, 10)
    cooldown = max(replica.circuit.retry_after or 0.0 for replica in fleet.replicas[:2])
    seconds = fleet.run_until(lambda: fleet.total("probes") > 0, 20)
    assert seconds <= cooldown + 1.5


def test_killed_probe_owner_is_followed_within_its_lease() -> None:
    fleet = Simulation(5, CONSECUTIVE, calls_per_second=25)
    fleet.run(3)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.open_replicas == 5, 10)
    fleet.call_seconds = 30.0
    fleet.run_until(lambda: fleet.total("probes") == 1, 10)
    (owner,) = [replica for replica in fleet.replicas if replica.probes]
    fleet.run(2)
    assert fleet.total("probes") == 1  # it is still in flight
    fleet.remove(owner)
    assert fleet.run_until(lambda: fleet.total("probes") >= 1, 10) <= 2.0 + 2 * BEAT_INTERVAL


def test_cancelled_probe_is_followed_at_once() -> None:
    fleet = Simulation(2, CONSECUTIVE)
    fleet.run(3)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.open_replicas == 2, 10)
    for replica in fleet.replicas:
        replica.rate = 0.0
    fleet.run(5)
    circuit = fleet.replicas[0].circuit
    assert circuit.try_acquire() is None  # the first caller after the cooldown asks for the lease
    fleet.run(0.6)
    probe = circuit.acquire()
    fleet.run(4)  # the lease is renewed while it is in flight
    assert circuit.try_acquire() is None
    probe.ignore()
    circuit.acquire().success()
    circuit.acquire().success()
    fleet.run(2)
    assert fleet.open_replicas == 0


def test_stopped_process_changes_nothing() -> None:
    fleet = Simulation(5, ADAPTIVE)
    fleet.run(8)
    fleet.replicas[0].is_stopped = True
    fleet.run(10)
    fleet.replicas[0].is_stopped = False
    fleet.run(5)
    assert [replica.transitions for replica in fleet.replicas if replica.transitions] == []
    assert fleet.replicas[0].fleet.state is FleetState.TOGETHER
    assert len(fleet.replicas[0].fleet.status().replicas) == 4


def test_circuits_open_and_recover_alone_while_the_store_is_gone() -> None:
    fleet = Simulation(4, ADAPTIVE, calls_per_second=20)
    fleet.run(8)
    fleet.server.partition(*(replica.store for replica in fleet.replicas))
    fleet.run(1.5)
    assert {replica.fleet.state for replica in fleet.replicas} == {FleetState.STALE}
    fleet.run(3)
    assert {replica.fleet.state for replica in fleet.replicas} == {FleetState.ALONE}
    fleet.failure_rate = 1.0
    fleet.run(10)
    assert all(Cause.ADOPTED not in causes(replica) for replica in fleet.replicas)
    assert all(replica.transitions for replica in fleet.replicas)
    fleet.failure_rate = 0.0
    fleet.run(8)
    assert fleet.open_replicas == 0
    fleet.server.partition()
    fleet.run(2)
    assert {replica.fleet.state for replica in fleet.replicas} == {FleetState.TOGETHER}
    assert fleet.open_replicas == 0


def test_store_that_fails_while_circuits_are_open_wedges_none() -> None:
    fleet = Simulation(5, ADAPTIVE, calls_per_second=20)
    fleet.run(8)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.open_replicas == 5, 20)
    fleet.server.delay = 0.5
    fleet.run(10)
    fleet.failure_rate = 0.0
    fleet.run(30)
    assert fleet.open_replicas == 0


@pytest.mark.parametrize("period", [0.5, 1.0, 4.0])
def test_store_that_comes_and_goes_opens_nothing_and_wedges_none(period: float) -> None:
    fleet = Simulation(4, CONSECUTIVE, calls_per_second=10)

    def flap(seconds: float) -> None:
        for number in range(round(seconds / period)):
            fleet.server.partition(*(replica.store for replica in fleet.replicas if number % 2))
            fleet.run(period)

    fleet.run(4)
    flap(8)
    assert all(replica.transitions == [] for replica in fleet.replicas)
    fleet.failure_rate = 1.0
    flap(8)
    assert all(replica.transitions for replica in fleet.replicas)
    fleet.failure_rate = 0.0
    flap(16)
    assert fleet.open_replicas == 0


def test_store_that_loses_its_data_in_the_middle_of_a_probe_wedges_none() -> None:
    fleet = Simulation(5, CONSECUTIVE, calls_per_second=20)
    fleet.run(3)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.total("probes") > 0, 20)
    fleet.server.restart()
    fleet.failure_rate = 0.0
    fleet.run(25)
    assert fleet.open_replicas == 0
    assert {replica.fleet.state for replica in fleet.replicas} == {FleetState.TOGETHER}


def test_vendor_that_recovers_meets_the_replicas_one_after_another() -> None:
    fleet = Simulation(20, ADAPTIVE, calls_per_second=60)
    fleet.run(3)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.open_replicas == 20, 20)
    fleet.failure_rate = 0.0
    fleet.run_until(lambda: fleet.open_replicas < 20, 30)
    fleet.run(0.5)
    assert 5 <= fleet.open_replicas <= 18
    fleet.run(3)
    assert fleet.open_replicas == 0


def test_probes_of_several_replicas_close_the_circuits_of_all(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Simulation(50, CONSECUTIVE, calls_per_second=50, seed=3)
    fleet.run(5)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.open_replicas == 50, 20)
    fleet.failure_rate = 0.0
    assert fleet.run_until(lambda: fleet.open_replicas == 0, 60) < 20
    assert fleet.total("probes") <= 4
    assert "other replicas: look at this machine" not in caplog.text  # those that have not returned yet are no outliers


def test_replicas_with_few_calls_find_one_to_probe_with() -> None:
    fleet = Simulation(50, CONSECUTIVE, calls_per_second=10)
    fleet.run(20)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.open_replicas == 50, 30)
    assert fleet.run_until(lambda: fleet.total("probes") > 0, 20) < 8  # of which four are the cooldown
    fleet.run(30)
    assert fleet.most_probes <= 3  # several wait for a caller, and give way to the first
    fleet.failure_rate = 0.0
    assert fleet.run_until(lambda: fleet.open_replicas == 0, 60) < 40


def test_failed_probe_of_one_prolongs_the_cooldown_of_all() -> None:
    config = CircuitBreakerConfig.consecutive(7, cooldown_period=4, cooldown_backoff=2, max_cooldown=64)
    fleet = Simulation(5, config, calls_per_second=50)
    fleet.run(3)
    fleet.failure_rate = 1.0
    fleet.run(100)
    # At 4, 8, 16, 32 and 64 seconds, as in one process: five replicas do not take five times as many.
    assert 3 <= fleet.total("probes") <= 6


def test_replica_with_other_settings_shares_nothing(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Simulation(4, CONSECUTIVE, calls_per_second=8)
    different = fleet.add(CircuitBreakerConfig.consecutive(500), rate=2)
    fleet.run(12)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.open_replicas == 4, 20)
    fleet.run(5)
    assert not different.is_open
    assert different.fleet.status().different_settings == ("voice",)
    assert caplog.text.count("has other settings at another replica") == 5  # once at each


def test_settings_that_spread_from_replica_to_replica_are_no_difference(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Simulation(4, CONSECUTIVE)
    fleet.run(2)
    for replica in fleet.replicas:
        replica.circuit.update(CircuitBreakerConfig.consecutive(9))
        fleet.run(2)  # one after the other
    fleet.run(20)
    assert "other settings" not in caplog.text
    assert fleet.replicas[0].fleet.status().different_settings == ()


def test_clocks_that_are_minutes_apart_change_nothing() -> None:
    fleet = Simulation(4, CONSECUTIVE, calls_per_second=20)
    for minutes, replica in zip((-5, 0, 2, 5), fleet.replicas, strict=True):
        clock = partial(later, fleet, 60.0 * minutes)
        replica.circuit = CircuitBreaker("voice", CONSECUTIVE, clock=clock, listeners=[replica.note])
        replica.fleet = Fleet(replica.store, [replica.circuit], clock=clock)
    fleet.run(5)
    assert all(replica.transitions == [] for replica in fleet.replicas)
    fleet.failure_rate = 1.0
    fleet.run_until(lambda: fleet.open_replicas == 4, 20)
    assert fleet.total("failures") <= failures_alone(CONSECUTIVE) + 2 * 3 * BEAT_INTERVAL * 20
    fleet.failure_rate = 0.0
    fleet.run(12)
    assert fleet.open_replicas == 0


def later(fleet: Simulation, seconds: float) -> float:
    return fleet.clock() + seconds


def test_new_replica_of_an_upgrade_moves_nothing() -> None:
    fleet = Simulation(4, ADAPTIVE)
    fleet.run(8)
    for _ in range(4):
        fleet.remove(fleet.replicas[0])
        fleet.add(ADAPTIVE, 2.5)
        fleet.run(5)
        fleet.server.write("old", b'{"version":1,"circuits":{"voice":{"state":"closed"}},"future":{"a":[1]}}')
        fleet.server.write("newer", b'{"version":9,"circuits":{"voice":{"state":"resting","mood":3}}}')
    assert all(replica.transitions == [] for replica in fleet.replicas)
    assert all(replica.fleet.status().ignored_records == 0 for replica in fleet.replicas)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"version":0}',
        b'{"circuits":{"voice":{"state":"open","opened_age":-5,"own_verdict":true}}}',
        b'{"circuits":{"voice":{"state":"open","level":1e400}}}',
        b'{"circuits":{"voice":{"state":"open","buckets":[[0,5]]}}}',
        b'{"circuits":{"' + b"x" * 300 + b'":{"state":"open"}}}',
        b'{"circuits":' * 3000,
        b'{"future":"' + b"x" * 2_000_000 + b'"}',
        b'{"slots":{"account":{"used":-1}}}',
        b'{"announcements":{"circuit/voice":{"revision":0,"origin":"x","age":0,"remaining":9,"kind":"open"}}}',
        b'{"announcements":{"a":{"revision":9e30,"origin":"x","age":0,"remaining":9,"kind":"open"}}}',
    ],
    ids=range(13),
)
def test_hostile_record_is_ignored_and_counted(payload: bytes) -> None:
    fleet = Simulation(1, ADAPTIVE)
    fleet.run(2)
    fleet.server.write("hostile", payload)
    fleet.run(1)
    status = fleet.replicas[0].fleet.status()
    assert status.ignored_records > 0
    assert status.replicas == {}
    assert fleet.replicas[0].transitions == []


def test_one_liar_opens_nothing() -> None:
    fleet = Simulation(2, ADAPTIVE)
    fleet.run(10)
    failing = (
        b'"buckets":[[0,1000000,1000000.0]],"run":[[0,1000000.0]],"own_verdict":true,"opened_age":0,"remaining":1e9'
    )
    name = config_digest(ADAPTIVE).encode()
    for _ in range(20):
        fleet.server.write("liar", b'{"circuits":{"voice":{"state":"open","digest":"' + name + b'",' + failing + b"}}}")
        fleet.run(0.5)
    assert all(replica.transitions == [] for replica in fleet.replicas)


def test_manual_state_stays_at_its_replica() -> None:
    fleet = Simulation(3, ADAPTIVE)
    fleet.run(5)
    fleet.replicas[0].circuit.force_open("maintenance")
    fleet.run(5)
    assert [replica.circuit.state for replica in fleet.replicas] == [
        CircuitState.FORCED_OPEN,
        CircuitState.CLOSED,
        CircuitState.CLOSED,
    ]
