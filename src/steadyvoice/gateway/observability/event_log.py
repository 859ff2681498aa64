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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from steadyvoice.gateway.json_values import to_json
from steadyvoice.gateway.request_context import current_actor
from steadyvoice.service.error_state import to_iso8601
from steadyvoice.speech.text import escape_surrogates

CALLS_KEPT = 500
OTHERS_KEPT = 500
_CALL_KINDS = frozenset({"call", "calls"})


@dataclass(frozen=True, slots=True)
class EventLogEntry:
    """One thing that happened; `data` is JSON, in one line, that can be encoded."""

    number: int
    kind: str
    data: str


class EventLog:
    """One gateway's. `wall_clock` is the time of day, in seconds since 1970."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self.edition = secrets.token_hex(4)  # numbers of another process mean nothing here
        self.last = 0
        self.closed = False
        self._wall_clock = wall_clock
        self._calls: deque[EventLogEntry] = deque(maxlen=CALLS_KEPT)
        self._rest: deque[EventLogEntry] = deque(maxlen=OTHERS_KEPT)
        self._news = asyncio.Event()

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Write down what has happened, when, and whose doing it was."""
        author = current_actor()
        told = {"at": to_iso8601(datetime.fromtimestamp(self._wall_clock(), UTC)), **facts}
        if author:
            told["by"] = author
        self.last += 1
        # What cannot be encoded is escaped here, once: a reader that failed over it would fail at each reconnect again.
        data = escape_surrogates(json.dumps(to_json(told), ensure_ascii=False, separators=(",", ":")))
        entry = EventLogEntry(self.last, kind, data)
        (self._calls if kind in _CALL_KINDS else self._rest).append(entry)
        self._wake()

    def since(self, number: int) -> tuple[list[EventLogEntry], int]:
        """All that came after, in order, and how many of them are not here any more."""
        found = [entry for page in (self._calls, self._rest) for entry in page if entry.number > number]
        found.sort(key=lambda entry: entry.number)
        return found, self.last - number - len(found)

    async def news(self, number: int) -> None:
        """Wait until something came after that, or nothing will any more."""
        while self.last <= number and not self.closed:
            await self._news.wait()

    def close(self) -> None:
        """There will be no more."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
