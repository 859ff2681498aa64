"""`GET /admin/board`: all that the dashboard shows at one moment, summed up here so that a page need not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitBreaker
from steadyvoice.gateway.circuits import preset_of
from steadyvoice.gateway.hour import STEP, Hour
from steadyvoice.gateway.house import House
from steadyvoice.gateway.plain import plain
from steadyvoice.gateway.reply import Reply, json_reply
from steadyvoice.service.error_state import iso

MOST_DOTS = 60
_FRESH = 0.5  # seconds for which an answer is good enough for the next who asks, unless a circuit has moved
_MOST_KEPT = 4


class Board:
    """One gateway's: written down once for all who look at the same time."""

    def __init__(self, house: House, hour: Hour) -> None:
        self._house, self._hour = house, hour
        self._kept: dict[int, tuple[float, Reply]] = {}

    def told(self, since: int) -> Reply:
        """How everything stands, as JSON."""
        now = self._house.clock()
        at, reply = self._kept.get(since, (-_FRESH, None))
        if reply is None or now - at >= _FRESH:
            reply = json_reply(board(self._house, self._hour, since))
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[since] = now, reply
        return reply

    def moved(self) -> None:
        """What was written down is not so any more."""
        self._kept.clear()


def board(house: House, hour: Hour, since: int = 0) -> dict[str, Any]:
    """How everything stands now; of the past hour, the steps from `since` on."""
    states = house.service.get_error_state()
    circuits = house.service.circuits
    told: dict[str, Any] = plain(
        {
            "at": iso(datetime.fromtimestamp(house.wall(), UTC)),
            "version": __version__,
            "edition": house.journal.edition,
            "is_muted": states["is_muted"],
            "step": STEP,
            "lately": hour.lately(),
            "heard": hour.heard(since),
            "recoveries": hour.recoveries,
            "providers": {
                name: {
                    "state": state,
                    "circuit": _circuit(circuits[name]),
                    "outage": hour.outage(name),
                    **hour.pace(name),
                    "done": hour.done(name, since),
                    "states": hour.states(name, since),
                }
                for name, state in states["providers"].items()
            },
        }
    )
    return told


def _circuit(circuit: CircuitBreaker) -> dict[str, Any]:
    """Why it is in its state, and what its window holds."""
    config, why = circuit.config, circuit.explain()
    return {
        "why": why.why,
        "next": why.next,
        "changes_in": why.changes_in,
        "rules": why.told,
        "preset": preset_of(config),
        "threshold": config.failure_threshold if config.opens_when is None else None,
        "minimum": config.minimum,
        "window_seconds": config.window_seconds,
        "probes": config.success_threshold,
        "probe_successes": circuit.snapshot().probe_successes,
        "dots": dots(circuit.export()["window"], config.window_seconds),
    }


def dots(runs: Sequence[Sequence[float]], seconds: float | None) -> list[tuple[int, float]]:
    """The window as at most 60 dots, oldest first: the calls that each stands for, and how many of them failed.

    `runs` are those of an exported circuit: calls, failed, failures, slow, age. A window of calls has a dot for each of
    the last ones; one of seconds has dots for equal parts of them, those without calls included.
    """
    return _by_age(runs, seconds) if seconds else _one_by_one(runs)


def _one_by_one(runs: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for calls, failed, failures, *_ in runs:
        found += [(1, 0.0)] * min(int(calls - failed), MOST_DOTS)
        found += [(1, failures / failed) for _ in range(int(failed))]
    return found[-MOST_DOTS:]


def _by_age(runs: Sequence[Sequence[float]], seconds: float) -> list[tuple[int, float]]:
    parts = [[0, 0.0] for _ in range(_PARTS)]
    for calls, _, failures, _, age in runs:
        part = parts[max(0, _PARTS - 1 - int(age / seconds * _PARTS))]
        part[0] += int(calls)
        part[1] += failures
    return [(int(calls), failures) for calls, failures in parts]


_PARTS = 30
