"""Reference implementation of the dashboard's overview: slow, from the complete history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitBreaker
from steadyvoice.gateway.admin.overview import window_dots
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.http import to_json
from steadyvoice.gateway.observability.hourly_statistics import STEP_SECONDS, STEPS_KEPT, HourlyStatistics
from steadyvoice.gateway.observability.recent_calls import RecentCall
from steadyvoice.service.config_file import PRESETS
from steadyvoice.service.error_state import to_iso8601


@dataclass
class ReferenceOverview:
    """All calls, with the time of day at which they ended."""

    calls: list[tuple[float, RecentCall]] = field(default_factory=list)

    def overview(self, context: GatewayContext, hour: HourlyStatistics, since: int) -> dict[str, Any]:
        """Return the overview; of the past hour, the steps from `since` on."""
        now = context.wall_clock()
        states = context.service.get_error_state()
        steps = sorted({int(time // STEP_SECONDS) for time, _ in self.calls})
        steps = [each for each in steps if each > steps[-1] - STEPS_KEPT]
        overview: dict[str, Any] = to_json(
            {
                "at": to_iso8601(datetime.fromtimestamp(now, UTC)),
                "version": __version__,
                "edition": context.event_log.edition,
                "is_muted": states["is_muted"],
                "overload": states["overload"],
                "fleet": states["fleet"],
                "workers": None,
                "step": STEP_SECONDS,
                "current": self._lately(now),
                "outcomes": [
                    [step, Counter(call.outcome for call in self._within(step))] for step in steps if step >= since
                ],
                "recoveries": hour.recoveries,
                "providers": {
                    name: {
                        "state": state,
                        "circuit": _circuit(context.service.circuits[name]),
                        "outage": hour.outage(name),
                        "rate": sum(sum(self._did(name, step)[:3]) for step in _last_two(now)) / _seconds(now),
                        "first_audio": self._first_audio(name, now),
                        "attempts": [
                            [step, *did] for step in steps if step >= since and any(did := self._did(name, step))
                        ],
                        "states": hour.states(name, since),
                    }
                    for name, state in states["providers"].items()
                },
            }
        )
        return overview

    def _within(self, *steps: int) -> list[RecentCall]:
        return [call for time, call in self.calls if int(time // STEP_SECONDS) in steps]

    def _did(self, name: str, step: int) -> list[int]:
        """Return attempts by result; none is neutral in these tests."""
        mine = [(a, e) for call in self._within(step) for a, e in call.attempts if a.provider == name]
        # A refused attempt has an error too, but its provider has not failed.
        refused = len([attempt for attempt, _ in mine if attempt.refused])
        failed = len([error for _, error in mine if error]) - refused
        return [len(mine) - failed - refused, failed, 0, refused]

    def _first_audio(self, name: str, now: float) -> dict[str, float] | None:
        values = [
            (time, attempt.first_audio)
            for time, call in self.calls
            for attempt, _ in call.attempts
            if attempt.provider == name and attempt.first_audio is not None
        ]
        return _percentiles(value for time, value in values[-500:] if time > now - 300)

    def _lately(self, now: float) -> dict[str, Any]:
        calls = self._within(*_last_two(now))
        soon = [(time, call.first_audio) for time, call in self.calls if call.first_audio is not None]
        return {
            "seconds": _seconds(now), "calls": len(calls), "rate": len(calls) / _seconds(now),
            "outcomes": Counter(call.outcome for call in calls),
            "providers": Counter(call.provider or "none" for call in calls),
            "first_audio": _percentiles(value for time, value in soon[-500:] if time > now - 300),
        }  # fmt: skip


def _circuit(circuit: CircuitBreaker) -> dict[str, Any]:
    config, why = circuit.config, circuit.explain()
    return {
        "reason": why.reason,
        "next": why.next,
        "changes_in": why.changes_in,
        "rules": why.rule_descriptions,
        "preset": next((name for name, preset in PRESETS.items() if preset() == config), None),
        "threshold": config.failure_threshold if config.opens_when is None else None,
        "minimum": config.minimum,
        "window_seconds": config.window_seconds,
        "success_threshold": config.success_threshold,
        "probe_successes": circuit.snapshot().probe_successes,
        "dots": window_dots(circuit.export()["window"], config.window_seconds),
    }


def _percentiles(values: Iterable[float]) -> dict[str, float] | None:
    ranked = sorted(values)
    ranks = {name: int(len(ranked) * share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
    return {name: ranked[min(place, len(ranked) - 1)] for name, place in ranks.items()} if ranked else None


def _last_two(now: float) -> tuple[int, int]:
    return int(now // STEP_SECONDS) - 1, int(now // STEP_SECONDS)


def _seconds(now: float) -> float:
    return STEP_SECONDS + now % STEP_SECONDS
