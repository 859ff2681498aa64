"""The truth about every request: what was asked, what it was charged, how it ended, and when."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

MAX_ENTRIES = 10_000
"""How many requests are remembered; the totals are of all."""


class Ending(Enum):
    """How a request ended, as seen by the vendor."""

    RUNNING = "running"
    COMPLETED = "completed"  # the vendor sent all it meant to, good or bad
    REFUSED = "refused"  # with an HTTP error
    CUT = "cut"  # the vendor hung up; `fault` says by which fault
    CLIENT_LEFT = "client left"
    CLOSED = "simulator closed"


@dataclass(slots=True, eq=False)
class LedgerEntry:
    """One request. Times are seconds since the simulator started; `None` is not yet, or never."""

    number: int
    endpoint: str
    received: float
    voice: str | None = None
    model: str | None = None
    characters: int = 0
    charged: int = 0
    fault: str | None = None
    status: int | None = None
    ending: Ending = Ending.RUNNING
    request_id: str | None = None
    accepted: float | None = None
    first_byte: float | None = None
    ended: float | None = None
    bytes_sent: int = 0
    audio_sent: float = 0.0  # seconds

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "ending": self.ending.value}


class RequestLedger:
    """The requests in the order they came, the latest `KEPT` of them; and the sum of all."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._entries: deque[LedgerEntry] = deque(maxlen=MAX_ENTRIES)
        self.requests = 0
        self.charged = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[LedgerEntry]:
        return iter(self._entries)

    def __getitem__(self, index: int) -> LedgerEntry:
        return self._entries[index]

    def open(self, endpoint: str) -> LedgerEntry:
        """Begin the entry of a request that has just come."""
        self.requests += 1
        entry = LedgerEntry(self.requests, endpoint, self._now())
        self._entries.append(entry)
        return entry

    def charge(self, entry: LedgerEntry, characters: int) -> None:
        """Note that it was accepted, and what that costs. A websocket's texts add up."""
        if entry.accepted is None:
            entry.accepted = self._now()
        entry.charged += characters
        self.charged += characters

    def sent(self, entry: LedgerEntry, count: int, heard: float) -> None:
        """Note bytes of a body on their way, up to which second of the audio."""
        if entry.first_byte is None:
            entry.first_byte = self._now()
        entry.bytes_sent += count
        entry.audio_sent = max(entry.audio_sent, heard)

    def end(self, entry: LedgerEntry, ending: Ending) -> None:
        """Note how it ended. What comes later changes nothing."""
        if entry.ending is Ending.RUNNING:
            entry.ending = ending
            entry.ended = self._now()

    @contextmanager
    def witnessed(self, entry: LedgerEntry) -> Iterator[None]:
        """Note what ends the serving of a request before its time. A client that has left is no error."""
        try:
            yield
        except asyncio.CancelledError:  # aiohttp cancels us when the connection is gone
            self.end(entry, Ending.CLIENT_LEFT)
            raise
        except ConnectionError:
            self.end(entry, Ending.CLIENT_LEFT)
        except BaseException:
            self.end(entry, Ending.CUT)
            raise

    def close(self) -> None:
        """Note that nothing more will come of what is running."""
        for entry in self._entries:
            self.end(entry, Ending.CLOSED)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        totals = {"requests": self.requests, "charged": self.charged}
        return {"totals": totals, "requests": [entry.as_dict() for entry in self._entries]}
