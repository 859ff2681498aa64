"""A whole answer, and the parts of HTTP that every door needs: JSON, a query, a body with limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from steadyvoice.service.pipeline.timeouts import WaitTimer
from steadyvoice.speech.text import is_encodable
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ARRIVED = "steadyvoice.arrived"
"""In a request's scope, of a server that can: what tells whether all of the body is here, to be received at once."""

OUTLET = "steadyvoice.outlet"
"""In a request's scope, of a server that can: what makes an outlet for an answer that has begun, or None."""

_MOST_PARAMETERS = 50


class ClientGoneError(Exception):
    """Whoever asked has hung up: there is nobody left to answer."""


class TooMuchError(Exception):
    """A body beyond its limit. It is not read to its end."""


class TooSlowError(Exception):
    """A body that did not come in time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is there as a whole."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it: a reply is an ASGI application of its own."""
        told = {"content-type": self.content_type, "content-length": str(len(self.body)), **self.headers}
        await send({"type": "http.response.start", "status": self.status, "headers": raw_headers(told)})
        body = b"" if scope["method"] == "HEAD" else self.body
        await send({"type": "http.response.body", "body": body})


def json_reply(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with JSON. Half a surrogate pair, which a caller may have sent, is written as its escape."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    return Reply(status, data, headers=headers or {})


def raw_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them. What HTTP cannot carry becomes a question mark."""
    return [(name.encode("ascii"), value.encode("latin-1", "replace")) for name, value in headers.items()]


def parameters_of(query: bytes) -> list[tuple[str, str]]:
    """The parameters of a query, one by one. Raises RequestValidationError for too many, or one that is not UTF-8."""
    if not query:
        return []
    raw = query.decode("latin-1")
    try:
        found = parse_qsl(raw, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS, errors="surrogateescape")
    except ValueError:
        told = f"at most {_MOST_PARAMETERS} parameters are read"
        raise RequestValidationError([ValidationIssue("too_long", ("query",), told)]) from None
    for name, value in found:
        if not (is_encodable(name) and is_encodable(value)):
            told = "must be UTF-8 behind its percent-encoding"
            raise RequestValidationError([ValidationIssue("string_unicode", ("query", ascii(name)[1:-1][:100]), told)])
    return found


def query_of(query: bytes) -> dict[str, str]:
    """A query by name; of a parameter that comes twice, the last. Raises RequestValidationError."""
    return dict(parameters_of(query))


async def read_body(
    receive: Receive, *, most: int, within: float, declared: bytes | None = None, arrived: bool = False
) -> bytes:
    """Read a request's body of at most so many bytes, within so many seconds, unless all of it has `arrived`.

    `declared` is its Content-Length: what says that it is too long is not waited for.
    Raises TooMuchError, TooSlowError, ClientGoneError.
    """
    if declared is not None and int(declared) > most:
        raise TooMuchError
    if arrived:
        return _part(await receive(), most)
    body = bytearray()
    more = True
    alarm, end = WaitTimer(), asyncio.get_running_loop().time() + within
    try:
        while more:
            message = await alarm.wait(end - asyncio.get_running_loop().time(), receive())
            body += _part(message, most - len(body))
            more = message.get("more_body", False)
    except TimeoutError:
        raise TooSlowError from None
    finally:
        alarm.close()
    return bytes(body)


def _part(message: Message, most: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    data: bytes = message.get("body", b"")
    if len(data) > most:
        raise TooMuchError
    return data
