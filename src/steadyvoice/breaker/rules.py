"""When a closed circuit opens: rules over what was seen lately, to be combined with `&` and `|`.

A rule knows no state and keeps nothing: evidence in, verdict out. None can be broken by a success that comes after
its minimum of calls: the machine relies on that (`ticks.rest`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from steadyvoice.breaker import checks
from steadyvoice.breaker.plural import counted, were
from steadyvoice.breaker.states import Cause


class Evidence(NamedTuple):
    """What was seen lately. Calls that hang are in it, as failures.

    `calls`, `failures` (a sum of weights) and `slow` are the window's; `in_a_row` is the present run of failures: a
    success ends it, for calls that hang already, too; `normal` is the failure rate before that run.
    """

    calls: int
    failures: float
    slow: int
    in_a_row: float
    normal: float


class Verdict(NamedTuple):
    """A broken rule, as a word and as a sentence."""

    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one rule is from being broken. `needs` calls are missing before it is asked at all."""

    name: str
    value: float
    threshold: float
    needs: int = 0

    def __str__(self) -> str:
        text = f"{self.name} {self.value:.3g}, threshold {self.threshold:.3g}"
        return f"{text}, not enough calls: {self.needs} to go" if self.needs else text


def minimums(rule: Rule) -> tuple[int, ...]:
    """At how many calls in the window a success can break the rule, in ascending order; at least one number."""
    counts = {part.minimum_calls for part in rule.parts() if isinstance(part, FailureRate | SlowCallRate)}
    return tuple(sorted(counts)) or (1,)


def slow_share(rule: Rule) -> float | None:
    """The smallest share of slow calls that a rule asks about, None where none does."""
    return min((part.threshold for part in rule.parts() if isinstance(part, SlowCallRate)), default=None)


class Rule:
    """What opens a circuit. `one & other` opens when both are broken, `one | other` when either is."""

    __slots__ = ()

    def broken(self, seen: Evidence) -> Verdict | None:
        """Why the circuit must open, None if it need not."""
        raise NotImplementedError

    def parts(self) -> tuple[Rule, ...]:
        """The simple rules it is made of."""
        return (self,)

    def standing(self, seen: Evidence) -> Standing:
        """How far a simple rule is from being broken."""
        raise NotImplementedError

    def told(self, seen: Evidence) -> str:
        """The same in words."""
        return str(self.standing(seen))

    def __and__(self, other: Rule) -> Rule:
        return AllOf(self, other) if isinstance(other, Rule) else NotImplemented

    def __or__(self, other: Rule) -> Rule:
        return AnyOf(self, other) if isinstance(other, Rule) else NotImplemented


@dataclass(frozen=True, slots=True)
class _Rate(Rule):
    """A share of the calls in the window reaches `threshold`, with at least `minimum_calls` results."""

    threshold: float
    minimum_calls: int

    def __post_init__(self) -> None:
        checks.present("threshold", checks.rate, self.threshold)
        checks.present("minimum_calls", checks.count, self.minimum_calls)

    def _reached(self, of: float, seen: Evidence) -> bool:
        """`>=`: a threshold of a half opens on exactly half."""
        return seen.calls >= self.minimum_calls and of / seen.calls >= self.threshold

    def _standing(self, name: str, of: float, seen: Evidence) -> Standing:
        rate = of / seen.calls if seen.calls else 0.0
        return Standing(name, rate, self.threshold, max(0, self.minimum_calls - seen.calls))


class FailureRate(_Rate):
    """The failure rate over the window reaches `threshold`, with at least `minimum_calls` results."""

    __slots__ = ()

    def broken(self, seen: Evidence) -> Verdict | None:
        """Failures may weigh less than a call; calls count as one."""
        if not self._reached(seen.failures, seen):
            return None
        return Verdict(Cause.FAILURE_RATE, f"{seen.failures:g} of the last {counted(seen.calls, 'call')} failed")

    def standing(self, seen: Evidence) -> Standing:
        """As failures per call."""
        return self._standing("failure rate", seen.failures, seen)


class SlowCallRate(_Rate):
    """The share of slow calls in the window reaches `threshold`, with at least `minimum_calls` results.

    Which calls are slow, `slow_call_duration` says.
    """

    __slots__ = ()

    def broken(self, seen: Evidence) -> Verdict | None:
        """Slow calls count, whether or not they failed."""
        if not self._reached(seen.slow, seen):
            return None
        told = f"{seen.slow} of the last {counted(seen.calls, 'call')} {were(seen.slow)} slow"
        return Verdict(Cause.SLOW_CALL_RATE, told)

    def standing(self, seen: Evidence) -> Standing:
        """As slow calls per call."""
        return self._standing("slow call rate", seen.slow, seen)


@dataclass(frozen=True, slots=True)
class ConsecutiveFailures(Rule):
    """So many failures in a row; one that counts half is half of one."""

    count: int

    def __post_init__(self) -> None:
        checks.present("count", checks.count, self.count)

    def broken(self, seen: Evidence) -> Verdict | None:
        """`>=`; ignored calls neither add to a run nor end it."""
        if seen.in_a_row < self.count:
            return None
        return Verdict(Cause.CONSECUTIVE_FAILURES, f"{counted(seen.in_a_row, 'failure')} in a row")

    def standing(self, seen: Evidence) -> Standing:
        """As the present run."""
        return Standing("failures in a row", seen.in_a_row, self.count)


@dataclass(frozen=True, slots=True)
class UnlikelyFailures(Rule):
    """So many failures in a row as would hardly come by chance, the provider being as it was before them.

    `significance` is that chance: the failure rate before the run, to the power of its length. With 1e-8, four
    failures in a row open the circuit of a provider that is nearly perfect, and ten that of one that fails three
    calls in twenty.
    """

    significance: float

    def __post_init__(self) -> None:
        checks.present("significance", checks.chance, self.significance)

    def broken(self, seen: Evidence) -> Verdict | None:
        """`<=`, in logarithms: chances get too small for a float."""
        if seen.in_a_row < self._needed(seen.normal):
            return None
        reason = f"{counted(seen.in_a_row, 'failure')} in a row, where {seen.normal:.2g} of the calls failed before"
        return Verdict(Cause.UNLIKELY_FAILURES, reason)

    def standing(self, seen: Evidence) -> Standing:
        """As the present run, of what it would take."""
        return Standing("unlikely failures in a row", seen.in_a_row, math.ceil(self._needed(seen.normal)))

    def _needed(self, normal: float) -> float:
        return math.log(self.significance) / math.log(normal)


@dataclass(frozen=True, slots=True)
class _Pair(Rule):
    """Two rules together, each of which may be a pair."""

    one: Rule
    other: Rule

    def parts(self) -> tuple[Rule, ...]:
        """Left to right."""
        return self.one.parts() + self.other.parts()


class AllOf(_Pair):
    """Opens when both are broken."""

    __slots__ = ()

    def broken(self, seen: Evidence) -> Verdict | None:
        """For both reasons; the word is the first one's."""
        one = self.one.broken(seen)
        other = None if one is None else self.other.broken(seen)
        if one is None or other is None:
            return None
        return Verdict(one.cause, f"{one.reason} and {other.reason}")

    def told(self, seen: Evidence) -> str:
        """With brackets: it may stand inside another."""
        return f"({self.one.told(seen)}) and ({self.other.told(seen)})"


class AnyOf(_Pair):
    """Opens when either is broken; asked in this order."""

    __slots__ = ()

    def broken(self, seen: Evidence) -> Verdict | None:
        """For the first reason there is."""
        return self.one.broken(seen) or self.other.broken(seen)

    def told(self, seen: Evidence) -> str:
        """With brackets: it may stand inside another."""
        return f"({self.one.told(seen)}) or ({self.other.told(seen)})"


SIMPLE_RULES = (FailureRate, SlowCallRate, ConsecutiveFailures, UnlikelyFailures)
