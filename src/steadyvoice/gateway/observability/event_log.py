"""Event log: numbered entries of what happened lately, for any number of readers.

The log holds a bounded number of entries, and a reader holds only a number: a reader that is too slow misses entries
and is told how many. Calls are kept apart from the rest, so that a busy minute does not push out why a circuit opened.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from steadyvoice.gateway.http import to_json
from steadyvoice.gateway.request_context import Actor, current_actor
from steadyvoice.service.error_state import to_iso8601
from steadyvoice.speech.text import escape_surrogates

CALLS_KEPT = 500
OTHERS_KEPT = 500
_CALL_KINDS = frozenset({"call", "calls"})
CALLS_SENT_AFTER = 0.1
"""Seconds until a worker sends calls to the others: each message costs all processes more than its content."""


Facts = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Facts of an entry that do not change any more, or a function that returns them."""


class EventLogEntry:
    """Numbered entry of the event log."""

    __slots__ = ("_actor", "_at", "_data", "_facts", "kind", "number")

    def __init__(self, number: int, kind: str, facts: Facts, at: float, actor: Actor | None) -> None:
        self.number, self.kind = number, kind
        self._facts, self._at, self._actor = facts, at, actor
        self._data: str | None = None

    @classmethod
    def encoded(cls, number: int, kind: str, data: str) -> EventLogEntry:
        """Return an entry whose JSON is known."""
        entry = cls(number, kind, {}, 0.0, None)
        entry._data = data
        return entry

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

    max_lag = 0  # entries that another process may have shown already, and that are not here yet

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


NewEntry = tuple[str, str, tuple[str, str, str] | None]
"""Kind and JSON of an entry, and circuit and both states if it is about a transition."""


class SharedLog(Protocol):
    """Event log of all workers: entries are numbered elsewhere, and come back."""

    edition: str
    entries: list[tuple[int, str, str]]
    on_entry: Callable[[int, str, str], None]

    @property
    def writes_entries(self) -> bool:
        """False while this worker carries out what another one writes into the log."""
        ...

    def add_entries(self, entries: Sequence[NewEntry]) -> None:
        """Add entries to the log of all workers."""
        ...


class WorkerEventLog(EventLog):
    """Event log that all workers share, as one of them has it: with the same numbers at each."""

    max_lag = 1000

    def __init__(self, wall_clock: Callable[[], float], shared: SharedLog) -> None:
        super().__init__(wall_clock)
        self.edition, self._shared = shared.edition, shared
        self._unsent: list[tuple[EventLogEntry, tuple[str, str, str] | None]] = []
        self._timer: asyncio.TimerHandle | None = None
        for entry in shared.entries:
            self._receive(*entry)
        shared.on_entry = self._receive

    def add(self, kind: str, facts: Facts) -> None:
        """Send an entry to all workers, this one included. Calls are sent a moment later, several at once."""
        if not self._shared.writes_entries:
            return
        # By the time at which it happened, whenever it gets its number.
        entry = EventLogEntry(0, kind, facts, self._wall_clock(), current_actor())
        self._unsent.append((entry, None if callable(facts) else _change_of_all(kind, facts)))
        if kind not in _CALL_KINDS:
            self._send()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CALLS_SENT_AFTER, self._send)

    def close(self) -> None:
        """Send what is left, and end all readers."""
        self._send()
        super().close()

    def _send(self) -> None:
        if self._timer:
            self._timer.cancel()
        unsent, self._unsent, self._timer = self._unsent, [], None
        if unsent:
            self._shared.add_entries([(entry.kind, entry.data, transition) for entry, transition in unsent])

    def _receive(self, number: int, kind: str, data: str) -> None:
        self.last = number
        (self._calls if kind in _CALL_KINDS else self._others).append(EventLogEntry.encoded(number, kind, data))
        if self._readers:
            self._wake()


def _change_of_all(kind: str, facts: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return by what a change of a circuit is known to be the same at all workers; None for other entries."""
    match kind:
        case "transition":
            return facts["provider"], facts["from"], facts["to"]
        case "config" if facts["provider"] is not None:
            return facts["provider"], kind, str(facts["after"])
    return None
