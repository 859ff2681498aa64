"""Whether a soak phase meets what it must, as pure functions of its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isnan
from typing import Any

from loadtest import weather
from loadtest.numbers import growth

MEMORY_MB = 150.0
THREADS = 30
MEMORY_GROWTH = 0.05
"""Of the memory after the first minute."""

MEMORY_GROWTH_MB = 3.0
"""What counts as flat in any case: a few percent of a small process are noise of its allocator."""

THREAD_GROWTH = 2
DESCRIPTOR_GROWTH = 16
"""Descriptors that may stay after the end: kept connections to vendors, pipes to engines."""

SETTLES = 60.0
"""Seconds until what is kept on purpose (caches, pools, imported modules) is there."""

_MARGIN = 1.0
"""Seconds after a vendor's return in which its last refusals may still be counted."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing that must hold. `holds` is None where it was not measured."""

    name: str
    holds: bool | None
    found: str

    @property
    def verdict(self) -> str:
        """One word."""
        return {None: "not measured", True: "met", False: "NOT MET"}[self.holds]


@dataclass(frozen=True, slots=True)
class Held:
    """What the gateway held in the course of a phase: a value a second, and before and after it without any load."""

    at: Sequence[float]
    memory_mb: Sequence[float]
    threads: Sequence[int]
    descriptors_before: int
    descriptors_after: int


@dataclass(frozen=True, slots=True)
class Opening:
    """A circuit that opened. `seconds`: since the weather began."""

    provider: str
    from_state: str
    cause: str
    seconds: float
    reason: str = ""

    def ours(self, period: float) -> bool:
        """Whether no vendor's outage explains it.

        A local voice is never down. A failed probe says nothing: single answers are cut or missing on a good day too.
        """
        if self.provider not in weather.DOWN:
            return True
        if self.from_state != "closed":
            return False
        return not weather.vendor_is_down(self.provider, self.seconds, period, _MARGIN)


def openings(events: Iterable[Mapping[str, Any]], began: float) -> list[Opening]:
    """Select from `/admin/events` the circuits that opened after `began` (seconds since 1970), by themselves."""
    found = []
    for event in events:
        if event["event"] != "transition" or event["to"] != "open" or "by" in event:
            continue
        seconds = datetime.fromisoformat(event["at"].replace("Z", "+00:00")).timestamp() - began
        if seconds >= 0:
            opened = event["provider"], event["from"], event["cause"]
            found.append(Opening(*opened, seconds, event.get("reason", "")))
    return found


def flat_memory(held: Held) -> Bar:
    """After the first minute, memory does not grow."""
    grown, base = _growth(held, held.memory_mb)
    if isnan(grown):
        return Bar("memory flat after the first minute", None, "the run was shorter")
    holds = grown <= max(MEMORY_GROWTH_MB, MEMORY_GROWTH * base)
    return Bar("memory flat after the first minute", holds, f"{grown:+.1f} MB from {base:.1f} MB")


def flat_threads(held: Held) -> Bar:
    """After the first minute, threads do not become more."""
    grown, base = _growth(held, held.threads)
    if isnan(grown):
        return Bar("threads flat after the first minute", None, "the run was shorter")
    return Bar("threads flat after the first minute", grown <= THREAD_GROWTH, f"{grown:+.1f} from {base:.1f}")


def most_memory(held: Held) -> Bar:
    """Memory has an upper bound."""
    most = max(held.memory_mb)
    return Bar(f"at most {MEMORY_MB:.0f} MB", most <= MEMORY_MB, f"{most:.1f} MB")


def most_threads(held: Held) -> Bar:
    """Threads have an upper bound."""
    most = max(held.threads)
    return Bar(f"at most {THREADS} threads", most <= THREADS, f"{most}")


def descriptors_released(held: Held) -> Bar:
    """What was opened is closed when all is over."""
    left = held.descriptors_after - held.descriptors_before
    return Bar("descriptors released after the end", left <= DESCRIPTOR_GROWTH, f"{left:+d}")


def all_answered(categories: Mapping[str, int], offered: int, accepted: Iterable[str]) -> Bar:
    """Everybody has heard the answer or a refusal that says when to come back; hanging up is the caller's choice."""
    wrong = {name: count for name, count in categories.items() if name not in accepted and count}
    missing = offered - sum(categories.values())
    if missing:
        wrong["not accounted for"] = missing
    found = ", ".join(f"{count} {name}" for name, count in wrong.items()) or f"all {offered}"
    return Bar("everybody answered or refused", not wrong, found)


def in_time(late: int, gave_up: int) -> Bar:
    """No answer or refusal came after its deadline."""
    return Bar("nobody later than the deadline", not late + gave_up, f"{late} late, {gave_up} gave up")


def nobody_muted(muted: float) -> Bar:
    """Silence is no answer to load."""
    return Bar("nobody muted", not muted, f"{muted:.0f}")


def no_circuit_opened_by_us(opened: Sequence[Opening], period: float) -> Bar:
    """Circuits open for their vendor's outages only."""
    ours = [opening for opening in opened if opening.ours(period)]
    found = (
        ", ".join(f"{each.provider} at {each.seconds:.0f} s ({each.reason or each.cause})" for each in ours[:5])
        or "none"
    )
    more = f" and {len(ours) - 5} more" if len(ours) > 5 else ""
    return Bar("no circuit opened by us", not ours, f"{found}{more}, of {len(opened)} openings")


def _growth(held: Held, values: Sequence[float]) -> tuple[float, float]:
    settled = [value for at, value in zip(held.at, values, strict=True) if at >= SETTLES]
    return growth(settled), settled[0] if settled else 0.0
