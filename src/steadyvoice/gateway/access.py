"""The access log: one line of JSON for every request, once it is over, to the logger `steadyvoice.access`.

It holds no query, no header and no text, unless `log_texts` asks for the texts: what people have spoken is theirs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from steadyvoice.gateway.crowd import TurnedAway
from steadyvoice.gateway.exchange import Exchange
from steadyvoice.gateway.house import House
from steadyvoice.gateway.order import Order
from steadyvoice.gateway.outcome import ending
from steadyvoice.service.error_state import iso
from steadyvoice.service.spoken import Account
from steadyvoice.speech.errors import TTSError

ACCESS = "steadyvoice.access"
log = logging.getLogger(ACCESS)

_MOST_PATH = 300
_MOST_TEXT = 2_000


class AccessLog:
    """Writes down every request, as long as the settings want it."""

    def __init__(self, house: House) -> None:
        self._house = house

    def spoken(self, exchange: Exchange, door: str, order: Order, account: Account) -> None:
        """An utterance is over; its request is soon."""
        if self._wanted:
            exchange.told |= _of_speech(exchange, door, order, account)
            if self._house.server.log_texts:
                exchange.told["text"] = order.text[:_MOST_TEXT]

    def answered(self, exchange: Exchange) -> None:
        """A request is over."""
        if self._wanted:
            self._write(self._of_request(exchange) | exchange.told)

    def turned_away(self, who: TurnedAway) -> None:
        """Somebody did not get as far as the doors."""
        if self._wanted:
            self._write(
                {
                    "request_id": who.request_id,
                    "client": who.client[0] if who.client else None,
                    "method": None,
                    "path": None,
                    "status": who.refusal.status,
                    "bytes": who.bytes,
                    "seconds": round(who.seconds, 4),
                    "first_byte": None,
                    "complete": True,
                    "refused": who.refusal.told,
                }
            )

    def _write(self, facts: Mapping[str, Any]) -> None:
        at = iso(datetime.fromtimestamp(self._house.wall_clock(), UTC))
        log.info("%s", json.dumps({"at": at, **facts}, separators=(",", ":")))

    @property
    def _wanted(self) -> bool:
        return self._house.server.access_log and log.isEnabledFor(logging.INFO)

    def _of_request(self, exchange: Exchange) -> dict[str, Any]:
        """`status` is null when nobody was there to be answered; `complete`, whether all of the answer was sent."""
        client = exchange.scope.get("client")
        now = self._house.clock()
        return {
            "request_id": exchange.request_id,
            "client": client[0] if client else None,
            "method": exchange.scope["method"],
            "path": exchange.scope["path"][:_MOST_PATH],
            "status": exchange.status,
            "bytes": exchange.bytes_sent,
            "seconds": round(now - exchange.at, 4),
            "first_byte": None if exchange.began_at is None else round(exchange.began_at - exchange.at, 4),
            "complete": exchange.complete,
        }


def _of_speech(exchange: Exchange, door: str, order: Order, account: Account) -> dict[str, Any]:
    """Add the outcome; `interrupted` when the caller hung up."""
    error = account.spoken.error
    return {
        "door": door,
        "outcome": ending(exchange, account),
        "provider": account.provider,
        "error": error.kind.value if isinstance(error, TTSError) else None,
        "attempts": len(account.spoken.attempts),
        "characters": len(order.text),
        "audio_seconds": round(account.duration, 3),
    }
