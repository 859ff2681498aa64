"""Observers of ended utterances: what the service tells those that record or trace what it has done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from steadyvoice.service.result import UtteranceReport

_log = logging.getLogger("steadyvoice.calls")


@dataclass(frozen=True, slots=True)
class EndedUtterance:
    """Utterance, or turn of a conversation, that has ended, in whatever way.

    `ended` is a reading of the service's clock, as is `report.began`; `circuit_time` one of the circuits' clock at the
    same moment, as are the timings of the attempts, and `wall_time` the time of day in seconds since 1970.
    """

    report: UtteranceReport
    ended: float
    circuit_time: float
    wall_time: float
    is_turn: bool = False

    @property
    def began(self) -> float:
        """Time of its beginning, on the circuits' clock."""
        report = self.report
        began = [each.timing.began for each in report.attempts if each.timing]
        if report.began is not None:
            began.append(self.circuit_time - (self.ended - report.began))
        return min(began, default=self.circuit_time)

    @property
    def seconds(self) -> float:
        """Seconds from its beginning to its end."""
        return self.circuit_time - self.began

    @property
    def first_audio(self) -> float | None:
        """Seconds until the first audio of a provider was there for the caller; None if none was."""
        report = self.report
        if report.cached:
            return 0.0
        if report.provider is None or not report.duration:
            return None
        if report.facts and report.facts.holds:
            return self.seconds if not report.error else None
        for attempt in report.attempts:
            if attempt.provider == report.provider and attempt.timing and attempt.timing.first_output is not None:
                return attempt.timing.first_output - self.began
        return None

    @property
    def characters(self) -> int:
        """Characters of its text; of a turn, those that were sent to a provider."""
        report = self.report
        if report.facts and not self.is_turn:
            return report.facts.characters
        ends = [span.end for span in report.spans] + [attempt.end for attempt in report.attempts]
        return max(ends, default=0)


class UtteranceObserver(Protocol):
    """Observer of a service's utterances."""

    def utterance_ended(self, ended: EndedUtterance) -> None:
        """Record an utterance. Called on the event loop, so it must not wait for anything."""
        ...


class UtteranceObservers(list[UtteranceObserver]):
    """Observers of one service's utterances.

    - `clock`: the service's clock, `circuit_clock` that of its circuits, `wall_clock` the time of day.
    - `ended`: a reading of `clock`; None: now.
    """

    # A list, because its emptiness is looked up for every utterance: `__bool__` in Python would be a call more.

    def __init__(
        self, *, clock: Callable[[], float], circuit_clock: Callable[[], float], wall_clock: Callable[[], float]
    ) -> None:
        super().__init__()
        self._clock, self._circuit_clock, self._wall_clock = clock, circuit_clock, wall_clock

    def observe(self, observer: UtteranceObserver) -> Callable[[], None]:
        """Add an observer; return a function that removes it."""
        self.append(observer)

        def remove() -> None:
            if observer in self:
                self.remove(observer)

        return remove

    def report_ended(self, report: UtteranceReport, *, ended: float | None = None, is_turn: bool = False) -> None:
        """Tell all observers of an ended utterance.

        What one of them raises is logged, and harms neither the utterance nor the other observers.
        """
        now = self._clock()
        ago = 0.0 if ended is None else max(0.0, now - ended)
        utterance = EndedUtterance(report, now - ago, self._circuit_clock() - ago, self._wall_clock() - ago, is_turn)
        for observer in list(self):
            try:
                observer.utterance_ended(utterance)
            except Exception as error:
                _log.exception("an observer of utterances failed: %s", type(error).__name__)
