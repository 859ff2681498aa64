"""HTTP building blocks: responses and their `Retry-After`, JSON, query parameters, size limit of request bodies, gzip,
client disconnects.

Compression is used for the dashboard's files and for long admin responses about providers; never for speech, events
or lists of calls. The length of a response can give away what is compressed together: callers that see lengths on the
wire could guess at text that stands beside their own (BREACH, https://www.breachattack.com). What is
compressed holds no secret (of callers, at most the name of a voice), repeats nothing of the request, and is given for
a token in a header, which no other site can make a browser send.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from enum import Enum
from math import ceil, isfinite
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

from steadyvoice.service.error_state import to_iso8601
from steadyvoice.service.pipeline.timeouts import WaitTimer
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.speech.text import is_encodable
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue

_PLAIN_TYPES = frozenset({str, int, bool, type(None)})
_FIELD_NAMES: dict[type, tuple[str, ...]] = {}  # of the dataclasses that were met, and none for other types


def to_json(value: Any) -> Any:
    """Return a value as JSON values; of types that JSON has no form for, their text."""
    # Nearly all values are of these types themselves. The cases below also take the types that are derived from them,
    # and check abstract classes for it: without these lines an entry of the event log takes 1.7 times as long.
    kind = type(value)
    if kind in _PLAIN_TYPES:
        return value
    if kind is dict:
        return {str(key): each if type(each) in _PLAIN_TYPES else to_json(each) for key, each in value.items()}
    if kind is list or kind is tuple:
        return [to_json(each) for each in value]
    names = _FIELD_NAMES.get(kind)
    if names is None:
        names = _FIELD_NAMES[kind] = tuple(each.name for each in fields(kind)) if is_dataclass(kind) else ()
    if names:
        return {name: to_json(getattr(value, name)) for name in names}
    match value:
        case bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Enum():
            return value.value
        case str():
            return value
        case datetime():
            return to_iso8601(value)
        case Mapping():
            return {str(key): to_json(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [to_json(each) for each in value]
        case _:
            return str(value)


Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_ARRIVED = "steadyvoice.body_arrived"
"""Key in a request's scope: function that tells whether the whole body has arrived, and one `receive` returns it."""

OUTLET_FACTORY = "steadyvoice.outlet"
"""Key in a request's scope: function that returns an audio sink for a response that has begun, or None."""

ON_DISCONNECT = "steadyvoice.on_disconnect"
"""Key in a request's scope: function that takes a callback for the client's disconnect, or None to remove it."""

WEBSOCKET = "steadyvoice.websocket"
"""Key in a request's scope: function that accepts the upgrade to a websocket which the request asks for."""

_MAX_PARAMETERS = 50
_MAX_WRITE = 256 * 1024  # bytes copied at once


class ClientDisconnectedError(Exception):
    """Disconnect of the client: no response can be sent."""


class BodyTooLargeError(Exception):
    """Request body beyond its limit. The rest of it is not read."""


class BodyTimeoutError(Exception):
    """Request body that did not arrive in time."""


@dataclass(frozen=True, slots=True)
class HTTPError:
    """Error response before it is worded in a dialect.

    `code` is the gateway's; a dialect with a code of its own for `kind` uses that. `retry_after` is in seconds.
    """

    status: int
    code: str
    message: str
    kind: FailureKind | None = None
    retry_after: float | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """Complete response; an ASGI application of its own."""

    status: int = 200
    body: bytes | bytearray = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"content-type": self.content_type, "content-length": str(len(self.body)), **self.headers}
        await send({"type": "http.response.start", "status": self.status, "headers": raw_headers(headers)})
        body = b"" if scope["method"] == "HEAD" else self.body
        sent = 0
        # A large body is written piece by piece: each waits until the client has read enough of those before it.
        while len(body) - sent > _MAX_WRITE:
            piece = bytes(body[sent : sent + _MAX_WRITE])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            sent += _MAX_WRITE
        await send({"type": "http.response.body", "body": bytes(body[sent:])})


def json_response(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response. Unpaired surrogates, which a caller may have sent, are written as escapes."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    return Response(status, data, headers=headers or {})


def error_response(error: HTTPError, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error in the gateway's own format; `param` becomes the name of the field that was wrong."""
    document = {"error": {"code": error.code, "message": error.message, "field": error.param}}
    all_headers = {**retry_after_header(error.retry_after), **(headers or {})}
    return json_response(document, status=error.status, headers=all_headers)


def retry_after_header(seconds: float | None) -> dict[str, str]:
    """Return a Retry-After header, rounded up: a client that retries a moment too early is refused once more."""
    return {"retry-after": str(max(1, ceil(seconds)))} if seconds is not None and isfinite(seconds) else {}


def raw_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI takes them. Characters outside of Latin-1 become question marks."""
    return [(name.encode("ascii"), value.encode("latin-1", "replace")) for name, value in headers.items()]


def query_parameters(query: bytes) -> list[tuple[str, str]]:
    """Parse a query string into pairs. Raises RequestValidationError for too many, and for what is not UTF-8."""
    if not query:
        return []
    raw = query.decode("latin-1")
    try:
        found = parse_qsl(raw, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS, errors="surrogateescape")
    except ValueError:
        message = f"too many query parameters: the limit is {_MAX_PARAMETERS}"
        raise RequestValidationError([ValidationIssue("too_long", ("query",), message)]) from None
    for name, value in found:
        if not (is_encodable(name) and is_encodable(value)):
            where = ("query", ascii(name)[1:-1][:100])
            message = "percent-encoded bytes must be UTF-8"
            raise RequestValidationError([ValidationIssue("string_unicode", where, message)])
    return found


def query_dict(query: bytes) -> dict[str, str]:
    """Parse a query string by name; of repeated parameters, the last counts. Raises RequestValidationError."""
    return dict(query_parameters(query))


async def read_body(
    receive: Receive, *, max_bytes: int, timeout: float, declared: bytes | None = None, arrived: bool = False
) -> bytes:
    """Read a request's body of at most `max_bytes` within `timeout` seconds, unless all of it has `arrived`.

    `declared` is its Content-Length: a body that announces more than the limit is refused without reading it.
    Raises BodyTooLargeError, BodyTimeoutError and ClientDisconnectedError.
    """
    if declared is not None and int(declared) > max_bytes:
        raise BodyTooLargeError
    if arrived:
        return _body_part(await receive(), max_bytes)
    body = bytearray()
    more = True
    timer, end = WaitTimer(), asyncio.get_running_loop().time() + timeout
    try:
        while more:
            message = await timer.wait(end - asyncio.get_running_loop().time(), receive())
            body += _body_part(message, max_bytes - len(body))
            more = message.get("more_body", False)
    except TimeoutError:
        raise BodyTimeoutError from None
    finally:
        timer.close()
    return bytes(body)


def _body_part(message: Message, max_bytes: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientDisconnectedError
    data: bytes = message.get("body", b"")
    if len(data) > max_bytes:
        raise BodyTooLargeError
    return data


MIN_COMPRESSED_SIZE = 1400  # bytes: a body that fits into one packet gains nothing
VARY_HEADERS = {"vary": "accept-encoding"}
GZIP_HEADERS = {"content-encoding": "gzip", **VARY_HEADERS}
_FAST_LEVEL, _BEST_LEVEL = 1, 9


def accepts_gzip(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a client accepts gzip: https://www.rfc-editor.org/rfc/rfc9110#field.accept-encoding."""
    accepted: dict[str, bool] = {}
    for part in headers.get(b"accept-encoding", b"").decode("latin-1").lower().split(","):
        coding, _, parameter = part.partition(";")
        accepted[coding.strip()] = _has_weight(parameter.strip())
    return accepted.get("gzip", accepted.get("*", False))


def _has_weight(parameter: str) -> bool:
    name, _, weight = parameter.partition("=")
    if name.strip() != "q":
        return True
    try:
        return float(weight) > 0
    except ValueError:
        return False


def compressed(response: Response, request_headers: Mapping[bytes, bytes]) -> Response:
    """Return the response compressed with gzip, if the client accepts it and it is long enough."""
    if len(response.body) < MIN_COMPRESSED_SIZE or not accepts_gzip(request_headers):
        return replace(response, headers={**response.headers, **VARY_HEADERS})
    body = gzip.compress(response.body, _FAST_LEVEL, mtime=0)
    return replace(response, body=body, headers={**response.headers, **GZIP_HEADERS})


def precompressed(body: bytes) -> bytes | None:
    """Compress a body that is sent repeatedly as far as possible; None if it would not become smaller."""
    small = gzip.compress(body, _BEST_LEVEL, mtime=0)
    return small if len(body) >= MIN_COMPRESSED_SIZE and len(small) < len(body) else None


class CancelOnDisconnect:
    """Context manager that cancels the current task when its client disconnects, as ClientDisconnectedError.

    The body must have been read; further bytes of the client are ignored. Where the server does not call back by
    itself (see ON_DISCONNECT), a task waits for the disconnect.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._set_callback: Callable[[Callable[[], None] | None], None] | None = scope.get(ON_DISCONNECT)
        self._receive = receive
        self._disconnected = False
        self._watcher: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        self._task, self._cancelling_before = task, task.cancelling()
        if self._set_callback:
            self._set_callback(self._cancel)
        else:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._set_callback:
            self._set_callback(None)
        if self._watcher:
            self._watcher.cancel()
        # As in asyncio.timeout(): a cancellation of our own is taken back and raised as what it means. One that came
        # from outside at the same time stays a cancellation.
        if self._disconnected and self._task.uncancel() <= self._cancelling_before and kind is asyncio.CancelledError:
            raise ClientDisconnectedError from None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel()

    def _cancel(self) -> None:
        self._disconnected = True
        self._task.cancel()
