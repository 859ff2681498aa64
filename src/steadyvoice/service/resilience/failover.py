"""Failover: when the same provider is retried and when the next one is called, and the share of the remaining time that
an attempt may use.

Decided from the status of each provider. Pure: no clock, no I/O, no state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from steadyvoice.speech.failure_kinds import FailureMeaning, RetryAdvice

ATTEMPT_SHARE = 0.8
"""Share of the remaining time that one attempt may use while another provider could still take over."""

LOCAL_GRACE = 5.0
"""Seconds that bound a local voice, which is tried even when the time is up."""

MAX_WAIT_FOR_PREFERRED = 1.0
"""Seconds that a caller waits for a preferred provider while another one is ready."""


CLOCK_RESOLUTION = 0.001
"""Seconds of a pause that are not worth a wait: a sleep shorter than the clock's resolution may end before it began."""


_LOCAL_SHARE = 0.5
"""Share of the remaining time for a local voice, while another provider could still take over."""

_SHORT_GRACE = 1.0
"""Seconds of grace for a local voice while another provider could still speak after it."""


class CandidateStatus(NamedTuple):
    """Status of one provider for the text that is still to be spoken."""

    refused: bool = False  # by its circuit, by a hold, or because it cannot speak this at all
    local: bool = False
    tries: int = 0  # failed ones
    failure: FailureMeaning | None = None  # meaning of the last of them
    billed: bool = False  # whether its account may have been charged for some of this text already
    ready_at: float = 0.0  # end of the pause before the next try
    affords_retry: bool = True  # whether its retry budget allows one
    probe: float | None = None  # the next call would be a probe: seconds for its first audio


@dataclass(frozen=True, slots=True)
class TryProvider:
    """Step: try this provider now, for at most `time_limit` seconds, plus those of audio that it delivers.

    `first_audio` bounds the first audio of a probe that another provider can replace, so that probing keeps no caller
    waiting. `others` tells whether a provider is left that has not been tried with this text.
    """

    index: int
    time_limit: float
    first_audio: float | None = None
    others: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class WaitForProvider:
    """Step: wait, because no provider is ready now and one soon will be."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Step: give up, because no provider can be tried."""


def next_step(
    statuses: Sequence[CandidateStatus], *, now: float, remaining: float, max_attempts: int, grace: float = LOCAL_GRACE
) -> TryProvider | WaitForProvider | GiveUp:
    """Return the next step by order of preference: the first provider that is ready, unless its pause is too long.

    `remaining` is the remaining time of the utterance, `grace` that of a local voice beyond it, both in seconds.
    """
    usable = [i for i, status in enumerate(statuses) if _usable(status, now, remaining, max_attempts, grace)]
    if not usable:
        return GiveUp()
    # Nearly always the case: no other provider can come before this one.
    if _is_fresh(statuses[usable[0]], now):
        return _try(statuses, usable[0], remaining, grace, usable)
    best_rank = min(_rank(statuses[i]) for i in usable)
    best = [i for i in usable if _rank(statuses[i]) == best_rank]
    # Waiting for the preferred provider is worth a second, not more, while another one is ready.
    pauses = {i: statuses[i].ready_at - now for i in best}
    ready_soon = [i for i in best if pauses[i] <= MAX_WAIT_FOR_PREFERRED]
    chosen = ready_soon[0] if ready_soon else min(best, key=lambda i: pauses[i])
    if pauses[chosen] <= CLOCK_RESOLUTION:
        return _try(statuses, chosen, remaining, grace, usable)
    return WaitForProvider(pauses[chosen])


def _try(
    statuses: Sequence[CandidateStatus], index: int, remaining: float, grace: float, usable: Sequence[int]
) -> TryProvider:
    status, others = statuses[index], len(usable) > 1
    time_limit = _time_limit(status, remaining, grace, others=others)
    untried = others and any(i != index and not statuses[i].tries for i in usable)
    return TryProvider(index, time_limit, status.probe if others else None, untried)


def _usable(status: CandidateStatus, now: float, remaining: float, max_attempts: int, grace: float) -> bool:
    if status.refused or status.tries >= max_attempts:
        return False
    # A local voice is always tried, and a second time only within its grace.
    if not status.local:
        grace = 0.0
    elif grace and not status.tries:
        grace = inf
    if max(0.0, status.ready_at - now) >= remaining + grace:
        return False
    if status.failure is None:
        return True
    return status.failure.retry is not RetryAdvice.NO and status.affords_retry


def _is_fresh(status: CandidateStatus, now: float) -> bool:
    return status.failure is None and not status.billed and status.ready_at - now <= CLOCK_RESOLUTION


def _rank(status: CandidateStatus) -> int:
    """Return the rank of a candidate: untried or worth one retry (0), further retries (1), possibly billed already (2,
    3).

    Of the billed ones, those without a failure come first: such a call was only not waited for, or shares an account.
    """
    if status.billed:
        return 2 if status.failure is None else 3
    if status.failure is None:
        return 0
    return 0 if status.tries < 2 and status.failure.retry is not RetryAdvice.LAST else 1


def _time_limit(status: CandidateStatus, remaining: float, grace: float, *, others: bool) -> float:
    time_limit = remaining * ATTEMPT_SHARE if others else remaining
    if not status.local:
        return time_limit
    # A local voice speaks much faster than it is heard, or waits for this machine; the next one would, too.
    if others:
        time_limit = remaining * _LOCAL_SHARE
    if others:  # another provider is tried when the time is up
        grace = min(grace, _SHORT_GRACE)
    return max(time_limit, grace + min(remaining, 0.0) if status.tries else grace)
