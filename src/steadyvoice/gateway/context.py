"""Gateway context: service, settings, clocks, event log and observers shared by all endpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from steadyvoice.gateway.access_control import AccessRules, normalize_origins
from steadyvoice.gateway.http_server.connections import RejectedConnection
from steadyvoice.gateway.observability.event_log import EventLog
from steadyvoice.gateway.request_context import RequestContext
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.service.service import AsyncTTSService

log = logging.getLogger("steadyvoice.gateway")


class FinishedCall(NamedTuple):
    """Finished request for speech; `api` is its dialect's name."""

    request: RequestContext
    api: str
    order: GatewaySpeechRequest
    account: ReportedUtterance


class RequestObserver:
    """Observer of finished requests: metrics, the access log, the list of recent calls."""

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, account: ReportedUtterance
    ) -> None:
        """Record a finished utterance, successful or not. `api` is the dialect's name."""

    def request_finished(self, request: RequestContext) -> None:
        """Record a finished request of any kind."""

    def usual_calls_finished(self, calls: Sequence[FinishedCall]) -> None:
        """Record requests that were spoken by one provider and sent to their end, some time ago.

        Observers of every request override it to take fewer steps for many of them.
        """
        for call in calls:
            self.speech_finished(*call)
            self.request_finished(call.request)


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
    websockets: int = 0  # open ones of clients
    closing: bool = False  # shutting down
    event_log: EventLog = field(init=False)
    access_rules: AccessRules = field(init=False)

    def __post_init__(self) -> None:
        self.event_log = EventLog(self.wall_clock)
        self.access_rules = _access_rules(self.server)

    def apply_settings(self, server: ServerConfig) -> None:
        """Use these settings from the next request on."""
        self.server, self.access_rules = server, _access_rules(server)
        for callback in self.on_settings:
            callback(server)

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, account: ReportedUtterance
    ) -> None:
        """Notify all observers of a finished utterance."""
        for observer in self.observers:
            observer.speech_finished(request, api, order, account)

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


def _access_rules(server: ServerConfig) -> AccessRules:
    return AccessRules(
        api_keys=tuple(key.encode() for key in server.api_keys),
        admin_token=server.admin_token.encode() if server.admin_token else None,
        allowed_origins=normalize_origins(server.allowed_origins),
        allowed_hosts=frozenset(host.lower() for host in (*server.allowed_hosts, server.host)),
        open_to_all=not server.is_local,
        metrics_for_admins=server.metrics == "admin",
    )
