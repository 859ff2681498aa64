"""The circuit breaker: a state machine that reads no clock, takes no lock and does no I/O.

Everything that moves a circuit from one state to another is in this file; the ways it may go are in `states.py`.
Time comes in as `now`, luck as a function, results as calls to `succeed`, `fail` and `ignore`; what happened goes
out as `events`. Whoever drives the machine holds a lock around each call and delivers the events afterwards.

Time alone moves nothing until somebody comes by; but then what time did is done as of when it was due (`advance`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from steadyvoice.breaker.baseline import UNKNOWN, Baseline
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.cooldown import Cooldown
from steadyvoice.breaker.era import Era, Flight
from steadyvoice.breaker.events import (
    CallRecorded,
    CallRefused,
    CircuitReset,
    ConfigChanged,
    Event,
    Outcome,
    StateChanged,
    WouldHaveOpened,
)
from steadyvoice.breaker.failure import Failure, Remembered
from steadyvoice.breaker.in_flight import InFlight
from steadyvoice.breaker.patience import Patience
from steadyvoice.breaker.probes import Probes
from steadyvoice.breaker.rules import Evidence, UnlikelyFailures, Verdict, minimums, slow_share
from steadyvoice.breaker.states import TRANSITIONS, Cause, CircuitState
from steadyvoice.breaker.window import Window, window_for

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, DISABLED = CircuitState.FORCED_OPEN, CircuitState.DISABLED
MONITORING = CircuitState.MONITORING

REMEMBERED_FAILURES = 10
RAMP_FROM = 0.1  # of the calls, right after a recovery
ALWAYS, NEVER = -math.inf, math.inf


class Refusal(NamedTuple):
    """Why a call may not be made now; `retry_after` in seconds, None where nobody knows."""

    state: CircuitState
    reason: str
    retry_after: float | None
    last_error: Remembered | None
    at: float


class Machine:
    """One circuit. Requires external locking."""

    __slots__ = (
        "_closed_at",
        "_counting",
        "_due",
        "_learns",
        "_minimums",
        "_ramp_credit",
        "_rule",
        "_slow_share",
        "_warned",
        "baseline",
        "config",
        "cooldown",
        "era",
        "events",
        "evidence",
        "failures",
        "flights",
        "ignored",
        "last_error",
        "late",
        "name",
        "opened_at",
        "outage_at",
        "patience",
        "plain",
        "probes",
        "reason",
        "recovered_last",
        "recovered_seconds",
        "recoveries",
        "refused",
        "state",
        "streak",
        "successes",
        "tracking",
        "until",
        "watched",
        "window",
    )

    def __init__(self, name: str, config: CircuitBreakerConfig, now: float, luck: Callable[[], float]) -> None:
        self.name = name
        self.config = config
        self.events: list[Event] = []
        self.state = CLOSED
        self.reason = "new"
        self.window: Window = window_for(config, now)
        self.streak: float = 0
        self.opened_at: float | None = None
        self.outage_at: float | None = None
        self.until: float | None = None
        self.cooldown = Cooldown(luck)
        self.patience = Patience()
        self.baseline = Baseline()
        self._closed_at = now
        self.evidence: deque[Remembered] | None = None
        self.last_error: Remembered | None = None
        self.successes = self.failures = self.ignored = self.late = self.refused = 0
        self.recoveries = 0
        self.recovered_seconds = 0.0
        self.recovered_last: float | None = None
        self.era = Era(CLOSED)
        self._begin_era()
        self.watch(False)
        if self.plain:
            self.rest()

    # ---------------------------------------------------------------- a call

    def admit(self, now: float) -> Flight | Refusal:
        """Leave to make one call, or the reason why not."""
        if now >= self._due:
            self.advance(now)
        if self.until is not None:
            if now >= self.until:
                self._time_is_up(now)
            elif self.state is CLOSED and not self._ramp_admits(now):
                return self._refuse(now)
        if not self._counting and self._is_full():
            return self._refuse(now)
        flight = Flight(self.era, now)
        if self.tracking:
            self._track(flight)
        return flight

    def succeed(self, now: float, flight: Flight, duration: float | None = None) -> None:
        """The call did what it was asked to."""
        if now >= self._due:
            self.advance(now)
        if self.config.hung_factor is not None:
            self._learn(flight, now)
        if self._lands(flight, now):
            self._succeeded(now, flight.latency(now) if duration is None else duration)

    def fail(self, now: float, flight: Flight, failure: Failure, duration: float | None = None) -> None:
        """The call did not."""
        if now >= self._due:
            self.advance(now)
        if self._lands(flight, now):
            self._failed(now, failure, flight.latency(now) if duration is None else duration)

    def fail_quietly(self, now: float, era: Era, failure: Failure) -> None:
        """A call failed for which no flight was made: it began while its era was quiet."""
        if era is self.era:
            self._failed(now, failure, None)
        else:
            self.late += 1
            self._record(Outcome.LATE, None, None, now)

    def ignore(self, now: float, flight: Flight) -> None:
        """The call says nothing about the provider: cancelled, dropped, or the caller's own mistake."""
        if now >= self._due:
            self.advance(now)
        self.drop(now, flight)

    def drop(self, now: float, flight: Flight) -> None:
        """Ignore a call of which nobody knows when it ended: not by now, so time has not run for it."""
        if flight.settled:
            return
        self.flights.remove(flight)
        flight.settled = True
        if flight.era.state is not DISABLED:
            self.ignored += 1
            self._record(Outcome.IGNORED, flight.latency(now), None, now)

    def abandon(self, now: float, flight: Flight) -> None:
        """The consumer left: a success if something useful had come and the next was not overdue."""
        if now >= self._due:
            self.advance(now)
        if flight.useful_at is None or flight in self.flights.silent:
            self.ignore(now, flight)
        else:
            self.succeed(now, flight)

    def progress(self, now: float, flight: Flight, held: bool = False) -> None:
        """Something useful arrived; with `held`, the consumer has it now and the call's clocks stand still."""
        if now >= self._due:
            self.advance(now)
        if self.config.hung_factor is not None:
            self._learn(flight, now)
        if flight.useful_at is None:
            flight.useful_at = now
        self._restart(flight, now, held)
        if self.state is HALF_OPEN and now - flight.useful_at >= self.config.probe_after:
            self.succeed(now, flight)

    def resume(self, now: float, flight: Flight) -> None:
        """The consumer wants more; the call's clocks run again, from the start."""
        if now >= self._due:
            self.advance(now)
        self._restart(flight, now, held=False)

    def reconcile(self, now: float, era: Era) -> None:
        """Take in what was ticked on an era without the lock: refusals of an open one, successes of any other."""
        new = era.fold()
        if not new:
            return
        if era.state in (OPEN, FORCED_OPEN):
            self.refused += new
            return
        for minimum in self._minimums:
            missing = minimum - self.window.calls
            if era is self.era and 0 < missing < new:  # one of them completed a minimum: judge at that very one
                self._succeeded_plainly(missing, now)
                new -= missing
        if era is self.era:
            self._succeeded_plainly(new, now)
        else:
            self.late += new

    def rest(self) -> None:
        """End a locked section of a plain circuit: may successes stay uncounted until the next one?"""
        window = self.window
        enough = not window.failures or window.calls >= self._minimums[-1]
        self.era.quiet = self._counting and enough and self.until is None

    def _lands(self, flight: Flight, now: float) -> bool:
        """Settle the flight; whether its result still counts."""
        if flight.settled:
            return False
        flight.settled = True
        if self.tracking:
            self.flights.remove(flight)
        if flight.era.state is DISABLED:
            return False
        if flight.era is not self.era:  # the world moved on while this call was out
            self.late += 1
            self._record(Outcome.LATE, flight.latency(now), None, now)
            return False
        return True

    def _learn(self, flight: Flight, now: float) -> None:
        """The first sign of life tells how long a provider that works is silent; a late one does so, too."""
        if flight.useful_at is None and not flight.settled and self.patience.learn(now - flight.since):
            self._due = ALWAYS

    def _succeeded(self, now: float, duration: float | None) -> None:
        self.successes += 1
        if self.watched:
            self._record(Outcome.SUCCESS, duration, None, now)
        slow = self._is_slow(duration)
        if not self._counting:
            self.probes.succeed(slow)
            self._judge_probes(now)
            return
        if self._warned:
            self._relent(now)
        window = self.window
        window.add(now, 0.0, slow)
        self._end_streak(1)
        if window.failures or slow or window.slow or self.flights.silent or self._warned:
            self._judge(now)

    def _failed(self, now: float, failure: Failure, duration: float | None) -> None:
        self.failures += 1
        self._remember(failure.kind, failure.message, now, duration)
        if self.watched:
            self._record(Outcome.FAILURE, duration, failure.kind, now)
        if not self._counting:
            self._probe_failed(now, failure)
            return
        if self._warned:
            self._relent(now)
        slow = self._is_slow(duration)
        self.window.add(now, failure.weight, slow)
        self.streak += failure.weight
        if failure.trip:
            self._condemn(now, Verdict(Cause.TRIPPED, f"opened at once by {failure.kind}"), failure.cooldown)
        else:
            self._judge(now, failure.cooldown)

    def _succeeded_plainly(self, new: int, now: float) -> None:
        if new:
            self.successes += new
            self.window.add_successes(now, new)
            self._end_streak(new)
            self._judge(now)

    def _end_streak(self, successes: int) -> None:
        if self._learns:
            self.baseline.learn(self.streak, successes)
        self.streak = 0
        if self.flights.in_a_row:
            self.flights.in_a_row.clear()

    def _judge_probes(self, now: float, named: float | None = None) -> None:
        verdict = self.probes.verdict(self.config, self._slow_share)
        if verdict is None:
            return
        if verdict.cause is Cause.PROBES_SUCCEEDED:
            self._close(now, verdict)
        else:
            self._open(now, verdict, named)

    def _probe_failed(self, now: float, failure: Failure) -> None:
        why = Verdict(Cause.PROBE_FAILED, f"a probe failed: {failure.kind}")
        self.probes.fail(why)
        if failure.trip:
            self._open(now, why, failure.cooldown)
        else:
            self._judge_probes(now, failure.cooldown)

    def _is_slow(self, duration: float | None) -> bool:
        limit = self.config.slow_call_duration
        return limit is not None and duration is not None and duration >= limit

    def _is_full(self) -> bool:
        match self.state:
            case CircuitState.OPEN | CircuitState.FORCED_OPEN:
                return True
            case CircuitState.HALF_OPEN:
                flights = self.flights
                return len(flights.running) + len(flights.held) >= self.config.half_open_max_calls
            case _:
                return False

    def _ramp_admits(self, now: float) -> bool:
        """After a recovery: of each hundred callers, as many as the time since then allows, evenly spread."""
        self._ramp_credit += self.admitted_share(now)
        if self._ramp_credit < 1:
            return False
        self._ramp_credit -= 1
        return True

    def _refuse(self, now: float) -> Refusal:
        self.refused += 1
        reason = self.reason
        if self.state is HALF_OPEN:
            reason = f"{self.in_flight} of {self.config.half_open_max_calls} probes in flight"
        if self.state is CLOSED:
            reason = f"just recovered: {self.admitted_share(now):.0%} of the calls are admitted"
        refusal = Refusal(self.state, reason, self.retry_after(now), self.last_error, now)
        if self.watched:
            self._emit(
                CallRefused(name=self.name, state=self.state, reason=reason, retry_after=refusal.retry_after, at=now)
            )
        return refusal

    # ---------------------------------------------------------------- judging

    def _judge(self, now: float, named: float | None = None) -> None:
        verdict = self._verdict(now)
        if verdict is None:
            self._warned = False
        else:
            self._condemn(now, verdict, named)

    def _relent(self, now: float) -> None:
        """Time alone may have mended what was warned of: what comes now is news again."""
        self._warned = self._verdict(now) is not None

    def _verdict(self, now: float) -> Verdict | None:
        """The rule that is broken now. A call that hangs is a failure until it ends."""
        window = self.window
        window.expire(now)
        hung = len(self.flights.silent)
        slow = 0 if self.config.slow_call_duration is None else window.slow
        if not window.failures and not hung and not slow:
            return None
        calls, failures = window.calls + hung, window.failures + hung
        normal = self.baseline.rate if self._learns else UNKNOWN
        verdict = self._rule.broken(Evidence(calls, failures, slow, self.in_a_row, normal))
        if verdict is None or not hung:
            return verdict
        return Verdict(verdict.cause, f"{verdict.reason}, {hung} of them still silent")

    def _condemn(self, now: float, verdict: Verdict, named: float | None = None) -> None:
        self.window.expire(now)
        if self.state is CLOSED:
            self._open(now, verdict, named)
        elif not self._warned:
            self._warned = True
            self._emit(
                WouldHaveOpened(
                    name=self.name,
                    cause=verdict.cause,
                    reason=verdict.reason,
                    failure_rate=self.failure_rate,
                    calls=self.calls,
                    failures=self.failure_sum,
                    at=now,
                )
            )

    # ---------------------------------------------------------------- what time does

    def advance(self, now: float) -> None:
        """Do what time has done since somebody last came by, as of when it was due."""
        if self.state is HALF_OPEN:
            self._end_leases(now)
        elif (patience := self.patience.seconds(self.config)) is not None:
            self._suspect_the_silent(now, patience)

    def _suspect_the_silent(self, now: float, patience: float) -> None:
        while (oldest := self.flights.oldest) is not None:
            self._due = due = oldest.since + patience
            if due > now:
                return
            self.flights.fall_silent(oldest)
            silent = list(self.flights.silent)
            self._judge(due)
            if oldest.era is not self.era:  # they opened it
                self._remember_silent(silent, due)
        self._due = NEVER

    def _remember_silent(self, flights: list[Flight], now: float) -> None:
        for flight in flights:
            self._remember("hanging", f"no sign of life for {now - flight.since:.3g} s", now, flight.latency(now))

    def _end_leases(self, now: float) -> None:
        """A probe without progress has failed; a stream that delivered and waits for its listener has not."""
        config = self.config
        lease = min(config.half_open_timeout, self.patience.seconds(config) or config.half_open_timeout)
        for due, flight in self.flights.ends_of_probes(lease, config.probe_after):
            if due > now or self.state is not HALF_OPEN:
                return
            proved = flight in self.flights.held
            self._lands(flight, due)
            if proved:
                self._succeeded(due, flight.latency(due))
            else:
                self._probe_expired(due, flight, lease)

    def _probe_expired(self, due: float, flight: Flight, lease: float) -> None:
        reason = f"a probe gave no sign of life for {lease:g} s"
        self.failures += 1
        self._remember(Cause.PROBE_EXPIRED.value, reason, due, flight.latency(due))
        self._record(Outcome.FAILURE, flight.latency(due), Cause.PROBE_EXPIRED, due)
        self.probes.fail(Verdict(Cause.PROBE_EXPIRED, reason))
        self._judge_probes(due)

    def _time_is_up(self, now: float) -> None:
        match self.state:
            case CircuitState.CLOSED:
                self.until = None  # recovered for good
            case CircuitState.OPEN:
                self._enter(HALF_OPEN, now, Verdict(Cause.COOLDOWN_OVER, "the cooldown is over"))
            case CircuitState.FORCED_OPEN:
                self._enter(HALF_OPEN, now, Verdict(Cause.DURATION_OVER, "was forced open until now"))
            case _:
                self._close(now, Verdict(Cause.DURATION_OVER, f"{self.state.value} until now"))

    # ---------------------------------------------------------------- by hand

    def force(self, now: float, state: CircuitState, reason: str, duration: float | None) -> None:
        """Set a manual state: until released, or for a duration in seconds."""
        self.advance(now)
        until = None if duration is None else now + duration
        if self.state is not state:
            self._enter(state, now, Verdict(Cause.MANUAL, reason), until)
            self.outage_at = None
            self._empty(now)
        self.reason, self.until = reason, until

    def close(self, now: float, verdict: Verdict) -> None:
        """Close by hand, from any state; the window is empty afterwards."""
        self.advance(now)
        if self.state is not CLOSED:
            self._close(now, verdict)
            return
        self._begin_era()
        self._empty(now)
        self.until = None
        self._emit(CircuitReset(name=self.name, reason=verdict.reason, at=now))

    def reset(self, now: float, reason: str) -> None:
        """Close as if new: the backoff is forgotten, too."""
        self.close(now, Verdict(Cause.RESET, reason))
        self.cooldown.forget()

    def update(self, now: float, config: CircuitBreakerConfig) -> None:
        """New settings over the same evidence, judged at once."""
        self.advance(now)
        before, self.config = self.config, config
        if (before.window_size, before.window_seconds) != (config.window_size, config.window_seconds):
            self.window = window_for(config, now, self.window.runs(now))
        self._emit(ConfigChanged(name=self.name, before=before, after=config, at=now))
        self.watch(self.watched)
        self._heed_hanging(now)
        match self.state:
            case CircuitState.OPEN if self.opened_at is not None:
                self.until = self.opened_at + self.cooldown.current(config)
            case CircuitState.HALF_OPEN:
                self._judge_probes(now)
            case CircuitState.CLOSED | CircuitState.MONITORING:
                if self.state is CLOSED and self.until is not None:
                    self.until = self._end_of_ramp(self._closed_at, now)
                self._judge(now)

    def watch(self, watched: bool) -> None:
        """Whether anybody wants an event for each call; if so, no success may go uncounted."""
        self.watched = watched
        config = self.config
        timeless = config.hung_after is None and config.slow_call_duration is None
        self.plain = timeless and config.window_seconds is None and config.failure_result is None and not watched
        self._rule = config.rule
        self._minimums = minimums(self._rule)
        self._slow_share = slow_share(self._rule)
        self._learns = any(isinstance(part, UnlikelyFailures) for part in self._rule.parts())

    def reinstate(self, now: float, state: CircuitState, reason: str, until: float | None) -> None:
        """Take up a state from before a restart; the table of transitions does not apply to a new life."""
        self._announce(state, now, Verdict(Cause.RESTORED, reason), until)
        self.opened_at = self.outage_at = now if state is OPEN else None

    def _heed_hanging(self, now: float) -> None:
        patience = self.patience.seconds(self.config)
        self.tracking = self.state is HALF_OPEN or (self._counting and patience is not None)
        self._due = ALWAYS if self.tracking else NEVER
        if self.state is not HALF_OPEN:
            self.flights.sort_anew(now, patience)

    # ---------------------------------------------------------------- moving

    def _open(self, at: float, verdict: Verdict, named: float | None = None) -> None:
        healthy = 0.0 if self.state is HALF_OPEN else at - self._closed_at
        until = at + self.cooldown.next(self.config, named, healthy)
        self._enter(OPEN, at, verdict, until)
        self.opened_at = at
        if self.outage_at is None:
            self.outage_at = at

    def _close(self, at: float, verdict: Verdict) -> None:
        recovered = verdict.cause is Cause.PROBES_SUCCEEDED
        if recovered and self.outage_at is not None:
            self.recoveries += 1
            self.recovered_last = at - self.outage_at
            self.recovered_seconds += self.recovered_last
        self._enter(CLOSED, at, verdict, self._end_of_ramp(at, at) if recovered else None)
        self._closed_at = at
        self.opened_at = self.outage_at = None
        self._empty(at)

    def _end_of_ramp(self, closed_at: float, now: float) -> float | None:
        ramp = self.config.ramp_up
        return closed_at + ramp if ramp is not None and now < closed_at + ramp else None

    def _empty(self, now: float) -> None:
        self.window = window_for(self.config, now)
        self.streak = 0

    def _enter(self, to: CircuitState, at: float, verdict: Verdict, until: float | None = None) -> None:
        if to not in TRANSITIONS[self.state]:
            raise RuntimeError(f"a circuit cannot go from {self.state.value} to {to.value}")
        self._announce(to, at, verdict, until)

    def _announce(self, to: CircuitState, at: float, verdict: Verdict, until: float | None) -> None:
        self.window.expire(at)
        before, self.state, self.until, self.reason = self.state, to, until, verdict.reason
        if before is not to:
            self._emit(
                StateChanged(
                    name=self.name,
                    from_state=before,
                    to_state=to,
                    cause=verdict.cause,
                    reason=verdict.reason,
                    failure_rate=self.failure_rate,
                    calls=self.calls,
                    failures=self.failure_sum,
                    retry_after=self.retry_after(at),
                    at=at,
                )
            )
        self._begin_era()

    def _begin_era(self) -> None:
        self.era.quiet = False
        self.era = Era(self.state)
        self.flights = InFlight()
        self._counting = self.state in (CLOSED, MONITORING)
        self.tracking = self.state is HALF_OPEN or (self._counting and self.config.hung_after is not None)
        self._due = ALWAYS if self.state is HALF_OPEN else NEVER  # the earliest that `advance` can have work
        self.probes = Probes()
        self._ramp_credit = 1.0  # the first one is not to wait
        self._warned = False

    def _restart(self, flight: Flight, now: float, held: bool) -> None:
        if self.tracking and not flight.settled and flight.era is self.era:
            self.flights.remove(flight)
            flight.since = now
            if held:
                self.flights.held[flight] = None
            else:
                self._track(flight)

    def _track(self, flight: Flight) -> None:
        self.flights.running[flight] = None
        if self._due == NEVER and (patience := self.patience.seconds(self.config)) is not None:
            self._due = flight.since + patience

    # ---------------------------------------------------------------- what is to be seen

    @property
    def calls(self) -> int:
        """Results in the window, hanging calls included."""
        return self.window.calls + len(self.flights.silent)

    @property
    def failure_sum(self) -> float:
        """Their failures, by weight."""
        return self.window.failures + len(self.flights.silent)

    @property
    def in_a_row(self) -> float:
        """The present run of failures: since the last success, those that hang since then included."""
        return self.streak + len(self.flights.in_a_row)

    @property
    def failure_rate(self) -> float:
        """Failures per call in the window; 0 without calls."""
        return self.failure_sum / self.calls if self.calls else 0.0

    @property
    def hung(self) -> int:
        """Calls in flight that have been silent for too long."""
        return len(self.flights.silent)

    @property
    def in_flight(self) -> int | None:
        """Calls of this era that are out, None where nobody counts them."""
        return len(self.flights) if self.tracking else None

    def admitted_share(self, now: float) -> float:
        """How many of the calls are admitted: 1 but for a while after a recovery, and where none or few are."""
        if not self._counting:
            return 0.0 if self._is_full() else 1.0
        ramp = self.config.ramp_up
        if ramp is None or self.until is None or self.state is not CLOSED:
            return 1.0
        return min(1.0, max(RAMP_FROM, 1 - (self.until - now) / ramp))

    def retry_after(self, now: float) -> float | None:
        """Seconds until the next caller becomes a probe; None unless open, or when nobody can know."""
        if self.until is None or self.state not in (OPEN, FORCED_OPEN):
            return None
        return max(0.0, self.until - now)

    def take_events(self) -> list[Event]:
        """What happened since the last time."""
        events, self.events = self.events, []
        return events

    def _emit(self, event: Event) -> None:
        self.events.append(event)

    def _record(self, outcome: Outcome, duration: float | None, error: str | None, now: float) -> None:
        if self.watched:
            self._emit(CallRecorded(name=self.name, outcome=outcome, duration=duration, error=error, at=now))

    def _remember(self, kind: str, message: str, at: float, latency: float | None) -> None:
        if self.evidence is None:
            self.evidence = deque(maxlen=REMEMBERED_FAILURES)
        self.last_error = Remembered(kind, message, at, latency)
        self.evidence.append(self.last_error)
