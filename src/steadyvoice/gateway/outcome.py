"""How a call ended for its caller: as the service says, unless they hung up before the end."""

from __future__ import annotations

from typing import Literal

from steadyvoice.gateway.exchange import Exchange
from steadyvoice.service.spoken import Account, Outcome

Ending = Outcome | Literal["abandoned"]


def ending(exchange: Exchange, account: Account) -> Ending:
    """The service's word for it; `abandoned` when nothing went wrong, and nobody listened to the end."""
    if account.spoken.error is None and not exchange.complete:
        return "abandoned"
    return account.outcome
