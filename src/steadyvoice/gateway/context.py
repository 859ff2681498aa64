"""Gateway context: service, settings, clocks, event log and observers shared by all endpoints."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from steadyvoice.breaker import Event, Listener
from steadyvoice.gateway.access_control import AccessRules, normalize_origins
from steadyvoice.gateway.http_server.connections import ConnectionCounts, RejectedConnection
from steadyvoice.gateway.observability.event_log import EventLog, SharedLog, WorkerEventLog
from steadyvoice.gateway.request_context import RequestContext
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.result import RelayedSpeech, ReportedUtterance
from steadyvoice.service.service import AsyncTTSService

log = logging.getLogger("steadyvoice.gateway")


class FinishedCall(NamedTuple):
    """Request for speech that one provider has spoken; `api` is its dialect's name.

    `speech` has the numbers of its report, which is made when the `utterance` is asked for it.
    """

    request: RequestContext
    api: str
    order: GatewaySpeechRequest
    utterance: ReportedUtterance
    speech: RelayedSpeech


class RequestObserver:
    """Observer of finished requests: metrics, the access log, the list of recent calls."""

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
    ) -> None:
        """Record a finished utterance, successful or not. `api` is the dialect's name."""

    def request_finished(self, request: RequestContext) -> None:
        """Record a finished request of any kind."""

    def usual_calls_finished(self, calls: Sequence[FinishedCall]) -> None:
        """Record requests that were spoken by one provider and sent to their end, some time ago.

        Observers of every request override it to take fewer steps for many of them.
        """
        for call in calls:
            self.speech_finished(call.request, call.api, call.order, call.utterance)
            self.request_finished(call.request)


class Workers(SharedLog, Protocol):
    """All workers of a gateway, as one of them has them.

    `answers` are the functions by which this one answers questions and carries out orders, by name; they may return an
    awaitable. `salt` is that of the state file, which all of them fill.
    """

    number: int
    salt: bytes
    is_restarted: bool
    answers: dict[str, Callable[[Any], Any]]
    counts: ConnectionCounts
    shutdown_seconds: Callable[[], float]

    def status(self) -> dict[str, Any]:
        """Return the workers, JSON-ready."""
        ...

    async def gather(self, question: str, argument: Any = None) -> list[Any]:
        """Return the answers of all workers that answer in time."""
        ...

    async def ask(self, worker: int, question: str, argument: Any) -> Any:
        """Return the answer of one worker; None if it does not answer in time."""
        ...

    async def order(self, name: str, argument: Mapping[str, Any]) -> list[Any]:
        """Have all workers carry out an order; return their answers, the own one first."""
        ...

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Have states of circuits and holds written to the state file. May be called by any thread."""
        ...


class OpenCounts(NamedTuple):
    """Number of open connections and running requests."""

    connections: int = 0
    requests: int = 0


@dataclass
class GatewayContext:
    """State that all endpoints of one gateway share.

    `clock` gives monotonic seconds, `wall_clock` the time of day in seconds since 1970.
    """

    service: AsyncTTSService
    server: ServerConfig = field(default_factory=ServerConfig)
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    observers: list[RequestObserver] = field(default_factory=list)
    on_settings: list[Callable[[ServerConfig], None]] = field(default_factory=list)  # called with new settings
    on_stop: list[Callable[[], None]] = field(default_factory=list)  # called before the gateway stops
    on_stopped: list[Callable[[], None]] = field(default_factory=list)  # called when the gateway has stopped
    traffic: Callable[[], OpenCounts] = OpenCounts
    # Called for requests that are refused before they reach the middleware.
    connection_rejected: Callable[[RejectedConnection], None] = lambda rejected: None
    # Called before what observers have recorded is read: requests of the fast lane are recorded some time later.
    record_finished: Callable[[], None] = lambda: None
    workers: Workers | None = None  # if there are several
    answers: dict[str, Callable[[Any], Any]] = field(default_factory=dict)  # see Workers
    websockets: int = 0  # open ones of clients
    closing: bool = False  # shutting down
    event_log: EventLog = field(init=False)
    access_rules: AccessRules = field(init=False)

    def __post_init__(self) -> None:
        workers = self.workers
        self.event_log = WorkerEventLog(self.wall_clock, workers) if workers else EventLog(self.wall_clock)
        self.access_rules = _access_rules(self.server)
        if workers:
            self.answers = workers.answers
            workers.shutdown_seconds = lambda: self.server.shutdown_delay + self.server.shutdown_timeout

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event of every circuit, in the event loop; return a function that ends it."""
        loop = asyncio.get_running_loop() if _in_event_loop() else None

        def in_loop(event: Event) -> None:
            # A fleet changes circuits in a thread of its own, and nothing in the gateway has locks.
            if loop is None or _in_event_loop():
                listener(event)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(listener, event)

        return self.service.subscribe(in_loop)

    async def gather(self, question: str, argument: Any = None) -> list[Any]:
        """Return the answers of all workers to a question; without workers, the own one."""
        if self.workers:
            return await self.workers.gather(question, argument)
        return [self.answers[question](argument)]

    async def order(self, name: str, argument: Mapping[str, Any]) -> Any:
        """Carry out an order, at all workers if there are several; return the own answer."""
        if self.workers:
            return (await self.workers.order(name, argument))[0]
        answer = self.answers[name](argument)
        return await answer if inspect.isawaitable(answer) else answer

    def apply_settings(self, server: ServerConfig) -> None:
        """Use these settings from the next request on."""
        self.server, self.access_rules = server, _access_rules(server)
        for callback in self.on_settings:
            callback(server)

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
    ) -> None:
        """Notify all observers of a finished utterance."""
        for observer in self.observers:
            observer.speech_finished(request, api, order, utterance)

    def seconds_until_retry(self) -> float | None:
        """Return the seconds until a provider may be tried again; None if one may be now, or if it is unknown."""
        states = self.service.get_error_state()["providers"].values()
        waits = [state["retry_after"] for state in states if state["retry_after"] is not None]
        return min(waits) if all(state["is_muted"] for state in states) and waits else None

    def log_internal_error(self, request: RequestContext, error: Exception) -> None:
        """Log an unexpected error with its traceback; the client gets no details."""
        log.error("request %s: %s", request.request_id, error, exc_info=error)

    def stop(self) -> None:
        """Begin the shutdown, and end the event streams once their readers have everything."""
        self.closing = True
        while self.on_stop:
            self.on_stop.pop()()
        self.event_log.close()

    def stopped(self) -> None:
        """Release the service, which may outlive the gateway."""
        while self.on_stopped:
            self.on_stopped.pop()()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _access_rules(server: ServerConfig) -> AccessRules:
    return AccessRules(
        api_keys=tuple(key.encode() for key in server.api_keys),
        admin_token=server.admin_token.encode() if server.admin_token else None,
        allowed_origins=normalize_origins(server.allowed_origins),
        allowed_hosts=frozenset(host.lower() for host in (*server.allowed_hosts, server.host)),
        open_to_all=not server.is_local,
        metrics_for_admins=server.metrics == "admin",
    )
