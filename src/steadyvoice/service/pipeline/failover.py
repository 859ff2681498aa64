"""Which provider now? Decided from how each one stands, and nothing else: no clock, no I/O, no memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from steadyvoice.service.pipeline.timeouts import ATTEMPT_SHARE, LOCAL_GRACE
from steadyvoice.speech.failure_kinds import FailureMeaning, RetryAdvice

MAX_WAIT_FOR_PREFERRED = 1.0
"""Seconds a caller waits for the better provider while another one stands ready."""


CLOCK_RESOLUTION = 0.001
"""Seconds of a pause that are not worth a wait: a sleep of less than the clock's own grain may end before it began."""


_LOCAL_SHARE = 0.5
"""What a local voice may use of the time that remains, while another provider could still take over."""

_SHORT_GRACE = 1.0
"""Seconds of a local voice's grace while another one could still speak after it."""


class CandidateStatus(NamedTuple):
    """How one provider stands for the words that are still to be spoken."""

    refused: bool = False  # by its circuit, by a hold, or because it cannot speak this at all
    local: bool = False
    tries: int = 0  # that failed
    failure: FailureMeaning | None = None  # what the last of them means
    billed: bool = False  # its account may have been charged for some of these words already
    ready_at: float = 0.0  # when a pause before the next try ends
    affords_retry: bool = True  # its retry budget allows one
    probe: float | None = None  # it would be one: the seconds its first audio should come within


@dataclass(frozen=True, slots=True)
class TryProvider:
    """Ask this provider now, for at most so many seconds (and as many more as it brings of audio).

    `first_audio` is for a probe that somebody else can replace: our curiosity must not keep the caller waiting.
    `others` tells whether a provider is left that has not been tried with these words.
    """

    index: int
    allowance: float
    first_audio: float | None = None
    others: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class WaitForProvider:
    """Nobody is ready, but somebody soon will be."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """There is nobody left to ask."""


def next_step(
    standings: Sequence[CandidateStatus], *, now: float, left: float, max_attempts: int, grace: float = LOCAL_GRACE
) -> TryProvider | WaitForProvider | GiveUp:
    """Choose by order of preference: the first that may be asked, unless its pause outlasts a caller's patience.

    `left` is what remains of the utterance's time, `grace` what a local voice has when that is over, both in seconds.
    """
    usable = [i for i, standing in enumerate(standings) if _usable(standing, now, left, max_attempts, grace)]
    if not usable:
        return GiveUp()
    if _is_fresh(standings[usable[0]], now):  # as nearly always: nobody's turn comes before its
        return _try(standings, usable[0], left, grace, usable)
    first = min(_rank(standings[i]) for i in usable)
    field = [i for i in usable if _rank(standings[i]) == first]
    pauses = {i: standings[i].ready_at - now for i in field}
    soon = [i for i in field if pauses[i] <= MAX_WAIT_FOR_PREFERRED]
    chosen = soon[0] if soon else min(field, key=lambda i: pauses[i])
    if pauses[chosen] <= CLOCK_RESOLUTION:
        return _try(standings, chosen, left, grace, usable)
    return WaitForProvider(pauses[chosen])


def _try(
    standings: Sequence[CandidateStatus], index: int, left: float, grace: float, usable: Sequence[int]
) -> TryProvider:
    standing, others = standings[index], len(usable) > 1
    allowance = _allowance(standing, left, grace, others=others)
    untried = others and any(i != index and not standings[i].tries for i in usable)
    return TryProvider(index, allowance, standing.probe if others else None, untried)


def _usable(standing: CandidateStatus, now: float, left: float, max_attempts: int, grace: float) -> bool:
    if standing.refused or standing.tries >= max_attempts:
        return False
    # A local voice is always tried, and then once more only within its grace.
    if not standing.local:
        grace = 0.0
    elif grace and not standing.tries:
        grace = inf
    if max(0.0, standing.ready_at - now) >= left + grace:
        return False
    if standing.failure is None:
        return True
    return standing.failure.retry is not RetryAdvice.NO and standing.affords_retry


def _is_fresh(standing: CandidateStatus, now: float) -> bool:
    return standing.failure is None and not standing.billed and standing.ready_at - now <= CLOCK_RESOLUTION


def _rank(standing: CandidateStatus) -> int:
    """First who was not asked yet or is worth one retry, then further retries, last whoever may have been paid.

    Of those last, first who did not fail: it was only not waited for, or shares an account.
    """
    if standing.billed:
        return 2 if standing.failure is None else 3
    if standing.failure is None:
        return 0
    return 0 if standing.tries < 2 and standing.failure.retry is not RetryAdvice.LAST else 1


def _allowance(standing: CandidateStatus, left: float, grace: float, *, others: bool) -> float:
    allowance = left * ATTEMPT_SHARE if others else left
    if not standing.local:
        return allowance
    if others:  # it speaks much faster than it is heard, or waits for this machine: whoever comes next will, too
        allowance = left * _LOCAL_SHARE
    if others:  # somebody else is tried as well when the time is up
        grace = min(grace, _SHORT_GRACE)
    return max(allowance, grace + min(left, 0.0) if standing.tries else grace)
