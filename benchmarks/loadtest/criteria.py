"""Acceptance criteria of a soak phase, as pure functions of its measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isnan
from typing import Any

from loadtest import fault_schedule
from loadtest.statistics import growth

MEMORY_MB = 150.0
THREADS = 30
MEMORY_GROWTH = 0.05
"""Allowed growth, as a share of the memory after the first minute."""

MEMORY_GROWTH_MB = 3.0
"""Growth in MB that is always allowed: noise of the allocator in a small process."""

THREAD_GROWTH = 2
DESCRIPTOR_GROWTH = 16
"""Descriptors that may stay after the end: kept connections to vendors, pipes to engines."""

SETTLES = 60.0
"""Seconds until caches, pools and imported modules are filled."""

_MARGIN = 1.0
"""Seconds after a vendor's recovery in which its last errors may still open the circuit."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """Acceptance criterion. `holds` is None if it was not measured."""

    name: str
    holds: bool | None
    found: str

    @property
    def verdict(self) -> str:
        """Result as printed in the report."""
        return {None: "not measured", True: "met", False: "NOT MET"}[self.holds]


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """Resources of the gateway during a phase: a value per second, and those before and after it without load."""

    at: Sequence[float]
    memory_mb: Sequence[float]
    threads: Sequence[int]
    descriptors_before: int
    descriptors_after: int


@dataclass(frozen=True, slots=True)
class Opening:
    """Opening of a circuit, `seconds` after the faults began."""

    provider: str
    from_state: str
    cause: str
    seconds: float
    reason: str = ""

    def ours(self, period: float) -> bool:
        """Return whether no vendor's outage explains the opening.

        A local voice is never down. A failed probe is no evidence: single answers fail outside of outages too.
        """
        if self.provider not in fault_schedule.DOWN:
            return True
        if self.from_state != "closed":
            return False
        return not fault_schedule.vendor_is_down(self.provider, self.seconds, period, _MARGIN)


def openings(events: Iterable[Mapping[str, Any]], began: float) -> list[Opening]:
    """Select from `/admin/events` the circuits that opened after `began` (seconds since 1970), by themselves."""
    found = []
    for event in events:
        # With "by", an administrator has opened it.
        if event["event"] != "transition" or event["to"] != "open" or "by" in event:
            continue
        seconds = datetime.fromisoformat(event["at"].replace("Z", "+00:00")).timestamp() - began
        if seconds >= 0:
            opened = event["provider"], event["from"], event["cause"]
            found.append(Opening(*opened, seconds, event.get("reason", "")))
    return found


def flat_memory(usage: ResourceUsage) -> Criterion:
    """Check that memory does not grow after the first minute."""
    grown, base = _growth(usage, usage.memory_mb)
    if isnan(grown):
        return Criterion("memory flat after the first minute", None, "the run was shorter")
    holds = grown <= max(MEMORY_GROWTH_MB, MEMORY_GROWTH * base)
    return Criterion("memory flat after the first minute", holds, f"{grown:+.1f} MB from {base:.1f} MB")


def flat_threads(usage: ResourceUsage) -> Criterion:
    """Check that the number of threads does not grow after the first minute."""
    grown, base = _growth(usage, usage.threads)
    if isnan(grown):
        return Criterion("threads flat after the first minute", None, "the run was shorter")
    return Criterion("threads flat after the first minute", grown <= THREAD_GROWTH, f"{grown:+.1f} from {base:.1f}")


def max_memory(usage: ResourceUsage) -> Criterion:
    """Check the upper bound of memory."""
    peak = max(usage.memory_mb)
    return Criterion(f"at most {MEMORY_MB:.0f} MB", peak <= MEMORY_MB, f"{peak:.1f} MB")


def max_threads(usage: ResourceUsage) -> Criterion:
    """Check the upper bound of the number of threads."""
    peak = max(usage.threads)
    return Criterion(f"at most {THREADS} threads", peak <= THREADS, f"{peak}")


def descriptors_released(usage: ResourceUsage) -> Criterion:
    """Check that descriptors are released at the end."""
    left = usage.descriptors_after - usage.descriptors_before
    return Criterion("descriptors released after the end", left <= DESCRIPTOR_GROWTH, f"{left:+d}")


def all_answered(categories: Mapping[str, int], offered: int, accepted: Iterable[str]) -> Criterion:
    """Check that every call ended with audio, with a refusal that has Retry-After, or by the caller's choice."""
    wrong = {name: count for name, count in categories.items() if name not in accepted and count}
    missing = offered - sum(categories.values())
    if missing:
        wrong["not accounted for"] = missing
    found = ", ".join(f"{count} {name}" for name, count in wrong.items()) or f"all {offered}"
    return Criterion("every call answered or refused", not wrong, found)


def in_time(late: int, gave_up: int) -> Criterion:
    """Check that no answer or refusal came after its deadline."""
    return Criterion("no answer after its deadline", not late + gave_up, f"{late} late, {gave_up} gave up")


def none_muted(muted: float) -> Criterion:
    """Check that load did not lead to muted answers."""
    return Criterion("no answer muted", not muted, f"{muted:.0f}")


def no_circuit_opened_by_us(opened: Sequence[Opening], period: float) -> Criterion:
    """Check that circuits opened only in their vendor's outages."""
    unexplained = [opening for opening in opened if opening.ours(period)]
    found = (
        ", ".join(f"{each.provider} at {each.seconds:.0f} s ({each.reason or each.cause})" for each in unexplained[:5])
        or "none"
    )
    more = f" and {len(unexplained) - 5} more" if len(unexplained) > 5 else ""
    return Criterion("no circuit opened by us", not unexplained, f"{found}{more}, of {len(opened)} openings")


def _growth(usage: ResourceUsage, values: Sequence[float]) -> tuple[float, float]:
    settled = [value for time, value in zip(usage.at, values, strict=True) if time >= SETTLES]
    return growth(settled), settled[0] if settled else 0.0
