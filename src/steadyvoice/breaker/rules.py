"""Rules that open a closed circuit, to be combined with `&` and `|`, and the usual failure rate some compare with.

A rule keeps no state: statistics of the window in, a broken rule or None out. No rule can be broken by a success that
comes after its minimum of calls: `CallLifecycle.update_lock_free` relies on that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from steadyvoice.breaker import _validators
from steadyvoice.breaker.states import Cause

BASELINE_CALLS = 100
"""Calls that must have ended before their failure rate is trusted; at least as many are remembered from then on."""
UNKNOWN_FAILURE_RATE = 0.05
"""Usual failure rate that is assumed until then, if not more is seen."""
LOWEST_FAILURE_RATE = 1 / (2 * BASELINE_CALLS + 2)
"""The least that `FailureBaseline.rate` can be."""
ASSUMED_CALLS = 20
"""Number of calls that this assumption weighs as much as."""


class WindowStats(NamedTuple):
    """Recent results, calls that hang included as failures.

    `calls`, `failures` (a sum of weights) and `slow` are those of the window; `consecutive_failures` is the present run
    of failures, which a success ends for calls that hang already, too; `normal_failure_rate` is the rate before it.
    """

    calls: int
    failures: float
    slow: int
    consecutive_failures: float
    normal_failure_rate: float


class RuleBroken(NamedTuple):
    """A broken rule: its cause, and the reason as a sentence."""

    cause: Cause  # short word for metrics and `match`
    reason: str  # sentence for people


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """Distance of one rule from being broken; `missing_calls` are needed before it is evaluated at all."""

    name: str  # name of the rule
    value: float  # present rate or number
    threshold: float  # rate or number that breaks the rule
    missing_calls: int = 0  # calls that are needed before it is evaluated

    def __str__(self) -> str:
        text = f"{self.name} {self.value:.3g}, threshold {self.threshold:.3g}"
        return f"{text}, {pluralize(self.missing_calls, 'more call')} needed" if self.missing_calls else text


def minimum_call_counts(rule: Rule) -> tuple[int, ...]:
    """Return the numbers of calls in the window at which a success can break the rule, ascending; at least one."""
    counts = {part.minimum_calls for part in rule.parts() if isinstance(part, FailureRate | SlowCallRate)}
    return tuple(sorted(counts)) or (1,)


class Rule:
    """Condition that opens a circuit: `one & other` when both are broken, `one | other` when either is.

    - `stats`: counts of the window.
    """

    __slots__ = ()

    def evaluate(self, stats: WindowStats) -> RuleBroken | None:
        """Return why the circuit must open, None if it need not."""
        raise NotImplementedError

    def parts(self) -> tuple[Rule, ...]:
        """Return the simple rules of which it consists."""
        return (self,)

    def status(self, stats: WindowStats) -> RuleStatus:
        """Return how far a simple rule is from being broken."""
        raise NotImplementedError

    def describe(self, stats: WindowStats) -> str:
        """Return the status as text."""
        return str(self.status(stats))

    def __and__(self, other: Rule) -> Rule:
        return AllOf(self, other) if isinstance(other, Rule) else NotImplemented

    def __or__(self, other: Rule) -> Rule:
        return AnyOf(self, other) if isinstance(other, Rule) else NotImplemented


@dataclass(frozen=True, slots=True)
class _Rate(Rule):
    """Share of the calls in the window that reaches `threshold`, with at least `minimum_calls` results."""

    threshold: float
    minimum_calls: int

    def __post_init__(self) -> None:
        _validators.require("threshold", _validators.rate, self.threshold)
        _validators.require("minimum_calls", _validators.count, self.minimum_calls)

    def _is_reached(self, number: float, stats: WindowStats) -> bool:
        """Compare with `>=`: a threshold of 0.5 opens at exactly half."""
        return stats.calls >= self.minimum_calls and number / stats.calls >= self.threshold

    def _status(self, name: str, number: float, stats: WindowStats) -> RuleStatus:
        rate = number / stats.calls if stats.calls else 0.0
        return RuleStatus(name, rate, self.threshold, max(0, self.minimum_calls - stats.calls))


class FailureRate(_Rate):
    """Rule: the failure rate over the window reaches `threshold`, with at least `minimum_calls` results."""

    __slots__ = ()

    def evaluate(self, stats: WindowStats) -> RuleBroken | None:
        """Compare failures, which may weigh less than 1, with calls, which always count 1."""
        if not self._is_reached(stats.failures, stats):
            return None
        reason = f"{stats.failures:g} of the last {pluralize(stats.calls, 'call')} failed"
        return RuleBroken(Cause.FAILURE_RATE, reason)

    def status(self, stats: WindowStats) -> RuleStatus:
        """Return the status as failures per call."""
        return self._status("failure rate", stats.failures, stats)


class SlowCallRate(_Rate):
    """Rule: the share of slow calls in the window reaches `threshold`, with at least `minimum_calls` results.

    A call is slow from `slow_call_duration` on, whether or not it failed.
    """

    __slots__ = ()

    def evaluate(self, stats: WindowStats) -> RuleBroken | None:
        """Compare slow calls with calls."""
        if not self._is_reached(stats.slow, stats):
            return None
        reason = f"{stats.slow} of the last {pluralize(stats.calls, 'call')} {was_or_were(stats.slow)} slow"
        return RuleBroken(Cause.SLOW_CALL_RATE, reason)

    def status(self, stats: WindowStats) -> RuleStatus:
        """Return the status as slow calls per call."""
        return self._status("slow call rate", stats.slow, stats)


@dataclass(frozen=True, slots=True)
class ConsecutiveFailures(Rule):
    """Rule: `count` failures in a row; one with weight 0.5 is half a failure."""

    count: int

    def __post_init__(self) -> None:
        _validators.require("count", _validators.count, self.count)

    def evaluate(self, stats: WindowStats) -> RuleBroken | None:
        """Compare with `>=`; ignored calls neither add to a run of failures nor end it."""
        if stats.consecutive_failures < self.count:
            return None
        reason = f"{pluralize(stats.consecutive_failures, 'failure')} in a row"
        return RuleBroken(Cause.CONSECUTIVE_FAILURES, reason)

    def status(self, stats: WindowStats) -> RuleStatus:
        """Return the status as the length of the present run."""
        return RuleStatus("failures in a row", stats.consecutive_failures, self.count)


@dataclass(frozen=True, slots=True)
class UnlikelyFailures(Rule):
    """Rule: more failures in a row than would come by chance at the failure rate before them.

    `significance` is that chance: the failure rate before the run, to the power of its length. With 1e-8, four failures
    in a row open the circuit of a provider that is nearly perfect, and ten that of one that fails three calls in
    twenty.
    """

    significance: float

    def __post_init__(self) -> None:
        _validators.require("significance", _validators.probability, self.significance)

    def evaluate(self, stats: WindowStats) -> RuleBroken | None:
        """Compare the chance with `<=`, in logarithms: it gets too small for a float."""
        if stats.consecutive_failures < self._needed(stats.normal_failure_rate):
            return None
        run, normal = pluralize(stats.consecutive_failures, "failure"), stats.normal_failure_rate
        return RuleBroken(Cause.UNLIKELY_FAILURES, f"{run} in a row, at a failure rate of {normal:.2g} before")

    def status(self, stats: WindowStats) -> RuleStatus:
        """Return the status as the length of the present run."""
        needed = math.ceil(self._needed(stats.normal_failure_rate))
        return RuleStatus("unlikely failures in a row", stats.consecutive_failures, needed)

    def _needed(self, normal: float) -> float:
        return math.log(self.significance) / math.log(normal)


@dataclass(frozen=True, slots=True)
class _Pair(Rule):
    """Combination of two rules, each of which may be a combination."""

    one: Rule
    other: Rule

    def parts(self) -> tuple[Rule, ...]:
        """Return the simple rules from left to right."""
        return self.one.parts() + self.other.parts()


class AllOf(_Pair):
    """Rule that is broken when both of its rules are."""

    __slots__ = ()

    def evaluate(self, stats: WindowStats) -> RuleBroken | None:
        """Return both reasons, with the cause of the first."""
        one = self.one.evaluate(stats)
        other = None if one is None else self.other.evaluate(stats)
        if one is None or other is None:
            return None
        return RuleBroken(one.cause, f"{one.reason} and {other.reason}")

    def describe(self, stats: WindowStats) -> str:
        """Return the status as text, in brackets, for it may stand inside another combination."""
        return f"({self.one.describe(stats)}) and ({self.other.describe(stats)})"


class AnyOf(_Pair):
    """Rule that is broken when either of its rules is."""

    __slots__ = ()

    def evaluate(self, stats: WindowStats) -> RuleBroken | None:
        """Return the first broken rule from left to right."""
        return self.one.evaluate(stats) or self.other.evaluate(stats)

    def describe(self, stats: WindowStats) -> str:
        """Return the status as text, in brackets, for it may stand inside another combination."""
        return f"({self.one.describe(stats)}) or ({self.other.describe(stats)})"


SIMPLE_RULES = (FailureRate, SlowCallRate, ConsecutiveFailures, UnlikelyFailures)


_NO_CLASSES: Mapping[type[BaseException], str] = {}


class RuleSet:
    """Rule of a configuration and what follows from it, for all circuits that share the configuration."""

    __slots__ = (
        "_longest_run",
        "_rates",
        "counted_errors",
        "minimum_call_counts",
        "rule",
        "slow_threshold",
        "uses_baseline",
    )

    def __init__(self, rule: Rule) -> None:
        parts = rule.parts()
        self.rule = rule
        # Names of the error classes each error of which is known to be one failure: see `remember_class`. It is
        # replaced and never changed: others read it meanwhile.
        self.counted_errors: Mapping[type[BaseException], str] = _NO_CLASSES
        self.minimum_call_counts = minimum_call_counts(rule)
        # The smallest share of slow calls that a part of the rule compares with, None where none does.
        self.slow_threshold = min((part.threshold for part in parts if isinstance(part, SlowCallRate)), default=None)
        self.uses_baseline = any(isinstance(part, UnlikelyFailures) for part in parts)
        self._rates = tuple(part for part in parts if isinstance(part, FailureRate))
        # Failures in a row that break a part of the rule, at the lowest failure rate before them that can be learned.
        runs: list[float] = [part.count for part in parts if isinstance(part, ConsecutiveFailures)]
        runs += [part._needed(LOWEST_FAILURE_RATE) for part in parts if isinstance(part, UnlikelyFailures)]
        self._longest_run = min(runs, default=math.inf)

    def harmless_failures(self, failures: float, streak: float, limit: int) -> int | None:
        """Return how many more failures break no rule, whatever successes come and results expire; `limit` at most.

        None if the failures that there are can break one, by weight: `failures` in the window, `streak` in a row. No
        call is slow. A rate compares at its minimum of calls at the worst; a run of failures ends with a success.
        """
        harmless = min(limit, math.ceil(self._longest_run - streak) - 1) if self._longest_run < math.inf else limit
        for rate in self._rates:
            if failures / rate.minimum_calls >= rate.threshold:
                return None
            harmless = min(harmless, math.ceil(rate.threshold * rate.minimum_calls - failures) - 1)
        while harmless > 0 and any((failures + harmless) / r.minimum_calls >= r.threshold for r in self._rates):
            harmless -= 1  # rounding
        return max(0, harmless)


class FailureBaseline:
    """Usual failure rate of a provider, over its last calls without the present run of failures.

    Four failures in a row say little about a provider that fails one call in five, and a lot about one that never did.
    """

    __slots__ = ("_calls", "_earlier_rate", "_failures")

    def __init__(self) -> None:
        self._calls = self._failures = 0.0  # since `_earlier_rate` was computed
        self._earlier_rate: float | None = None  # of the BASELINE_CALLS before

    def copy(self) -> FailureBaseline:
        """Return a baseline with the same memory."""
        copy = FailureBaseline()
        copy._calls, copy._failures, copy._earlier_rate = self._calls, self._failures, self._earlier_rate
        return copy

    def record(self, failures: float, successes: int) -> None:
        """Record a run of failures (a sum of weights) together with the successes that ended it."""
        self._calls += failures
        self._failures += failures
        while successes:
            step = 1 if successes == 1 else min(successes, max(1, math.ceil(BASELINE_CALLS - self._calls)))
            successes -= step
            self._calls += step
            if self._calls >= BASELINE_CALLS:
                self._earlier_rate = self._failures / self._calls
                self._calls = self._failures = 0.0

    @property
    def rate(self) -> float:
        """Expected failure rate, never 0: a provider that has not failed yet may."""
        if self._earlier_rate is None:
            assumed_failures = UNKNOWN_FAILURE_RATE * ASSUMED_CALLS
            return max(UNKNOWN_FAILURE_RATE, (self._failures + assumed_failures) / (self._calls + ASSUMED_CALLS))
        return (self._earlier_rate * BASELINE_CALLS + self._failures + 1) / (BASELINE_CALLS + self._calls + 2)


NO_BASELINE = FailureBaseline()
"""Baseline of every circuit of which no call is known. Each change is made to a copy."""


def pluralize(number: float, noun: str) -> str:
    """Return a number and its noun: 1 failure, 2 failures, 0.5 failures."""
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"


def was_or_were(number: float) -> str:
    """Return the verb that fits a number."""
    return "was" if number == 1 else "were"
