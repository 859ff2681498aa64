"""Event recorder: writes circuit changes, calls and summaries of each second into the event log.

Beyond `MAX_CALLS_PER_SECOND` calls in one second, the rest is only counted; failed calls have a quota of their own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from steadyvoice.breaker import CircuitBreakerConfig, CircuitReset, ConfigChanged, Event, StateChanged, WouldHaveOpened
from steadyvoice.gateway.context import FinishedCall, GatewayContext, RequestObserver
from steadyvoice.gateway.http import to_json
from steadyvoice.gateway.observability.event_log import EventLog
from steadyvoice.gateway.observability.hourly_statistics import HourlyStatistics, percentiles
from steadyvoice.gateway.observability.recent_calls import RecentCall, RecentCalls, UsualCall
from steadyvoice.gateway.request_context import RequestContext
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.service.result import ReportedUtterance

MAX_CALLS_PER_SECOND = 20
"""Successful calls that are logged individually in one second; as many failed ones are, in addition."""

_SUCCESSES = frozenset({"spoken", "cached"})
_PERIOD = 1.0


class CallRecorder:
    """Writes calls into the event log, and a summary of all of them after each second."""

    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log
        self._calls: list[RecentCall | UsualCall] = []
        self._logged: Counter[bool] = Counter()  # by success
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: RecentCall | UsualCall) -> None:
        """Record a finished call."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PERIOD, self._summarize)
        self._calls.append(call)
        success = call.outcome in _SUCCESSES
        if self._logged[success] < MAX_CALLS_PER_SECOND:
            self._logged[success] += 1
            self._event_log.add("call", call.as_dict)

    def add_all(self, calls: Sequence[UsualCall]) -> None:
        """Record finished calls."""
        for call in calls:
            if self._logged.get(call.outcome in _SUCCESSES, 0) < MAX_CALLS_PER_SECOND:
                self.add(call)
            else:
                self._calls.append(call)

    def stop(self) -> None:
        """Write the last summary at once."""
        if self._timer:
            self._timer.cancel()
            self._summarize()

    def _summarize(self) -> None:
        shown = sum(self._logged.values())
        self._event_log.add("calls", {"seconds": _PERIOD, "shown": shown, **summary(self._calls)})
        self._calls, self._timer = [], None
        self._logged.clear()


def summary(calls: Sequence[RecentCall | UsualCall]) -> dict[str, Any]:
    """Return the number of calls, their outcomes and providers, and percentiles of the time to first audio."""
    # In one pass without generators, each of which would be a Python call for every call that was made.
    outcomes, providers, first_audio = Counter[str](), Counter[str](), []
    for call in calls:
        outcome, provider = call.outcome, call.provider or "none"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        providers[provider] = providers.get(provider, 0) + 1
        if call.first_audio is not None:
            first_audio.append(call.first_audio)
    return {
        "calls": len(calls),
        "outcomes": outcomes,
        "providers": providers,
        "first_audio": percentiles(first_audio),
    }


class EventRecorder(RequestObserver):
    """Observer that keeps recent calls, statistics and event log of one gateway up to date."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self.calls = RecentCalls()
        self.statistics = HourlyStatistics(context.wall_clock)
        self._call_recorder = CallRecorder(context.event_log)
        context.on_stop.append(self._call_recorder.stop)
        context.on_stopped.append(context.subscribe(self._circuit_event))

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
    ) -> None:
        """Record a finished utterance."""
        context = self._context
        now, wall_time, text = context.clock(), context.wall_clock(), context.server.log_texts
        call = self.calls.add(request, api, order, utterance, now=now, wall_time=wall_time, text=text)
        self.statistics.add_call(call)
        self._call_recorder.add(call)

    def usual_calls_finished(self, calls: Sequence[FinishedCall]) -> None:
        """Record calls that were spoken by one provider and sent to their end."""
        context = self._context
        now, wall_time, text = context.clock(), context.wall_clock(), context.server.log_texts
        usual = self.calls.add_usual_calls(calls, now=now, wall_time=wall_time, text=text)
        self.statistics.add_usual_calls(usual)
        self._call_recorder.add_all(usual)

    def _circuit_event(self, event: Event) -> None:
        self._context.record_finished()  # the log is in the order of what happened
        add = self._context.event_log.add
        match event:
            case StateChanged():
                add("transition", {"from": event.from_state, "to": event.to_state, **_evidence(event)})
                self._record_transition(event)
            case WouldHaveOpened():
                add("would_have_opened", _evidence(event))
            case CircuitReset():
                add("reset", {"provider": event.name, "reason": event.reason})
            case ConfigChanged():
                add("config", {"provider": event.name, **_config_change(event.before, event.after)})

    def _record_transition(self, event: StateChanged) -> None:
        self.statistics.add_transition(event.name, event.from_state, event.to_state, event.reason)
        if event.is_recovery:
            seconds = self._context.service.circuits[event.name].snapshot().recoveries.last_seconds
            if seconds is not None:
                self.statistics.add_recovery(event.name, seconds)


def _evidence(event: StateChanged | WouldHaveOpened) -> dict[str, object]:
    return {
        "provider": event.name,
        "cause": event.cause,
        "reason": event.reason,
        "failure_rate": event.failure_rate,
        "calls": event.calls,
        "failures": event.failures,
        "retry_after": getattr(event, "retry_after", None),
    }


def _config_change(before: CircuitBreakerConfig, after: CircuitBreakerConfig) -> dict[str, object]:
    old, new = changed_settings(before, after)
    return {"before": old, "after": new}


def changed_settings(
    before: CircuitBreakerConfig, after: CircuitBreakerConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a circuit that differ, with their old and their new values."""
    names = [each.name for each in fields(before) if getattr(before, each.name) != getattr(after, each.name)]
    return {name: _shown(before, name) for name in names}, {name: _shown(after, name) for name in names}


def _shown(config: CircuitBreakerConfig, name: str) -> Any:
    """Return a setting as a JSON value; rules and functions, which can be set in code only, as text."""
    value = getattr(config, name)
    return to_json(value) if value is None or isinstance(value, int | float | str) else str(value)
