"""Event recorder: writes circuit changes, calls and summaries of each second into the event log.

Beyond `MAX_CALLS_PER_SECOND` calls in one second, the rest is only counted; failed calls have a quota of their own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from steadyvoice.breaker import CircuitBreakerConfig, CircuitReset, ConfigChanged, Event, StateChanged, WouldHaveOpened
from steadyvoice.breaker.states import Cause
from steadyvoice.gateway.admin.overview import Overview
from steadyvoice.gateway.admin.views import changed_settings
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.observability.event_log import EventLog
from steadyvoice.gateway.observability.hourly_statistics import HourlyStatistics, percentiles
from steadyvoice.gateway.observability.recent_calls import RecentCall, RecentCalls
from steadyvoice.gateway.request_context import RequestContext
from steadyvoice.gateway.speech_request import SpeechOrder
from steadyvoice.service.result import ReportedUtterance

MAX_CALLS_PER_SECOND = 20
"""Calls in one second that are shown by themselves; and as many again of those that went wrong."""

_SUCCESSES = frozenset({"spoken", "cached"})
_PERIOD = 1.0


class CallRecorder:
    """Sums up what happens within a second, and writes it into the journal when it is over."""

    def __init__(self, journal: EventLog) -> None:
        self._event_log = journal
        self._second: list[RecentCall] = []
        self._shown: Counter[bool] = Counter()
        self._clock: asyncio.TimerHandle | None = None

    def beat(self, call: RecentCall) -> None:
        """A call is over."""
        if self._clock is None:
            self._clock = asyncio.get_running_loop().call_later(_PERIOD, self._tick)
        self._second.append(call)
        well = call.outcome in _SUCCESSES
        if self._shown[well] < MAX_CALLS_PER_SECOND:
            self._shown[well] += 1
            self._event_log.note("call", call.as_dict)

    def stop(self) -> None:
        """The gateway closes."""
        if self._clock:
            self._clock.cancel()
            self._tick()

    def _tick(self) -> None:
        shown = sum(self._shown.values())
        self._event_log.note("calls", {"seconds": _PERIOD, "shown": shown, **summary(self._second)})
        self._second, self._clock = [], None
        self._shown.clear()


def summary(calls: Sequence[RecentCall]) -> dict[str, Any]:
    """How many there were, how they ended, who spoke, and how soon."""
    providers = Counter(call.provider or "none" for call in calls)
    return {
        "calls": len(calls),
        "outcomes": Counter(call.outcome for call in calls),
        "providers": providers,
        "first_audio": percentiles(call.first_audio for call in calls if call.first_audio is not None),
    }


class EventRecorder:
    """One gateway's."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self.calls = RecentCalls()
        self.hour = HourlyStatistics(context.wall_clock)
        self.board = Overview(context, self.hour)
        self._pulse = CallRecorder(context.event_log)
        context.on_stop.append(self._pulse.stop)
        context.on_stopped.append(context.service.subscribe(self._moved))

    def speech_finished(
        self, request: RequestContext, door: str, order: SpeechOrder, account: ReportedUtterance
    ) -> None:
        """An utterance is over."""
        house = self._context
        now, wall_time, text = house.clock(), house.wall_clock(), house.server.log_texts
        call = self.calls.add(request, door, order, account, now=now, wall_time=wall_time, text=text)
        self.hour.call(call)
        self._pulse.beat(call)

    def request_finished(self, request: RequestContext) -> None:
        """Nothing that was not said is told."""

    def _moved(self, event: Event) -> None:
        note = self._context.event_log.note
        self.board.moved()
        match event:
            case StateChanged():
                note("transition", {"from": event.from_state, "to": event.to_state, **_evidence(event)})
                self._remember(event)
            case WouldHaveOpened():
                note("would_have_opened", _evidence(event))
            case CircuitReset():
                note("reset", {"provider": event.name, "reason": event.reason})
            case ConfigChanged():
                note("config", {"provider": event.name, **_config_change(event.before, event.after)})

    def _remember(self, event: StateChanged) -> None:
        self.hour.moved(event.name, event.from_state, event.to_state, event.reason)
        if event.cause is Cause.PROBES_SUCCEEDED:
            took = self._context.service.circuits[event.name].snapshot().recoveries.last_seconds
            if took is not None:
                self.hour.recovered(event.name, took)


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
    was, now = changed_settings(before, after)
    return {"before": was, "after": now}
