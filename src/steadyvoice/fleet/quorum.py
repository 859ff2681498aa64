"""Quorum: pure decisions about one circuit, from its records at all replicas.

A replica's own evidence opens its own circuit, as without a fleet. The evidence of all is merged and judged by the same
rule objects; it opens the circuit of a replica where enough of them are witnesses of the failures. So one replica whose
own network is broken opens nothing but its own circuit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from steadyvoice.breaker import CircuitBreakerConfig, FailureRate, RuleBroken, WindowStats
from steadyvoice.fleet.records import CircuitRecord

ACTIVE_SECONDS = 60.0
"""Age up to which results count where the window is a number of results, which has no time of its own."""
MAX_WITNESSES = 5
"""Number of witnesses that is enough in a fleet of any size."""
WITNESS_RATE = 0.5
"""Failure rate from which on a replica is a witness, where no rule compares a failure rate."""
SAME_MOMENT = 0.25
"""Seconds by which the times of results are inexact: the interval of beats."""
COOLDOWN_TOLERANCE = 0.5
"""Seconds by which cooldowns of replicas may differ."""
RETURN_SECONDS_PER_REPLICA = 0.1
MAX_RETURN_SECONDS = 5.0
"""Seconds over which the replicas of a large fleet return to a vendor that recovered."""
FIRST_TO_RETURN = 0.1
"""Share of the replicas that return at once."""


class Observation(NamedTuple):
    """Record of one circuit at one replica, `delay` seconds after it was written."""

    replica: str
    record: CircuitRecord
    delay: float = 0.0

    def age(self, recorded: float | None) -> float:
        """Return the present age of something in the record; infinite if it never happened."""
        return math.inf if recorded is None else recorded + self.delay

    @property
    def run_weight(self) -> float:
        """Failures since the last success there, as a sum of weights."""
        return sum(group.weight for group in self.record.run)


class Opening(NamedTuple):
    """Decision to open a circuit, or to keep it open: None for the circuit's own cooldown and level."""

    reason: str
    cooldown: float | None = None
    level: int | None = None


@dataclass(frozen=True, slots=True)
class MergedEvidence:
    """Evidence of all replicas together: how many had calls in the window, and which of them are witnesses."""

    active: frozenset[str]
    witnesses: frozenset[str]
    stats: WindowStats

    @property
    def needed_witnesses(self) -> int:
        """Number of witnesses that a decision needs."""
        return needed_witnesses(len(self.active))

    @property
    def is_enough(self) -> bool:
        """True if there are that many."""
        return len(self.witnesses) >= self.needed_witnesses


def needed_witnesses(active: int) -> int:
    """Return how many of so many active replicas must be witnesses: a third, but at least 2 and at most 5."""
    return min(MAX_WITNESSES, max(2, math.ceil(active / 3)))


# ---------------------------------------------------------------- opening


def decide_opening(mine: Observation, others: Sequence[Observation], config: CircuitBreakerConfig) -> Opening | None:
    """Return why a closed circuit must open by the evidence of others; None if it need not."""
    # A circuit that closed since knows better than older results: the others may not have seen the recovery yet.
    closed_age = mine.age(mine.record.closed_age)
    evidence = merge([mine, *others], config, closed_age)
    if evidence.is_enough and (broken := config.rule.evaluate(evidence.stats)) is not None:
        return _opening(evidence, broken, others)
    verdicts = [each for each in others if _has_verdict(each, closed_age)]
    failing = mine.run_weight > 0
    if not failing and mine.replica in evidence.active:
        return None  # calls succeed here
    needed = 1 if failing and len(evidence.active) == 2 else evidence.needed_witnesses
    if len(verdicts) < needed:
        return None
    return Opening(f"open at {len(verdicts)} of {len(others) + 1} replicas", *_longest_cooldown(verdicts))


def _opening(evidence: MergedEvidence, broken: RuleBroken, others: Iterable[Observation]) -> Opening:
    reason = f"{broken.reason}, at {len(evidence.witnesses)} of {len(evidence.active)} replicas"
    verdicts = [each for each in others if _has_verdict(each)]
    return Opening(reason, *_longest_cooldown(verdicts))


def _has_verdict(each: Observation, since: float = math.inf) -> bool:
    """Return whether a replica's circuit is open by its own evidence, and has been for less than `since` seconds."""
    return each.record.own_verdict and each.record.is_open and each.age(each.record.opened_age) < since


def _longest_cooldown(verdicts: Sequence[Observation]) -> tuple[float | None, int | None]:
    """Return the cooldown that is left longest, and the highest level of the backoff; None where there is none."""
    remaining = max((_remaining(each) for each in verdicts), default=0.0)
    level = max((each.record.level for each in verdicts), default=-1)
    return (remaining, level) if remaining > 0 else (None, None)


def _remaining(each: Observation) -> float:
    return max(0.0, (each.record.remaining or 0.0) - each.delay)


def decide_prolonging(mine: Observation, others: Iterable[Observation]) -> Opening | None:
    """Return how much longer an open circuit must wait, since a probe failed at another replica; None if no longer."""
    opened_age, remaining = mine.age(mine.record.opened_age), _remaining(mine)
    newer = [each for each in others if each.record.state == "open" and _has_verdict(each, opened_age)]
    cooldown, level = _longest_cooldown(newer)
    if cooldown is None or cooldown <= remaining + COOLDOWN_TOLERANCE:
        return None
    return Opening("a probe of another replica failed", cooldown, level)


# ---------------------------------------------------------------- closing


def recovered_elsewhere(mine: Observation, others: Iterable[Observation]) -> bool:
    """Return whether probes of another replica succeeded since this circuit opened, and it is closed there still."""
    opened_age = mine.age(mine.record.opened_age)
    return any(each.record.state == "closed" and each.age(each.record.recovered_age) < opened_age for each in others)


def probes_suffice(mine: Observation, others: Iterable[Observation], config: CircuitBreakerConfig) -> bool:
    """Return whether the probes of all half-open replicas together close the circuit."""
    half_open = [each.record for each in (mine, *others) if each.record.state == "half_open"]
    failed = sum(record.probe_failures for record in half_open)
    succeeded = sum(record.probe_successes for record in half_open)
    return mine.record.probe_successes > 0 and not failed and succeeded >= config.success_threshold


def return_delay(replica: str, others: Iterable[str], jitter: float) -> float:
    """Return the seconds for which a replica keeps its circuit open after a recovery elsewhere.

    All together the replicas are a ramp from a tenth to all of the traffic, on which each has a place of its own, by
    name; `jitter`, in [0, 1), is where in its place it returns. A replica that knows fewer others returns sooner.
    """
    replicas = sorted({replica, *others})
    seconds = min(MAX_RETURN_SECONDS, RETURN_SECONDS_PER_REPLICA * len(replicas))
    place = (replicas.index(replica) + jitter) / len(replicas)
    return seconds * max(0.0, place - FIRST_TO_RETURN) / (1 - FIRST_TO_RETURN)


# ---------------------------------------------------------------- merging


def merge(observations: Sequence[Observation], config: CircuitBreakerConfig, since: float = math.inf) -> MergedEvidence:
    """Return the evidence of all replicas together, as of one window that had seen the results of all.

    Results of more than `since` seconds ago do not count.
    """
    windows = {each.replica: _Window() for each in observations}
    results = sorted(
        (each.age(bucket.age), each.replica, bucket.calls, bucket.failures, bucket.slow)
        for each in observations
        for bucket in each.record.buckets
    )
    horizon = min(ACTIVE_SECONDS if config.window_seconds is None else config.window_seconds, since)
    active = {replica for age, replica, calls, _, _ in results if age < horizon and calls}
    oldest = math.inf if config.window_seconds is not None else _age_of_window(results, config.window_size)
    for age, replica, calls, failures, slow in results:
        if age < horizon and age <= oldest:
            windows[replica].add(calls, failures, slow)
    for each in observations:
        if each.record.hung:
            active.add(each.replica)
            windows[each.replica].add(each.record.hung, each.record.hung, 0)
    run = _merged_run(observations, horizon)
    active.update(run)
    threshold = _witness_rate(config)
    verdicts = {each.replica for each in observations if each.replica in active and _has_verdict(each, since)}
    failing = {replica for replica, window in windows.items() if window.rate >= threshold}
    if (slow_threshold := config.rule_set.slow_threshold) is not None:
        failing |= {replica for replica, window in windows.items() if window.slow_rate >= slow_threshold}
    return MergedEvidence(
        active=frozenset(active),
        witnesses=frozenset(verdicts | failing | run.keys()),
        stats=_capped_stats(list(windows.values()), list(run.values()), _normal_rate(observations, windows)),
    )


def _age_of_window(results: Iterable[tuple[float, str, int, float, int]], size: int) -> float:
    """Return the age of the oldest of the newest `size` results.

    Results of the beat before are included: which replica's beat came last is chance, and must not fill the window.
    """
    calls = 0
    for age, _, more, _, _ in results:
        calls += more
        if calls >= size:
            return age + SAME_MOMENT
    return math.inf


class _Window:
    """Results of one replica that are in the merged window."""

    __slots__ = ("calls", "failures", "slow")

    def __init__(self) -> None:
        self.calls = self.failures = self.slow = 0.0

    def add(self, calls: float, failures: float, slow: float) -> None:
        """Add results."""
        self.calls += calls
        self.failures += failures
        self.slow += slow

    @property
    def rate(self) -> float:
        """Failures per call; 0 without calls."""
        return self.failures / self.calls if self.calls else 0.0

    @property
    def slow_rate(self) -> float:
        """Slow calls per call; 0 without calls."""
        return self.slow / self.calls if self.calls else 0.0


def _merged_run(observations: Sequence[Observation], horizon: float) -> dict[str, float]:
    """Return the failures of each replica since the latest success of any of them, without those that have none."""
    # A success of any replica ends the run, not only one of a witness: this is the run that one process would have
    # seen, so it is as unlikely to come about by chance, whichever replicas took part in it.
    last_success = min((each.age(each.record.success_age) for each in observations), default=math.inf)
    run = {}
    for each in observations:
        ages = ((each.age(group.age), group.weight) for group in each.record.run)
        weight = sum(weight for age, weight in ages if age < min(last_success, horizon))
        if weight:
            run[each.replica] = weight
    return run


def _capped_stats(windows: list[_Window], run: list[float], normal_rate: float) -> WindowStats:
    """Return the sums, in which no replica weighs more than all others together."""
    total = _Window()
    all_calls = sum(window.calls for window in windows)
    for window in windows:
        others = all_calls - window.calls
        share = min(1.0, others / window.calls) if window.calls else 0.0
        total.add(window.calls * share, window.failures * share, window.slow * share)
    longest = max(run, default=0.0)
    consecutive = sum(run) - longest + min(longest, sum(run) - longest)
    return WindowStats(
        math.floor(total.calls + 1e-9), total.failures, math.floor(total.slow + 1e-9), consecutive, normal_rate
    )


def _normal_rate(observations: Sequence[Observation], windows: dict[str, _Window]) -> float:
    """Return the usual failure rate: the mean of those that replicas know, by their calls."""
    weights = [(1.0 + windows[each.replica].calls, each.record.normal_rate) for each in observations]
    mean = sum(weight * rate for weight, rate in weights) / sum(weight for weight, _ in weights)
    return min(max(mean, 1e-6), 1 - 1e-6)  # a record may hold 0 or 1, of which no logarithm can be compared


def _witness_rate(config: CircuitBreakerConfig) -> float:
    rates = [part.threshold for part in config.rule.parts() if isinstance(part, FailureRate)]
    return min(rates, default=WITNESS_RATE)
