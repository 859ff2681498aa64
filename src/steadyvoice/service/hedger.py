"""Finds out for one utterance whether a second provider is asked while the first is late, and which one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steadyvoice.breaker import CircuitState
from steadyvoice.service.asking import Asker, Asking
from steadyvoice.service.casting import Part
from steadyvoice.service.hedge import Candidate, second
from steadyvoice.service.hedging import Hedging
from steadyvoice.service.log import log_hedge, log_overtaken
from steadyvoice.service.output import Output
from steadyvoice.service.race import Rival
from steadyvoice.service.terms import Terms
from steadyvoice.service.timeouts import Patience
from steadyvoice.speech.errors import TTSError, TTSHedgedError
from steadyvoice.speech.request import SpeechRequest


class Hedger:
    """Of a request, those who may speak it in order of preference, and what the service may spend on hedges.

    Only the wait for the first sound is hedged: who has begun to listen is not given another voice for a short pause.
    """

    def __init__(
        self,
        hedging: Hedging,
        asker: Asker,
        parts: Sequence[Part],
        request: SpeechRequest,
        terms: Terms,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._hedging, self._asker, self._parts = hedging, asker, parts
        self._request, self._terms, self._clock = request, terms, clock
        self._counted = 0  # characters of the text that have been asked for
        self._heard: Asking | None = None

    def rival(self, first: Asking, *, begin: int, anything: bool) -> Rival | None:
        """Who may be asked when this one is late, and when that is. None: nobody, or it is not known yet.

        The piece starts at character `begin`; `anything` tells whether something was heard already.
        """
        self._count(first, begin)
        delay = self._hedging.patience(first.call)
        # A probe has its own hurry, and somebody else behind it.
        if delay is None or anything or first.probe or len(self._parts) == 1:
            return None
        whole = first.whole.copy()

        def ask() -> Asking | None:
            return self._second(first, delay, whole)

        return Rival(delay, ask, self._hedging.leaving)

    def heard(self, asking: Asking) -> None:
        """It is this one that is heard."""
        self._heard = asking
        if asking.hedge:
            self._hedging.over(won=True)

    def over(self, asking: Asking, error: TTSError | None) -> None:
        """Learn from how soon it was to be heard, or that it was not."""
        overtaken = isinstance(error, TTSHedgedError)
        if overtaken:
            log_overtaken(asking.part.name, asking.call.waited)
        if asking.hedge and asking is not self._heard:
            self._hedging.over(won=False)
        self._hedging.learn(asking.call, overtaken=overtaken)

    def _count(self, first: Asking, begin: int) -> None:
        """Each character of the text is asked for once: after a failure, the next provider is asked for the same."""
        end = begin + first.delivery.length
        if end > self._counted and not first.call.provider.local:
            self._hedging.asked(end - max(begin, self._counted))
            self._counted = end

    def _second(self, first: Asking, after: float, whole: Patience) -> Asking | None:
        if not self._hedging.spares(first.call):
            return None
        names = [part.name for part in self._parts]
        step = second(
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
        log_hedge(first.part.name, after, asking.part.name)
        return asking

    def _candidate(self, part: Part) -> Candidate:
        handler = part.speaker.handler
        circuit = handler.circuit.snapshot()
        return Candidate(
            part.standing(0, len(self._request.text)),
            closed=circuit.state is CircuitState.CLOSED and circuit.admitted_share == 1,
            free=handler.allowance.turnstile.gate.open,
            account=handler.allowance,
        )
