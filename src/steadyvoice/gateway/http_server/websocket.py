"""Websockets of the HTTP server: the upgrade of a request, messages with backpressure, pings, and the close.

Frames and handshake are those of the library `websockets`, without its I/O
(https://websockets.readthedocs.io/en/stable/howto/sansio.html). Extensions are not negotiated: a compressed message
could be a thousand times as large as what is received, and audio in base64 would cost more processor time than it saves
(decision 37).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from steadyvoice.gateway.http import ClientDisconnectedError

# Imported with the first websocket: the library takes a megabyte of memory.
if TYPE_CHECKING:
    from websockets.frames import Frame
    from websockets.server import ServerProtocol

MAX_MESSAGE_BYTES = 256 * 1024
"""Longest message of a client, parsed in one step; a turn's text has a limit of its own, which is far lower."""

NORMAL, POLICY_VIOLATION, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1008, 1011, 1012
"""Close codes: https://www.iana.org/assignments/websocket/websocket.xhtml."""

PING_INTERVAL = 20.0
"""Seconds without data from the client before a ping. Proxies close connections that are silent for a minute."""

_MAX_EARLY_BYTES = 64 * 1024  # that a client may send before it has the answer to its upgrade
_MAX_REASON_BYTES = 123  # of a close frame: https://www.rfc-editor.org/rfc/rfc6455#section-5.5
_HANDSHAKE_HEADERS = (
    b"host", b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-protocol",
)  # fmt: skip

_log = logging.getLogger("steadyvoice.gateway.websocket")
_log.setLevel(logging.WARNING)  # the library logs every connection

Headers = Sequence[tuple[bytes, bytes]]


class WebSocketHandler(Protocol):
    """Application behind a websocket. Its functions are called by the connection, and return at once."""

    def receive(self, message: str) -> None:
        """Handle a message of the client."""
        ...

    def refuse_binary(self) -> None:
        """Handle a binary message."""
        ...

    def disconnected(self) -> None:
        """Note that the client has left, or has sent a close frame."""
        ...

    def tick(self, now: float) -> None:
        """Check timeouts. Called about once a second, with the time of the event loop."""
        ...

    def shutdown(self) -> None:
        """Begin to end, because the server stops."""
        ...


class SocketTransport(Protocol):
    """Connection that carries a websocket."""

    def write_frames(self, data: bytes) -> None:
        """Send bytes."""
        ...

    async def drain(self) -> None:
        """Wait until the client has read most of what was sent."""
        ...

    def end_output(self) -> None:
        """Send nothing more, and wait a moment for the client's end."""
        ...

    def reset(self) -> None:
        """Reset the connection."""
        ...


def asks_for_websocket(method: bytes, headers: Headers) -> bool:
    """Return whether a request with an Upgrade header asks for a websocket. Any other upgrade is ignored."""
    found = dict(headers)
    return (
        method == b"GET"
        and b"websocket" in found.get(b"upgrade", b"").lower()
        and b"sec-websocket-key" in found
        and b"sec-websocket-version" in found
        and b"content-length" not in found
        and b"transfer-encoding" not in found
    )


class WebSocketUpgrade:
    """Request for a websocket that the application has not answered yet. It finds this in the request's scope."""

    def __init__(self, headers: Headers, open: Callable[[ClientWebSocket], None], transport: SocketTransport) -> None:
        self._headers, self._open, self._transport = headers, open, transport
        self._early = bytearray()

    def receive_early(self, data: bytes) -> bool:
        """Keep frames of a client that does not wait for the answer; return False if there are too many."""
        self._early += data
        return len(self._early) <= _MAX_EARLY_BYTES

    def accept(self, new_handler: Callable[[ClientWebSocket], WebSocketHandler]) -> ClientWebSocket | None:
        """Answer with 101 and return the websocket, or None for a malformed handshake, to be answered with an error.

        `new_handler` makes the handler of the websocket, which may get messages before this returns.
        """
        from websockets.http11 import Request
        from websockets.server import ServerProtocol

        protocol = ServerProtocol(max_size=MAX_MESSAGE_BYTES, logger=_log)
        kept = [b"%s: %s\r\n" % header for header in self._headers if header[0] in _HANDSHAKE_HEADERS]
        head = [b"GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n", *kept, b"\r\n"]
        protocol.receive_data(b"".join(head))
        request = next(iter(protocol.events_received()), None)
        response = protocol.accept(request) if isinstance(request, Request) else None
        if response is None or response.status_code != 101:
            return None
        protocol.send_response(response)
        socket = ClientWebSocket(protocol, self._transport)
        self._open(socket)
        socket.start(new_handler(socket), bytes(self._early))
        return socket


SocketAcceptor = Callable[[Callable[["ClientWebSocket"], WebSocketHandler]], "ClientWebSocket | None"]
"""Function that opens the websocket a request asks for: see `WebSocketUpgrade.accept`."""


class ClientWebSocket:
    """Open websocket: hands messages to its handler, and sends the handler's. All of it belongs to one event loop.

    `bytes_sent` counts frames with their headers.
    """

    def __init__(self, protocol: ServerProtocol, transport: SocketTransport) -> None:
        from websockets.protocol import OPEN

        self._protocol, self._transport, self._open_state = protocol, transport, OPEN
        self._handler: WebSocketHandler | None = None  # from the start until it knows of the end
        self._sending = asyncio.Lock()
        self._message = bytearray()  # the parts received of a message in fragments
        self._is_text = True
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._pinged_at: float | None = None
        self.bytes_sent = 0
        self.close_code: int | None = None
        """Code of the close frame that was sent or received first; 1006 if there was none. None while it is open."""

    @property
    def is_open(self) -> bool:
        """True if messages can be sent."""
        return self._handler is not None and self._protocol.state is self._open_state

    # ---------------------------------------------------------------- calls of the handler

    async def send(self, message: str) -> None:
        """Send a message, one at a time; wait while the client does not read. Raises ClientDisconnectedError."""
        async with self._sending:
            await self._transport.drain()
            if not self.is_open:
                raise ClientDisconnectedError
            self._protocol.send_text(message.encode())
            self._write()

    def close(self, code: int, reason: str = "") -> None:
        """Close with a close frame. Closing again changes nothing."""
        if not self.is_open:
            return
        shortened = reason.encode()[:_MAX_REASON_BYTES].decode("utf-8", "ignore")
        self.close_code = code
        self._protocol.send_close(code, shortened)
        self._write()
        self._transport.end_output()

    # ---------------------------------------------------------------- calls of the connection

    def start(self, handler: WebSocketHandler, early: bytes) -> None:
        """Send the handshake, and handle the frames that have arrived."""
        self._handler = handler
        self._write()
        if early:
            self.receive_data(early)

    def receive_data(self, data: bytes) -> None:
        """Handle received bytes."""
        from websockets.frames import Frame

        self._heard_at, self._pinged_at = self._loop.time(), None
        self._protocol.receive_data(data)
        self._write()  # pongs, and the answer to a close frame or to an error in the protocol
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and self._handler:
                self._handle(event)
        if not self.is_open:
            self._end()

    def connection_lost(self) -> None:
        """Note the end of the connection."""
        self._end()

    def check_timeouts(self, now: float) -> None:
        """Ping a silent client; reset the connection of one that has not answered."""
        if self._handler is None:
            return
        self._handler.tick(now)
        if self._pinged_at is not None:
            if now - self._pinged_at > PING_INTERVAL:
                self._transport.reset()
        elif now - self._heard_at > PING_INTERVAL and self.is_open:
            self._pinged_at = now
            self._protocol.send_ping(b"")
            self._write()

    def shutdown(self) -> None:
        """Begin to end, because the server stops."""
        if self._handler:
            self._handler.shutdown()

    def _handle(self, frame: Frame) -> None:
        """Collect the fragments of a message, and hand it on once it is complete."""
        from websockets.frames import Opcode

        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY:
                self._is_text = frame.opcode is Opcode.TEXT
                self._message[:] = frame.data
            case Opcode.CONT:
                self._message += frame.data
            case _:
                return
        if not frame.fin or self._handler is None:
            return
        data, self._message = bytes(self._message), bytearray()
        if not self._is_text:
            self._handler.refuse_binary()
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.close(1007, "message is not UTF-8")
            self._end()
        else:
            self._handler.receive(text)

    def _write(self) -> None:
        """Send what the protocol has to send."""
        parts = self._protocol.data_to_send()
        data = b"".join(parts)
        if data:
            self.bytes_sent += len(data)
            self._transport.write_frames(data)
        if parts and not parts[-1]:  # the library's sign for the end of the output
            self._transport.end_output()

    def _end(self) -> None:
        """Release the handler, after it knows."""
        handler, self._handler = self._handler, None
        self._protocol.parser.close()  # its frame refers to the protocol: a cycle for the garbage collector
        if self.close_code is None:
            close = self._protocol.close_sent or self._protocol.close_rcvd
            self.close_code = close.code if close else 1006
        if handler:
            handler.disconnected()
