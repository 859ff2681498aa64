"""Properties of the quorum, of membership, and of fleets whose network fails at random."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice.breaker import CircuitBreakerConfig, ConsecutiveFailures, FailureRate
from steadyvoice.fleet import FleetState
from steadyvoice.fleet.heartbeat import Membership
from steadyvoice.fleet.quorum import (
    MAX_RETURN_SECONDS,
    Observation,
    decide_opening,
    merge,
    needed_witnesses,
    return_delay,
)
from steadyvoice.fleet.records import (
    CircuitRecord,
    FailureGroup,
    ReplicaRecord,
    ResultBucket,
    config_digest,
    decode_record,
    encode_record,
    fingerprint,
)

from .simulation import Simulation

CONFIGS = [
    CircuitBreakerConfig.adaptive(),
    CircuitBreakerConfig.consecutive(5),
    CircuitBreakerConfig(),
    CircuitBreakerConfig(window_seconds=10),
    CircuitBreakerConfig(slow_call_duration=1.0, slow_call_threshold=0.5),
    CircuitBreakerConfig(opens_when=ConsecutiveFailures(9) | FailureRate(0.2, 5) & ConsecutiveFailures(2)),
]
configs = st.sampled_from(CONFIGS)
ages = st.floats(0, 70)


@st.composite
def buckets(draw: st.DrawFn) -> ResultBucket:
    calls = draw(st.integers(0, 40))
    return ResultBucket(draw(ages), calls, float(draw(st.integers(0, calls))), draw(st.integers(0, calls)))


records = st.builds(
    CircuitRecord,
    state=st.sampled_from(["closed", "open", "half_open", "forced_open"]),
    digest=st.just("same"),
    buckets=st.lists(buckets(), max_size=4).map(tuple),
    run=st.lists(st.builds(FailureGroup, ages, st.floats(0.1, 20)), max_size=3).map(tuple),
    success_age=st.none() | ages,
    hung=st.integers(0, 3),
    normal_rate=st.floats(0, 1),
    own_verdict=st.booleans(),
    opened_age=st.none() | ages,
    closed_age=st.none() | ages,
    recovered_age=st.none() | ages,
    remaining=st.none() | ages,
    level=st.integers(-1, 20),
)
HEALTHY = CircuitRecord(state="closed", buckets=(ResultBucket(0.1, 20, 0.0),), success_age=0.0)


def observations(found: list[CircuitRecord]) -> list[Observation]:
    return [Observation(f"replica {number}", record) for number, record in enumerate(found)]


@given(records, configs, st.integers(1, 9))
def test_one_replica_opens_nothing_where_calls_succeed(
    any_record: CircuitRecord, config: CircuitBreakerConfig, healthy: int
) -> None:
    mine, *others = observations([HEALTHY] * (healthy + 1))
    assert decide_opening(mine, [*others, Observation("broken", any_record)], config) is None


@given(records, configs)
def test_two_idle_replicas_follow_no_single_one(any_record: CircuitRecord, config: CircuitBreakerConfig) -> None:
    mine, other = observations([CircuitRecord(state="closed")] * 2)
    assert decide_opening(mine, [other, Observation("broken", any_record)], config) is None


@given(st.lists(records, min_size=2, max_size=7), configs, st.randoms())
def test_decision_does_not_depend_on_the_order_of_records(
    found: list[CircuitRecord], config: CircuitBreakerConfig, random: Random
) -> None:
    mine, *others = observations(found)
    decision = decide_opening(mine, others, config)
    random.shuffle(others)
    assert (decide_opening(mine, others, config) is None) == (decision is None)
    merged = merge([mine, *others], config)
    assert len(merged.witnesses) <= len(merged.active) or not merged.is_enough


@given(st.lists(records, min_size=1, max_size=6), st.floats(1, 1e6), st.integers(1, 1_000_000), configs)
def test_no_replica_weighs_more_than_all_others(
    found: list[CircuitRecord], weight: float, calls: int, config: CircuitBreakerConfig
) -> None:
    heavy = CircuitRecord(
        state="closed", buckets=(ResultBucket(0.0, calls, float(calls)),), run=(FailureGroup(0.0, weight),)
    )
    stats = merge([Observation("heavy", heavy), *observations(found)], config).stats
    assert stats.consecutive_failures <= 2 * sum(each.run_weight for each in observations(found)) + 1e-6
    assert stats.calls <= 2 * sum(sum(b.calls for b in record.buckets) + record.hung for record in found)
    assert all(math.isfinite(number) and number >= 0 for number in stats)


@given(st.integers(0, 200))
def test_needed_witnesses_are_a_third_within_bounds(active: int) -> None:
    needed = needed_witnesses(active)
    assert 2 <= needed <= 5
    assert needed == 5 or needed * 3 >= active


def failing(run: float, success_age: float | None = None, calls: int = 0) -> CircuitRecord:
    buckets = (ResultBucket(0.2, int(run), run),) + ((ResultBucket(20, calls, 0.0),) if calls else ())
    return CircuitRecord(state="closed", buckets=buckets, run=(FailureGroup(0.2, run),), success_age=success_age)


def test_run_is_ended_by_a_success_of_any_replica() -> None:
    config = CircuitBreakerConfig.consecutive(5)
    mine, *others = observations([failing(2), failing(2), failing(2)])
    assert decide_opening(mine, others, config) is not None
    success = Observation("healthy", CircuitRecord(state="closed", success_age=0.1))
    assert decide_opening(mine, [*others, success], config) is None


def test_two_replicas_open_by_the_verdict_of_one_and_a_failure_of_the_other() -> None:
    config = CircuitBreakerConfig.consecutive(9, cooldown_period=30)
    verdict = CircuitRecord(
        state="open", own_verdict=True, opened_age=1.0, remaining=29.0, level=3, run=(FailureGroup(1, 9),)
    )
    mine, other = observations([failing(1), verdict])
    opening = decide_opening(mine, [other], config)
    assert opening is not None
    assert (opening.cooldown, opening.level) == (29.0, 3)
    assert decide_opening(observations([HEALTHY])[0], [other], config) is None


def test_verdicts_of_others_open_nothing_where_calls_succeed() -> None:
    config = CircuitBreakerConfig()
    verdict = CircuitRecord(state="open", own_verdict=True, opened_age=1.0, remaining=50.0)
    mine, *others = observations([HEALTHY, *[verdict] * 5, *[HEALTHY] * 3])
    assert decide_opening(mine, others, config) is None
    idle = Observation("idle", CircuitRecord(state="closed"))
    assert decide_opening(idle, others, config) is not None


def test_newest_results_are_those_of_all_replicas() -> None:
    config = CircuitBreakerConfig(window_size=10)
    busy = [CircuitRecord(state="closed", buckets=(ResultBucket(age, 40, 40.0),)) for age in (0.0, 0.1, 0.2)]
    idle = CircuitRecord(state="closed", buckets=(ResultBucket(0.5, 40, 0.0),))
    stats = merge(observations([*busy, idle]), config).stats
    assert (stats.calls, stats.failures) == (120, 120)


def test_results_from_before_a_recovery_open_nothing_again() -> None:
    config = CircuitBreakerConfig()
    verdicts = [
        CircuitRecord(state="open", own_verdict=True, opened_age=9.0, buckets=(ResultBucket(9, 10, 10.0),))
        for _ in range(5)
    ]
    mine, *others = observations([CircuitRecord(state="closed", closed_age=1.0), *verdicts])
    assert decide_opening(mine, others, config) is None
    assert merge([mine, *others], config, since=1.0).stats.calls == 0
    newcomer = Observation("newcomer", CircuitRecord(state="closed"))
    assert decide_opening(newcomer, others, config) is not None


@given(st.lists(st.booleans(), max_size=60))
def test_membership_changes_only_after_several_beats(beats: list[bool]) -> None:
    membership, now, history = Membership(), 0.0, [True] * 3
    membership.record_answer(now)
    for answered in beats:
        now += 0.25
        before = membership.state
        state = membership.record_answer(now) if answered else membership.record_miss(now)
        history.append(answered)
        if state is not before:
            assert history[-3:] == [answered] * 3 or (before is FleetState.STALE and answered)
        assert state is not FleetState.ALONE or not answered or before is FleetState.ALONE


def test_replica_that_was_alone_returns_after_three_beats() -> None:
    membership = Membership()
    membership.record_answer(0.0)
    states = [membership.record_miss(number / 4) for number in range(1, 13)]
    assert states == [FleetState.TOGETHER] * 2 + [FleetState.STALE] * 9 + [FleetState.ALONE]
    answers = [membership.record_answer(4.0 + number / 4) for number in range(3)]
    assert answers == [FleetState.ALONE, FleetState.ALONE, FleetState.TOGETHER]


def test_late_beat_is_no_missed_one() -> None:
    membership = Membership()
    membership.record_answer(0.0)
    membership.record_miss(100.0)  # suspended in between
    assert membership.record_answer(100.2) is FleetState.TOGETHER


@given(st.dictionaries(st.text(max_size=20), records, max_size=3))
def test_record_survives_the_way(circuits: dict[str, CircuitRecord]) -> None:
    record = ReplicaRecord(sequence=3, circuits=circuits)
    assert decode_record(encode_record(record)) == record


def test_digest_tells_settings_apart_in_every_process() -> None:
    assert len({config_digest(config) for config in CONFIGS}) == len(CONFIGS)
    assert config_digest(CircuitBreakerConfig(cooldown_period=60)) == config_digest(CircuitBreakerConfig())
    assert config_digest(CircuitBreakerConfig(failure_result=len)) != config_digest(CircuitBreakerConfig())


def test_fingerprint_differs_between_fleets_and_shows_nothing() -> None:
    assert fingerprint("a", "sk_secret") != fingerprint("b", "sk_secret")
    assert "secret" not in fingerprint("a", "sk_secret")


faults = st.sampled_from(
    ["vendor down", "vendor up", "cut off one", "cut off half", "heal", "loss", "data lost", "stop one"]
)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(faults, st.floats(0.2, 4)), max_size=7), st.integers(0, 1000))
def test_random_faults_wedge_nothing_and_the_fleet_agrees_in_the_end(
    script: list[tuple[str, float]], seed: int
) -> None:
    fleet = Simulation(4, CircuitBreakerConfig.adaptive(), calls_per_second=16, seed=seed)
    fleet.run(2)
    failures_possible = any(fault == "vendor down" for fault, _ in script)
    for fault, seconds in script:
        apply_fault(fleet, fault)
        fleet.run(seconds)
    apply_fault(fleet, "vendor up")
    apply_fault(fleet, "heal")
    fleet.run(15)
    assert [replica.fleet.state for replica in fleet.replicas] == [FleetState.TOGETHER] * 4
    assert fleet.open_replicas == 0
    if not failures_possible:
        assert all(replica.transitions == [] for replica in fleet.replicas)


def apply_fault(fleet: Simulation, fault: str) -> None:
    match fault:
        case "vendor down" | "vendor up":
            fleet.failure_rate = float(fault == "vendor down")
        case "cut off one":
            fleet.server.partition(fleet.replicas[0].store)
        case "cut off half":
            fleet.server.partition(*(replica.store for replica in fleet.replicas[:2]))
        case "loss":
            fleet.server.loss = 0.4
        case "data lost":
            fleet.server.restart()
        case "stop one":
            fleet.replicas[-1].is_stopped = True
        case "heal":
            fleet.server.partition()
            fleet.server.loss = 0.0
            fleet.replicas[-1].is_stopped = False


@pytest.mark.parametrize("config", CONFIGS)
def test_merging_nothing_is_no_evidence(config: CircuitBreakerConfig) -> None:
    assert merge(observations([CircuitRecord(state="closed")]), config).stats.calls == 0


# ---------------------------------------------------------------- return


@given(jitters=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=60), elapsed=st.floats(0, 1))
def test_replicas_return_on_a_ramp_from_a_tenth_to_all(jitters: list[float], elapsed: float) -> None:
    names = [f"replica-{number}" for number in range(len(jitters))]
    delays = [return_delay(name, set(names) - {name}, jitter) for name, jitter in zip(names, jitters, strict=True)]
    seconds = min(MAX_RETURN_SECONDS, 0.1 * len(names))
    assert all(0 <= delay <= seconds + 1e-9 for delay in delays)
    returned = sum(delay <= elapsed * seconds for delay in delays) / len(delays)
    expected, one_replica = 0.1 + 0.9 * elapsed, 1 / len(names) + 1e-6
    assert expected - one_replica <= returned <= expected + one_replica
