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
    """Some bytes of a body, and the second of audio up to which one hears with them."""

    data: bytes
    audio_end: float = 0.0


ResponseBody = AsyncIterator[BodyPart]


@dataclass(frozen=True, slots=True)
class SimulatedResponse:
    """What a vendor would say. `length` is of the body in bytes, None when it is still being made."""

    body: ResponseBody
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


def json_response(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> SimulatedResponse:
    """Answer with JSON, whole."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return bytes_response(data, "application/json", status=status, headers=headers)


def bytes_response(
    data: bytes, content_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> SimulatedResponse:
    """Answer with bytes, whole."""
    return SimulatedResponse(
        body_from_parts([BodyPart(data)]), status, {**(headers or {}), "content-type": content_type}, len(data)
    )


async def body_from_parts(parts: Iterable[BodyPart]) -> ResponseBody:
    """Make a body of what is there already."""
    for part in parts:
        yield part


async def collect_parts(body: ResponseBody) -> list[BodyPart]:
    """Wait for all of it."""
    return [part async for part in body]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why, by a code of ElevenLabs or OpenAI (each door finds its own word), and with which HTTP status if not the
    code's own. `issues` are the fields of a request that could not be read.
    """

    code: str | None = None
    message: str | None = None
    status: int | None = None
    param: str | None = None
    issues: Sequence[ValidationIssue] = ()
    form: ErrorForm | None = None
    retry_after: float | None = None  # seconds

    @classmethod
    def ordered(cls, action: Refuse) -> Rejection:
        """What a fault asks for."""
        return cls(action.code, action.message, action.status, form=action.form, retry_after=action.retry_after)


class RequestRejectedError(Exception):
    """Raised to refuse the request at hand."""

    def __init__(self, refusal: Rejection) -> None:
        super().__init__(refusal)
        self.refusal = refusal


def retry_after_value(wait: float) -> str:
    """Write a Retry-After in whole seconds, never too few. RFC 9110, 10.2.3, knows no others, and clients read none."""
    return str(math.ceil(wait))


class BodyFraming(Enum):
    """How a client is to know where a body ends."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"  # by the end of the connection


class ResponseWriter:
    """Starts, sends and ends an answer, in time with the audio: a second of it takes `real_time_factor` seconds."""

    def __init__(
        self, request: web.BaseRequest, entry: LedgerEntry, ledger: RequestLedger, real_time_factor: float = 0.0
    ) -> None:
        self.response: web.StreamResponse = web.StreamResponse()
        self._request = request
        self._entry = entry
        self._ledger = ledger
        self._pace = real_time_factor
        self._started = 0.0

    async def start(
        self, answer: SimulatedResponse, *, framing: BodyFraming | None = None, length: int | None = None
    ) -> None:
        """Send the headers. `length` is what to promise, true or not."""
        framing = framing or (BodyFraming.CHUNKED if answer.length is None else BodyFraming.LENGTH)
        if framing is BodyFraming.CHUNKED and self._request.version < (1, 1):
            framing = BodyFraming.CLOSE
        headers = CIMultiDict(answer.headers)
        if framing is BodyFraming.LENGTH:
            headers["content-length"] = str(answer.length if length is None else length)
        self.response = _Unframed(status=answer.status, headers=headers)
        if framing is BodyFraming.CHUNKED:
            self.response.enable_chunked_encoding()
        if framing is BodyFraming.CLOSE or length is not None:
            self.response.force_close()
        self._entry.status = answer.status
        self._started = _now()
        await self.response.prepare(self._request)

    async def send(self, part: BodyPart) -> None:
        """Send bytes, not before their time."""
        await sleep_or_hang(self._started + self._pace * part.audio_end - _now())
        if not part.data:
            return
        await self.response.write(part.data)
        self._ledger.sent(self._entry, len(part.data), part.audio_end)

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
        await sleep_or_hang(seconds)

    def hang_up(self) -> None:
        """Close the connection behind what was sent, without a word."""
        close_connection(self._request)

    def reset(self) -> None:
        """Drop the connection so that the client sees "connection reset by peer"."""
        reset_connection(self._request)


async def sleep_or_hang(seconds: float | None) -> None:
    """Let time pass; None is until the client has had enough, and we are cancelled."""
    if seconds is None:
        await asyncio.Event().wait()
    elif seconds > 0:
        await asyncio.sleep(seconds)


def close_connection(request: web.BaseRequest) -> None:
    """Close the connection behind what was sent, without a word."""
    if request.transport is not None:
        request.transport.close()


def reset_connection(request: web.BaseRequest) -> None:
    """Drop the connection so that the client sees "connection reset by peer"."""
    if request.transport is not None:
        _reset_transport(request.transport)


class _Unframed(web.StreamResponse):
    # aiohttp would drop bytes beyond the length, and chunk what has none. Its own websockets opt out like this.
    _length_check = False


def reset_socket(connection: socket.socket) -> None:
    """Do the same to a bare socket."""
    _disable_linger(connection)
    connection.close()


def _reset_transport(transport: asyncio.Transport) -> None:
    _disable_linger(transport.get_extra_info("socket"))
    transport.abort()


def _disable_linger(connection: socket.socket) -> None:
    # With lingering on and no time to do it in, closing sends RST instead of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _now() -> float:
    return asyncio.get_running_loop().time()
