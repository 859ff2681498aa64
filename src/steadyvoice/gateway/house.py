"""What all the doors share: the service, the rules of the house, and whoever is told what happens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from steadyvoice.gateway.crowd import TurnedAway
from steadyvoice.gateway.exchange import Exchange
from steadyvoice.gateway.guard import Rules, normal_origins
from steadyvoice.gateway.journal import Journal
from steadyvoice.gateway.order import Order
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.service.settings import Server
from steadyvoice.service.spoken import Account

log = logging.getLogger("steadyvoice.gateway")


class Watcher(Protocol):
    """Somebody who is told what became of every request: metrics, the log, the list of recent calls."""

    def spoken(self, exchange: Exchange, door: str, order: Order, account: Account) -> None:
        """An utterance is over, well or not."""
        ...

    def answered(self, exchange: Exchange) -> None:
        """A request of any kind is over."""
        ...


class Traffic(NamedTuple):
    """What is open now."""

    connections: int = 0
    requests: int = 0


@dataclass
class House:
    """One gateway's own. `clock` gives seconds that never go back; `wall_clock` is the time of day, since 1970."""

    service: AsyncTTSService
    server: Server = field(default_factory=Server)
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    watchers: list[Watcher] = field(default_factory=list)
    adopting: list[Callable[[Server], None]] = field(default_factory=list)  # to be told of other rules
    stopping: list[Callable[[], None]] = field(default_factory=list)  # to be called before it stops
    leaving: list[Callable[[], None]] = field(default_factory=list)  # to be called when the gateway has stopped
    traffic: Callable[[], Traffic] = Traffic
    turned_away: Callable[[TurnedAway], None] = lambda who: None  # to be told of whoever never got to the doors
    closing: bool = False  # nobody new is let in
    journal: Journal = field(init=False)
    rules: Rules = field(init=False)  # who may come in

    def __post_init__(self) -> None:
        self.journal = Journal(self.wall_clock)
        self.rules = _rules_of(self.server)

    def adopt(self, server: Server) -> None:
        """These are the rules of the house from the next request on."""
        self.server, self.rules = server, _rules_of(server)
        for told in self.adopting:
            told(server)

    def spoken(self, exchange: Exchange, door: str, order: Order, account: Account) -> None:
        """Tell everybody that an utterance is over."""
        for watcher in self.watchers:
            watcher.spoken(exchange, door, order, account)

    def soonest(self) -> float | None:
        """Seconds until somebody may be asked again; None while somebody may be now, or if nobody knows."""
        states = self.service.get_error_state()["providers"].values()
        waits = [state["retry_after"] for state in states if state["retry_after"] is not None]
        return min(waits) if all(state["is_muted"] for state in states) and waits else None

    def broken(self, exchange: Exchange, error: Exception) -> None:
        """Something of ours went wrong: the log gets all of it, the caller only that it did."""
        log.error("request %s: %s", exchange.request_id, error, exc_info=error)

    def stop(self) -> None:
        """The gateway is about to stop: nobody new is let in, and whoever waits for news has heard all."""
        self.closing = True
        while self.stopping:
            self.stopping.pop()()
        self.journal.close()

    def leave(self) -> None:
        """The gateway has stopped: let go of the service, which may live on."""
        while self.leaving:
            self.leaving.pop()()


def _rules_of(server: Server) -> Rules:
    return Rules(
        api_keys=tuple(key.encode() for key in server.api_keys),
        admin_token=server.admin_token.encode() if server.admin_token else None,
        allowed_origins=normal_origins(server.allowed_origins),
        allowed_hosts=frozenset(host.lower() for host in (*server.allowed_hosts, server.host)),
        open_to_all=not server.is_local,
        metrics_for_admins=server.metrics == "admin",
    )
