"""Who does something by hand: noted with whatever comes of it, wherever that is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Author:
    """Somebody at an admin door, or a signal. `leave` is what let them in."""

    address: str | None
    leave: str
    request_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.address or 'this machine'} ({self.leave})"


_acting: ContextVar[Author | None] = ContextVar("steadyvoice_author", default=None)


def acting() -> Author | None:
    """Who does what is happening now; nobody, when it happens by itself."""
    return _acting.get()


@contextmanager
def by(author: Author) -> Iterator[None]:
    """What happens inside is this one's doing."""
    token = _acting.set(author)
    try:
        yield
    finally:
        _acting.reset(token)
