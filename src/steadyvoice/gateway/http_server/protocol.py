"""HTTP/1.1 protocol of one client connection: uvicorn's, with limits and timeouts.

Errors at this level are answered in one line of plain text, in no vendor's dialect, and end the connection. It is
closed in a way that lets the client read the response: a socket that is closed with unread bytes is reset, and the
reset discards what was sent last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import struct
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from steadyvoice.gateway.http import BODY_ARRIVED, ON_DISCONNECT, OUTLET_FACTORY
from steadyvoice.gateway.http_server.connections import (
    ConnectionPhase,
    ConnectionRefusal,
    ConnectionSet,
    RejectedConnection,
    WriteProgress,
    check_head,
    head_too_large,
    malformed_request,
)
from steadyvoice.gateway.http_server.half_close import HalfCloseProbe
from steadyvoice.gateway.http_server.output import BufferedOutput, ChunkWriter, HTTP10Response
from steadyvoice.gateway.request_context import request_id_from
from steadyvoice.wire.elevenlabs.request_stitching import own_request_id

_ABSOLUTE_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]+)([^#]*)")


class AbsoluteTarget(NamedTuple):
    """Its parts: the `authority` is whom it is for, and the `rest` is asked for there."""

    authority: bytes
    rest: bytes

    def headers(self, said: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The request's headers as they are to be read: Host is what the target says, whatever it said itself."""
        return [(name, self.authority if name == b"host" else value) for name, value in said]


def parse_absolute_target(target: bytes) -> AbsoluteTarget | None:
    """Take a target apart, if it is a whole URL: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2"""
    found = _ABSOLUTE_URL.match(target)
    if found is None:
        return None
    authority, rest = found.groups()
    return AbsoluteTarget(authority, rest if rest.startswith(b"/") else b"/" + rest)


log = logging.getLogger("steadyvoice.gateway")

_LINGER_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is unsent is forgotten, and the other side is told that it is


class ClientConnection(HttpToolsProtocol):
    """Reads requests, has them answered one by one, and knows what it waits for meanwhile."""

    def __init__(self, config: Config, connections: ConnectionSet) -> None:
        super().__init__(config=config, server_state=connections.state, app_state={})
        self._connections, self._limits = connections, connections.limits
        self._wait, self._since = ConnectionPhase.HEAD, 0.0
        self._in_head = False  # a request has begun, and its head is not complete
        self._bytes = 0  # of the request that is coming in, in whole reads
        self._refusal: ConnectionRefusal | None = None
        self._answered: Any = None  # the request that is being answered; others may be behind it
        self._outflow = WriteProgress()
        self._line: Any = None
        self._told: Callable[[], None] | None = None  # when the client leaves
        self._half_closed: HalfCloseProbe | None = None  # once the client has ended its own side

    # What the transport tells.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let somebody in, or turn them away."""
        super().connection_made(transport)
        self._line = BufferedOutput(transport, self.loop, self._hang_up)
        self._begin(ConnectionPhase.HEAD)
        if self._connections.is_packed():
            self.reset()
        elif self._connections.is_full() and not self._connections.make_room(self):
            self._refuse(ConnectionRefusal(503, "there are too many connections here; come again in a moment"))

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._leaves:
            return
        if self._wait is ConnectionPhase.IDLE:
            self._begin(ConnectionPhase.HEAD)
        self._bytes += len(data)
        self._parse(data)
        if self._leaves:  # it was refused, and what came behind its fault does not matter
            return
        if self._in_head and self._bytes > self._limits.head_bytes:
            self._refuse(head_too_large(self._limits))
        elif self._bytes > self._limits.request_bytes:
            self.reset()  # what comes in is no text any more

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            self._stay(data[stopped.args[0] :])
        except httptools.HttpParserError as error:
            why = "" if isinstance(error, httptools.HttpParserCallbackError) else str(error)
            self._refuse(self._refusal or malformed_request(data, why))

    def _stay(self, rest: bytes) -> None:
        """Go on in HTTP where another protocol was wished for: the parser would leave the body behind unread."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            return self._refuse(ConnectionRefusal(405, "there is no way through here"))
        kept = [b"%s: %s" % header for header in self.headers if header[0] not in (b"connection", b"upgrade")]
        self.parser = httptools.HttpRequestParser(self)
        return self._parse(b"\r\n".join([b"%s %s HTTP/1.1" % (method, self.url), *kept, b"", rest]))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open while a request that is there as a whole is answered; close it otherwise."""
        answered = self._answered
        if self._leaves or answered is None or answered.more_body or answered.response_complete:
            self._line.flush()  # or the last of an answer that is over would be lost
            return False
        if self._half_closed is None:  # a transport that is paused and resumed tells it again
            self._half_closed = HalfCloseProbe(self.loop, self._line)
            self._half_closed.watch(answered)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        if self._half_closed:
            self._half_closed.stop()
        self._connections.waiting.pop(self, None)
        self.pipeline.clear()
        super().connection_lost(exc)
        if self._answered:  # uvicorn tells the last in line only
            self._answered.disconnected = not self._answered.response_complete
            self._answered.message_event.set()
        self._connections.closed_one.set()
        if self._told:
            self._told()
        self._line.disconnect()

    def _tell(self, told: Callable[[], None] | None) -> None:
        """Whom to tell when the client leaves: only the request that is being answered asks."""
        self._told = told
        if told:
            self.flow.resume_reading()  # or nobody would notice
        if told and self.parser is None:  # it has left
            told()

    # What the parser tells.

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer behind a body: those would pass by whoever checks headers on our behalf."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request's head is there."""
        if self.parser.should_upgrade():
            return  # once more without that
        self._in_head = False
        if refusal := self._refused():
            self._refusal = refusal
            raise ValueError(refusal.told)  # which stops the parser
        if self.url[:1] != b"/" and (target := parse_absolute_target(self.url)):
            self.url, self.headers[:] = target.rest, target.headers(self.headers)
        super().on_headers_complete()
        self.cycle.transport = self._line
        scope: Any = self.scope
        scope[ON_DISCONNECT] = self._tell
        cycle = self.cycle
        scope[BODY_ARRIVED] = lambda: not cycle.more_body
        scope[OUTLET_FACTORY] = lambda: ChunkWriter(cycle, self._line) if cycle.chunked_encoding else None

    def _refused(self) -> ConnectionRefusal | None:
        """Look closely at what is suspect only: all others came in few bytes and few headers, one by one."""
        version, most = self.parser.get_http_version(), self._limits
        if len(self.pipeline) >= most.pipelined:
            return ConnectionRefusal(429, "wait for an answer before you ask again")
        pipelined = self._wait is ConnectionPhase.ANSWER
        if pipelined or version != "1.1" or self._bytes > most.url_bytes or len(self.headers) > most.headers:
            return check_head(self.url, self.headers, version, most)
        return None

    def on_message_complete(self) -> None:
        """A request is there as a whole."""
        if self._in_head:
            return
        super().on_message_complete()
        self._bytes = 0
        if self._wait is ConnectionPhase.REST:
            self._begin(ConnectionPhase.IDLE)

    # What the answers tell.

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._begin(ConnectionPhase.ANSWER)
        self._answered = cycle
        if self._half_closed:
            self._half_closed.watch(cycle)
        task = self.loop.create_task(self._answer(cycle, app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, cycle: Any, app: Any) -> None:
        framed = cycle.scope["http_version"] == "1.1"
        send = cycle.send if framed else HTTP10Response(cycle, self._limits.answer_bytes)
        try:
            await app(cycle.scope, cycle.receive, send)
        except Exception as error:
            log.error("an answer broke off: %s", error, exc_info=error)
        finally:
            if not (cycle.response_complete or cycle.disconnected):
                self._break_off(cycle)
            cycle.on_response = _nothing  # it would hold this connection
            _break_cycles(cycle.scope)
            if self._answered is cycle:
                self._answered = None

    def _break_off(self, cycle: Any) -> None:
        """End an answer without its end, and one that has not begun with saying so."""
        if cycle.response_started and self._half_closed and self._half_closed.dangling:
            self.reset()
        elif cycle.response_started:
            self._hang_up()
        else:
            told, request_id = b"it broke off; there is no answer\n", _request_id(cycle) or request_id_from(None)
            self._last_words(503 if self._connections.closing else 500, request_id, told)

    def on_response_complete(self) -> None:
        """An answer is there as a whole: go on to the next request."""
        self.server_state.total_requests += 1
        if self._wait is ConnectionPhase.LEAVE or self.transport.is_closing():
            return
        if self._half_closed:
            self._half_closed.stop()
            if not self.pipeline or self.pipeline[-1][0].more_body:  # nothing more of it will come
                self.leave()
                return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self.cycle.more_body:
            self._begin(ConnectionPhase.HEAD if self._in_head else ConnectionPhase.IDLE)
        elif _is_short(self.cycle.scope["headers"], self._limits.body_bytes):
            self._begin(ConnectionPhase.REST)
        else:
            self._linger()

    # How it ends.

    @property
    def _leaves(self) -> bool:
        """Whether everything is said, and the client is only left time to read it."""
        return self._wait is ConnectionPhase.LEAVE

    @property
    def busy(self) -> bool:
        """Whether an answer is not yet over, or not yet read."""
        return self._wait is ConnectionPhase.ANSWER or self.transport.get_write_buffer_size() > 0

    def check_timeouts(self, now: float) -> None:
        """End what has lasted too long."""
        left = self.transport.get_write_buffer_size() if self.flow.write_paused or self.transport.is_closing() else 0
        if self._outflow.stuck(left, now) > self._limits.write:
            self.reset()
        elif left or now - self._since <= self._limits.patience(self._wait):
            pass
        elif self._wait is ConnectionPhase.HEAD and self._in_head:
            self._refuse(ConnectionRefusal(408, f"the request's head did not come within {self._limits.head:g} s"))
        else:
            self.leave()

    def shutdown(self) -> None:
        """End it at once when it is idle, else behind its answer."""
        if self._wait is ConnectionPhase.ANSWER:
            self.cycle.keep_alive = False
        elif self._wait is not ConnectionPhase.LEAVE:
            self.leave()

    def leave(self) -> None:
        """End it, without a word."""
        self._begin(ConnectionPhase.LEAVE)
        self._line.flush()
        self.transport.close()

    def reset(self) -> None:
        """End it now, and let the other side notice."""
        self._begin(ConnectionPhase.LEAVE)
        with contextlib.suppress(OSError):  # it is gone already
            line: socket.socket = self.transport.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self.transport.abort()

    def _refuse(self, refusal: ConnectionRefusal) -> None:
        """Answer what is no request. Beside another answer it would be taken for that, or for a part of it."""
        request_id = None
        if self._wait is ConnectionPhase.ANSWER:
            if self.pipeline or self.cycle.response_started or not self.cycle.more_body:
                return self.reset()
            self.cycle.disconnected = True  # its body is what makes no sense: nobody is to answer it but us
            self.cycle.message_event.set()
            request_id = _request_id(self.cycle)
        request_id = request_id or request_id_from(self._said(b"x-request-id"))
        body = f"{refusal.told}\n".encode()
        self._connections.connection_rejected(
            RejectedConnection(request_id, self.client, refusal, len(body), self.loop.time() - self._since)
        )
        return self._last_words(refusal.status, request_id, body)

    def _said(self, name: bytes) -> bytes | None:
        """A header of the request that is refused, as far as it has come."""
        return dict(self.headers).get(name) if self._in_head or self._refusal else None

    def _last_words(self, status: int, request_id: str, body: bytes) -> None:
        head = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id}",
            f"request-id: {own_request_id(request_id)}",
            "connection: close",
        ]
        sent = self._half_closed.early if self._half_closed else 0
        self._line.write(("\r\n".join([*head, "", ""]).encode() + body)[sent:])
        self._linger()

    def _hang_up(self) -> None:
        """Close behind an answer, or in the midst of one."""
        if self.cycle.more_body and self.cycle.response_complete:
            self._linger()
        else:
            self.leave()

    def _linger(self) -> None:
        """Say no more, and let the client read what was said: what it still sends goes nowhere."""
        if self._half_closed:  # it sends nothing any more
            self.leave()
            return
        self._begin(ConnectionPhase.LEAVE)
        self._line.flush()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self.flow.resume_reading()

    def _begin(self, wait: ConnectionPhase) -> None:
        self._wait, self._since = wait, self.loop.time()
        self._connections.waiting.pop(self, None)
        if wait in (ConnectionPhase.HEAD, ConnectionPhase.IDLE):
            self._connections.waiting[self] = None


def _break_cycles(scope: Any) -> None:
    """Of what leads back to the answer: it would be the collector's to find that nobody needs it any more."""
    for name in (ON_DISCONNECT, BODY_ARRIVED, OUTLET_FACTORY):
        scope.pop(name, None)
    scope["state"].clear()


def _request_id(cycle: Any) -> str | None:
    """The id of a request, if it has got to the front door."""
    request = cycle.scope["state"].get("request_context")
    return request.request_id if request else None


def _is_short(headers: Iterable[tuple[bytes, bytes]], most: int) -> bool:
    """Whether the rest of a body is worth waiting for: it will come, and soon be over."""
    said = dict(headers)
    return b"expect" not in said and int(said.get(b"content-length", most + 1)) <= most


def _nothing() -> None: ...
