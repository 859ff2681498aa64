"""`GET /metrics`: counts what happens, and asks the service how it is when somebody looks."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitState, Event, StateChanged, WouldHaveOpened
from steadyvoice.breaker.states import Cause
from steadyvoice.gateway import families
from steadyvoice.gateway.calls import first_audio
from steadyvoice.gateway.exchange import Exchange, exchange_of
from steadyvoice.gateway.families import Family
from steadyvoice.gateway.house import House
from steadyvoice.gateway.order import Order
from steadyvoice.gateway.outcome import ending
from steadyvoice.gateway.reply import Receive, Reply, Scope, Send
from steadyvoice.gateway.tally import Labels, Spread, Tally, filled
from steadyvoice.service.spoken import Account, Attempt, Spoken

_NOBODY = "none"


class Metrics:
    """One gateway's own. Everything here happens in its event loop."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._requests, self._http = Tally(families.REQUESTS), Tally(families.HTTP)
        self._characters, self._audio = Tally(families.CHARACTERS), Tally(families.AUDIO)
        self._attempts = Tally(families.ATTEMPTS)
        self._transitions, self._would_open = Tally(families.TRANSITIONS), Tally(families.WOULD_OPEN)
        self._first_audio, self._duration = Spread(families.FIRST_AUDIO), Spread(families.DURATION)
        self._provider_first_audio = Spread(families.PROVIDER_FIRST_AUDIO)
        self._recovery = Spread(families.RECOVERY)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        house.leaving.append(house.service.subscribe(self._moved))

    def spoken(self, exchange: Exchange, door: str, order: Order, account: Account) -> None:
        """An utterance is over."""
        spoken = account.spoken
        self._requests.add((door, spoken.provider or _NOBODY, ending(exchange, account)))
        self._duration.add((door,), self._house.clock() - exchange.at)
        if (soon := first_audio(exchange)) is not None:
            self._first_audio.add((door,), soon)
        self._count(spoken)

    def answered(self, exchange: Exchange) -> None:
        """A request of any kind is over."""
        status = _NOBODY if exchange.status is None else f"{exchange.status // 100}xx"
        self._http.add((exchange.room.value, status))

    def collect(self) -> Iterator[Metric]:
        """All of it, as prometheus-client wants it."""
        for kept in (self._requests, self._http, self._characters, self._audio, self._attempts):
            yield kept.collected()
        for kept in (self._transitions, self._would_open):
            yield kept.collected()
        for spread in (self._first_audio, self._duration, self._provider_first_audio, self._recovery):
            yield spread.collected()
        yield from _of_state(self._house.service.get_error_state())
        yield from _of_house(self._house)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `GET /metrics`, in the form that the caller accepts."""
        accepted = exchange_of(scope).headers.get(b"accept", b"").decode("latin-1")
        try:
            encode, content_type = choose_encoder(accepted)
            body = encode(self.registry)
        except (ValueError, TypeError, LookupError):  # prometheus-client compares whatever stands there as a version
            body, content_type = generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4
        await Reply(body=body, content_type=content_type)(scope, receive, send)

    def _count(self, spoken: Spoken) -> None:
        for span in spoken.spans:
            who = (span.provider or _NOBODY,)
            self._characters.add(who, span.end - span.begin)
            self._audio.add(who, span.stop - span.start)
        for attempt in spoken.attempts:
            self._attempts.add((attempt.provider, _result(attempt)))
            if attempt.first_audio is not None:
                self._provider_first_audio.add((attempt.provider,), attempt.first_audio)

    def _moved(self, event: Event) -> None:
        match event:
            case StateChanged():
                where = (event.from_state.value, event.to_state.value)
                self._transitions.add((event.name, *where, event.cause.value))
                if event.cause is Cause.PROBES_SUCCEEDED:
                    self._recovered(event.name)
            case WouldHaveOpened():
                self._would_open.add((event.name, event.cause.value))

    def _recovered(self, name: str) -> None:
        took = self._house.service.circuits[name].snapshot().recoveries.last_seconds
        if took is not None:
            self._recovery.add((name,), took)


def _result(attempt: Attempt) -> str:
    return attempt.error.kind.value if attempt.error else "ok"


def _of_state(state: dict[str, Any]) -> Iterator[Metric]:
    """What the error state tells."""
    states: dict[str, dict[str, Any]] = state["providers"]
    yield filled(families.STATE, _by_state(states))
    for family, steps in _EACH.items():
        values = {(name,): _found(each, steps) for name, each in states.items()}
        yield filled(family, {labels: value for labels, value in values.items() if value is not None})
    yield filled(families.CALLS, _by(states, "totals", _RESULTS))
    yield filled(families.BILLED, _by(states, "bills", {"billed": "billed", "unknown": "unknown"}))
    wasted: dict[Labels, float] = {
        (name, cause): n for name, each in states.items() for cause, n in each["bills"]["wasted_by"].items()
    }
    yield filled(families.WASTED, wasted)
    yield filled(families.HOLDS, _holds(states))
    yield filled(families.MUTED, {(): float(state["is_muted"])})
    yield from _of_overload(state["overload"])
    yield from _of_cache(state["cache"] or {})
    hedging = state["hedging"] or {}
    yield filled(families.HEDGES, {(word,): hedging[word] for word in _HEDGES if word in hedging})


_HEDGES = ("won", "lost", "refused_for_budget", "nobody_free", "left_to_the_circuit")
_RESULTS = {"successes": "success", "failures": "failure", "ignored": "ignored"}

_EACH: dict[Family, tuple[str, ...]] = {
    families.FAILURE_RATE: ("failure_rate",),
    families.WINDOW_CALLS: ("window", "calls"),
    families.OPENED_AT: ("circuit_opened_at",),
    families.RETRY_AFTER: ("retry_after",),
    families.REFUSED: ("totals", "refused"),
    families.PROVIDER_MUTED: ("is_muted",),
    families.RUNNING: ("concurrency", "in_use"),
    families.LIMIT: ("concurrency", "limit"),
    families.WAITING: ("concurrency", "waiting"),
    families.CREDIT: ("credit", "remaining"),
    families.CREDIT_RATE: ("credit", "per_hour"),
    families.CREDIT_ENDS: ("credit", "ends_in"),
}


def _found(state: Any, steps: tuple[str, ...]) -> float | None:
    """The number that lies there, if any does. Times of day become seconds since 1970."""
    for step in steps:
        if state is None:
            return None
        state = state[step]
    return datetime.fromisoformat(state).timestamp() if isinstance(state, str) else state


def _by_state(states: dict[str, dict[str, Any]]) -> dict[Labels, float]:
    return {
        (name, state.value): float(each["circuit_state"] == state.value)
        for name, each in states.items()
        for state in CircuitState
    }


def _by(states: dict[str, dict[str, Any]], where: str, fields: dict[str, str]) -> dict[Labels, float]:
    return {(name, word): each[where][field] for name, each in states.items() for field, word in fields.items()}


def _holds(states: dict[str, dict[str, Any]]) -> dict[Labels, float]:
    counts: dict[Labels, float] = {}
    for name, each in states.items():
        for hold in each["holds"]:
            counts[name, hold["kind"]] = counts.get((name, hold["kind"]), 0.0) + 1
    return counts


def _of_cache(cache: dict[str, Any]) -> Iterator[Metric]:
    results = {"hits": "hit", "misses": "miss", "joined": "joined"}
    yield filled(families.CACHE, {(word,): cache[field] for field, word in results.items() if field in cache})
    yield filled(families.CACHE_KEPT, {(): cache["kept"]} if cache else {})
    yield filled(families.CACHE_FAILING, {(): float(cache["trouble"] is not None)} if cache else {})


def _of_overload(overload: dict[str, Any]) -> Iterator[Metric]:
    yield filled(families.ACTIVE, {(): overload["active"]})
    yield filled(families.QUEUED, {(): overload["queued"]})
    yield filled(families.OVERLOADED, {(): float(overload["overloaded"])})
    yield filled(families.NOT_ADMITTED, {(cause,): count for cause, count in overload["refused"].items()})
    yield filled(families.LOOP_LAG, {(): overload["loop_lag"]})
    yield filled(families.LOOP_LOST, {(): overload["loop_lost"]})
    yield filled(families.QUEUE_WAIT, {(name,): wait for name, wait in overload["waits"].items()})


def _of_house(house: House) -> Iterator[Metric]:
    traffic = house.traffic()
    yield filled(families.CONNECTIONS, {(): traffic.connections})
    yield filled(families.IN_FLIGHT, {(): traffic.requests})
    yield filled(families.STREAMS, {(): len(house.service.streams)})
    yield filled(families.BUILD, {(__version__, platform.python_version()): 1})
