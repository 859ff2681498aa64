"""Ledger of all requests: voice, model, characters charged, fault, ending and times of each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

MAX_ENTRIES = 10_000
"""Maximum number of requests that are kept. The totals count all requests."""


class Ending(Enum):
    """Ending of a request, as seen by the vendor."""

    RUNNING = "running"  # not yet ended
    COMPLETED = "completed"  # the vendor sent everything it meant to, with or without a fault
    REFUSED = "refused"  # with an HTTP error
    CUT = "cut"  # the vendor ended it early; `fault` names the reason
    CLIENT_LEFT = "client left"  # the client closed the connection first
    CLOSED = "simulator closed"  # the simulator was closed first


@dataclass(slots=True, eq=False)
class LedgerEntry:
    """Entry of one request. Times are seconds since the simulator started; None is not yet, or never."""

    number: int  # number of the request, from 1
    endpoint: str  # path without its version, voice and query
    received: float  # seconds at which the head arrived
    voice: str | None = None  # the vendor's id
    model: str | None = None  # the vendor's id
    characters: int = 0  # characters of the text
    charged: int = 0  # characters that were billed
    fault: str | None = None  # name of the fault that was applied
    status: int | None = None  # HTTP status of the response
    ending: Ending = Ending.RUNNING  # how the request ended
    request_id: str | None = None  # request id in the response
    accepted: float | None = None  # seconds at which it was accepted and billed
    first_byte: float | None = None  # seconds at which the first audio was sent
    ended: float | None = None  # seconds at which it ended
    bytes_sent: int = 0  # bytes of the body
    audio_sent: float = 0.0  # seconds of audio in them

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {**asdict(self), "ending": self.ending.value}


class RequestLedger:
    """Requests in the order of their arrival, the latest `MAX_ENTRIES` of them, and the totals of all.

    `now` returns the seconds since the simulator started.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        # Bounded, so that a load test does not fill the memory.
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
        """Return the new entry of a request that has just arrived."""
        self.requests += 1
        entry = LedgerEntry(self.requests, endpoint, self._now())
        self._entries.append(entry)
        return entry

    def charge(self, entry: LedgerEntry, characters: int) -> None:
        """Record that a request was accepted, and its characters. Those of a websocket's texts add up."""
        if entry.accepted is None:
            entry.accepted = self._now()
        entry.charged += characters
        self.charged += characters

    def sent(self, entry: LedgerEntry, count: int, audio_end: float) -> None:
        """Record bytes of a body that were sent, and the second of audio that they reach."""
        if entry.first_byte is None:
            entry.first_byte = self._now()
        entry.bytes_sent += count
        entry.audio_sent = max(entry.audio_sent, audio_end)

    def end(self, entry: LedgerEntry, ending: Ending) -> None:
        """Record the ending of a request. Only the first one counts."""
        if entry.ending is Ending.RUNNING:
            entry.ending = ending
            entry.ended = self._now()

    @contextmanager
    def track(self, entry: LedgerEntry) -> Iterator[None]:
        """Record an early end of the request that is handled in the body. A client that left is not an error."""
        try:
            yield
        # aiohttp cancels the handler when the client closes its connection.
        except asyncio.CancelledError:
            self.end(entry, Ending.CLIENT_LEFT)
            raise
        except ConnectionError:
            self.end(entry, Ending.CLIENT_LEFT)
        except BaseException:
            self.end(entry, Ending.CUT)
            raise

    def close(self) -> None:
        """Record the end of all requests that are still running."""
        for entry in self._entries:
            self.end(entry, Ending.CLOSED)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        totals = {"requests": self.requests, "charged": self.charged}
        return {"totals": totals, "requests": [entry.as_dict() for entry in self._entries]}
