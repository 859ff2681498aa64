"""Reference model of the breaker: keeps every result and counts everything anew each time.

It is slow, knows nothing of locks and skips nothing, so that it can be compared by eye with the rules, and by
machine with the breaker (`test_model.py`). It shares no code with the breaker but settings and names.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from steadyvoice.breaker import Cause, CircuitBreakerConfig, CircuitState, Outcome, Rule, SlowCallRate, WindowStats
from steadyvoice.breaker.states import CLOSED, FORCED_OPEN, HALF_OPEN, MONITORING, OPEN
from tests.breaker.model.cooldown import Cooldown
from tests.breaker.model.records import Call, Result
from tests.breaker.model.rules import broken, learns, normal, rule_of


class Model:
    """Reference model. `events` are those of the listeners; see also `calls.py` and `manual_control.py`."""

    def __init__(self, config: CircuitBreakerConfig, now: float, random: Callable[[], float], watched: bool) -> None:
        self.config, self.watched = config, watched
        self.events: list[tuple[object, ...]] = []
        self.results: list[Result] = []
        self.streak, self.run = 0.0, list[float]()
        self.cooldown = Cooldown(random)
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
        self.begin_era(CLOSED)

    # ---- what an end counts for

    def count_success(self, call: Call, now: float, duration: float | None) -> None:
        self.relent(now)
        if not self.counts(call, Outcome.SUCCESS, duration, None, now):
            return
        limit = self.config.slow_call_duration
        slow = limit is not None and duration is not None and duration >= limit
        if self.state is HALF_OPEN:
            self.probes.append(slow)
            self.judge_probes(now)
        else:
            if learns(self.rule):
                self.past += [*self.run, 0.0]
            self.streak, self.run = 0.0, []
            for other in self.out:
                other.excused = other.hung
            self.add(now, 0.0, slow)
            self.judge(now)

    def counts(self, call: Call, outcome: Outcome, duration: float | None, error: str | None, now: float) -> bool:
        if call.settled:
            return False
        self.settle(call)
        if call.disabled:
            return False
        if call.era is not self.era:
            outcome, duration, error = Outcome.LATE, call.duration(now), None
        self.totals[outcome] += 1
        self.tell_of_call("call", outcome, duration, error, now)
        return call.era is self.era

    def settle(self, call: Call) -> None:
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

    def add(self, now: float, weight: float, slow: bool) -> None:
        newest = self.results[-1].at if self.results else -inf
        # Time windows have a hundred buckets: results of one bucket expire together, with its first.
        width = 0.0 if self.config.window_seconds is None else self.config.window_seconds / 100
        self.results.append(Result(newest if now - newest < width else now, weight, slow))

    @property
    def rule(self) -> Rule:
        return rule_of(self.config)

    def broken_rule(self, now: float) -> Cause | None:
        (calls, failures), slow = self.seen(now), sum(r.slow for r in self.window(now))
        slow = slow if self.config.slow_call_duration else 0
        if not failures and not slow:
            return None  # also when a streak is longer than its window remembers
        return broken(self.rule, WindowStats(calls, failures, slow, self.in_a_row, normal(self.past)))

    def share(self, now: float) -> float:
        """Of the calls that are admitted while closed."""
        if self.state is not CLOSED or self.until is None or self.config.ramp_up is None:
            return 1.0
        return min(1.0, max(0.1, 1 - (self.until - now) / self.config.ramp_up))

    def admitted_share(self, now: float) -> float:
        if self.state is HALF_OPEN and len(self.out) < self.config.half_open_max_calls:
            return 1.0
        return 0.0 if self.state in (OPEN, HALF_OPEN, FORCED_OPEN) else self.share(now)

    def is_held_back(self, now: float) -> bool:
        if self.state is not CLOSED or self.until is None:
            return False
        # A share of the calls is admitted evenly, not at random: every call adds to a credit of which one costs 1.
        self.credit += self.share(now)
        admitted = self.credit >= 1
        self.credit -= admitted
        return not admitted

    def judge(self, now: float, cooldown: float | None = None) -> None:
        cause = self.broken_rule(now)
        if cause is None:
            self.warned = False
        else:
            self.condemn(now, cause, cooldown)

    def relent(self, now: float) -> None:
        """Clear the warning if the rule no longer holds; calls that hang still count."""
        self.warned = self.warned and self.broken_rule(now) is not None

    def condemn(self, now: float, cause: Cause, cooldown: float | None = None) -> None:
        if self.state is CLOSED:
            self.open(now, cause, cooldown)
        elif not self.warned:
            self.warned = True
            self.events.append(("would have opened", cause, *self.seen(now), now))

    def judge_probes(self, now: float, cooldown: float | None = None) -> None:
        c, slow = self.config, sum(self.probes)
        shares = [part.threshold for part in self.rule.parts() if isinstance(part, SlowCallRate)]
        if len(self.failed_probes) > c.half_open_failures:
            self.open(now, self.failed_probes[-1], cooldown)
        elif slow and shares and slow / c.success_threshold >= min(shares):
            self.open(now, Cause.PROBES_SLOW, cooldown)
        elif len(self.probes) >= c.success_threshold:
            self.close(now, Cause.PROBES_SUCCEEDED)

    # ---- what time does

    def advance(self, now: float) -> None:
        while (due := min(self.deadlines(), key=lambda d: d[0], default=None)) and due[0] <= now:
            self._is_due(*due)

    def deadlines(self) -> list[tuple[float, Call]]:
        c = self.config
        if self.state is HALF_OPEN:
            # A probe that hangs blocks the circuit, so it expires even where calls have no hang threshold.
            lease = min(c.half_open_timeout, c.hung_after or inf)
            running = [(call.since + lease, call) for call in self.out if not call.held]
            held = [call for call in self.out if call.held and call.useful is not None]
            return running + [((call.useful or 0.0) + c.stream_probe_success_after, call) for call in held]
        if self.state in (CLOSED, MONITORING) and c.hung_after is not None:
            return [(call.since + c.hung_after, call) for call in self.out if not call.held and not call.hung]
        return []

    def _is_due(self, due: float, call: Call) -> None:
        if self.state is not HALF_OPEN:
            call.hung = True
            silent = [c for c in self.out if c.hung]
            self.judge(due)
            if self.era is not call.era:
                self.last_error = "hanging", due, silent[-1].duration(due)
        elif call.held:
            self.count_success(call, due, call.duration(due))
        else:
            self.counts(call, Outcome.FAILURE, call.duration(due), Cause.PROBE_EXPIRED, due)
            self.last_error = Cause.PROBE_EXPIRED, due, call.duration(due)
            self.failed_probes.append(Cause.PROBE_EXPIRED)
            self.judge_probes(due)

    def time_is_up(self, now: float) -> None:
        if self.state is CLOSED:
            self.until = None
        elif self.state in (OPEN, FORCED_OPEN):
            self.enter(HALF_OPEN, now, Cause.COOLDOWN_OVER if self.state is OPEN else Cause.DURATION_OVER)
        else:
            self.close(now, Cause.DURATION_OVER)

    # ---- moving

    def open(self, now: float, cause: Cause, named: float | None) -> None:
        # A failed probe ends no healthy time.
        healthy = 0.0 if self.state is HALF_OPEN else now - self.closed_at
        self.enter(OPEN, now, cause, now + self.cooldown.next(self.config, named, healthy))
        self.opened_at = now
        self.outage_at = now if self.outage_at is None else self.outage_at

    def close(self, now: float, cause: Cause) -> None:
        if cause is Cause.PROBES_SUCCEEDED and self.outage_at is not None:
            self.recoveries.append(now - self.outage_at)
        self.enter(CLOSED, now, cause)
        if cause is Cause.PROBES_SUCCEEDED:
            self.ramp_up(now, now)
        self.closed_at, self.opened_at, self.outage_at = now, None, None
        self.results, self.streak, self.run = [], 0.0, []

    def ramp_up(self, since: float, now: float) -> None:
        end = since + (self.config.ramp_up or 0.0)
        self.until = end if now < end else None

    def enter(self, to: CircuitState, now: float, cause: Cause, until: float | None = None) -> None:
        seen, before = self.seen(now), self.state
        self.until = until
        self.begin_era(to)
        self.events.append(("moved", before, to, cause, *seen, self.retry_after(now), now))
        if to is not HALF_OPEN:
            self.shown_at = now if to in (OPEN, FORCED_OPEN) else None

    def begin_era(self, state: CircuitState) -> None:
        self.state, self.era = state, object()
        self.out, self.probes, self.failed_probes, self.warned, self.credit = [], [], [], False, 1.0

    # ---- what is to be seen

    def retry_after(self, now: float) -> float | None:
        open_until = self.until if self.state in (OPEN, FORCED_OPEN) else None
        return None if open_until is None else max(0.0, open_until - now)

    def tell_of_call(self, *event: object) -> None:
        if self.watched:
            self.events.append(event)
