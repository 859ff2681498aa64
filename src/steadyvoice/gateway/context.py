"""Gateway context: service, settings, clocks, event log and observers shared by all endpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from steadyvoice.gateway.access_control import AccessRules, normalize_origins
from steadyvoice.gateway.http_server.connections import RejectedConnection
from steadyvoice.gateway.observability.event_log import EventLog
from steadyvoice.gateway.request_context import RequestContext
from steadyvoice.gateway.speech_request import SpeechOrder
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.service.service import AsyncTTSService

log = logging.getLogger("steadyvoice.gateway")


class RequestObserver(Protocol):
    """Somebody who is told what became of every request: metrics, the log, the list of recent calls."""

    def speech_finished(
        self, request: RequestContext, door: str, order: SpeechOrder, account: ReportedUtterance
    ) -> None:
        """An utterance is over, well or not."""
        ...

    def request_finished(self, request: RequestContext) -> None:
        """A request of any kind is over."""
        ...


class OpenCounts(NamedTuple):
    """What is open now."""

    connections: int = 0
    requests: int = 0


@dataclass
class GatewayContext:
    """One gateway's own. `clock` gives seconds that never go back; `wall_clock` is the time of day, since 1970."""

    service: AsyncTTSService
    server: ServerConfig = field(default_factory=ServerConfig)
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    observers: list[RequestObserver] = field(default_factory=list)
    on_settings: list[Callable[[ServerConfig], None]] = field(default_factory=list)  # to be told of other rules
    on_stop: list[Callable[[], None]] = field(default_factory=list)  # to be called before it stops
    on_stopped: list[Callable[[], None]] = field(default_factory=list)  # to be called when the gateway has stopped
    traffic: Callable[[], OpenCounts] = OpenCounts
    connection_rejected: Callable[[RejectedConnection], None] = lambda who: (
        None
    )  # to be told of whoever never got to the doors
    closing: bool = False  # nobody new is let in
    event_log: EventLog = field(init=False)
    access_rules: AccessRules = field(init=False)  # who may come in

    def __post_init__(self) -> None:
        self.event_log = EventLog(self.wall_clock)
        self.access_rules = _access_rules(self.server)

    def apply_settings(self, server: ServerConfig) -> None:
        """These are the rules of the house from the next request on."""
        self.server, self.access_rules = server, _access_rules(server)
        for told in self.on_settings:
            told(server)

    def speech_finished(
        self, request: RequestContext, door: str, order: SpeechOrder, account: ReportedUtterance
    ) -> None:
        """Tell everybody that an utterance is over."""
        for observer in self.observers:
            observer.speech_finished(request, door, order, account)

    def seconds_until_retry(self) -> float | None:
        """Seconds until somebody may be asked again; None while somebody may be now, or if nobody knows."""
        states = self.service.get_error_state()["providers"].values()
        waits = [state["retry_after"] for state in states if state["retry_after"] is not None]
        return min(waits) if all(state["is_muted"] for state in states) and waits else None

    def log_internal_error(self, request: RequestContext, error: Exception) -> None:
        """Something of ours went wrong: the log gets all of it, the caller only that it did."""
        log.error("request %s: %s", request.request_id, error, exc_info=error)

    def stop(self) -> None:
        """The gateway is about to stop: nobody new is let in, and whoever waits for news has heard all."""
        self.closing = True
        while self.on_stop:
            self.on_stop.pop()()
        self.event_log.close()

    def leave(self) -> None:
        """The gateway has stopped: let go of the service, which may live on."""
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
