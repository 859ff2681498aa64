"""Writes down what happens, for whoever asks at /admin: calls, and changes of circuits."""

from __future__ import annotations

from steadyvoice.breaker import CircuitBreakerConfig, CircuitReset, ConfigChanged, Event, StateChanged, WouldHaveOpened
from steadyvoice.breaker.states import Cause
from steadyvoice.gateway.board import Board
from steadyvoice.gateway.calls import RecentCalls
from steadyvoice.gateway.circuits import changes
from steadyvoice.gateway.exchange import Exchange
from steadyvoice.gateway.hour import Hour
from steadyvoice.gateway.house import House
from steadyvoice.gateway.order import Order
from steadyvoice.gateway.pulse import Pulse
from steadyvoice.service.spoken import Account


class Reporter:
    """One gateway's."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.calls = RecentCalls()
        self.hour = Hour(house.wall_clock)
        self.board = Board(house, self.hour)
        self._pulse = Pulse(house.journal)
        house.stopping.append(self._pulse.stop)
        house.leaving.append(house.service.subscribe(self._moved))

    def spoken(self, exchange: Exchange, door: str, order: Order, account: Account) -> None:
        """An utterance is over."""
        house = self._house
        now, wall_time, text = house.clock(), house.wall_clock(), house.server.log_texts
        call = self.calls.add(exchange, door, order, account, now=now, wall_time=wall_time, text=text)
        self.hour.call(call)
        self._pulse.beat(call)

    def answered(self, exchange: Exchange) -> None:
        """Nothing that was not said is told."""

    def _moved(self, event: Event) -> None:
        note = self._house.journal.note
        self.board.moved()
        match event:
            case StateChanged():
                note("transition", {"from": event.from_state, "to": event.to_state, **_why(event)})
                self._remember(event)
            case WouldHaveOpened():
                note("would_have_opened", _why(event))
            case CircuitReset():
                note("reset", {"provider": event.name, "reason": event.reason})
            case ConfigChanged():
                note("config", {"provider": event.name, **_difference(event.before, event.after)})

    def _remember(self, event: StateChanged) -> None:
        self.hour.moved(event.name, event.from_state, event.to_state, event.reason)
        if event.cause is Cause.PROBES_SUCCEEDED:
            took = self._house.service.circuits[event.name].snapshot().recoveries.last_seconds
            if took is not None:
                self.hour.recovered(event.name, took)


def _why(event: StateChanged | WouldHaveOpened) -> dict[str, object]:
    return {
        "provider": event.name,
        "cause": event.cause,
        "reason": event.reason,
        "failure_rate": event.failure_rate,
        "calls": event.calls,
        "failures": event.failures,
        "retry_after": getattr(event, "retry_after", None),
    }


def _difference(before: CircuitBreakerConfig, after: CircuitBreakerConfig) -> dict[str, object]:
    was, now = changes(before, after)
    return {"before": was, "after": now}
