"""`GET /admin/events`: the event log as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator

from steadyvoice._version import __version__
from steadyvoice.gateway.admin.request import AdminRequest, AdminRequestError
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.http import CancelOnDisconnect, ClientDisconnectedError, Receive, Scope, Send, raw_headers
from steadyvoice.gateway.observability.event_log import EventLog, EventLogEntry
from steadyvoice.gateway.request_context import RequestContext

HEARTBEAT = 15.0  # seconds of silence after which a comment tells that the line still stands
MAX_READERS = 64
_WRITE_TIMEOUT = 10.0  # seconds: whoever takes longer to take something is dropped
_BATCH_BYTES = 32 * 1024  # bytes that wait in memory for one reader, more or less
_RETRY_MILLISECONDS = 2000  # milliseconds after which a browser is to connect again

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx in between is not to collect them
}


class EventStreamEndpoint:
    """An ASGI application."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._readers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = AdminRequest(self._context, scope, receive)
        try:
            last_id = last_event_id(request)
            self._check()
        except AdminRequestError as refused:
            await refused.reply(scope, receive, send)
            return
        self._readers += 1
        try:
            async with CancelOnDisconnect(scope, receive):
                await self._read(request.request_context, last_id, head_only=scope["method"] == "HEAD")
        except (ClientDisconnectedError, TimeoutError):
            pass  # whoever does not take what comes is hung up on by the server, for there was no end
        finally:
            self._readers -= 1

    def _check(self) -> None:
        if self._readers >= MAX_READERS:
            raise AdminRequestError(
                503, "too_many_readers", f"{MAX_READERS} read already, and that is all there may be"
            )

    async def _read(self, request: RequestContext, last_id: str | None, *, head_only: bool) -> None:
        await request.send({"type": "http.response.start", "status": 200, "headers": raw_headers(_HEADERS)})
        journal = self._context.event_log
        number, first = start_position(journal, last_id)
        await _send(request, first)
        while not (journal.closed or head_only):
            if journal.last == number:
                await _send(request, await _wait_for_news(journal, number))
                continue
            entries, lost = journal.since(number)
            number = journal.last
            for batch in encode_entries(journal, entries, lost):
                await _send(request, batch)
        bye = b"" if head_only else _event("closing", "{}")
        await request.send({"type": "http.response.body", "body": bye})


def last_event_id(request: AdminRequest) -> str | None:
    """Up to where somebody has read before: a browser says it by itself, others may in the query."""
    said = request.request_context.headers.get(b"last-event-id")
    return said.decode("latin-1") if said else request.word("last_event_id")


def start_position(journal: EventLog, last_id: str | None) -> tuple[int, bytes]:
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


def encode_entries(journal: EventLog, entries: Iterable[EventLogEntry], lost: int) -> Iterator[bytes]:
    """Entries as they go over the wire, a batch at a time; first, that some are missing."""
    batch = bytearray()
    if lost:
        batch += _event("lost", json.dumps({"entries": lost, "why": "they are kept only for a while"}))
    for entry in entries:
        batch += _event(entry.kind, entry.data, f"{journal.edition}-{entry.number}")
        if len(batch) > _BATCH_BYTES:
            yield bytes(batch)
            batch.clear()
    yield bytes(batch)


async def _wait_for_news(journal: EventLog, number: int) -> bytes:
    """Wait for news; a heartbeat, if there are none."""
    try:
        async with asyncio.timeout(HEARTBEAT):
            await journal.news(number)
    except TimeoutError:
        return b": nothing new\n\n"
    return b""


async def _send(request: RequestContext, data: bytes) -> None:
    """Send, to who takes it in time. Raises TimeoutError."""
    if data:
        async with asyncio.timeout(_WRITE_TIMEOUT):
            await request.send({"type": "http.response.body", "body": data, "more_body": True})


def _hello(journal: EventLog, number: int) -> bytes:
    told = json.dumps({"version": __version__, "edition": journal.edition})
    return f"retry: {_RETRY_MILLISECONDS}\n".encode() + _event("hello", told, f"{journal.edition}-{number}")


def _event(kind: str, data: str, id: str | None = None) -> bytes:
    named = f"id: {id}\n" if id else ""
    return f"{named}event: {kind}\ndata: {data}\n\n".encode()
