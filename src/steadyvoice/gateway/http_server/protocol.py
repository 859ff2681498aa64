"""HTTP/1.1 protocol of one client connection: uvicorn's, with limits and timeouts.

Errors at this level are answered in one line of plain text, in no vendor's dialect, and end the connection. Wherever
the server ends a connection after a response, or in the middle of one, the connection lingers (`_linger`): a socket
that is closed with unread bytes is reset, and the reset discards what the client has not read yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from steadyvoice.gateway.http import BODY_ARRIVED, ON_DISCONNECT, OUTLET_FACTORY, WEBSOCKET
from steadyvoice.gateway.http_server.connections import (
    ConnectionOrigin,
    ConnectionPhase,
    ConnectionRefusal,
    ConnectionSet,
    FastExchange,
    RejectedConnection,
    WriteProgress,
    check_head,
    head_too_large,
    malformed_request,
    request_too_large,
)
from steadyvoice.gateway.http_server.half_close import HalfCloseProbe
from steadyvoice.gateway.http_server.output import BufferedOutput, ChunkWriter, ClientFlowControl, HTTP10Response
from steadyvoice.gateway.http_server.websocket import ClientWebSocket, WebSocketUpgrade, asks_for_websocket
from steadyvoice.gateway.request_context import PARSED_ORDER, request_id_from
from steadyvoice.wire.elevenlabs.request_stitching import own_request_id

log = logging.getLogger("steadyvoice.gateway")

# SO_LINGER: on close, unsent data is discarded and the client gets a reset instead of an orderly end.
_LINGER_RESET = struct.pack("ii", 1, 0)

_NEVER = float("inf")

_BETWEEN_REQUESTS = (ConnectionPhase.HEAD, ConnectionPhase.IDLE)

_ABSOLUTE_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]+)([^#]*)")


class AbsoluteTarget(NamedTuple):
    """Request target in absolute form, as clients send it to proxies: authority, and path with query."""

    authority: bytes
    path: bytes

    def headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the request's headers with the target's authority as Host (RFC 9112, section 3.2.2)."""
        return [(name, self.authority if name == b"host" else value) for name, value in headers]


def parse_absolute_target(target: bytes) -> AbsoluteTarget | None:
    """Parse a target in absolute form; None for any other: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2"""
    found = _ABSOLUTE_URL.match(target)
    if found is None:
        return None
    authority, path = found.groups()
    return AbsoluteTarget(authority, path if path.startswith(b"/") else b"/" + path)


class _Pipeline(list[Any]):
    """Requests that wait behind another. A deque, as uvicorn has, reserves 700 bytes even if there are none."""

    __slots__ = ()

    def appendleft(self, waiting: Any) -> None:
        """Add a request behind all others."""
        self.insert(0, waiting)


_NO_STATE: dict[str, Any] = {}  # of an application without a lifespan


class ClientConnection(HttpToolsProtocol):
    """Connection of one client: reads requests, runs them one after the other, and times each phase.

    Thousands may be open: what only a request to the application needs is made for the first of these.
    """

    # Beside these, uvicorn's own attributes are few enough to be kept without a dictionary for each connection.
    __slots__ = (
        "_bytes", "_connections", "_exchange", "_half_closed", "_in_head", "_is_lost", "_limits", "_on_disconnect",
        "_output", "_phase", "_refusal", "_running", "_since", "_upgrade", "_websocket", "_write_progress", "held",
        "origin", "parsed_order", "send_now",
    )  # fmt: skip

    def __init__(self, config: Config, connections: ConnectionSet) -> None:
        super().__init__(config=config, server_state=connections.state, app_state=_NO_STATE)
        self.parser: Any = None  # for requests to the application
        self.pipeline = cast(Any, _Pipeline())
        self._is_lost = False
        self._connections, self._limits = connections, connections.limits
        self._phase, self._since = ConnectionPhase.HEAD, 0.0
        self._in_head = False  # a request has begun, and its head is not complete
        self._bytes = 0  # of the request that is coming in, in whole reads
        self._refusal: ConnectionRefusal | None = None
        self._running: Any = None  # uvicorn's cycle of the request that is answered; others may wait behind it
        self._write_progress = WriteProgress()
        self._output: Any = None
        self.send_now: Callable[[Sequence[bytes]], None]
        self.origin: ConnectionOrigin
        self._on_disconnect: Callable[[], None] | None = None
        self._half_closed: HalfCloseProbe | None = None  # once the client has ended its own side
        self._exchange: FastExchange | None = None  # request in the fast lane
        self.held = b""
        """Beginning of a request for which the fast lane waits."""
        self.parsed_order: object = None
        """Order of the next request, if the fast lane has parsed its body in vain."""
        self._upgrade: WebSocketUpgrade | None = None  # of the last request of this connection, until it is answered
        self._websocket: ClientWebSocket | None = None

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it when there are too many."""
        super().connection_made(transport)
        self.flow = cast(Any, ClientFlowControl(transport))
        self.origin = ConnectionOrigin(self.asgi_version, self.server, self.client, self.scheme, self.root_path)
        # Responses write to this instead of the transport: a short one, which uvicorn writes in three parts, goes out
        # in one packet.
        self._output = BufferedOutput(transport, self.loop, self._linger)
        self.send_now = self._output.write_at_once
        self._enter(ConnectionPhase.HEAD)
        if self._connections.is_over_limit() and not self._connections.make_room(self):
            self._refuse_for_limit()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, within the limits."""
        if self._phase is ConnectionPhase.CLOSING:
            self._discard(data)
            return
        if self._websocket:
            self._websocket.receive_data(data)
            return
        if self._upgrade:
            if not self._upgrade.receive_early(data):
                self.reset()
            return
        lane = self._connections.fast_lane
        if lane and not (self._bytes or self._in_head or self._half_closed) and self._phase in _BETWEEN_REQUESTS:
            data, self.held = self.held + data, b""
            if lane.receive(self, data):
                return
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        """Parse bytes that the fast lane does not take."""
        if self._phase is ConnectionPhase.HELD:
            self.held += data
            self.flow.pause_reading()
            return
        if self._exchange:  # whatever comes during a response is unusual
            self._exchange.hand_over_now()
        if self._phase is ConnectionPhase.IDLE:
            self._enter(ConnectionPhase.HEAD)
        self._bytes += len(data)
        self._parse(data)
        # Refused above. 40,000 letters in one read were once refused as malformed, and then again for the size of their
        # head, which was written behind the end of the connection.
        if self._is_leaving:
            return
        if self._in_head and self._bytes > self._limits.head_bytes:
            self._refuse(head_too_large(self._limits))
        elif self._bytes > self._limits.head_bytes and self._bytes > self._limits.request_bytes:
            self._refuse(request_too_large(self._limits))

    def _parse(self, data: bytes) -> None:
        if self.parser is None:
            self.parser = httptools.HttpRequestParser(self)
            # As uvicorn: an early answer to a request may close the connection, and the rest of the body still comes.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            self._answer_upgrade(data[stopped.args[0] :])
        except httptools.HttpParserError as error:
            reason = "" if isinstance(error, httptools.HttpParserCallbackError) else str(error)
            self._refuse(self._refusal or malformed_request(data, reason))

    def _answer_upgrade(self, rest: bytes) -> None:
        """Parse a request again without its Upgrade header, after which the parser leaves the body unread.

        The endpoint of a websocket accepts the upgrade. Others answer as if it had not been asked for.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            return self._refuse(ConnectionRefusal(405, "CONNECT is not supported"))
        if asks_for_websocket(method, self.headers) and self._phase is not ConnectionPhase.RESPONSE:
            self._upgrade = WebSocketUpgrade(list(self.headers), self._open_websocket, self)
            self._upgrade.receive_early(rest)
            rest = b""
        kept = [b"%s: %s" % header for header in self.headers if header[0] not in (b"connection", b"upgrade")]
        self.parser = httptools.HttpRequestParser(self)
        return self._parse(b"\r\n".join([b"%s %s HTTP/1.1" % (method, self.url), *kept, b"", rest]))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open while a completely received request is answered; close it otherwise."""
        self.use_application()
        running = self._running
        if self._is_leaving or running is None or running.more_body or running.response_complete:
            self._output.flush()  # or the last bytes of a finished response would be lost
            return False
        # uvicorn closes a half-closed connection, which costs the client its response (RFC 9112, section 9.6).
        if self._half_closed is None:  # a transport that is paused and resumed calls this again
            self._half_closed = HalfCloseProbe(self.loop, self._output)
            self._half_closed.watch(running)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything that belongs to the connection, and cancel its request."""
        self.use_application()
        if self._half_closed:
            self._half_closed.stop()
        self._connections.idle.pop(self, None)
        self._connections.lingering.pop(self, None)
        self.pipeline.clear()
        super().connection_lost(exc)
        self._is_lost = True
        self._upgrade = None
        if self._websocket:
            self._websocket.connection_lost()
            self._websocket = None
        # uvicorn's method has also released the parser, which holds this object's methods: a cycle that only the
        # garbage collector would free.
        if self._running:  # uvicorn notifies the last pipelined request only
            self._running.disconnected = not self._running.response_complete
            self._running.message_event.set()
        self._connections.closed_one.set()
        if self._on_disconnect:
            self._on_disconnect()
        self._output.disconnect()

    def _set_on_disconnect(self, callback: Callable[[], None] | None) -> None:
        """Set the function to call when the client disconnects, for the request that is running."""
        self._on_disconnect = callback
        if callback:
            # A paused transport does not notice that its client leaves.
            self.flow.resume_reading()
        if callback and self._is_lost:  # the client has left already
            callback()

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.use_application()
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; ignore trailers after a body, which would bypass a proxy's checks of headers."""
        if self._in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check the head of a request, and start it."""
        if self.parser.should_upgrade():
            return  # the request is parsed again without its Upgrade header
        self._in_head = False
        if refusal := self._checked_head():
            self._refusal = refusal
            raise ValueError(refusal.message)  # stops the parser
        if self.url[:1] != b"/" and (target := parse_absolute_target(self.url)):
            self.url, self.headers[:] = target.path, target.headers(self.headers)
        self._begin_cycle()

    def _begin_cycle(self) -> None:
        """Start the application for a request whose head is complete."""
        super().on_headers_complete()
        self._prepare_cycle()
        if self.parsed_order:
            state: Any = self.cycle.scope["state"]
            state[PARSED_ORDER], self.parsed_order = self.parsed_order, None

    def _prepare_cycle(self) -> None:
        self.cycle.transport = self._output
        # The scope is the only way from here to the endpoint. Its functions refer back to this connection, and are
        # removed when the request ends.
        scope: Any = self.cycle.scope
        scope[ON_DISCONNECT] = self._set_on_disconnect
        cycle = self.cycle
        scope[BODY_ARRIVED] = lambda: not cycle.more_body
        scope[OUTLET_FACTORY] = lambda: ChunkWriter(cycle, self._output) if cycle.chunked_encoding else None
        if self._upgrade:
            scope[WEBSOCKET] = self._upgrade.accept
            cycle.keep_alive = False  # frames may follow that are no request

    def _checked_head(self) -> ConnectionRefusal | None:
        """Return the refusal of a head that exceeds a limit, or None.

        Only suspicious heads are checked closely: all others came in few bytes and few headers, one request at a time.
        """
        version, limits = self.parser.get_http_version(), self._limits
        if len(self.pipeline) >= limits.pipelined:
            return ConnectionRefusal(429, f"too many pipelined requests: the limit is {limits.pipelined}")
        pipelined = self._phase is ConnectionPhase.RESPONSE
        if pipelined or version != "1.1" or self._bytes > limits.url_bytes or len(self.headers) > limits.headers:
            return check_head(self.url, self.headers, version, limits)
        return None

    def on_message_complete(self) -> None:
        """End a request that is completely received."""
        if self._in_head:
            return
        super().on_message_complete()
        self._bytes = 0
        if self._phase is ConnectionPhase.DRAIN:
            self._enter(ConnectionPhase.IDLE)

    # The fast lane.

    def begin_exchange(self, exchange: FastExchange) -> None:
        """Note that the fast lane has begun a request."""
        self._exchange = exchange
        # As `_enter` does, which would be two calls for each request.
        self._phase, self._since = ConnectionPhase.RESPONSE, self.loop.time()
        self._connections.idle.pop(self, None)

    def keep_request(self, request: bytes) -> None:
        """Keep a whole request that the fast lane is about to begin; it is not idle any more."""
        self.held = request
        self._connections.idle.pop(self, None)

    def use_application(self) -> None:
        """Leave the request that the fast lane has, or waits for, to the application."""
        if self._exchange:
            self._exchange.hand_over_now()
        elif self.held:
            data, self.held = self.held, b""
            self._receive(data)

    def response_head(self, lines: bytes) -> bytes:
        """Return the head of a 200 in chunked encoding, with these lines of headers."""
        common = b"".join(map(b"%b: %b\r\n".__mod__, self.server_state.default_headers))
        return b"".join((STATUS_LINE[200], common, lines, b"transfer-encoding: chunked\r\n\r\n"))

    def exchange_completed(self) -> None:
        """Go on with the next request after a complete response of the fast lane."""
        self._exchange = None
        self.server_state.total_requests += 1
        if self._phase is not ConnectionPhase.CLOSING and not self.transport.is_closing():
            self._phase, self._since = ConnectionPhase.IDLE, self.loop.time()
            self._connections.idle[self] = None

    def continue_exchange(self, exchange: FastExchange) -> None:
        """Have the application go on with a request of the fast lane."""
        self._exchange = None
        self.cycle = cycle = RequestResponseCycle(
            scope=cast(Any, exchange.scope),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        cycle.more_body = False
        if exchange.status is not None:
            cycle.response_started = cycle.chunked_encoding = True
        exchange.use_sender(cycle.send)
        cycle.scope["state"]["request_context"] = exchange
        self._prepare_cycle()
        self._start_asgi_task(cycle, self.app)

    # Websockets.

    def _open_websocket(self, socket: ClientWebSocket) -> None:
        """Carry a websocket from now on, until its endpoint returns."""
        self._upgrade, self._websocket = None, socket
        self.cycle.response_started = self.cycle.response_complete = True

    def write_frames(self, data: bytes) -> None:
        """Send bytes at once."""
        self._output.write_at_once((data,))

    async def drain(self) -> None:
        """Wait until the client has read most of what was sent."""
        await self.flow.drain()

    def end_output(self) -> None:
        """Send nothing more, and wait a moment for the client's end."""
        self._linger()

    # Callbacks of responses.

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._enter(ConnectionPhase.RESPONSE)
        self._running = cycle
        if self._half_closed:
            self._half_closed.watch(cycle)
        task = self.loop.create_task(self._run(cycle, app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run(self, cycle: Any, app: Any) -> None:
        chunked = cycle.scope["http_version"] == "1.1"
        send = cycle.send if chunked else HTTP10Response(cycle, self._limits.answer_bytes)
        try:
            await app(cycle.scope, cycle.receive, send)
        except Exception as error:
            log.error("request failed, response incomplete: %s", error, exc_info=error)
        finally:
            # A response without its end must not look complete: the client would take half an utterance for the whole.
            if not (cycle.response_complete or cycle.disconnected):
                self._abort_response(cycle)
            cycle.on_response = _do_nothing  # it would keep this connection alive
            _break_cycles(cycle.scope)
            if self._running is cycle:
                self._running = None
            if self._websocket and self._phase is not ConnectionPhase.CLOSING:
                self.reset()  # the endpoint has failed, or was cancelled, without closing it

    def _abort_response(self, cycle: Any) -> None:
        """End an incomplete response as a broken transfer, or with an error if it has not begun."""
        # Python's http.client takes a zero at the end for the last chunk, so an orderly end would look complete.
        if cycle.response_started and self._half_closed and self._half_closed.dangling:
            self.reset()
        elif cycle.response_started:
            self._linger()
        else:
            body, request_id = b"request failed: no response\n", _request_id(cycle) or request_id_from(None)
            self._send_error(503 if self._connections.closing else 500, request_id, body)

    def on_response_complete(self) -> None:
        """Go on with the next request after a complete response."""
        self.server_state.total_requests += 1
        if self._phase is ConnectionPhase.CLOSING or self.transport.is_closing():
            return
        if self._half_closed:
            self._half_closed.stop()
            if not self.pipeline or self.pipeline[-1][0].more_body:  # no further bytes will come
                self.close()
                return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self.cycle.more_body:
            self._enter(ConnectionPhase.HEAD if self._in_head else ConnectionPhase.IDLE)
        elif _is_short(self.cycle.scope["headers"], self._limits.body_bytes):
            self._enter(ConnectionPhase.DRAIN)
        else:
            self._linger()

    # Ends of the connection.

    @property
    def _is_leaving(self) -> bool:
        """True if everything is sent, and only the client's close is awaited."""
        return self._phase is ConnectionPhase.CLOSING

    @property
    def busy(self) -> bool:
        """True if a response is not finished, or not yet read by the client."""
        return self._phase is ConnectionPhase.RESPONSE or self.transport.get_write_buffer_size() > 0

    def check_timeouts(self, now: float) -> None:
        """End the connection if its phase has lasted too long, or if the client has stopped reading."""
        if self._websocket:
            self._websocket.check_timeouts(now)
        # While the client keeps up, the buffer's size says nothing: it is filled and emptied between two checks.
        unsent = self.transport.get_write_buffer_size() if self.flow.write_paused or self.transport.is_closing() else 0
        if self._write_progress.stuck(unsent, now) > self._limits.write:
            self.reset()
        elif unsent or (
            now - self._since <= self._limits.timeout(self._phase)
            and now <= self._connections.lingering.get(self, _NEVER)
        ):
            pass
        elif self._phase is ConnectionPhase.HEAD and self._in_head:
            self._refuse(ConnectionRefusal(408, f"request timeout: no complete head within {self._limits.head:g} s"))
        elif self._phase is ConnectionPhase.DRAIN:
            self._linger()
        else:
            self.close()

    def shutdown(self) -> None:
        """Close the connection at once when it is idle, else after its response."""
        self.use_application()
        if self._websocket:
            self._websocket.shutdown()
        elif self._phase is ConnectionPhase.RESPONSE:
            self.cycle.keep_alive = False
        elif self._phase is not ConnectionPhase.CLOSING:
            self.close()

    def close(self) -> None:
        """Close the connection without a response."""
        self._enter(ConnectionPhase.CLOSING)
        self._connections.lingering.pop(self, None)
        self._output.flush()
        self.transport.close()

    def reset(self) -> None:
        """Reset the connection, which the client sees as an error."""
        self._enter(ConnectionPhase.CLOSING)
        with contextlib.suppress(OSError):  # the socket may be gone
            connected: socket.socket = self.transport.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self.transport.abort()

    def hold(self) -> None:
        """Answer nothing on the new connection until it is known whether there is room for it."""
        self._enter(ConnectionPhase.HELD)

    def end_hold(self, *, admitted: bool) -> None:
        """Serve the connection, or refuse it."""
        if self._phase is not ConnectionPhase.HELD or self.transport.is_closing():
            return
        self._enter(ConnectionPhase.HEAD)
        self.flow.resume_reading()
        data, self.held = self.held, b""
        if not admitted:
            # What has arrived is dropped first: a request that is under way cannot be refused any more, only reset.
            self._refuse_for_limit()
        elif data:
            self._receive(data)

    def _refuse_for_limit(self) -> None:
        self._refuse(ConnectionRefusal(503, "connection limit reached; retry later"))

    def _refuse(self, refusal: ConnectionRefusal) -> None:
        """Answer an unacceptable request, or reset where another response is on its way.

        Beside another response, this one would be taken for that one, or for a part of it.
        """
        request_id = None
        self.use_application()
        if self._phase is ConnectionPhase.RESPONSE:
            if self.pipeline or self.cycle.response_started or not self.cycle.more_body:
                return self.reset()
            # The body of the running request is malformed: its endpoint must not answer as well.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            request_id = _request_id(self.cycle)
        request_id = request_id or request_id_from(self._received_header(b"x-request-id"))
        body = f"{refusal.message}\n".encode()
        seconds = self.loop.time() - self._since
        self._connections.connection_rejected(RejectedConnection(request_id, self.client, refusal, len(body), seconds))
        return self._send_error(refusal.status, request_id, body)

    def _received_header(self, name: bytes) -> bytes | None:
        """Return a header of the refused request, as far as its head was received."""
        return dict(self.headers).get(name) if self._in_head or self._refusal else None

    def _send_error(self, status: int, request_id: str, body: bytes) -> None:
        head = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id}",
            f"request-id: {own_request_id(request_id)}",
            "connection: close",
        ]
        sent = self._half_closed.early if self._half_closed else 0
        self._output.write(("\r\n".join([*head, "", ""]).encode() + body)[sent:])
        self._linger()

    def _linger(self) -> None:
        """Send nothing more, and discard what the client sends until it has read the end and closes.

        Closing at once would reset the connection if bytes of the client are unread or still come, and the client would
        lose the response (RFC 9112, section 9.6). Bounded in bytes, in time and in number, see `ConnectionLimits`.
        """
        if self._is_leaving:
            return
        if self._half_closed or self.transport.is_closing():  # nothing more is received
            self.close()
            return
        self._enter(ConnectionPhase.CLOSING)
        self._bytes = 0
        self._output.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._connections.linger(self, self._since + self._limits.drain)

    def _discard(self, data: bytes) -> None:
        """Drop bytes of a client that may not have read its response yet."""
        self._bytes += len(data)
        self._since = self.loop.time()
        if self._bytes > self._limits.lingering_bytes:
            self.close()

    def _enter(self, phase: ConnectionPhase) -> None:
        self._phase, self._since = phase, self.loop.time()
        self._connections.idle.pop(self, None)
        if phase in (ConnectionPhase.HEAD, ConnectionPhase.IDLE):
            self._connections.idle[self] = None


def _break_cycles(scope: Any) -> None:
    """Remove what refers back to the connection, so that reference counting frees the request at once."""
    for name in (ON_DISCONNECT, BODY_ARRIVED, OUTLET_FACTORY, WEBSOCKET):
        scope.pop(name, None)
    scope["state"].clear()


def _request_id(cycle: Any) -> str | None:
    """Return the id of a request that has reached the middleware."""
    request = cycle.scope["state"].get("request_context")
    return request.request_id if request else None


def _is_short(headers: Iterable[tuple[bytes, bytes]], limit: int) -> bool:
    """Return whether the rest of a body is worth waiting for, because it will come and is small."""
    found = dict(headers)
    return b"expect" not in found and int(found.get(b"content-length", limit + 1)) <= limit


def _do_nothing() -> None: ...
