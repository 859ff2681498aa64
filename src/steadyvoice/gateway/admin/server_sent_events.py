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

HEARTBEAT = 15.0  # seconds without an event after which a comment shows that the connection is alive
MAX_READERS = 64
_WRITE_TIMEOUT = 10.0  # seconds after which a reader that does not read is dropped
_BATCH_BYTES = 32 * 1024  # that wait in memory for one reader, approximately
_RETRY_MILLISECONDS = 2000  # after which a browser reconnects

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    # nginx would collect events in its buffer.
    "x-accel-buffering": "no",
}


class EventStreamEndpoint:
    """ASGI application that streams the event log to a bounded number of readers."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._readers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = AdminRequest(self._context, scope, receive)
        try:
            last_id = last_event_id(request)
            self._check_limit()
        except AdminRequestError as error:
            await error.response(scope, receive, send)
            return
        self._readers += 1
        try:
            async with CancelOnDisconnect(scope, receive):
                await self._stream(request.request_context, last_id, head_only=scope["method"] == "HEAD")
        except (ClientDisconnectedError, TimeoutError):
            pass  # the response has no end, so the server closes the connection
        finally:
            self._readers -= 1

    def _check_limit(self) -> None:
        if self._readers >= MAX_READERS:
            message = f"too many event streams: the limit is {MAX_READERS}"
            raise AdminRequestError(503, "too_many_readers", message)

    async def _stream(self, request: RequestContext, last_id: str | None, *, head_only: bool) -> None:
        await request.send({"type": "http.response.start", "status": 200, "headers": raw_headers(_HEADERS)})
        event_log = self._context.event_log
        number, first = start_position(event_log, last_id)
        await _send(request, first)
        while not (event_log.closed or head_only):
            if event_log.last <= number:
                await _send(request, await _wait_for_news(event_log, number))
                continue
            entries, lost = event_log.since(number)
            number = event_log.last
            for batch in encode_entries(event_log, entries, lost):
                await _send(request, batch)
        closing = b"" if head_only else _event("closing", "{}")
        await request.send({"type": "http.response.body", "body": closing})


def last_event_id(request: AdminRequest) -> str | None:
    """Return the id of the last event that a client has seen: from a browser's header, or the query."""
    header = request.request_context.headers.get(b"last-event-id")
    return header.decode("latin-1") if header else request.text("last_event_id")


def start_position(event_log: EventLog, last_id: str | None) -> tuple[int, bytes]:
    """Return the entry number to continue after, and the first events. The id `0` asks for all kept entries."""
    if last_id is None:
        return event_log.last, _hello(event_log, event_log.last)
    if last_id == "0":
        return 0, _hello(event_log, 0)
    edition, _, number = last_id.partition("-")
    last = int(number) if number.isascii() and number.isdigit() and len(number) < 19 else None
    if edition == event_log.edition and last is not None and last <= event_log.last + event_log.max_lag:
        return last, _hello(event_log, last)
    # The id is another process's, whose later events are lost in an unknown number.
    lost = _event("lost", json.dumps({"entries": None, "reason": "the gateway was restarted"}))
    return 0, _hello(event_log, 0) + lost


def encode_entries(event_log: EventLog, entries: Iterable[EventLogEntry], lost: int) -> Iterator[bytes]:
    """Encode entries as server-sent events, in batches; first, the number of entries that are missing."""
    batch = bytearray()
    if lost:
        batch += _event("lost", json.dumps({"entries": lost, "reason": "the log is limited, and this reader was late"}))
    for entry in entries:
        batch += _event(entry.kind, entry.data, f"{event_log.edition}-{entry.number}")
        if len(batch) > _BATCH_BYTES:
            yield bytes(batch)
            batch.clear()
    yield bytes(batch)


async def _wait_for_news(event_log: EventLog, number: int) -> bytes:
    """Wait for new entries; return a heartbeat comment if there are none in time."""
    try:
        async with asyncio.timeout(HEARTBEAT):
            await event_log.wait_for_news(number)
    except TimeoutError:
        return b": heartbeat\n\n"
    return b""


async def _send(request: RequestContext, data: bytes) -> None:
    """Send data. Raises TimeoutError if the client does not read it in time."""
    if data:
        async with asyncio.timeout(_WRITE_TIMEOUT):
            await request.send({"type": "http.response.body", "body": data, "more_body": True})


def _hello(event_log: EventLog, number: int) -> bytes:
    facts = json.dumps({"version": __version__, "edition": event_log.edition})
    return f"retry: {_RETRY_MILLISECONDS}\n".encode() + _event("hello", facts, f"{event_log.edition}-{number}")


def _event(kind: str, data: str, id: str | None = None) -> bytes:
    id_line = f"id: {id}\n" if id else ""
    return f"{id_line}event: {kind}\ndata: {data}\n\n".encode()
