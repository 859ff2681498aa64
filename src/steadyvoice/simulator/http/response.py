"""HTTP responses of the simulator: the values, rejections, and the writer that sends them.

The writer is the only code that knows how aiohttp frames a body, and how to break that.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from steadyvoice.simulator.fault_injection.actions import ErrorForm, Refuse
from steadyvoice.simulator.ledger import LedgerEntry, RequestLedger
from steadyvoice.wire.request_validation import ValidationIssue


@dataclass(frozen=True, slots=True)
class BodyPart:
    """Bytes of a body, and the second of audio that is reached with them."""

    data: bytes
    audio_end: float = 0.0


ResponseBody = AsyncIterator[BodyPart]


@dataclass(frozen=True, slots=True)
class SimulatedResponse:
    """Response of a vendor. `length` is that of the body in bytes, or None while it is still being made."""

    body: ResponseBody
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


def json_response(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> SimulatedResponse:
    """Return a complete response with a JSON document."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return bytes_response(data, "application/json", status=status, headers=headers)


def bytes_response(
    data: bytes, content_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> SimulatedResponse:
    """Return a complete response with these bytes."""
    return SimulatedResponse(
        body_from_parts([BodyPart(data)]), status, {**(headers or {}), "content-type": content_type}, len(data)
    )


async def body_from_parts(parts: Iterable[BodyPart]) -> ResponseBody:
    """Yield parts that are there already, as a body."""
    for part in parts:
        yield part


async def collect_parts(body: ResponseBody) -> list[BodyPart]:
    """Return all parts of a body, once it is complete."""
    return [part async for part in body]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Reason for refusing a request, before a dialect has put it into its vendor's form.

    `code` is one of ElevenLabs or OpenAI, which each dialect translates to its own; `status` overrides the HTTP status
    of the code. `issues` are the fields of a request that could not be parsed.
    """

    code: str | None = None
    message: str | None = None
    status: int | None = None
    param: str | None = None
    issues: Sequence[ValidationIssue] = ()
    form: ErrorForm | None = None
    retry_after: float | None = None  # seconds

    @classmethod
    def from_action(cls, action: Refuse) -> Rejection:
        """Return the rejection that a fault asks for."""
        return cls(action.code, action.message, action.status, form=action.form, retry_after=action.retry_after)


class RequestRejectedError(Exception):
    """Raised to refuse the request that is being handled."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection)
        self.rejection = rejection


def retry_after_value(wait: float) -> str:
    """Return the value of a Retry-After header: whole seconds, rounded up."""
    # RFC 9110, 10.2.3, allows whole seconds only, and clients parse nothing else.
    return str(math.ceil(wait))


class BodyFraming(Enum):
    """Framing of a body: how a client detects its end."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"  # by the end of the connection


class ResponseWriter:
    """Writer of one response, paced by its audio: a second of audio takes `real_time_factor` seconds."""

    def __init__(
        self, request: web.BaseRequest, entry: LedgerEntry, ledger: RequestLedger, real_time_factor: float = 0.0
    ) -> None:
        self.response: web.StreamResponse = web.StreamResponse()
        self._request = request
        self._entry = entry
        self._ledger = ledger
        self._real_time_factor = real_time_factor
        self._started = 0.0

    async def start(
        self, response: SimulatedResponse, *, framing: BodyFraming | None = None, length: int | None = None
    ) -> None:
        """Send the headers. `length` is the Content-Length to declare, true or not."""
        framing = framing or (BodyFraming.CHUNKED if response.length is None else BodyFraming.LENGTH)
        if framing is BodyFraming.CHUNKED and self._request.version < (1, 1):
            framing = BodyFraming.CLOSE
        headers = CIMultiDict(response.headers)
        if framing is BodyFraming.LENGTH:
            headers["content-length"] = str(response.length if length is None else length)
        self.response = _Unframed(status=response.status, headers=headers)
        if framing is BodyFraming.CHUNKED:
            self.response.enable_chunked_encoding()
        # A connection on which the declared length was wrong cannot be used for another request.
        if framing is BodyFraming.CLOSE or length is not None:
            self.response.force_close()
        self._entry.status = response.status
        self._started = _now()
        await self.response.prepare(self._request)

    async def send(self, part: BodyPart) -> None:
        """Send bytes, not before they are due."""
        await sleep_or_hang(self._started + self._real_time_factor * part.audio_end - _now())
        if not part.data:
            return
        await self.response.write(part.data)
        self._ledger.sent(self._entry, len(part.data), part.audio_end)

    async def finish(self) -> None:
        """End the response as its framing requires."""
        await self.response.write_eof()

    async def send_endless_header(self) -> None:
        """Send a header that never ends, as fast as the client reads, until it has left."""
        transport = self._request.transport
        self._entry.status = 200
        data = b"HTTP/1.1 200 OK\r\nx-endless: "
        while transport is not None and not transport.is_closing():
            if transport.get_write_buffer_size() < 2**16:
                transport.write(data)
                data = bytes([*b"a"] * 4096)
            # A loop without a pause would keep every other connection of the simulator waiting.
            await asyncio.sleep(0.001)

    async def pause(self, seconds: float | None) -> None:
        """Wait for some seconds, or until the client leaves if None."""
        await sleep_or_hang(seconds)

    def close_connection(self) -> None:
        """Close the connection behind the bytes that were sent, without ending the response."""
        close_connection(self._request)

    def reset_connection(self) -> None:
        """Reset the connection: the client sees "connection reset by peer"."""
        reset_connection(self._request)


async def sleep_or_hang(seconds: float | None) -> None:
    """Wait for some seconds. None hangs until the client leaves, which cancels the request."""
    if seconds is None:
        await asyncio.Event().wait()
    elif seconds > 0:
        await asyncio.sleep(seconds)


def close_connection(request: web.BaseRequest) -> None:
    """Close the connection behind the bytes that were sent, without ending the response."""
    if request.transport is not None:
        request.transport.close()


def reset_connection(request: web.BaseRequest) -> None:
    """Reset the connection: the client sees "connection reset by peer"."""
    if request.transport is not None:
        _reset_transport(request.transport)


class _Unframed(web.StreamResponse):
    # aiohttp would drop bytes beyond the length, and chunk what has none. Its own websockets opt out like this.
    _length_check = False


def reset_socket(connection: socket.socket) -> None:
    """Reset a connection that has no transport yet."""
    _disable_linger(connection)
    connection.close()


def _reset_transport(transport: asyncio.Transport) -> None:
    _disable_linger(transport.get_extra_info("socket"))
    transport.abort()


def _disable_linger(connection: socket.socket) -> None:
    # With SO_LINGER on and a time of 0, closing sends RST instead of FIN, and drops what is unsent.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _now() -> float:
    return asyncio.get_running_loop().time()
