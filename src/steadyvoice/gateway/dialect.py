"""What every dialect can do: read an order, and put an answer that is not audio in its own words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from steadyvoice.gateway.guard import Denial
from steadyvoice.gateway.order import Asked, Order
from steadyvoice.gateway.reply import Reply
from steadyvoice.gateway.trouble import Trouble
from steadyvoice.service.spoken import Account
from steadyvoice.wire.request_validation import ValidationIssue


class Words(Protocol):
    """In which to turn somebody away."""

    def denied(self, denial: Denial, request_id: str) -> Reply:
        """Answer that the caller may not come in, or that nobody is at home at this path."""
        ...


class Dialect(Words, Protocol):
    """One vendor's way of asking and answering."""

    name: str

    @property
    def order(self) -> Callable[[Asked], Order]:
        """Reads what is asked for. Raises RequestValidationError and TTSError."""
        ...

    def audio_headers(self, order: Order, account: Account, request_id: str) -> dict[str, str]:
        """What goes before audio, besides its type: as much as is known by then."""
        ...

    def trouble(self, trouble: Trouble, request_id: str) -> Reply:
        """Answer that it could not be spoken."""
        ...

    def unreadable(self, issues: Sequence[ValidationIssue], request_id: str) -> Reply:
        """Answer that the request makes no sense."""
        ...
