"""Simulation of one run on a virtual clock: its utterances arrive again, and meet real circuits under other settings.

Circuits, holds, retry budgets and the choice of the next provider are the service's own objects; only what a provider
does is taken from the journal. While everything decided is what was decided then, an utterance is *as recorded*, and
its attempts begin and end at their recorded times; from its first other decision on, its attempts are modelled
(`evidence.py`).
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from steadyvoice.breaker import Permit
from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.service.journal.records import AttemptLine, JournaledUtterance, Run, UtteranceLine
from steadyvoice.service.replay.alternatives import Alternative
from steadyvoice.service.replay.circuit_simulation import SAME_MOMENT, SimulatedCircuits, Steps, Transition, VirtualTime
from steadyvoice.service.replay.evidence import OK, AttemptOutcome, Evidence, outcome_of
from steadyvoice.service.resilience.error_classification import TTSCircuitOpenError
from steadyvoice.service.resilience.error_handler import AttemptHistory, TTSErrorHandler
from steadyvoice.service.resilience.failover import (
    CandidateStatus,
    GiveUp,
    TryProvider,
    WaitForProvider,
    next_step,
)
from steadyvoice.speech.errors import TTSError, TTSHoldError
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.speech.format import AudioFormat

TICK = 0.9
"""Seconds between two reports of progress of a stream: less than any circuit takes for hanging."""

_FORMAT = AudioFormat.parse("mp3_44100_128")

_MAX_TICKS = 400  # of one attempt


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Step: wait for the time at which the next recorded attempt began."""

    at: float


@dataclass(slots=True)
class ReplayedUtterance:
    """Result of one utterance. `calls` are its attempts: provider, whether it refused, and its time."""

    line: UtteranceLine
    outcome: str = ""
    first_audio: float | None = None
    calls: list[tuple[str, bool, float]] = field(default_factory=list)
    is_as_recorded: bool = True
    billed: float = 0.0
    unknown: float = 0.0
    wasted: float = 0.0
    gaps: list[float] = field(default_factory=list)  # of its modelled attempts
    assumed: int = 0
    censored: int = 0

    @property
    def sent(self) -> int:
        """Number of attempts that were sent."""
        return sum(not refused for _, refused, _ in self.calls)


@dataclass(slots=True)
class Replayed:
    """Result of the replay of one run."""

    utterances: list[ReplayedUtterance]
    transitions: list[Transition]
    ended: float


class UtteranceReplay:
    """Replay of one utterance: its decisions, and the attempts that follow from them."""

    def __init__(self, circuits: SimulatedCircuits, utterance: JournaledUtterance) -> None:
        self._circuits, self._clock = circuits, circuits.clock
        self._line, self._attempts = utterance.line, utterance.attempts
        self.result = ReplayedUtterance(utterance.line)
        sent = sorted((each for each in utterance.attempts if each.began is not None and not each.refused), key=_began)
        self.hedges = [each for each in sent if each.hedge]
        self._recorded = deque(each for each in sent if not each.hedge)
        pairs = zip(sent, [*sent[1:], None], strict=False)
        self._own = {id(each): outcome_of(each, follower) for each, follower in pairs}
        self._used: set[int] = set()
        self._refusals = Counter(each.provider for each in utterance.attempts if each.refused)
        self._voices = {each.provider: each.voice or "" for each in utterance.attempts}
        self._on_path = True
        self._left = utterance.line.characters
        self._speakers: list[str] = []
        self._billed: set[str] = set()
        self._delivered = 0.0  # seconds of audio, which extend the deadline

    # ---------------------------------------------------------------- decisions

    def steps(self) -> Steps:
        """Go through the utterance."""
        if not self._attempts:  # from the cache, not admitted, or refused for itself: no provider was asked
            self._end_as_recorded()
            return
        handlers = self._circuits.handlers
        names = [name for name in self._candidates() if name in handlers]
        self._histories = {
            name: AttemptHistory(handlers[name], local=self._circuits.provider(name).local) for name in names
        }
        while True:
            step = self._decide(names)
            if isinstance(step, WaitUntil):
                yield step.at
                continue
            if isinstance(step, WaitForProvider):
                yield self._clock.now + max(step.seconds, SAME_MOMENT)
                continue
            if isinstance(step, GiveUp):
                self._on_path &= not self._recorded
                break
            name = names[step.index]
            if not (yield from self._try(name, step)):
                break
            if self._speakers and self._speakers[-1] == name and names[0] != name:
                names.remove(name)
                names.insert(0, name)
        self._finish(names)

    def _candidates(self) -> Sequence[str]:
        in_force = [each.name for each in self._circuits.settings.providers]
        if self._line.candidates is None:
            return in_force
        # Others than the settings' own order: voices decide it. New orders of the settings cannot be weighed with that.
        return [name for name in self._line.candidates if name in in_force]

    def _decide(self, names: Sequence[str]) -> TryProvider | WaitForProvider | WaitUntil | GiveUp:
        self._record_refusals(names)
        now, statuses = self._clock.now, [self._status(name) for name in names]
        if self._on_path and self._recorded and self._circuits.retries_as_recorded:
            # The pause before a retry was random: it lasted until the recorded attempt began.
            begins = _began(self._recorded[0])
            waited = [status._replace(ready_at=min(status.ready_at, begins)) for status in statuses]
            if begins > now:
                step = self._next(waited, begins)
                if isinstance(step, TryProvider) and names[step.index] == self._recorded[0].provider:
                    return WaitUntil(begins)
            statuses = waited
        return self._next(statuses, now)

    def _next(self, statuses: Sequence[CandidateStatus], now: float) -> TryProvider | WaitForProvider | GiveUp:
        total = self._line.deadline if self._line.deadline is not None else 45.0
        elapsed = self._clock.now - self._line.began
        remaining = total + self._delivered - elapsed
        return next_step(
            statuses, now=now, remaining=remaining, max_attempts=self._circuits.settings.retry.max_attempts
        )

    def _status(self, name: str) -> CandidateStatus:
        history, handler = self._histories[name], self._circuits.handlers[name]
        if history.refused:
            return CandidateStatus(refused=True)
        refused = handler.circuit_refuses() if history.tries else handler.refuses(self._offer(name), self._left)
        return history.status(refused=refused, billed=name in self._billed)

    def _record_refusals(self, names: Sequence[str]) -> None:
        """Record the refusals of candidates that would be tried next, as an utterance does."""
        for name in names:
            history = self._histories[name]
            if history.error is None:
                refusal = self._circuits.handlers[name].refusal(self._offer(name), self._left)
                if refusal is None:
                    return
                self._refused(name, refusal)

    def _refused(self, name: str, refusal: TTSError) -> None:
        self._histories[name].failed(refusal)
        self.result.calls.append((name, True, self._clock.now))
        self._refusals[name] -= 1

    def _offer(self, name: str) -> SynthesisOffer:
        return SynthesisOffer(_FORMAT, self._voices.get(name, ""))

    # ---------------------------------------------------------------- attempts

    def _try(self, name: str, step: TryProvider) -> Generator[float, None, bool]:
        """Make an attempt; return whether the utterance goes on behind it."""
        handler, history = self._circuits.handlers[name], self._histories[name]
        expected = self._recorded[0] if self._on_path and self._recorded else None
        same_pause = self._circuits.retries_as_recorded or not history.tries
        is_expected = expected is not None and expected.provider == name and same_pause
        if self._on_path and not is_expected and self._refusals[name] <= 0:
            if not self._recorded and self._ended_there():
                return False
            self._on_path = False
        if is_expected and expected and _began(expected) > self._clock.now:
            yield _began(expected)  # it waited in the queue of a concurrency limit
        try:
            permit = handler.admit(self._offer(name), self._left, retry=history.tries > 0)
        except (TTSCircuitOpenError, TTSHoldError) as refusal:
            self._on_path &= not is_expected
            self._refused(name, refusal)
            return True
        self._on_path &= is_expected
        outcome = self._outcome(name, expected if self._on_path else None, step)
        self.result.calls.append((name, False, self._clock.now))
        began = self._clock.now
        yield from attempt_steps(self._clock, handler, permit, outcome, self._offer(name), self._left)
        return self._take(name, outcome, began, probed=step.first_audio is not None)

    def _outcome(self, name: str, recorded: AttemptLine | None, step: TryProvider) -> AttemptOutcome:
        """Return what the attempt does: what it did, or what is most probable."""
        timeouts = self._circuits.provider(name).timeouts
        if recorded is not None:
            self._recorded.popleft()
            self._used.add(id(recorded))
            outcome = self._own[id(recorded)]
            if self._circuits.timeouts_as_recorded(name):
                return outcome
            bounded = outcome.within(step, timeouts)
            self._on_path &= bounded is outcome
            return bounded
        outcome = self._own_outcome(name) or self._circuits.evidence_now(name)
        self.result.gaps.append(outcome.gap)
        return self._with_patience(outcome.within(step, timeouts))

    def _own_outcome(self, name: str) -> AttemptOutcome | None:
        """Return the outcome of this very text at this provider, if it was sent there at nearly the same time."""
        for line in self._attempts:
            key = id(line)
            if line.provider != name or key in self._used or key not in self._own or line.left:
                continue
            gap = abs(_began(line) - self._clock.now)
            nearest = self._circuits.evidence_now(name).gap
            if gap <= max(nearest, 1.0):
                self._used.add(key)
                return self._own[key]
        return None

    def _with_patience(self, outcome: AttemptOutcome) -> AttemptOutcome:
        """Return an outcome that its caller's patience ends, if the caller left while nothing was heard."""
        line, now = self._line, self._clock.now
        if line.outcome != "interrupted" or line.audio or self.result.first_audio is not None:
            return outcome
        first = outcome.duration if self._line.holds else outcome.first
        leaves = line.ended - now
        if leaves <= 0 or (first is not None and outcome.kind == OK and first <= leaves) or outcome.duration <= leaves:
            return outcome
        return replace(
            outcome, kind=FailureKind.CANCELLED.value, settled=leaves, duration=leaves, left=True, spoken=0.0,
            first=outcome.first if outcome.first is not None and outcome.first <= leaves else None, last=None,
        )  # fmt: skip

    def _take(self, name: str, outcome: AttemptOutcome, began: float, *, probed: bool) -> bool:
        """Take the end of an attempt; return whether the utterance goes on."""
        handler, result = self._circuits.handlers[name], self.result
        if outcome.first_audio is not None:
            handler.probe_timeout.record(outcome.first_audio)
        elif probed and outcome.kind == FailureKind.READ_TIMEOUT.value:
            handler.probe_timeout.record_missed()
        cost = outcome.price * self._left
        if outcome.is_charged and not self._circuits.provider(name).local:
            result.billed += cost if outcome.is_stated else 0.0
            result.unknown += 0.0 if outcome.is_stated else cost
            result.wasted += outcome.wasted * self._left
        result.assumed += outcome.is_assumed
        result.censored += outcome.is_censored
        error = outcome.error
        is_heard = (error is None or outcome.spoken > 0) and (not self._line.holds or error is None)
        if is_heard:
            self._speakers.append(name)
            if result.first_audio is None:
                at = self._clock.now if self._line.holds or outcome.first is None else began + outcome.first
                result.first_audio = at - self._line.began
        if outcome.left:
            return False
        if error is None:
            self._clear()
            return self._on_path and bool(self._recorded)
        if outcome.is_charged and not self._circuits.provider(name).local:
            self._billed.add(name)
        if is_heard:
            self._left = max(1, round(self._left * (1 - outcome.spoken)))
            self._clear()
        self._histories[name].failed(error)
        return error.meaning.fail_over

    def _clear(self) -> None:
        self._histories = {name: history.fresh_copy() for name, history in self._histories.items()}
        self._billed.clear()

    # ---------------------------------------------------------------- the end

    def _ended_there(self) -> bool:
        """Return whether the utterance ended behind its last attempt for a reason that no setting here changes."""
        line = self._line
        broke_off = bool(line.audio) and line.outcome == "failed"
        return line.outcome == "interrupted" or broke_off or self._circuits.retries_as_recorded

    def _end_as_recorded(self) -> None:
        self.result.outcome, self.result.first_audio = self._line.outcome, self._line.first_audio

    def _finish(self, names: Sequence[str]) -> None:
        result, line = self.result, self._line
        result.is_as_recorded = self._on_path
        if self._on_path:
            self._end_as_recorded()
            return
        speakers = list(dict.fromkeys(self._speakers))
        first = self._candidates()[0] if self._candidates() else None
        last = result.calls[-1] if result.calls else None
        if line.outcome == "interrupted" and (not speakers or line.audio):
            result.outcome = "interrupted"
        elif not speakers or (last and not self._completed(last[0])):
            result.outcome = "muted" if self._circuits.settings.muted else "failed"
        elif len(speakers) > 1:
            result.outcome = "resumed"
        else:
            result.outcome = "spoken" if speakers[0] == first else "substituted"

    def _completed(self, last: str) -> bool:
        """Return whether the last attempt has spoken the rest of the text."""
        history = self._histories[last]
        return history.error is None and bool(self._speakers) and self._speakers[-1] == last

    def hedge_steps(self, line: AttemptLine) -> Steps:
        """Make a recorded hedge at its time, whatever has become of the attempt beside it."""
        handler = self._circuits.handlers.get(line.provider)
        if handler is None:
            return
        try:
            permit = handler.admit(self._offer(line.provider), self._left, retry=False)
        except (TTSCircuitOpenError, TTSHoldError):
            return
        outcome = self._own[id(line)]
        cost = outcome.price * self._left
        self.result.billed += cost if outcome.is_stated else 0.0
        self.result.unknown += cost if outcome.is_charged and not outcome.is_stated else 0.0
        self.result.wasted += outcome.wasted * self._left
        yield from attempt_steps(self._clock, handler, permit, outcome, self._offer(line.provider), self._left)


def attempt_steps(
    clock: VirtualTime,
    handler: TTSErrorHandler,
    permit: Permit,
    outcome: AttemptOutcome,
    offer: SynthesisOffer,
    characters: int,
) -> Steps:
    """Go through an attempt: report progress to the circuit, and settle the permit, at the outcome's times."""
    began = clock.now
    for at in _progress_times(outcome, outcome.settled):
        yield began + at
        permit.progress()
    yield began + outcome.settled
    if outcome.is_proven:
        permit.progress()
        yield began + outcome.duration
    _settle(permit, outcome, handler, offer, characters)
    yield began + outcome.duration


def _settle(
    permit: Permit, outcome: AttemptOutcome, handler: TTSErrorHandler, offer: SynthesisOffer, characters: int
) -> None:
    error = outcome.error
    if error is None:
        handler.settle(permit, None, offer, characters)
    elif outcome.kind == FailureKind.HEDGED.value:
        permit.ignore()
    elif outcome.left:
        is_overdue = outcome.kind == FailureKind.ABANDONED_IN_SILENCE.value
        handler.left(permit, offer, characters, heard=outcome.first is not None, failure=error if is_overdue else None)
    else:
        handler.settle(permit, error, offer, characters)


def _progress_times(outcome: AttemptOutcome, until: float) -> Iterator[float]:
    if outcome.first is None or outcome.first >= until:
        return
    last = min(until if outcome.last is None else outcome.last, until)
    at = outcome.first
    for _ in range(_MAX_TICKS):
        yield at
        at += TICK
        if at >= last:
            break
    if outcome.first < last < until:
        yield last


def _began(line: AttemptLine) -> float:
    return line.began or 0.0


class Simulation:
    """Simulation of a run under an alternative. The same arguments give the same result."""

    def __init__(self, run: Run, alternative: Alternative, evidence: Evidence, *, seed: int = 1) -> None:
        self._run = run
        began = [each.line.began for each in run.utterances] + [change.at for change in run.changes]
        start = min([*began, run.header.clock if run.header else inf])
        self._circuits = SimulatedCircuits(run, alternative, evidence, began=start, seed=seed)
        self._queue: list[tuple[float, int, Steps]] = []
        self._count = 0

    def run(self) -> Replayed:
        """Run to the end of the last utterance."""
        circuits = self._circuits
        for line in self._run.settings[1:]:
            self._start(line.at, circuits.change_settings(line))
        for change in self._run.changes:
            self._start(change.at, circuits.act(change))
        results = []
        for utterance in sorted(self._run.utterances, key=lambda each: each.line.began):
            replay = UtteranceReplay(circuits, utterance)
            results.append(replay.result)
            self._start(utterance.line.began, replay.steps())
            for hedge in replay.hedges:
                self._start(hedge.began or 0.0, replay.hedge_steps(hedge))
        while self._queue:
            at, _, process = heapq.heappop(self._queue)
            circuits.clock.now = max(circuits.clock.now, at)
            if (then := next(process, None)) is not None:
                self._start(then, process)
        return Replayed(results, circuits.transitions, circuits.clock.now)

    def _start(self, at: float, process: Steps) -> None:
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, process))
