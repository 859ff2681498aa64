"""HTTP client of one provider: requests and their headers (`User-Agent`), audio responses, errors of connections.

Only connecting has a timeout here. A reader that has waited long enough cancels, and the connection is closed at once,
not drained. Redirects are not followed: the API key is sent to the configured host only.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from steadyvoice._version import __version__
from steadyvoice.breaker.fork_safety import keep_until_exit, register_fork_aware
from steadyvoice.providers.base import STEP_COST, Accepted, AudioDecoder, ByteSink, WorkBudget
from steadyvoice.providers.http.body_template import BodyTemplate
from steadyvoice.providers.http.connection import HTTPConnection
from steadyvoice.providers.http.content_coding import DecompressedResponse, UnsupportedCodingError, decompressor_for
from steadyvoice.providers.http.transport import DirectTransport, HTTPResponse, SentRequest, Transport, error_summary
from steadyvoice.speech.errors import TTSBadRequestError, TTSCutError, TTSEmptyAudioError, TTSError, TTSNotAudioError
from steadyvoice.wire.error_response import single_line

AcceptedParser = Callable[[Mapping[str, str]], Accepted]
"""Function that reads `Accepted` from the headers of a success; their names are in lower case."""

DecoderFactory = Callable[[int, Mapping[str, str], Accepted], AudioDecoder]
"""Function that returns the decoder of a response, by its status, its headers and what they say."""

ErrorParser = Callable[[int, Mapping[str, str], bytes], TTSError]
"""Function that turns a response without audio into an error, by status, headers and the beginning of the body."""

Signer = Callable[[str, bytes], Awaitable[Mapping[str, str]]]
"""Function of a request's target and body that returns headers, such as a signature of them or a fresh token."""

MAX_ERROR_BODY = 64 * 1024  # bytes
MAX_DOCUMENT = 8 * 1024 * 1024  # bytes; an account may have hundreds of voices
MAX_PARSED = 256 * 1024
"""Bytes of the largest document that is parsed: the event loop runs nothing else meanwhile."""


@dataclass(frozen=True, slots=True)
class FetchedDocument:
    """JSON document of a vendor. `value` is None for one larger than MAX_PARSED: only its `body` can be passed on."""

    body: bytes | bytearray = field(repr=False)
    value: Any
    headers: Mapping[str, str]


_PACKED_CONTENT_TYPES = re.compile(r"json|text/event-stream", re.IGNORECASE)
_TEXT_CONTENT_TYPES = re.compile(r"(text/|application/(json|xml|xhtml|problem|javascript))", re.IGNORECASE)


class HTTPClient:
    """HTTP client of one host that posts and reads JSON, with a connection pool for each event loop.

    - `parse_error`: turns a response without audio into an error.
    - `headers`: sent with every request.
    - `proxy`: URL of an HTTP proxy; None for direct connections. It is chosen by `providers/http/urls.py`.
    - `stale_within`: seconds within which a request on an idle connection that breaks without a response raises
      TTSStaleConnectionError, because the server had probably closed it before. Nothing is sent again from here.
    - `error_body_timeout`: seconds to wait for the body of an error.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        parse_error: ErrorParser,
        *,
        headers: Mapping[str, str],
        proxy: str | None = None,
        stale_within: float = 1.0,
        error_body_timeout: float = 2.0,
    ) -> None:
        self.provider, self._base_url, self._parse_error = provider, base_url, parse_error
        self._headers = {"User-Agent": f"steadyvoice/{__version__}", "Content-Type": "application/json", **headers}
        self._proxy = proxy
        self._stale_within = stale_within
        self._error_body_timeout = error_body_timeout
        self._transports: dict[asyncio.AbstractEventLoop, Transport] = {}
        register_fork_aware(self)

    fork_lock = None

    def after_fork(self) -> None:
        """Drop the parent's connections in a forked child, which opens its own."""
        for transport in self._transports.values():
            transport.after_fork()
        keep_until_exit(self._transports)
        self._transports = {}

    def prepare(
        self,
        path: str,
        body: Mapping[str, Any] | BodyTemplate,
        *,
        text: str = "text",
        accepted: AcceptedParser,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        decoder: DecoderFactory | None = None,
        instead: Callable[[TTSError], PreparedHTTPRequest | None] | None = None,
        sign: Signer | None = None,
    ) -> PreparedHTTPRequest:
        """Return a request for any text, which becomes the field `text` of a JSON document, such as "input.text".

        - `body`: the document without that field, or a template of another kind of body.
        - `headers`: of this request, besides those of the client, of which they replace those of the same name.
        - `decoder`: makes the decoder of a response in JSON or server-sent events.
        - `instead`: returns the request that is sent in place of one that fails by an error.
        - `sign`: returns further headers for each request, by its target and body.

        Raises TTSBadRequestError when the document cannot be encoded, and TypeError for a decoder that is no function.
        """
        if decoder is not None and not callable(decoder):
            raise TypeError(
                f"decoder: must be a function (status, headers, accepted) that makes a decoder for each response, "
                f"such as lambda *_: {type(decoder).__name__}(...), got the decoder itself"
            )
        target = f"{path}?{urlencode(params)}" if params else path
        template = body if isinstance(body, BodyTemplate) else self._template(body, text)
        return PreparedHTTPRequest(self, target, template, dict(headers or {}), accepted, decoder, instead, sign)

    async def document(
        self, path: str, *, connection_timeout: float, headers: Mapping[str, str] | None = None
    ) -> FetchedDocument:
        """Return the JSON document at a path. Raises TTSError. Its caller bounds the time that it takes.

        A document larger than MAX_PARSED is only checked to be a whole object or array by its first and last bytes:
        to parse 8 MiB takes a tenth of a second, in which no other request would be served.
        """
        response = await self._send("GET", path, None, connection_timeout, headers)
        try:
            body = await self._read_beginning(response, MAX_DOCUMENT + 1)
        finally:
            response.close()
        if not 200 <= response.status < 300:
            raise self._parse_error(response.status, response.headers, bytes(body[:MAX_ERROR_BODY]))
        if len(body) > MAX_DOCUMENT:
            message = f"{path}: response is larger than {MAX_DOCUMENT >> 20} MiB"
            raise TTSNotAudioError(message, provider=self.provider)
        if len(body) > MAX_PARSED:
            if not _looks_like_json(body):
                raise TTSNotAudioError(f"{path}: response is not JSON", provider=self.provider)
            return FetchedDocument(body, None, response.headers)
        try:
            return FetchedDocument(body, json.loads(body), response.headers)
        except (ValueError, RecursionError) as error:
            raise TTSNotAudioError(f"{path}: response is not JSON", provider=self.provider) from error

    async def aclose(self) -> None:
        """Close the connections of this event loop. The next request opens new ones."""
        transport = self._transports.pop(asyncio.get_running_loop(), None)
        if transport:
            await transport.aclose()

    async def post(
        self,
        target: str,
        body: bytes,
        *,
        connection_timeout: float,
        json_expected: bool,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Send a request and wait until the vendor has accepted it. Raises TTSError.

        `connection_timeout`, in seconds, bounds DNS, TCP and TLS together.
        """
        return await self._accepted(await self._send("POST", target, body, connection_timeout, headers), json_expected)

    def direct_transport(self) -> DirectTransport | None:
        """Return the transport of the running event loop; None if there is a proxy."""
        transport = self._transport()
        return transport if isinstance(transport, DirectTransport) else None

    async def finish(self, sent: SentRequest, *, json_expected: bool) -> HTTPResponse:
        """Wait until the vendor has accepted a request that was started. Raises TTSError."""
        return await self._accepted(self._decompressed(await sent.response()), json_expected)

    async def _accepted(self, response: HTTPResponse, json_expected: bool) -> HTTPResponse:
        if _may_be_audio(response, json_expected):
            return response
        try:
            body = await self._read_beginning(response, MAX_ERROR_BODY)
            raise self._parse_error(response.status, response.headers, bytes(body))
        finally:
            response.close()

    async def _send(
        self,
        method: str,
        target: str,
        body: bytes | None,
        connection_timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Send a request and wait for the head of its response, whose body is decompressed. Raises TTSError."""
        return self._decompressed(await self._transport().send(method, target, body, connection_timeout, headers))

    def _decompressed(self, response: HTTPResponse) -> HTTPResponse:
        headers = response.headers
        # The usual response has neither header. This check keeps it free of any further work.
        if "content-encoding" not in headers and "transfer-encoding" not in headers:
            return response
        try:
            unpacker = decompressor_for(headers)
        except UnsupportedCodingError as error:
            response.close()
            if not 200 <= response.status < 300:  # the status is enough to classify the error
                raise self._parse_error(response.status, headers, b"") from error
            message = (
                f"unsupported content coding {str(error)!r}, which was not requested: "
                "disable compression at the provider, or at the proxy in between"
            )
            raise TTSNotAudioError(message, provider=self.provider, status=response.status) from error
        return DecompressedResponse(response, unpacker) if unpacker else response

    def _template(self, document: Mapping[str, Any], text: str) -> BodyTemplate:
        try:
            return BodyTemplate.of_json(document, text)
        except (TypeError, ValueError, RecursionError) as error:
            raise TTSBadRequestError(
                f"options: cannot be encoded as JSON: {single_line(str(error))}", provider=self.provider
            ) from error

    def _transport(self) -> Transport:
        loop = asyncio.get_running_loop()
        transport = self._transports.get(loop)
        if transport is None:
            # A loop that was closed without aclose() would be kept alive by its entry here.
            for other in [other for other in list(self._transports) if other.is_closed()]:
                self._transports.pop(other, None)
            transport = self._transports[loop] = self._new_transport()
        return transport

    def _new_transport(self) -> Transport:
        if self._proxy is None:
            return DirectTransport(self.provider, self._base_url, self._headers, stale_within=self._stale_within)
        from steadyvoice.providers.http.proxy_transport import (
            ProxyTransport,  # imports aiohttp, which only proxies need
        )

        return ProxyTransport(self.provider, self._base_url, self._proxy, self._headers)

    async def _read_beginning(self, response: HTTPResponse, limit: int) -> bytearray:
        """Return as much of a body as comes within the timeout, `limit` bytes at most. An error's may be incomplete."""
        body, budget = bytearray(), WorkBudget()
        try:
            async with asyncio.timeout(self._error_body_timeout):
                while len(body) < limit and (data := await response.read()):
                    body += data
                    budget.spend(len(data))
                    if budget.exhausted:
                        await budget.yield_to_loop()
        except OSError:  # a TimeoutError is one
            pass
        del body[limit:]  # in place: a copy of 8 MiB would stop the event loop
        return body


class PreparedHTTPRequest:
    """Request that is encoded but for its text."""

    __slots__ = (
        "_accepted", "_after", "_before", "_client", "_decoder", "_direct", "_head", "_headers", "_instead", "_quote",
        "_sign", "_target",
    )  # fmt: skip

    def __init__(
        self,
        client: HTTPClient,
        target: str,
        template: BodyTemplate,
        headers: Mapping[str, str],
        accepted: AcceptedParser,
        decoder: DecoderFactory | None,
        instead: Callable[[TTSError], PreparedHTTPRequest | None] | None,
        sign: Signer | None,
    ) -> None:
        self._client, self._target, self._accepted = client, target, accepted
        self._decoder, self._instead = decoder, instead
        self._direct: DirectTransport | None = None  # of the last request
        self._head = b""  # of requests over that
        self._before, self._after, self._quote = template.before, template.after, template.quote
        self._headers, self._sign = headers, sign

    async def send(self, text: str, *, connection_timeout: float) -> HTTPAudioResponse:
        """Send the request and return once the vendor has accepted it. Raises TTSError."""
        body = self._body(text)
        headers = {**self._headers, **await self._sign(self._target, body)} if self._sign else self._headers
        sending = self._client.post(
            self._target, body, connection_timeout=connection_timeout, json_expected=self.is_packed, headers=headers
        )
        return await self._response(sending, text, connection_timeout)

    def reserve(self) -> StartedHTTPRequest | None:
        """Return the request over an idle connection, to be started or closed; None if there is none."""
        if self._sign:
            return None  # the signature may take a wait
        direct = self._direct
        connection = direct.pool.acquire_idle() if direct and direct.loop is asyncio.get_running_loop() else None
        if connection is None:  # perhaps because the client was closed, and has opened new connections since
            self._direct = direct = self._client.direct_transport()
            if direct is None:
                return None
            self._head = direct.head("POST", self._target, self._headers)
            if (connection := direct.pool.acquire_idle()) is None:
                return None
        assert direct is not None  # noqa: S101 - the connection is one of its own
        return StartedHTTPRequest(self, direct, connection)

    def open_ahead(self, room: float) -> asyncio.Future[HTTPConnection] | None:
        """Open a connection for a request that could not be reserved; None where that is left to `send`.

        It is if `room`, the number of requests that may begin now, is taken by connections that are being opened.
        """
        direct = self._direct
        if direct is None or self._sign or direct.loop is not asyncio.get_running_loop():
            return None
        return direct.pool.open_ahead() if direct.pool.opening < room else None

    def encode(self, text: str) -> bytes:
        """Return the request for a text, as it is sent over the connection that was reserved last."""
        quoted = self._quote(text).encode()
        length = len(self._before) + len(quoted) + len(self._after)
        return b"%bContent-Length: %d\r\n\r\n%b%b%b" % (self._head, length, self._before, quoted, self._after)

    async def finish(self, sent: SentRequest, text: str, *, connection_timeout: float) -> HTTPAudioResponse:
        """Wait until the vendor has accepted a request that was started. Raises TTSError."""
        finishing = self._client.finish(sent, json_expected=self.is_packed)
        return await self._response(finishing, text, connection_timeout)

    def resumed(self, sent: SentRequest, accepted: Accepted, received: int) -> HTTPAudioResponse:
        """Return the rest of a plain response, of which so many bytes were read already; its decoder is not set."""
        return HTTPAudioResponse(self._client.provider, sent.rest(), accepted, received)

    def accepted(self, status: int, headers: Mapping[str, str]) -> Accepted | None:
        """Return what an accepted request's headers say; None unless they announce a plain body as it is expected."""
        is_plain = "content-encoding" not in headers and headers.get("transfer-encoding", "chunked") == "chunked"
        content_type = headers.get("content-type", "")
        is_packed = _PACKED_CONTENT_TYPES.search(content_type) is not None
        is_expected = is_packed if self._decoder else not _TEXT_CONTENT_TYPES.match(content_type)
        return self._accepted(headers) if status == 200 and is_plain and is_expected else None

    def decoder(self, status: int, headers: Mapping[str, str], accepted: Accepted) -> AudioDecoder | None:
        """Return the decoder of a response; None if its body is the audio itself."""
        return self._decoder(status, headers, accepted) if self._decoder else None

    @property
    def is_packed(self) -> bool:
        """True if the audio is expected in JSON or server-sent events: `decoder` reads it."""
        return self._decoder is not None

    def _body(self, text: str) -> bytes:
        return self._before + self._quote(text).encode() + self._after

    async def _response(
        self, awaited: Awaitable[HTTPResponse], text: str, connection_timeout: float
    ) -> HTTPAudioResponse:
        try:
            response = await awaited
        except TTSError as error:
            other = self._instead(error) if self._instead else None
            if other is None:
                raise
        else:
            accepted = self._accepted(response.headers)
            audio = HTTPAudioResponse(self._client.provider, response, accepted)
            audio.decoder = self.decoder(response.status, response.headers, accepted)
            return audio
        return await other.send(text, connection_timeout=connection_timeout)


class StartedHTTPRequest:
    """Prepared request over an idle connection: `start` it, then wait for its `response` or observe the connection."""

    __slots__ = ("_prepared", "_sent_at", "_text", "_transport", "connection")

    def __init__(self, prepared: PreparedHTTPRequest, transport: DirectTransport, connection: HTTPConnection) -> None:
        self._prepared, self._transport, self.connection = prepared, transport, connection
        self._text, self._sent_at = "", 0.0

    def start(self, text: str) -> None:
        """Send the request, and do not wait."""
        self._text, self._sent_at = text, self._transport.loop.time()
        self.connection.start(self._prepared.encode(text))

    @property
    def _sent(self) -> SentRequest:
        return self._transport.sent_over(self.connection, self._sent_at)

    async def response(self, *, connection_timeout: float) -> HTTPAudioResponse:
        """Wait until the vendor has accepted it, or another request that is sent instead. Raises TTSError."""
        return await self._prepared.finish(self._sent, self._text, connection_timeout=connection_timeout)

    def accepted(self) -> Accepted | None:
        """Return what the head of the response says; None unless it announces a plain body as it is expected."""
        return self._prepared.accepted(self.connection.status, self.connection.headers)

    def decoder(self, accepted: Accepted) -> AudioDecoder | None:
        """Return the decoder of an accepted response; None if its body is the audio itself."""
        return self._prepared.decoder(self.connection.status, self.connection.headers, accepted)

    def rest(self, accepted: Accepted, received: int) -> HTTPAudioResponse:
        """Return the rest of an accepted response, of which so many bytes were read already."""
        return self._prepared.resumed(self._sent, accepted, received)

    def close(self) -> None:
        """Abandon the response. Unless it is complete, the connection is closed."""
        self._transport.pool.release(self.connection)


class HTTPAudioResponse:
    """Accepted request, and the audio that follows."""

    __slots__ = ("_budget", "_provider", "_received", "_response", "accepted", "decoder", "headers", "status")

    def __init__(self, provider: str, response: HTTPResponse, accepted: Accepted, received: int = 0) -> None:
        self.accepted = accepted
        self.decoder: AudioDecoder | None = None
        """Decoder of the bytes, set by a provider whose response packs its audio."""
        self.status, self.headers = response.status, response.headers
        self._provider, self._response = provider, response
        self._received = received
        self._budget = WorkBudget()

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """Return the next bytes, b"" at the end. Bytes that come during the wait go to `sink` while it takes them.

        Raises TTSCutError for a broken connection, and TTSEmptyAudioError for an end without any bytes.
        """
        budget = self._budget
        if budget.remaining <= 0:
            await budget.yield_to_loop()
        try:
            data = await self._response.read(sink and self._counting_sink(sink))
        except TTSError:  # raised by the sink; some of these are an OSError, too
            raise
        except OSError as error:
            raise self._cut_error(error) from error
        size = len(data)
        self._received += size
        budget.remaining -= size + STEP_COST
        if not self._received:
            raise self._empty_error()
        return data

    def read_nowait(self) -> bytes | None:
        """Return the next bytes, b"" at the end, or None if that would need a wait.

        Returns None, too, when the task has to yield to the event loop first.
        """
        if self._budget.exhausted:
            return None
        try:
            data = self._response.read_nowait()
        except OSError as error:
            raise self._cut_error(error) from error
        return None if data is None else self._count(data)

    def close(self) -> None:
        """Abandon the rest of the response."""
        self._response.close()

    def _counting_sink(self, sink: ByteSink) -> ByteSink:
        def counting(data: bytes) -> bool:
            if not sink(data):
                return False
            self._received += len(data)
            return True

        return counting

    def _count(self, data: bytes) -> bytes:
        self._received += len(data)
        self._budget.spend(len(data))
        if not self._received:
            raise self._empty_error()
        return data

    def _empty_error(self) -> TTSError:
        return self._error(TTSEmptyAudioError, f"HTTP {self.status} with an empty body")

    def _cut_error(self, error: OSError) -> TTSError:
        return self._error(TTSCutError, f"cut off after {self._received} bytes: {error_summary(error)}")

    def _error(self, kind: type[TTSError], message: str) -> TTSError:
        return kind(message, provider=self._provider, status=self.status, request_id=self.accepted.request_id)


def _may_be_audio(response: HTTPResponse, json_expected: bool) -> bool:
    """Return whether a response is a success whose content type does not rule out audio.

    The bytes themselves are validated by the service.
    """
    if not 200 <= response.status < 300:
        return False
    content_type = response.headers.get("content-type", "").strip()
    return not _TEXT_CONTENT_TYPES.match(content_type) or (
        json_expected and _PACKED_CONTENT_TYPES.search(content_type) is not None
    )


def _looks_like_json(body: bytearray) -> bool:
    """Return whether a document begins and ends like an object or array, by a few bytes of it."""
    begin, end = bytes(body[:64]).strip()[:1], bytes(body[-64:]).strip()[-1:]
    return begin + end in (b"{}", b"[]")
