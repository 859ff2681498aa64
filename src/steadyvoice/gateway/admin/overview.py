"""`GET /admin/overview`: everything the dashboard shows at one moment.

The response is encoded a few providers at a time, and the event loop runs in between: with many providers, encoding
them in one piece would delay speech.
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
from steadyvoice.gateway.admin.views import preset_name
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.http import Response
from steadyvoice.gateway.json_values import to_json
from steadyvoice.gateway.observability.hourly_statistics import STEP_SECONDS, HourlyStatistics
from steadyvoice.service.error_state import to_iso8601
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.error_handler import TTSErrorHandler

MAX_DOTS = 60
_CACHE_SECONDS = 0.5  # seconds for which an answer is good enough for the next who asks, unless a circuit has moved
_MAX_CACHED = 4
_BATCH = 4  # providers that are written down before whatever else there is to do has its turn


class Overview:
    """One gateway's: written down once for all who look at the same time."""

    def __init__(self, context: GatewayContext, hour: HourlyStatistics) -> None:
        self._context, self._hour = context, hour
        self._kept: dict[int, tuple[float, Response]] = {}
        self._moves = 0
        self._writing = asyncio.Lock()

    async def told(self, since: int) -> Response:
        """How everything stands, as JSON; of the past hour, the steps from `since` on."""
        async with self._writing:
            now, moves = self._context.clock(), self._moves
            at, reply = self._kept.get(since, (-_CACHE_SECONDS, None))
            if reply is None or now - at >= _CACHE_SECONDS:
                reply = Response(
                    body=b"".join([part async for part in overview_json(self._context, self._hour, since)])
                )
                if moves == self._moves:
                    self._keep(since, now, reply)
            return reply

    def moved(self) -> None:
        """What was written down is not so any more, nor is what is being written."""
        self._moves += 1
        self._kept.clear()

    def _keep(self, since: int, now: float, reply: Response) -> None:
        if len(self._kept) >= _MAX_CACHED:
            self._kept.clear()
        self._kept[since] = now, reply


async def overview_json(context: GatewayContext, hour: HourlyStatistics, since: int = 0) -> AsyncIterator[bytes]:
    """How everything stands now, in pieces of one JSON object."""
    service = context.service
    # Who leaves meanwhile is on it once more.
    handlers = [(service.handler(name), service.timeouts(name)) for name in service.circuits]
    yield _encode(_gateway_part(context, hour, since))[:-1] + b',"providers":{'
    for number, (handler, timeouts) in enumerate(handlers):
        if number and number % _BATCH == 0:
            await asyncio.sleep(0)
        comma = b"," if number else b""
        yield comma + _encode(handler.name) + b":" + _encode(_provider_part(handler, timeouts, hour, since))
    yield b"}}"


def _gateway_part(context: GatewayContext, hour: HourlyStatistics, since: int) -> dict[str, Any]:
    return {
        "at": to_iso8601(datetime.fromtimestamp(context.wall_clock(), UTC)),
        "version": __version__,
        "edition": context.event_log.edition,
        "is_muted": context.service.is_muted,
        "overload": context.service.admission.as_dict(),
        "step": STEP_SECONDS,
        "lately": hour.lately(),
        "heard": hour.heard(since),
        "recoveries": hour.recoveries,
    }


def _provider_part(
    handler: TTSErrorHandler, timeouts: TimeoutConfig, hour: HourlyStatistics, since: int
) -> dict[str, Any]:
    name, state = handler.name, handler.state
    outage = hour.outage(name)
    return {
        "state": {**state.as_dict(), "timeouts": timeouts.as_dict()},
        "circuit": _circuit_part(handler.circuit, state.circuit),
        "outage": outage and asdict(outage),
        **hour.pace(name),
        "done": hour.done(name, since),
        "states": hour.states(name, since),
    }


def _encode(value: Any) -> bytes:
    """As `plain` has it, which is slow, and here seldom needed: for what is endless, or cannot be written at all."""
    try:
        told = _COMPACT.encode(value)
    except (TypeError, ValueError):
        told = _COMPACT.encode(to_json(value))
    return told.encode("utf-8", "backslashreplace")


_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _circuit_part(circuit: CircuitBreaker, seen: Snapshot) -> dict[str, Any]:
    """Why it is in its state, and what its window holds."""
    config, why = circuit.config, circuit.explain()
    return {
        "why": why.reason,
        "next": why.next,
        "changes_in": why.changes_in,
        "rules": why.rule_descriptions,
        "preset": preset_name(config),
        "threshold": config.failure_threshold if config.opens_when is None else None,
        "minimum": config.minimum,
        "window_seconds": config.window_seconds,
        "probes": config.success_threshold,
        "probe_successes": seen.probe_successes,
        "dots": window_dots(circuit.export()["window"], config.window_seconds),
    }


def window_dots(runs: Sequence[Sequence[float]], seconds: float | None) -> list[tuple[int, float]]:
    """The window as at most 60 dots, oldest first: the calls that each stands for, and how many of them failed.

    `runs` are those of an exported circuit: calls, failed, failures, slow, age. A window of calls has a dot for each of
    the last ones; one of seconds has dots for equal parts of them, those without calls included.
    """
    return _by_age(runs, seconds) if seconds else _one_by_one(runs)


def _one_by_one(runs: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for calls, failed, failures, *_ in runs:
        found += [(1, 0.0)] * min(int(calls - failed), MAX_DOTS)
        found += [(1, failures / failed) for _ in range(int(failed))]
    return found[-MAX_DOTS:]


def _by_age(runs: Sequence[Sequence[float]], seconds: float) -> list[tuple[int, float]]:
    parts = [[0, 0.0] for _ in range(_TIME_DOTS)]
    for calls, _, failures, _, age in runs:
        part = parts[max(0, _TIME_DOTS - 1 - int(age / seconds * _TIME_DOTS))]
        part[0] += int(calls)
        part[1] += failures
    return [(int(calls), failures) for calls, failures in parts]


_TIME_DOTS = 30
