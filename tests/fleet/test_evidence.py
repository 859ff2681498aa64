"""Evidence that a replica reads from its circuits, and records of others that it must not act on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState
from steadyvoice.breaker.testing import VirtualClock
from steadyvoice.fleet import BeatReply, Fleet, LeaseClaim
from steadyvoice.fleet.evidence import CircuitEvidence
from steadyvoice.fleet.records import CircuitRecord, ReplicaRecord, config_digest, encode_record
from steadyvoice.fleet.testing import InMemoryFleet, InMemoryStore

CONFIG = CircuitBreakerConfig(window_size=4, minimum_calls=4, cooldown_period=10)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


def test_success_ends_the_run_of_failures(clock: VirtualClock) -> None:
    circuit = CircuitBreaker("voice", CONFIG, clock=clock)
    evidence = CircuitEvidence(circuit)
    circuit.acquire().failure("down")
    assert [group.weight for group in evidence.observe(clock()).run] == [1.0]
    clock.advance(0.25)
    circuit.acquire().success()
    record = evidence.observe(clock())
    assert (record.run, record.success_age) == ((), 0.0)
    circuit.acquire().failure("down")
    clock.advance(0.25)
    record = evidence.observe(clock())
    assert [(group.age, group.weight) for group in record.run] == [(0.0, 1.0)]
    assert [(bucket.age, bucket.calls, bucket.failures) for bucket in record.buckets] == [
        (0.5, 1, 1.0),
        (0.25, 1, 0.0),
        (0.0, 1, 1.0),
    ]


def test_opening_is_a_verdict_only_if_it_is_the_circuits_own(clock: VirtualClock) -> None:
    circuit = CircuitBreaker("voice", CONFIG, clock=clock)
    evidence = CircuitEvidence(circuit)
    circuit.trip("open at 3 of 4 replicas", 10)
    assert (evidence.observe(clock()).own_verdict, evidence.record.opened_age) == (False, 0.0)
    clock.advance(10)
    circuit.acquire().failure("still down")
    record = evidence.observe(clock())
    assert (record.own_verdict, record.opened_age, record.remaining) == (True, 0.0, 10.0)
    circuit.recover("probes of another replica succeeded")
    record = evidence.observe(clock())
    assert (record.own_verdict, record.opened_age, record.recovered_age) == (False, None, None)


def test_results_after_a_transition_count_until_the_next_one(clock: VirtualClock) -> None:
    circuit = CircuitBreaker("voice", CONFIG, clock=clock)
    evidence = CircuitEvidence(circuit)
    circuit.trip("evidence", 10)
    evidence.observe(clock())
    circuit.recover("probes of several replicas succeeded")
    evidence.note_recovery()
    for _ in range(2):
        circuit.acquire().failure("down")
        record = evidence.observe(clock())
        clock.advance(0.25)
    assert [(group.age, group.weight) for group in record.run] == [(0.25, 1.0), (0.0, 1.0)]
    assert (record.closed_age, record.recovered_age) == (0.25, 0.25)


def test_decision_for_a_state_that_is_over_is_not_carried_out(clock: VirtualClock) -> None:
    server, config = InMemoryFleet(clock), CircuitBreakerConfig.consecutive(4)
    circuits = [CircuitBreaker("voice", config, clock=clock) for _ in range(2)]
    fleets = [Fleet(server.connect(), [circuit], clock=clock) for circuit in circuits]
    for circuit in circuits:
        circuit.acquire().failure("down")
        circuit.acquire().failure("down")
    fleets[1].beat()

    class Slow(InMemoryStore):
        def beat(self, replica: str, payload: bytes, life: float, claims: Sequence[LeaseClaim]) -> BeatReply:
            circuits[0].disable("by hand, while the store answers")
            circuits[0].close("by hand, while the store answers")
            return super().beat(replica, payload, life, claims)

    fleets[0].store = Slow(server)
    fleets[0].beat()
    assert circuits[0].state is CircuitState.CLOSED
    fleets[1].beat()
    assert circuits[1].state is CircuitState.OPEN  # nothing has changed there


def test_results_that_no_window_holds_are_forgotten(clock: VirtualClock) -> None:
    circuit = CircuitBreaker("voice", CONFIG, clock=clock)
    evidence = CircuitEvidence(circuit)
    for _ in range(9):
        circuit.acquire().success()
        clock.advance(0.25)
        record = evidence.observe(clock())
    assert sum(bucket.calls for bucket in record.buckets) == 4


@pytest.mark.parametrize("config", [CircuitBreakerConfig.adaptive(), CircuitBreakerConfig(window_size=1000)])
def test_record_of_a_busy_circuit_stays_small(clock: VirtualClock, config: CircuitBreakerConfig) -> None:
    circuit = CircuitBreaker("voice", config, clock=clock)
    evidence, sizes = CircuitEvidence(circuit), []
    for beat in range(400):
        for call in range(50):
            permit = circuit.acquire()
            permit.failure("down") if (beat + call) % 25 == 0 else permit.success()
        sizes.append(len(encode_record(ReplicaRecord(circuits={"voice": evidence.observe(clock())}))))
        clock.advance(0.25)
    assert circuit.state is CircuitState.CLOSED
    assert max(sizes) < 1200, "bytes a beat, whatever the number of calls"


def test_lease_that_no_caller_uses_is_given_back_after_a_second(clock: VirtualClock) -> None:
    circuit = CircuitBreaker("voice", CONFIG, clock=clock)
    evidence = CircuitEvidence(circuit)
    circuit.grant_probe(clock())
    circuit.trip("down", 10)
    for _ in range(39):
        clock.advance(0.25)
        circuit.try_acquire()
        evidence.observe(clock())
        assert not evidence.wants_probe  # the cooldown is not over
    clock.advance(0.5)
    evidence.observe(clock())
    assert not evidence.wants_probe  # no caller came since
    circuit.try_acquire()
    evidence.observe(clock())
    assert evidence.wants_probe
    assert evidence.probe_leases == 1
    clock.advance(1)
    evidence.observe(clock())
    assert not evidence.wants_probe


def test_replicas_with_rare_calls_wait_for_one_together(clock: VirtualClock) -> None:
    circuit = CircuitBreaker("voice", CONFIG, clock=clock)
    evidence = CircuitEvidence(circuit)
    for _ in range(8):
        circuit.acquire().success()
        evidence.observe(clock())
        clock.advance(5)
    circuit.trip("down", 3)
    clock.advance(3)
    evidence.observe(clock())
    assert evidence.wants_probe  # though none was refused since the cooldown ended
    assert evidence.probe_leases == 4
    clock.advance(60)
    evidence.observe(clock())
    assert not evidence.wants_probe


@pytest.mark.parametrize("is_same", [True, False])
def test_replicas_with_other_settings_are_not_followed(clock: VirtualClock, is_same: bool) -> None:
    server, circuit = InMemoryFleet(clock), CircuitBreaker("voice", CONFIG, clock=clock)
    digest = config_digest(CONFIG if is_same else CircuitBreakerConfig())
    verdict = CircuitRecord(state="open", digest=digest, own_verdict=True, opened_age=0.1, remaining=9.0)
    for name in "abc":
        server.write(name, encode_record(ReplicaRecord(circuits={"voice": verdict})))
    fleet = Fleet(server.connect(), [circuit], clock=clock)
    fleet.beat()
    assert circuit.state is (CircuitState.OPEN if is_same else CircuitState.CLOSED)
    assert fleet.status().different_settings == (() if is_same else ("voice",))


def test_circuit_that_is_no_longer_shared_needs_no_grant(clock: VirtualClock) -> None:
    circuits = [CircuitBreaker("voice", CONFIG, clock=clock)]
    fleet = Fleet(InMemoryFleet(clock).connect(), circuits, clock=clock)
    fleet.beat()
    (circuit,) = circuits
    assert not circuit.snapshot().probe_granted
    circuits.clear()
    fleet.beat()
    assert circuit.snapshot().probe_granted


def test_hold_is_known_at_every_replica_until_it_ends(clock: VirtualClock) -> None:
    server = InMemoryFleet(clock)
    first, second = Fleet(server.connect(), clock=clock), Fleet(server.connect(), clock=clock)
    first.hold("sk_secret", "quota used up", seconds=10)
    assert second.held("sk_secret") is None
    first.beat()
    second.beat()
    clock.advance(1)
    assert first.held("sk_secret") == second.held("sk_secret") == ("quota used up", 9.0)
    assert second.held("sk_other") is None
    clock.advance(9)
    assert first.held("sk_secret") is second.held("sk_secret") is None
