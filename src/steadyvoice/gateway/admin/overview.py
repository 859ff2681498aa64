"""`GET /admin/overview`: everything the dashboard shows at one moment.

The response is encoded a few providers at a time, and the event loop runs in between: with many providers, encoding
them in one piece would delay speech.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitBreaker, Event, Snapshot
from steadyvoice.gateway.admin.views import preset_name
from steadyvoice.gateway.context import GatewayContext, Workers
from steadyvoice.gateway.http import Response, to_json
from steadyvoice.gateway.observability.hourly_statistics import STEP_SECONDS, HourlyStatistics
from steadyvoice.gateway.workers.merging import merged_circuit, merged_overload, merged_provider, split_departed
from steadyvoice.service.error_state import to_iso8601
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.error_handler import TTSErrorHandler

MAX_DOTS = 60
_CACHE_SECONDS = 0.5  # for which a response is reused, unless a circuit changes its state
_MAX_CACHED = 4
_BATCH = 4  # providers that are encoded before the event loop runs again


class Overview:
    """Overview of one gateway, encoded once for all clients that ask at the same time."""

    def __init__(self, context: GatewayContext, statistics: HourlyStatistics) -> None:
        self._context, self._statistics = context, statistics
        self._cache: dict[int, tuple[float, Response]] = {}
        self._generation = 0
        # Held while a response is encoded: clients that ask meanwhile wait, and get the same response.
        self._encoding = asyncio.Lock()
        context.on_stopped.append(context.subscribe(self._circuit_event))
        context.answers["overview"] = lambda since: overview_parts(context, statistics, since)
        context.answers["statistics"] = lambda since: statistics.export(since)["steps"]

    async def response(self, since: int) -> Response:
        """Return the overview as JSON; of the past hour, the steps from number `since` on."""
        async with self._encoding:
            now, generation = self._context.clock(), self._generation
            at, response = self._cache.get(since, (-_CACHE_SECONDS, None))
            if response is None or now - at >= _CACHE_SECONDS:
                if self._context.workers:
                    body = _encode(await self._of_all_workers(self._context.workers, since))
                else:
                    body = b"".join([part async for part in overview_json(self._context, self._statistics, since)])
                response = Response(body=body)
                # A circuit that changed during the encoding may be in it with its former state.
                if generation == self._generation:
                    self._store(since, now, response)
            return response

    async def _of_all_workers(self, workers: Workers, since: int) -> dict[str, Any]:
        gathered = await workers.gather("overview", since)
        answers, departed = split_departed(gathered)
        exports = [each["statistics"] for each in answers]
        steps: list[Any] = next((each["steps"] for each in gathered if "departed" in each), [])
        statistics = HourlyStatistics.merged(exports, self._context.wall_clock, steps)
        parts: dict[str, list[dict[str, Any]]] = {}
        for answer in answers:
            for name, part in answer["providers"].items():
                parts.setdefault(name, []).append(part)
        return {
            **_gateway_part(self._context, statistics, since),
            "is_muted": any(each["is_muted"] for each in answers),
            "overload": merged_overload([each["overload"] for each in answers], departed),
            "workers": workers.status(),
            "providers": {
                name: _merged_provider_part(name, each, departed, statistics, since) for name, each in parts.items()
            },
        }

    def _circuit_event(self, event: Event) -> None:
        """Discard cached responses, and the one that is being encoded: a circuit has changed."""
        self._generation += 1
        self._cache.clear()

    def _store(self, since: int, now: float, response: Response) -> None:
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        self._cache[since] = now, response


async def overview_json(context: GatewayContext, statistics: HourlyStatistics, since: int = 0) -> AsyncIterator[bytes]:
    """Yield the overview in parts of one JSON object."""
    service = context.service
    # Collected before the first part: a provider that is removed in between is shown once more.
    handlers = [(service.handler(name), service.timeouts(name)) for name in service.circuits]
    yield _encode(_gateway_part(context, statistics, since))[:-1] + b',"providers":{'
    for number, (handler, timeouts) in enumerate(handlers):
        # At 50 providers, encoding in one piece took 28 ms of the event loop, during which no stream progressed; in
        # batches it takes 1.5 ms at most.
        if number and number % _BATCH == 0:
            await asyncio.sleep(0)
        comma = b"," if number else b""
        yield comma + _encode(handler.name) + b":" + _encode(_provider_part(handler, timeouts, statistics, since))
    yield b"}}"


def _gateway_part(context: GatewayContext, statistics: HourlyStatistics, since: int) -> dict[str, Any]:
    return {
        "at": to_iso8601(datetime.fromtimestamp(context.wall_clock(), UTC)),
        "version": __version__,
        "edition": context.event_log.edition,
        "is_muted": context.service.is_muted,
        "overload": context.service.admission.as_dict(),
        "fleet": context.service.fleet_status(),
        "workers": None,
        "step": STEP_SECONDS,
        "current": statistics.current(),
        "outcomes": statistics.outcomes(since),
        "recoveries": statistics.recoveries,
    }


def overview_parts(context: GatewayContext, statistics: HourlyStatistics, since: int) -> dict[str, Any]:
    """Return what this worker contributes to the overview of all."""
    service = context.service
    return {
        "is_muted": service.is_muted,
        "overload": service.admission.as_dict(),
        "statistics": statistics.export(since),
        "providers": {name: _current_part(service.handler(name), service.timeouts(name)) for name in service.circuits},
    }


def _current_part(handler: TTSErrorHandler, timeouts: TimeoutConfig) -> dict[str, Any]:
    state = handler.state
    return {
        "state": {**state.as_dict(), "timeouts": timeouts.as_dict()},
        "circuit": _circuit_part(handler.circuit, state.circuit),
    }


def _merged_provider_part(
    name: str, parts: Sequence[dict[str, Any]], departed: Mapping[str, Any], statistics: HourlyStatistics, since: int
) -> dict[str, Any]:
    states = [part["state"] for part in parts]
    return {
        "state": merged_provider(states, departed.get("providers", {}).get(name)),
        "circuit": merged_circuit(states, [part["circuit"] for part in parts]),
        **_statistics_part(name, statistics, since),
    }


def _provider_part(
    handler: TTSErrorHandler, timeouts: TimeoutConfig, statistics: HourlyStatistics, since: int
) -> dict[str, Any]:
    return {**_current_part(handler, timeouts), **_statistics_part(handler.name, statistics, since)}


def _statistics_part(name: str, statistics: HourlyStatistics, since: int) -> dict[str, Any]:
    outage = statistics.outage(name)
    return {
        "outage": outage and asdict(outage),
        **statistics.provider_rates(name),
        "attempts": statistics.attempts(name, since),
        "states": statistics.states(name, since),
    }


def _encode(value: Any) -> bytes:
    """Encode a value as JSON. `to_json`, which is slow, is needed for infinity and other types only."""
    try:
        text = _COMPACT.encode(value)
    except (TypeError, ValueError):
        text = _COMPACT.encode(to_json(value))
    return text.encode("utf-8", "backslashreplace")


_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _circuit_part(circuit: CircuitBreaker, snapshot: Snapshot) -> dict[str, Any]:
    """Return the explanation of a circuit's state, and its window."""
    config, explanation = circuit.config, circuit.explain()
    return {
        "reason": explanation.reason,
        "next": explanation.next,
        "changes_in": explanation.changes_in,
        "rules": explanation.rule_descriptions,
        "preset": preset_name(config),
        "threshold": config.failure_threshold if config.opens_when is None else None,
        "minimum": config.minimum,
        "window_seconds": config.window_seconds,
        "success_threshold": config.success_threshold,
        "probe_successes": snapshot.probe_successes,
        "dots": window_dots(circuit.export()["window"], config.window_seconds),
    }


def window_dots(runs: Sequence[Sequence[float]], seconds: float | None) -> list[tuple[int, float]]:
    """Return the window as at most 60 dots, oldest first: number of calls of each, and how many of them failed.

    `runs` are those of an exported circuit: calls, failed, failures, slow, age in seconds. A window of calls has one
    dot for each of the last calls; a window of `seconds` has 30 dots for equal parts of it, empty ones included.
    """
    return _by_age(runs, seconds) if seconds else _one_by_one(runs)


def _one_by_one(runs: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    dots: list[tuple[int, float]] = []
    for calls, failed, failures, *_ in runs:
        dots += [(1, 0.0)] * min(int(calls - failed), MAX_DOTS)
        dots += [(1, failures / failed) for _ in range(int(failed))]
    return dots[-MAX_DOTS:]


def _by_age(runs: Sequence[Sequence[float]], seconds: float) -> list[tuple[int, float]]:
    parts = [[0, 0.0] for _ in range(_TIME_DOTS)]
    for calls, _, failures, _, age in runs:
        part = parts[max(0, _TIME_DOTS - 1 - int(age / seconds * _TIME_DOTS))]
        part[0] += int(calls)
        part[1] += failures
    return [(int(calls), failures) for calls, failures in parts]


_TIME_DOTS = 30
