"""`GET /admin/board`: all that the dashboard shows at one moment, summed up here so that a page need not.

It is written a few providers at a time, and speech goes on in between: nobody's voice waits for somebody's look.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitBreaker, Snapshot
from steadyvoice.gateway.circuits import preset_of
from steadyvoice.gateway.hour import STEP, Hour
from steadyvoice.gateway.house import House
from steadyvoice.gateway.plain import plain
from steadyvoice.gateway.reply import Reply
from steadyvoice.service.error_state import iso
from steadyvoice.service.handler import TTSErrorHandler
from steadyvoice.service.pipeline.timeouts import TimeoutConfig

MOST_DOTS = 60
_FRESH = 0.5  # seconds for which an answer is good enough for the next who asks, unless a circuit has moved
_MOST_KEPT = 4
_AT_ONCE = 4  # providers that are written down before whatever else there is to do has its turn


class Board:
    """One gateway's: written down once for all who look at the same time."""

    def __init__(self, house: House, hour: Hour) -> None:
        self._house, self._hour = house, hour
        self._kept: dict[int, tuple[float, Reply]] = {}
        self._moves = 0
        self._writing = asyncio.Lock()

    async def told(self, since: int) -> Reply:
        """How everything stands, as JSON; of the past hour, the steps from `since` on."""
        async with self._writing:
            now, moves = self._house.clock(), self._moves
            at, reply = self._kept.get(since, (-_FRESH, None))
            if reply is None or now - at >= _FRESH:
                reply = Reply(body=b"".join([part async for part in written(self._house, self._hour, since)]))
                if moves == self._moves:
                    self._keep(since, now, reply)
            return reply

    def moved(self) -> None:
        """What was written down is not so any more, nor is what is being written."""
        self._moves += 1
        self._kept.clear()

    def _keep(self, since: int, now: float, reply: Reply) -> None:
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[since] = now, reply


async def written(house: House, hour: Hour, since: int = 0) -> AsyncIterator[bytes]:
    """How everything stands now, in pieces of one JSON object."""
    service = house.service
    # Who leaves meanwhile is on it once more.
    handlers = [(service.handler(name), service.timeouts(name)) for name in service.circuits]
    yield _json(_whole(house, hour, since))[:-1] + b',"providers":{'
    for number, (handler, timeouts) in enumerate(handlers):
        if number and number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        comma = b"," if number else b""
        yield comma + _json(handler.name) + b":" + _json(_provider(handler, timeouts, hour, since))
    yield b"}}"


def _whole(house: House, hour: Hour, since: int) -> dict[str, Any]:
    return {
        "at": iso(datetime.fromtimestamp(house.wall_clock(), UTC)),
        "version": __version__,
        "edition": house.journal.edition,
        "is_muted": house.service.is_muted,
        "overload": house.service.admission.as_dict(),
        "step": STEP,
        "lately": hour.lately(),
        "heard": hour.heard(since),
        "recoveries": hour.recoveries,
    }


def _provider(handler: TTSErrorHandler, timeouts: TimeoutConfig, hour: Hour, since: int) -> dict[str, Any]:
    name, state = handler.name, handler.state
    outage = hour.outage(name)
    return {
        "state": {**state.as_dict(), "timeouts": timeouts.as_dict()},
        "circuit": _circuit(handler.circuit, state.circuit),
        "outage": outage and asdict(outage),
        **hour.pace(name),
        "done": hour.done(name, since),
        "states": hour.states(name, since),
    }


def _json(value: Any) -> bytes:
    """As `plain` has it, which is slow, and here seldom needed: for what is endless, or cannot be written at all."""
    try:
        told = _COMPACT.encode(value)
    except (TypeError, ValueError):
        told = _COMPACT.encode(plain(value))
    return told.encode("utf-8", "backslashreplace")


_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _circuit(circuit: CircuitBreaker, seen: Snapshot) -> dict[str, Any]:
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
        "probe_successes": seen.probe_successes,
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
