"""HTTP building blocks: responses, query parameters, request bodies, gzip, client disconnects.

Compression is used for the dashboard's files and for long admin responses about providers; never for speech, events
or lists of calls. The length of a response can give away what is compressed together: a caller who sees lengths on the
wire could guess at text that stands beside text of their own (BREACH, https://www.breachattack.com). What is
compressed holds no secret (of callers, at most the name of a voice), repeats nothing of the request, and is given for
a token in a header, which no other site can make a browser send.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

from steadyvoice.service.pipeline.timeouts import WaitTimer
from steadyvoice.speech.text import is_encodable
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_ARRIVED = "steadyvoice.arrived"
"""In a request's scope, of a server that can: what tells whether all of the body is here, to be received at once."""

OUTLET_FACTORY = "steadyvoice.outlet"
"""In a request's scope, of a server that can: what makes an outlet for an answer that has begun, or None."""

_MAX_PARAMETERS = 50


class ClientDisconnectedError(Exception):
    """Whoever asked has hung up: there is nobody left to answer."""


class BodyTooLargeError(Exception):
    """A body beyond its limit. It is not read to its end."""


class BodyTimeoutError(Exception):
    """A body that did not come in time."""


@dataclass(frozen=True, slots=True)
class Response:
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


def json_response(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON. Half a surrogate pair, which a caller may have sent, is written as its escape."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    return Response(status, data, headers=headers or {})


def error_response(
    status: int, code: str, message: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An error in the gateway's own words; `field` is what was wrong with a change."""
    return json_response({"error": {"code": code, "message": message, "field": field}}, status=status, headers=headers)


def raw_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them. What HTTP cannot carry becomes a question mark."""
    return [(name.encode("ascii"), value.encode("latin-1", "replace")) for name, value in headers.items()]


def query_parameters(query: bytes) -> list[tuple[str, str]]:
    """The parameters of a query, one by one. Raises RequestValidationError for too many, or one that is not UTF-8."""
    if not query:
        return []
    raw = query.decode("latin-1")
    try:
        found = parse_qsl(raw, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS, errors="surrogateescape")
    except ValueError:
        told = f"at most {_MAX_PARAMETERS} parameters are read"
        raise RequestValidationError([ValidationIssue("too_long", ("query",), told)]) from None
    for name, value in found:
        if not (is_encodable(name) and is_encodable(value)):
            told = "must be UTF-8 behind its percent-encoding"
            raise RequestValidationError([ValidationIssue("string_unicode", ("query", ascii(name)[1:-1][:100]), told)])
    return found


def query_dict(query: bytes) -> dict[str, str]:
    """A query by name; of a parameter that comes twice, the last. Raises RequestValidationError."""
    return dict(query_parameters(query))


async def read_body(
    receive: Receive, *, most: int, within: float, declared: bytes | None = None, arrived: bool = False
) -> bytes:
    """Read a request's body of at most so many bytes, within so many seconds, unless all of it has `arrived`.

    `declared` is its Content-Length: what says that it is too long is not waited for.
    Raises TooMuchError, TooSlowError, ClientGoneError.
    """
    if declared is not None and int(declared) > most:
        raise BodyTooLargeError
    if arrived:
        return _body_part(await receive(), most)
    body = bytearray()
    more = True
    alarm, end = WaitTimer(), asyncio.get_running_loop().time() + within
    try:
        while more:
            message = await alarm.wait(end - asyncio.get_running_loop().time(), receive())
            body += _body_part(message, most - len(body))
            more = message.get("more_body", False)
    except TimeoutError:
        raise BodyTimeoutError from None
    finally:
        alarm.close()
    return bytes(body)


def _body_part(message: Message, most: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientDisconnectedError
    data: bytes = message.get("body", b"")
    if len(data) > most:
        raise BodyTooLargeError
    return data


MIN_COMPRESSED_SIZE = 1400  # bytes: what fits into one packet gains nothing
VARY_HEADERS = {"vary": "accept-encoding"}
GZIP_HEADERS = {"content-encoding": "gzip", **VARY_HEADERS}
_FAST_LEVEL, _BEST_LEVEL = 1, 9


def accepts_gzip(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a client does, by its Accept-Encoding: https://www.rfc-editor.org/rfc/rfc9110#field.accept-encoding."""
    taken: dict[str, bool] = {}
    for part in headers.get(b"accept-encoding", b"").decode("latin-1").lower().split(","):
        coding, _, parameter = part.partition(";")
        taken[coding.strip()] = _is_wanted(parameter.strip())
    return taken.get("gzip", taken.get("*", False))


def _is_wanted(parameter: str) -> bool:
    name, _, weight = parameter.partition("=")
    if name.strip() != "q":
        return True
    try:
        return float(weight) > 0
    except ValueError:
        return False


def compressed(reply: Response, request_headers: Mapping[bytes, bytes]) -> Response:
    """The same answer for this client, smaller if that is worth while."""
    if len(reply.body) < MIN_COMPRESSED_SIZE or not accepts_gzip(request_headers):
        return replace(reply, headers={**reply.headers, **VARY_HEADERS})
    return replace(
        reply, body=gzip.compress(reply.body, _FAST_LEVEL, mtime=0), headers={**reply.headers, **GZIP_HEADERS}
    )


def precompressed(body: bytes) -> bytes | None:
    """What is sent again and again, as small as can be; None where it would not be smaller."""
    small = gzip.compress(body, _BEST_LEVEL, mtime=0)
    return small if len(body) >= MIN_COMPRESSED_SIZE and len(small) < len(body) else None


ON_DISCONNECT = "steadyvoice.told_of_hangup"
"""In a request's scope, of a server that can: what takes a function to be called when the client leaves, or None."""


class CancelOnDisconnect:
    """Cancel the task inside when its client leaves, and raise ClientGoneError in its stead.

    The body must have been read; what a client sends behind it is of no interest. Where the server does not tell by
    itself (see TOLD), a task waits for it to.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._told: Callable[[Callable[[], None] | None], None] | None = scope.get(ON_DISCONNECT)
        self._receive = receive
        self._gone = False
        self._watch: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        self._task, self._before = task, task.cancelling()
        if self._told:
            self._told(self._leave)
        else:
            self._watch = asyncio.get_running_loop().create_task(self._wait())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._told:
            self._told(None)
        if self._watch:
            self._watch.cancel()
        # As asyncio.timeout() does: a cancellation of our own making is taken back and told as what it is.
        if self._gone and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise ClientDisconnectedError from None

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._gone = True
        self._task.cancel()
