"""One HTTP answer on its way to one client, with verbs that a decent server has no use for.

The only place that knows how aiohttp frames a body, and how to break that.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import Enum

from aiohttp import web
from multidict import CIMultiDict

from steadyvoice.simulator.answer import Answer, Part
from steadyvoice.simulator.ledger import Entry, Ledger


class Framing(Enum):
    """How a client is to know where a body ends."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"  # by the end of the connection


class Line:
    """Starts, sends and ends an answer, in time with the audio: a second of it takes `real_time_factor` seconds."""

    def __init__(self, request: web.BaseRequest, entry: Entry, ledger: Ledger, real_time_factor: float = 0.0) -> None:
        self.response: web.StreamResponse = web.StreamResponse()
        self._request = request
        self._entry = entry
        self._ledger = ledger
        self._pace = real_time_factor
        self._started = 0.0

    async def start(self, answer: Answer, *, framing: Framing | None = None, length: int | None = None) -> None:
        """Send the headers. `length` is what to promise, true or not."""
        framing = framing or (Framing.CHUNKED if answer.length is None else Framing.LENGTH)
        if framing is Framing.CHUNKED and self._request.version < (1, 1):
            framing = Framing.CLOSE
        headers = CIMultiDict(answer.headers)
        if framing is Framing.LENGTH:
            headers["content-length"] = str(answer.length if length is None else length)
        self.response = _Unframed(status=answer.status, headers=headers)
        if framing is Framing.CHUNKED:
            self.response.enable_chunked_encoding()
        if framing is Framing.CLOSE or length is not None:
            self.response.force_close()
        self._entry.status = answer.status
        self._started = _now()
        await self.response.prepare(self._request)

    async def send(self, part: Part) -> None:
        """Send bytes, not before their time."""
        await wait(self._started + self._pace * part.heard - _now())
        if not part.data:
            return
        await self.response.write(part.data)
        self._ledger.sent(self._entry, len(part.data), part.heard)

    async def finish(self) -> None:
        """End the answer in the way its framing asks for."""
        await self.response.write_eof()

    async def start_without_end(self) -> None:
        """Send headers that never end, as fast as they are taken, until the client has left."""
        transport = self._request.transport
        self._entry.status = 200
        data = b"HTTP/1.1 200 OK\r\nx-endless: "
        while transport is not None and not transport.is_closing():
            if transport.get_write_buffer_size() < 2**16:
                transport.write(data)
                data = bytes([*b"a"] * 4096)
            await asyncio.sleep(0.001)

    async def wait(self, seconds: float | None) -> None:
        """Let time pass; None is until the client has had enough."""
        await wait(seconds)

    def hang_up(self) -> None:
        """Close the connection behind what was sent, without a word."""
        hang_up(self._request)

    def reset(self) -> None:
        """Drop the connection so that the client sees "connection reset by peer"."""
        reset(self._request)


async def wait(seconds: float | None) -> None:
    """Let time pass; None is until the client has had enough, and we are cancelled."""
    if seconds is None:
        await asyncio.Event().wait()
    elif seconds > 0:
        await asyncio.sleep(seconds)


def hang_up(request: web.BaseRequest) -> None:
    """Close the connection behind what was sent, without a word."""
    if request.transport is not None:
        request.transport.close()


def reset(request: web.BaseRequest) -> None:
    """Drop the connection so that the client sees "connection reset by peer"."""
    if request.transport is not None:
        _reset(request.transport)


class _Unframed(web.StreamResponse):
    # aiohttp would drop bytes beyond the length, and chunk what has none. Its own websockets opt out like this.
    _length_check = False


def drop(connection: socket.socket) -> None:
    """Do the same to a bare socket."""
    _without_lingering(connection)
    connection.close()


def _reset(transport: asyncio.Transport) -> None:
    _without_lingering(transport.get_extra_info("socket"))
    transport.abort()


def _without_lingering(connection: socket.socket) -> None:
    # With lingering on and no time to do it in, closing sends RST instead of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _now() -> float:
    return asyncio.get_running_loop().time()
