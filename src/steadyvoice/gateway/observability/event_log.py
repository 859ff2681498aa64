"""Event log: numbered entries of what happened lately, for any number of readers.

The log holds a bounded number of entries, and a reader holds only a number: a reader that is too slow misses entries
and is told how many. Calls are kept apart from the rest, so that a busy minute does not push out why a circuit opened.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from steadyvoice.gateway.http import to_json
from steadyvoice.gateway.request_context import Actor, current_actor
from steadyvoice.service.error_state import to_iso8601
from steadyvoice.speech.text import escape_surrogates

CALLS_KEPT = 500
OTHERS_KEPT = 500
_CALL_KINDS = frozenset({"call", "calls"})


Facts = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Facts of an entry that do not change any more, or a function that returns them."""


class EventLogEntry:
    """Numbered entry of the event log."""

    __slots__ = ("_actor", "_at", "_data", "_facts", "kind", "number")

    def __init__(self, number: int, kind: str, facts: Facts, at: float, actor: Actor | None) -> None:
        self.number, self.kind = number, kind
        self._facts, self._at, self._actor = facts, at, actor
        self._data: str | None = None

    @property
    def data(self) -> str:
        """Entry as one line of JSON that can be encoded as UTF-8.

        Formatted when it is first read: most entries are calls, which on most gateways have no reader.
        """
        if self._data is None:
            facts = self._facts() if callable(self._facts) else self._facts
            entry = {"at": to_iso8601(datetime.fromtimestamp(self._at, UTC)), **facts}
            if self._actor:
                entry["by"] = self._actor
            # Unpaired surrogates are escaped: a reader that failed over them would fail at each reconnect again.
            self._data = escape_surrogates(json.dumps(to_json(entry), ensure_ascii=False, separators=(",", ":")))
            self._facts = {}
        return self._data


class EventLog:
    """Event log of one gateway. `wall_clock` is the time of day in seconds since 1970.

    `edition` distinguishes this process, whose numbers mean nothing to another; `last` is the newest entry's number.
    """

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self.edition = secrets.token_hex(4)
        self.last = 0
        self.closed = False
        self._wall_clock = wall_clock
        self._calls: deque[EventLogEntry] = deque(maxlen=CALLS_KEPT)
        self._others: deque[EventLogEntry] = deque(maxlen=OTHERS_KEPT)
        self._news = asyncio.Event()
        self._readers = 0  # waiting for the next entry

    def add(self, kind: str, facts: Facts) -> None:
        """Add an entry with the time of day and, for an admin action, its user."""
        self.last += 1
        entry = EventLogEntry(self.last, kind, facts, self._wall_clock(), current_actor())
        (self._calls if kind in _CALL_KINDS else self._others).append(entry)
        if self._readers:
            self._wake()

    def since(self, number: int) -> tuple[list[EventLogEntry], int]:
        """Return the entries after this number, in order, and how many of them are no longer kept."""
        found = [entry for entries in (self._calls, self._others) for entry in entries if entry.number > number]
        found.sort(key=lambda entry: entry.number)
        return found, self.last - number - len(found)

    async def wait_for_news(self, number: int) -> None:
        """Wait for an entry after this number, or until the log is closed."""
        self._readers += 1
        try:
            while self.last <= number and not self.closed:
                await self._news.wait()
        finally:
            self._readers -= 1

    def close(self) -> None:
        """End all readers; no further entries follow."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
