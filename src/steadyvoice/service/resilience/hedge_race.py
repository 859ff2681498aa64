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
from steadyvoice.service.pipeline.failover import CLOCK_RESOLUTION
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.timeouts import Deadline
from steadyvoice.service.resilience.hedging import HedgeCandidate, Hedging, choose_hedge
from steadyvoice.speech.errors import TTSCancelledError, TTSError, TTSHedgedError
from steadyvoice.speech.request import SpeechRequest


@dataclass(frozen=True, slots=True)
class HedgePlan:
    """Who may be asked as well: `ask` is called after `delay` seconds of silence, and may think better of it.

    Whoever was not heard is among `leaving` until nothing is left of it, for that may take longer than the race.
    """

    delay: float
    ask: Callable[[], ProviderAttempt | None]
    leaving: set[asyncio.Task[None]]


class HedgeRace:
    """Use it as `async with`, and in there `winner()`: however that ends, all others have been hung up on.

    `failed` hears of an asking that ended in an error of its own, and may raise to end it all; `withdrawn` of one that
    was hung up on, and why. Without a rival, the first has won.
    """

    def __init__(
        self,
        first: ProviderAttempt,
        rival: HedgePlan | None,
        *,
        failed: Callable[[ProviderAttempt, Exception], None],
        withdrawn: Callable[[ProviderAttempt, TTSError], None],
    ) -> None:
        self._first, self._rival, self._failed, self._withdrawn = first, rival, failed, withdrawn
        self._running: dict[ProviderAttempt, asyncio.Task[None]] = {}
        self._leaving = rival.leaving if rival else set()

    async def winner(self) -> ProviderAttempt | None:
        """Give the one that is to be heard, the other withdrawn; None when none of them is."""
        if self._rival is None:
            return self._first
        self._begin(self._first)
        if await self._late(self._rival.delay) and (second := self._rival.ask()):
            self._begin(second)
        while self._running:
            await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
            if heard := self._heard():
                self._withdraw_all(lambda asking: TTSHedgedError("another was heard first", provider=asking.part.name))
                return heard
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leaving = self._withdraw_all(cancelled_by_caller)
        if leaving:
            await asyncio.wait(leaving)

    def _begin(self, asking: ProviderAttempt) -> None:
        self._running[asking] = asyncio.create_task(asking.open())

    async def _late(self, delay: float) -> bool:
        """Wait, and tell whether the first is silent for longer, its time in the queue not counted."""
        task = self._running[self._first]
        while not task.done() and (left := delay - self._first.call.waited) >= 0:
            await asyncio.wait([task], timeout=max(left, CLOCK_RESOLUTION))
        return not task.done()

    def _heard(self) -> ProviderAttempt | None:
        """Whoever is to be heard by now. Those that have failed are told of, and are out."""
        over = {asking: task for asking, task in self._running.items() if task.done()}
        for asking, task in over.items():
            if isinstance(error := task.exception(), Exception):
                del self._running[asking]
                self._failed(asking, error)
        for asking, task in over.items():
            if asking in self._running:
                del self._running[asking]
                task.result()
                return asking
        return None

    def _withdraw_all(self, why: Callable[[ProviderAttempt], TTSError]) -> set[asyncio.Task[None]]:
        """Hang up on all who are still asked. Gives the tasks that see them off."""
        leaving = set()
        for asking, task in self._running.items():
            asking.withdraw()
            task.cancel()
            self._withdrawn(asking, why(asking))
            leaving.add(asyncio.create_task(_close_attempt(asking, task)))
        self._running.clear()
        self._leaving |= leaving
        for each in leaving:
            each.add_done_callback(self._leaving.discard)
        return leaving


def cancelled_by_caller(asking: ProviderAttempt) -> TTSError:
    """Make the error of a call whose caller has left."""
    return asking.abandoned or TTSCancelledError("nobody listens any more", provider=asking.part.name)


async def _close_attempt(asking: ProviderAttempt, task: asyncio.Task[None]) -> None:
    """See it through that nothing of it is left. How a provider takes being hung up on is its own affair."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
    with suppress(Exception, asyncio.CancelledError):
        await asking.aclose()


class HedgeScheduler:
    """Of a request, those who may speak it in order of preference, and what the service may spend on hedges.

    Only the wait for the first sound is hedged: who has begun to listen is not given another voice for a short pause.
    """

    def __init__(
        self,
        hedging: Hedging,
        asker: AttemptFactory,
        parts: Sequence[Candidate],
        request: SpeechRequest,
        terms: UtterancePolicy,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._hedging, self._asker, self._parts = hedging, asker, parts
        self._request, self._terms, self._clock = request, terms, clock
        self._counted = 0  # characters of the text that have been asked for
        self._heard: ProviderAttempt | None = None

    def rival(self, first: ProviderAttempt, *, begin: int, anything: bool) -> HedgePlan | None:
        """Who may be asked when this one is late, and when that is. None: nobody, or it is not known yet.

        The piece starts at character `begin`; `anything` tells whether something was heard already.
        """
        self._count(first, begin)
        delay = self._hedging.patience(first.call)
        # A probe has its own hurry, and somebody else behind it.
        if delay is None or anything or first.probe or len(self._parts) == 1:
            return None
        whole = first.whole.copy()

        def ask() -> ProviderAttempt | None:
            return self._second(first, delay, whole)

        return HedgePlan(delay, ask, self._hedging.leaving)

    def heard(self, asking: ProviderAttempt) -> None:
        """It is this one that is heard."""
        self._heard = asking
        if asking.hedge:
            self._hedging.over(won=True)

    def over(self, asking: ProviderAttempt, error: TTSError | None) -> None:
        """Learn from how soon it was to be heard, or that it was not."""
        overtaken = isinstance(error, TTSHedgedError)
        if overtaken:
            log_hedge_cancelled(asking.part.name, asking.call.waited)
        if asking.hedge and asking is not self._heard:
            self._hedging.over(won=False)
        self._hedging.learn(asking.call, overtaken=overtaken)

    def _count(self, first: ProviderAttempt, begin: int) -> None:
        """Each character of the text is asked for once: after a failure, the next provider is asked for the same."""
        end = begin + first.delivery.length
        if end > self._counted and not first.call.provider.local:
            self._hedging.asked(end - max(begin, self._counted))
            self._counted = end

    def _second(self, first: ProviderAttempt, after: float, whole: Deadline) -> ProviderAttempt | None:
        if not self._hedging.spares(first.call):
            return None
        names = [part.name for part in self._parts]
        step = choose_hedge(
            [self._candidate(part) for part in self._parts],
            names.index(first.part.name),
            now=self._clock(),
            left=whole.left,
            max_attempts=self._terms.max_attempts,
        )
        if step is None:
            self._hedging.nobody_free()
            return None
        asking = self._asker.asking(
            self._parts[step.index],
            step,
            Output(
                self._request.format,
                self._asker.workers,
                remembers=self._request.timestamps,
                most=self._terms.most_bytes,
                patience=whole,
            ),
            whole,
            hedge=True,
        )
        if not self._hedging.affords(asking.call):
            return None
        log_hedge_started(first.part.name, after, asking.part.name)
        return asking

    def _candidate(self, part: Candidate) -> HedgeCandidate:
        handler = part.speaker.handler
        circuit = handler.circuit.snapshot()
        return HedgeCandidate(
            part.status(0, len(self._request.text)),
            closed=circuit.state is CircuitState.CLOSED and circuit.admitted_share == 1,
            free=handler.allowance.queue.gate.open,
            account=handler.allowance,
        )
