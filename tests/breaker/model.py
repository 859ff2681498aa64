"""The breaker once more, as plainly as can be said: every result is kept, everything is counted anew each time.

It is slow, knows nothing of locks and skips nothing, so that it can be compared by eye with the rules, and by
machine with the breaker (`test_model.py`). It shares no code with the breaker but settings and names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from math import inf, trunc
from typing import NamedTuple

from steadyvoice.breaker import (
    Cause,
    CircuitBreakerConfig,
    CircuitState,
    ConsecutiveFailures,
    FailureRate,
    Outcome,
    Rule,
    SlowCallRate,
    UnlikelyFailures,
)
from steadyvoice.breaker.rules import AllOf, AnyOf

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, DISABLED, MONITORING = CircuitState.FORCED_OPEN, CircuitState.DISABLED, CircuitState.MONITORING


class Result(NamedTuple):
    at: float
    weight: float
    slow: bool


@dataclass(eq=False)
class Call:
    """One call in flight. Two eras are one when they are the same object."""

    era: object
    disabled: bool
    started: float | None
    since: float
    useful: float | None = None
    held: bool = False
    hung: bool = False
    excused: bool = False  # it hung already when the last success came
    settled: bool = False

    def duration(self, now: float) -> float | None:
        if self.started is None:
            return None
        return (now if self.useful is None else self.useful) - self.started


class Model:
    """`told` is what listeners hear; `admit` answers with None for a refusal."""

    def __init__(self, config: CircuitBreakerConfig, now: float, luck: Callable[[], float], watched: bool) -> None:
        self.config, self.luck, self.watched = config, luck, watched
        self.told: list[tuple[object, ...]] = []
        self.results: list[Result] = []
        self.streak, self.run = 0.0, list[float]()
        self.level, self.rest, self.roll = -1, 1.0, 0.0
        self.named: float | None = None
        self.until: float | None = None
        self.opened_at: float | None = None
        self.outage_at: float | None = None
        self.shown_at: float | None = None
        self.closed_at = now
        self.recoveries: list[float] = []
        self.last_error: tuple[str, float, float | None] | None = None
        self.past: list[float] = []  # weights, of what ended the runs of failures and of those runs
        self.totals = dict.fromkeys([*Outcome, "refused"], 0)
        self.out: list[Call] = []
        self.probes: list[bool] = []
        self.failed_probes: list[Cause] = []
        self.warned = False
        self._begin_era(CLOSED)

    # ---- one call

    def begin(self, now: float) -> Call | None:
        """As `call` begins: without a clock, while a success could change nothing."""
        c, window = self.config, self.window(now)
        timed = c.hung_after or c.slow_call_duration or c.window_seconds or self.watched
        judged = len(window) >= self.minimum or not any(r.weight for r in window)
        if self.state in (CLOSED, MONITORING) and self.until is None and judged and not timed:
            return Call(self.era, False, None, 0.0)
        return self.admit(now)

    def admit(self, now: float) -> Call | None:
        self.advance(now)
        if self.until is not None and now >= self.until:
            self._time_is_up(now)
        full = self.state is HALF_OPEN and len(self.out) >= self.config.half_open_max_calls
        if full or self.state in (OPEN, FORCED_OPEN) or self._is_held_back(now):
            self.totals["refused"] += 1
            self._tell_of_call("refused", self.state, self.retry_after(now), now)
            return None
        call = Call(self.era, self.state is DISABLED, now, now)
        if self.watching:
            self.out.append(call)
        return call

    def succeed(self, call: Call, now: float, duration: float | None = None) -> None:
        self.advance(now)
        self._succeed(call, now, call.duration(now) if duration is None else duration)

    def _succeed(self, call: Call, now: float, duration: float | None) -> None:
        if not self._counts(call, Outcome.SUCCESS, duration, None, now):
            return
        limit = self.config.slow_call_duration
        slow = limit is not None and duration is not None and duration >= limit
        if self.state is HALF_OPEN:
            self.probes.append(slow)
            self._judge_probes(now)
        else:
            self.warned = self.warned and self._broken_rule(now) is not None
            if self.learns:
                self.past += [*self.run, 0.0]
            self.streak, self.run = 0.0, []
            for other in self.out:
                other.excused = other.hung
            self._add(now, 0.0, slow)
            self._judge(now)

    def fail(
        self,
        call: Call,
        now: float,
        error: str,
        duration: float | None = None,
        weight: float = 1.0,
        cooldown: float | None = None,
        trip: bool = False,
    ) -> None:
        self.advance(now)
        duration = call.duration(now) if duration is None else duration
        if not self._counts(call, Outcome.FAILURE, duration, error, now):
            return
        self.last_error = error, now, duration
        if self.state is HALF_OPEN:
            self.failed_probes.append(Cause.PROBE_FAILED)
            if trip:
                self._open(now, Cause.PROBE_FAILED, cooldown)
            else:
                self._judge_probes(now, cooldown)
            return
        self.warned = self.warned and self._broken_rule(now) is not None
        limit = self.config.slow_call_duration
        self.streak += weight
        self.run.append(weight)
        self._add(now, weight, limit is not None and duration is not None and duration >= limit)
        if trip:
            self._condemn(now, Cause.TRIPPED, cooldown)
        else:
            self._judge(now, cooldown)

    def ignore(self, call: Call, now: float) -> None:
        self.advance(now)
        self.drop(call, now)

    def drop(self, call: Call, now: float) -> None:
        if not call.settled:
            self._settle(call)
            if not call.disabled:
                self.totals[Outcome.IGNORED] += 1
                self._tell_of_call("call", Outcome.IGNORED, call.duration(now), None, now)

    def abandon(self, call: Call, now: float) -> None:
        self.advance(now)
        if call.useful is None or (call.hung and call in self.out):
            self.ignore(call, now)
        else:
            self.succeed(call, now)

    def progress(self, call: Call, now: float, held: bool = False) -> None:
        self.advance(now)
        call.useful = now if call.useful is None else call.useful
        self._live(call, now, held)
        if self.state is HALF_OPEN and now - call.useful >= self.config.probe_after:
            self.succeed(call, now)

    def resume(self, call: Call, now: float) -> None:
        self.advance(now)
        self._live(call, now, held=False)

    def _live(self, call: Call, now: float, held: bool) -> None:
        if self.watching and not call.settled and call.era is self.era:
            self.out = [*(c for c in self.out if c is not call), call]
            call.since, call.held, call.hung, call.excused = now, held, False, False

    def _counts(self, call: Call, outcome: Outcome, duration: float | None, error: str | None, now: float) -> bool:
        if call.settled:
            return False
        self._settle(call)
        if call.disabled:
            return False
        if call.era is not self.era:
            outcome, duration, error = Outcome.LATE, call.duration(now), None
        self.totals[outcome] += 1
        self._tell_of_call("call", outcome, duration, error, now)
        return call.era is self.era

    def _settle(self, call: Call) -> None:
        call.settled = True
        self.out = [c for c in self.out if c is not call]

    # ---- judging

    def window(self, now: float) -> list[Result]:
        seconds = self.config.window_seconds
        if seconds is None:
            return self.results[-self.config.window_size :]
        return [r for r in self.results if r.at + seconds > now]

    def seen(self, now: float) -> tuple[int, float]:
        """Calls and failures, those that hang included."""
        window, hung = self.window(now), self.hung
        return len(window) + hung, sum(r.weight for r in window) + hung

    @property
    def hung(self) -> int:
        return sum(c.hung for c in self.out)

    @property
    def in_a_row(self) -> float:
        return self.streak + sum(c.hung and not c.excused for c in self.out)

    @property
    def watching(self) -> bool:
        """Whether calls in flight are looked at."""
        patient = self.config.hung_after is None or self.state not in (CLOSED, MONITORING)
        return self.state is HALF_OPEN or not patient

    def _add(self, now: float, weight: float, slow: bool) -> None:
        newest = self.results[-1].at if self.results else -inf
        width = 0.0 if self.config.window_seconds is None else self.config.window_seconds / 100
        self.results.append(Result(newest if now - newest < width else now, weight, slow))

    @property
    def rule(self) -> Rule:
        """What the settings say, in one rule."""
        c, rules = self.config, list[Rule]()
        if c.opens_when is not None:
            return c.opens_when
        if c.consecutive_failures is not None:
            rules.append(ConsecutiveFailures(c.consecutive_failures))
        if c.significance is not None:
            rules.append(UnlikelyFailures(c.significance))
        if c.failure_threshold is not None:
            rules.append(FailureRate(c.failure_threshold, c.minimum))
        if c.slow_call_duration is not None:
            rules.append(SlowCallRate(c.slow_call_threshold or 1.0, c.minimum))
        whole = rules.pop(0)
        for rule in rules:
            whole = AnyOf(whole, rule)
        return whole

    @property
    def minimum(self) -> int:
        """The most calls that a rule waits for."""
        return max([r.minimum_calls for r in self.rule.parts() if isinstance(r, FailureRate | SlowCallRate)], default=1)

    @property
    def learns(self) -> bool:
        """Whether any rule asks what is normal."""
        return any(isinstance(part, UnlikelyFailures) for part in self.rule.parts())

    def normal(self) -> float:
        """The failure rate before the present run: of a hundred calls that are over, and of those since."""
        hundred, calls, failures = None, 0.0, 0.0
        for weight in self.past:
            calls += weight or 1.0
            failures += weight
            if calls >= 100 and not weight:
                hundred, calls, failures = failures / calls, 0.0, 0.0
        if hundred is None:
            return max(0.05, (failures + 1) / (calls + 20))
        return (hundred * 100 + failures + 1) / (100 + calls + 2)

    def _broken_rule(self, now: float) -> Cause | None:
        failures, slow = self.seen(now)[1], sum(r.slow for r in self.window(now))
        if not failures and not (slow and self.config.slow_call_duration):
            return None  # also when a streak is longer than its window remembers
        return self._broken(self.rule, now)

    def _broken(self, rule: Rule, now: float) -> Cause | None:
        calls, failures = self.seen(now)
        slow = sum(r.slow for r in self.window(now)) if self.config.slow_call_duration else 0
        match rule:
            case AnyOf():
                return self._broken(rule.one, now) or self._broken(rule.other, now)
            case AllOf():
                return self._broken(rule.one, now) if self._broken(rule.other, now) else None
            case ConsecutiveFailures() if self.in_a_row >= rule.count:
                return Cause.CONSECUTIVE_FAILURES
            case UnlikelyFailures() if self.normal() ** self.in_a_row <= rule.significance:
                return Cause.UNLIKELY_FAILURES
            case FailureRate() if calls >= rule.minimum_calls and failures / calls >= rule.threshold:
                return Cause.FAILURE_RATE
            case SlowCallRate() if calls >= rule.minimum_calls and slow / calls >= rule.threshold:
                return Cause.SLOW_CALL_RATE
        return None

    def share(self, now: float) -> float:
        """Of the calls that are admitted while closed."""
        if self.state is not CLOSED or self.until is None or self.config.ramp_up is None:
            return 1.0
        return min(1.0, max(0.1, 1 - (self.until - now) / self.config.ramp_up))

    def admitted_share(self, now: float) -> float:
        if self.state is HALF_OPEN and len(self.out) < self.config.half_open_max_calls:
            return 1.0
        return 0.0 if self.state in (OPEN, HALF_OPEN, FORCED_OPEN) else self.share(now)

    def _is_held_back(self, now: float) -> bool:
        if self.state is not CLOSED or self.until is None:
            return False
        self.credit += self.share(now)
        admitted = self.credit >= 1
        self.credit -= admitted
        return not admitted

    def _judge(self, now: float, cooldown: float | None = None) -> None:
        cause = self._broken_rule(now)
        if cause is None:
            self.warned = False
        else:
            self._condemn(now, cause, cooldown)

    def _condemn(self, now: float, cause: Cause, cooldown: float | None = None) -> None:
        if self.state is CLOSED:
            self._open(now, cause, cooldown)
        elif not self.warned:
            self.warned = True
            self.told.append(("would have opened", cause, *self.seen(now), now))

    def _judge_probes(self, now: float, cooldown: float | None = None) -> None:
        c, slow = self.config, sum(self.probes)
        shares = [part.threshold for part in self.rule.parts() if isinstance(part, SlowCallRate)]
        if len(self.failed_probes) > c.half_open_failures:
            self._open(now, self.failed_probes[-1], cooldown)
        elif slow and shares and slow / c.success_threshold >= min(shares):
            self._open(now, Cause.PROBES_SLOW, cooldown)
        elif len(self.probes) >= c.success_threshold:
            self._close(now, Cause.PROBES_SUCCEEDED)

    # ---- what time does

    def advance(self, now: float) -> None:
        while (due := min(self.deadlines(), key=lambda d: d[0], default=None)) and due[0] <= now:
            self._is_due(*due)

    def deadlines(self) -> list[tuple[float, Call]]:
        c = self.config
        if self.state is HALF_OPEN:
            lease = min(c.half_open_timeout, c.hung_after or inf)
            running = [(call.since + lease, call) for call in self.out if not call.held]
            return running + [((call.useful or 0.0) + c.probe_after, call) for call in self.out if call.held]
        if self.state in (CLOSED, MONITORING) and c.hung_after is not None:
            return [(call.since + c.hung_after, call) for call in self.out if not call.held and not call.hung]
        return []

    def _is_due(self, due: float, call: Call) -> None:
        if self.state is not HALF_OPEN:
            call.hung = True
            silent = [c for c in self.out if c.hung]
            self._judge(due)
            if self.era is not call.era:
                self.last_error = "hanging", due, silent[-1].duration(due)
        elif call.held:
            self._succeed(call, due, call.duration(due))
        else:
            self._counts(call, Outcome.FAILURE, call.duration(due), Cause.PROBE_EXPIRED, due)
            self.last_error = Cause.PROBE_EXPIRED, due, call.duration(due)
            self.failed_probes.append(Cause.PROBE_EXPIRED)
            self._judge_probes(due)

    def _time_is_up(self, now: float) -> None:
        if self.state is CLOSED:
            self.until = None
        elif self.state in (OPEN, FORCED_OPEN):
            self._enter(HALF_OPEN, now, Cause.COOLDOWN_OVER if self.state is OPEN else Cause.DURATION_OVER)
        else:
            self._close(now, Cause.DURATION_OVER)

    # ---- by hand

    def force(self, state: CircuitState, now: float, duration: float | None) -> None:
        self.advance(now)
        until = None if duration is None else now + duration
        if self.state is not state:
            self._enter(state, now, Cause.MANUAL, until)
            self.results, self.streak, self.run, self.outage_at = [], 0.0, [], None
        self.until = until

    def close(self, now: float, cause: Cause = Cause.MANUAL) -> None:
        self.advance(now)
        if cause is Cause.RESET:
            self.level, self.named = -1, None
        if self.state is not CLOSED:
            self._close(now, cause)
        else:
            self._begin_era(CLOSED)
            self.results, self.streak, self.run, self.until = [], 0.0, [], None
            self.told.append(("reset", now))

    def update(self, config: CircuitBreakerConfig, now: float) -> None:
        self.advance(now)
        kept, was_timed = self.window(now), self.config.window_seconds is not None
        resized = (config.window_size, config.window_seconds) != (self.config.window_size, self.config.window_seconds)
        self.config = config
        if resized:
            self.results = []
            for r in _evened_out(kept) if was_timed and config.window_seconds is None else kept:
                self._add(r.at if was_timed else now, r.weight, r.slow)
        self.told.append(("updated", now))
        if self.state is HALF_OPEN:
            self._judge_probes(now)
            return
        for call in self.out:
            patience = inf if config.hung_after is None else config.hung_after
            call.hung = not call.held and call.since + patience <= now
            call.excused = call.excused and call.hung
        if self.state is OPEN and self.opened_at is not None:
            self.until = self.opened_at + self._cooldown()
        elif self.state in (CLOSED, MONITORING):
            if self.state is CLOSED and self.until is not None:
                self._ramp_up(self.closed_at, now)
            self._judge(now)

    def restart(self, now: float) -> None:
        """Exported, and restored in a new life of the same settings."""
        remaining = None if self.until is None else max(0.0, self.until - now)
        state = OPEN if self.state is HALF_OPEN else self.state
        kept, streak, run, level = self.window(now), self.streak, self.run, self.level
        self.__init__(self.config, now, self.luck, self.watched)  # type: ignore[misc]
        self.results, self.streak, self.run = kept, streak, [streak] if run else []
        self.level, self.rest = level, self._rest_at(level)
        if state is OPEN:
            self.named = remaining = remaining or 0.0
            self.opened_at = self.outage_at = now
        if state is not CLOSED:
            self._enter(state, now, Cause.RESTORED, None if remaining is None else now + remaining)
        elif remaining is not None:
            self.until = now + remaining

    # ---- moving

    def _open(self, now: float, cause: Cause, named: float | None) -> None:
        healthy = 0.0 if self.state is HALF_OPEN else now - self.closed_at
        self.named = named
        if named is None:
            self.level -= min(trunc(healthy / self.rest), self.level + 1)
            plan = self.config.cooldown_schedule
            more = (
                self._rest_at(self.level + 1) > self._rest_at(self.level)
                if plan is None
                else self.level < len(plan) - 1
            )
            if self.level < 0 or more:
                self.level += 1  # no further than to the cap
            self.roll = self.luck() if self.config.cooldown_jitter else 0.0
        self._enter(OPEN, now, cause, now + self._cooldown())
        self.opened_at = now
        self.outage_at = now if self.outage_at is None else self.outage_at

    def _cooldown(self) -> float:
        if self.named is not None:
            return self.named
        self.rest = self._rest_at(self.level)
        return self.rest * (1 - self.config.cooldown_jitter * self.roll)

    def _rest_at(self, level: int) -> float:
        c = self.config
        if c.cooldown_schedule:
            return c.cooldown_schedule[min(max(level, 0), len(c.cooldown_schedule) - 1)]
        return float(min(c.cooldown_period * c.cooldown_backoff ** max(level, 0), c.max_cooldown or inf))

    def _close(self, now: float, cause: Cause) -> None:
        if cause is Cause.PROBES_SUCCEEDED and self.outage_at is not None:
            self.recoveries.append(now - self.outage_at)
        self._enter(CLOSED, now, cause)
        if cause is Cause.PROBES_SUCCEEDED:
            self._ramp_up(now, now)
        self.closed_at, self.opened_at, self.outage_at = now, None, None
        self.results, self.streak, self.run = [], 0.0, []

    def _ramp_up(self, since: float, now: float) -> None:
        end = since + (self.config.ramp_up or 0.0)
        self.until = end if now < end else None

    def _enter(self, to: CircuitState, now: float, cause: Cause, until: float | None = None) -> None:
        seen, before = self.seen(now), self.state
        self.until = until
        self._begin_era(to)
        self.told.append(("moved", before, to, cause, *seen, self.retry_after(now), now))
        if to is not HALF_OPEN:
            self.shown_at = now if to in (OPEN, FORCED_OPEN) else None

    def _begin_era(self, state: CircuitState) -> None:
        self.state, self.era = state, object()
        self.out, self.probes, self.failed_probes, self.warned, self.credit = [], [], [], False, 1.0

    # ---- what is to be seen

    def retry_after(self, now: float) -> float | None:
        open_until = self.until if self.state in (OPEN, FORCED_OPEN) else None
        return None if open_until is None else max(0.0, open_until - now)

    def _tell_of_call(self, *event: object) -> None:
        if self.watched:
            self.told.append(event)


def _evened_out(results: list[Result]) -> list[Result]:
    """Nobody knows the order within a bucket: plain successes first, then failures that share their weight."""
    out: list[Result] = []
    for at, group in groupby(results, key=lambda r: r.at):
        bucket = list(group)
        failed = sum(r.weight > 0 for r in bucket)
        slow = sum(r.slow for r in bucket)
        marked = max(failed, slow)
        weight = sum(r.weight for r in bucket) / max(failed, 1)
        out += [Result(at, 0.0, False)] * (len(bucket) - marked)
        out += [Result(at, weight if n < failed else 0.0, n < slow) for n in range(marked)]
    return out
