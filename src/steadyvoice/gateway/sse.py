"""`GET /admin/events`: the journal as server-sent events, for as long as somebody reads.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator

from steadyvoice._version import __version__
from steadyvoice.gateway.ask import Ask
from steadyvoice.gateway.exchange import Exchange
from steadyvoice.gateway.hangup import UntilHangup
from steadyvoice.gateway.house import House
from steadyvoice.gateway.journal import Entry, Journal
from steadyvoice.gateway.refusal import RefusedError
from steadyvoice.gateway.reply import ClientGoneError, Receive, Scope, Send, raw_headers

HEARTBEAT = 15.0  # seconds of silence after which a comment tells that the line still stands
MOST_READERS = 64
_PATIENCE = 10.0  # seconds: whoever takes longer to take something is dropped
_BATCH = 32 * 1024  # bytes that wait in memory for one reader, more or less
_COME_BACK = 2000  # milliseconds after which a browser is to connect again

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx in between is not to collect them
}


class EventsDoor:
    """An ASGI application."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._readers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ask = Ask(self._house, scope, receive)
        try:
            last_id = last_seen(ask)
            self._check()
        except RefusedError as refused:
            await refused.reply(scope, receive, send)
            return
        self._readers += 1
        try:
            async with UntilHangup(scope, receive):
                await self._read(ask.exchange, last_id, head_only=scope["method"] == "HEAD")
        except (ClientGoneError, TimeoutError):
            pass  # whoever does not take what comes is hung up on by the server, for there was no end
        finally:
            self._readers -= 1

    def _check(self) -> None:
        if self._readers >= MOST_READERS:
            raise RefusedError(503, "too_many_readers", f"{MOST_READERS} read already, and that is all there may be")

    async def _read(self, exchange: Exchange, last_id: str | None, *, head_only: bool) -> None:
        await exchange.send({"type": "http.response.start", "status": 200, "headers": raw_headers(_HEADERS)})
        journal = self._house.journal
        number, first = beginning(journal, last_id)
        await _give(exchange, first)
        while not (journal.closed or head_only):
            if journal.last == number:
                await _give(exchange, await _quiet(journal, number))
                continue
            entries, lost = journal.since(number)
            number = journal.last
            for batch in written(journal, entries, lost):
                await _give(exchange, batch)
        bye = b"" if head_only else _event("closing", "{}")
        await exchange.send({"type": "http.response.body", "body": bye})


def last_seen(ask: Ask) -> str | None:
    """Up to where somebody has read before: a browser says it by itself, others may in the query."""
    said = ask.exchange.headers.get(b"last-event-id")
    return said.decode("latin-1") if said else ask.word("last_event_id")


def beginning(journal: Journal, last_id: str | None) -> tuple[int, bytes]:
    """The number to go on from, and what a reader is told first. `0` asks for everything that is kept."""
    if last_id is None:
        return journal.last, _hello(journal, journal.last)
    if last_id == "0":
        return 0, _hello(journal, 0)
    edition, _, number = last_id.partition("-")
    last = int(number) if number.isascii() and number.isdigit() and len(number) < 19 else None
    if edition == journal.edition and last is not None and last <= journal.last:
        return last, _hello(journal, last)
    # It is another process's, which may have told much that nobody here knows of.
    return 0, _hello(journal, 0) + _event("lost", json.dumps({"entries": None, "why": "the gateway was restarted"}))


def written(journal: Journal, entries: Iterable[Entry], lost: int) -> Iterator[bytes]:
    """Entries as they go over the wire, a batch at a time; first, that some are missing."""
    batch = bytearray()
    if lost:
        batch += _event("lost", json.dumps({"entries": lost, "why": "they are kept only for a while"}))
    for entry in entries:
        batch += _event(entry.kind, entry.data, f"{journal.edition}-{entry.number}")
        if len(batch) > _BATCH:
            yield bytes(batch)
            batch.clear()
    yield bytes(batch)


async def _quiet(journal: Journal, number: int) -> bytes:
    """Wait for news; a heartbeat, if there are none."""
    try:
        async with asyncio.timeout(HEARTBEAT):
            await journal.news(number)
    except TimeoutError:
        return b": nothing new\n\n"
    return b""


async def _give(exchange: Exchange, data: bytes) -> None:
    """Send, to who takes it in time. Raises TimeoutError."""
    if data:
        async with asyncio.timeout(_PATIENCE):
            await exchange.send({"type": "http.response.body", "body": data, "more_body": True})


def _hello(journal: Journal, number: int) -> bytes:
    told = json.dumps({"version": __version__, "edition": journal.edition})
    return f"retry: {_COME_BACK}\n".encode() + _event("hello", told, f"{journal.edition}-{number}")


def _event(kind: str, data: str, id: str | None = None) -> bytes:
    named = f"id: {id}\n" if id else ""
    return f"{named}event: {kind}\ndata: {data}\n\n".encode()
