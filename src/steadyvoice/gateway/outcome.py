"""Outcome of a call as its client saw it."""

from __future__ import annotations

from steadyvoice.gateway.exchange import Exchange
from steadyvoice.service.spoken import Account, Outcome


def ending(exchange: Exchange, account: Account) -> Outcome:
    """Return the service's outcome, or `interrupted` when the client left before the end of the answer was sent."""
    if account.spoken.error is None and not exchange.complete:
        return "interrupted"
    return account.outcome
