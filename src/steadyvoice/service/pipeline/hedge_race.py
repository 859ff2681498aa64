"""Race of two attempts at the same text: the second starts when the first is late, the first audio wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from steadyvoice.breaker import CircuitState
from steadyvoice.service.log_messages import log_hedge_cancelled, log_hedge_started
from steadyvoice.service.options import UtterancePolicy
from steadyvoice.service.pipeline.attempt import AttemptFactory, ProviderAttempt
from steadyvoice.service.pipeline.candidates import Candidate
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.timeouts import Deadline
from steadyvoice.service.resilience.failover import CLOCK_RESOLUTION
from steadyvoice.service.resilience.hedging import HedgeCandidate, Hedging, choose_hedge
from steadyvoice.speech.errors import TTSCancelledError, TTSError, TTSHedgedError
from steadyvoice.speech.request import SpeechRequest


@dataclass(frozen=True, slots=True)
class HedgePlan:
    """Plan of a hedge: `start` is called after `delay` seconds of silence, and may still decide against it.

    Losing attempts are among the `closing` tasks until they are closed, because that may take longer than the race.
    """

    delay: float
    start: Callable[[], ProviderAttempt | None]
    closing: set[asyncio.Task[None]]


class HedgeRace:
    """Race between an attempt and its hedge.

    Use it as `async with`, and await `winner()` within: however the block ends, all other attempts have been cancelled.
    `on_failure` is called with an attempt that failed by itself, and may raise to end the race; `on_cancelled` with one
    that was cancelled, and why. Without a plan the first attempt has won.
    """

    def __init__(
        self,
        first: ProviderAttempt,
        plan: HedgePlan | None,
        *,
        on_failure: Callable[[ProviderAttempt, Exception], None],
        on_cancelled: Callable[[ProviderAttempt, TTSError], None],
    ) -> None:
        self._first, self._plan, self._on_failure, self._on_cancelled = first, plan, on_failure, on_cancelled
        self._running: dict[ProviderAttempt, asyncio.Task[None]] = {}
        self._closing = plan.closing if plan else set()

    async def winner(self) -> ProviderAttempt | None:
        """Return the attempt to deliver, with the other cancelled; None when both have failed."""
        if self._plan is None:
            return self._first
        self._begin(self._first)
        if await self._is_late(self._plan.delay) and (hedge := self._plan.start()):
            self._begin(hedge)
        while self._running:
            await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
            if selected := self._selected():
                self._cancel_all(
                    lambda attempt: TTSHedgedError(
                        "hedge cancelled: another provider answered first", provider=attempt.candidate.name
                    )
                )
                return selected
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = self._cancel_all(cancelled_by_caller)
        if closing:
            await asyncio.wait(closing)

    def _begin(self, attempt: ProviderAttempt) -> None:
        self._running[attempt] = asyncio.create_task(attempt.open())

    async def _is_late(self, delay: float) -> bool:
        """Wait, and return whether the first is silent for longer than the delay, its time in the queue not counted."""
        task = self._running[self._first]
        while not task.done() and (left := delay - self._first.call.waited) >= 0:
            await asyncio.wait([task], timeout=max(left, CLOCK_RESOLUTION))
        return not task.done()

    def _selected(self) -> ProviderAttempt | None:
        """Return the attempt that has audio by now, if any, and report those that have failed."""
        done = {attempt: task for attempt, task in self._running.items() if task.done()}
        for attempt, task in done.items():
            if isinstance(error := task.exception(), Exception):
                del self._running[attempt]
                self._on_failure(attempt, error)
        for attempt, task in done.items():
            if attempt in self._running:
                del self._running[attempt]
                task.result()
                return attempt
        return None

    def _cancel_all(self, why: Callable[[ProviderAttempt], TTSError]) -> set[asyncio.Task[None]]:
        """Cancel all running attempts. Return the tasks that close them."""
        closing = set()
        for attempt, task in self._running.items():
            attempt.cancel()
            task.cancel()
            self._on_cancelled(attempt, why(attempt))
            closing.add(asyncio.create_task(_close_attempt(attempt, task)))
        self._running.clear()
        self._closing |= closing
        for each in closing:
            each.add_done_callback(self._closing.discard)
        return closing


def cancelled_by_caller(attempt: ProviderAttempt) -> TTSError:
    """Return the error of an attempt whose caller has left."""
    return attempt.abandonment or TTSCancelledError("cancelled by the caller", provider=attempt.candidate.name)


async def _close_attempt(attempt: ProviderAttempt, task: asyncio.Task[None]) -> None:
    """Close an attempt completely; errors of the provider while it is closed are ignored."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
    with suppress(Exception, asyncio.CancelledError):
        await attempt.aclose()


class HedgeScheduler:
    """Scheduler of hedges for one utterance: decides whether a second provider is asked, when, and which.

    Only the wait for the first sound is hedged: a listener that has heard a voice is not given another one for a short
    pause.
    """

    def __init__(
        self,
        hedging: Hedging,
        factory: AttemptFactory,
        candidates: Sequence[Candidate],
        request: SpeechRequest,
        policy: UtterancePolicy,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._hedging, self._factory, self._candidates = hedging, factory, candidates
        self._request, self._policy, self._clock = request, policy, clock
        self._requested = 0  # characters of the text that have been requested
        self._selected: ProviderAttempt | None = None

    def plan(self, first: ProviderAttempt, *, begin: int, has_output: bool) -> HedgePlan | None:
        """Return the plan of a hedge for this attempt; None if there is none, or its delay is not known yet.

        The piece starts at character `begin`; `has_output` tells whether audio was delivered before.
        """
        self._record_requested(first, begin)
        delay = self._hedging.delay_for(first.call)
        # A probe has a shorter timeout of its own, and another provider behind it.
        if delay is None or has_output or first.probe or len(self._candidates) == 1:
            return None
        deadline = first.deadline.copy()

        def start() -> ProviderAttempt | None:
            return self._hedge(first, delay, deadline)

        return HedgePlan(delay, start, self._hedging.closing)

    def record_selected(self, attempt: ProviderAttempt) -> None:
        """Record that this attempt is the one delivered."""
        self._selected = attempt
        if attempt.hedge:
            self._hedging.record_outcome(won=True)

    def record_end(self, attempt: ProviderAttempt, error: TTSError | None) -> None:
        """Record the outcome of an attempt, and learn from its latency."""
        cancelled = isinstance(error, TTSHedgedError)
        if cancelled:
            log_hedge_cancelled(attempt.candidate.name, attempt.call.waited)
        if attempt.hedge and attempt is not self._selected:
            self._hedging.record_outcome(won=False)
        self._hedging.learn(attempt.call, cancelled=cancelled)

    def _record_requested(self, first: ProviderAttempt, begin: int) -> None:
        """Record each character of the text once: after a failure, the next provider is asked for the same
        characters.
        """
        end = begin + first.delivery.length
        if end > self._requested and not first.call.provider.local:
            self._hedging.record_requested(end - max(begin, self._requested))
            self._requested = end

    def _hedge(self, first: ProviderAttempt, delay: float, deadline: Deadline) -> ProviderAttempt | None:
        if not self._hedging.allows(first.call):
            return None
        names = [candidate.name for candidate in self._candidates]
        step = choose_hedge(
            [self._candidate(candidate) for candidate in self._candidates],
            names.index(first.candidate.name),
            now=self._clock(),
            remaining=deadline.remaining,
            max_attempts=self._policy.max_attempts,
        )
        if step is None:
            self._hedging.record_unavailable()
            return None
        attempt = self._factory.create(
            self._candidates[step.index],
            step,
            Output(
                self._request.format,
                self._factory.workers,
                remembers=self._request.timestamps,
                max_bytes=self._policy.max_audio_bytes,
                deadline=deadline,
            ),
            deadline,
            hedge=True,
        )
        if not self._hedging.reserve(attempt.call):
            return None
        log_hedge_started(first.candidate.name, delay, attempt.candidate.name)
        return attempt

    def _candidate(self, candidate: Candidate) -> HedgeCandidate:
        handler = candidate.guarded.handler
        circuit = handler.circuit.snapshot()
        return HedgeCandidate(
            candidate.status(0, len(self._request.text)),
            closed=circuit.state is CircuitState.CLOSED and circuit.admitted_share == 1,
            free=handler.account_limits.queue.limiter.available,
            account=handler.account_limits,
        )
