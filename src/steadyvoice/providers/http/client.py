"""One HTTP client a provider: it asks, hands on what comes, and names what a broken connection means.

It keeps no clock but the one for connecting: whoever reads cancels when it has waited long enough, and the
connection is then closed at once, not drained. Redirects are not followed: the API key goes to the host that was
named, and nowhere else. Whoever makes it says whether it goes through a proxy (`providers/http/urls.py`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from steadyvoice._version import __version__
from steadyvoice.breaker.fork_safety import keep_until_exit, register_fork_aware
from steadyvoice.providers.base import Accepted, ByteSink
from steadyvoice.providers.cooperative_scheduling import WorkBudget
from steadyvoice.providers.http.content_coding import DecompressedResponse, UnsupportedCodingError, decompressor_for
from steadyvoice.providers.http.transport import DirectTransport, HTTPResponse, Transport, error_summary
from steadyvoice.speech.errors import TTSBadRequestError, TTSCutError, TTSEmptyAudioError, TTSError, TTSNotAudioError
from steadyvoice.wire.error_response import single_line

AcceptedParser = Callable[[Mapping[str, str]], Accepted]
"""What the headers of a success tell; their names in lower case."""

ErrorParser = Callable[[int, Mapping[str, str], bytes], TTSError]
"""What an answer that is no audio means: status, headers and the beginning of the body, as an error."""

MAX_ERROR_BODY = 64 * 1024
MAX_DOCUMENT = 8 * 1024 * 1024  # an account may have hundreds of voices

_TEXT_CONTENT_TYPES = re.compile(r"(text/|application/(json|xml|xhtml|problem|javascript))", re.IGNORECASE)


class HTTPClient:
    """Posts JSON to one host, and reads some. Used from several event loops, it has a pool of connections for each.

    The pool has no limit, for the service gates how much runs at once. A request on a kept connection that breaks
    without an answer within `stale_within` seconds is told apart, for the server had probably closed it while it
    lay idle; nothing is ever sent twice from here. `error_patience` bounds, in seconds, the wait for the body of an
    error.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        refusal: ErrorParser,
        *,
        headers: Mapping[str, str],
        proxy: str | None = None,
        stale_within: float = 1.0,
        error_patience: float = 2.0,
    ) -> None:
        self.provider, self._base_url, self._refusal = provider, base_url, refusal
        self._headers = {"User-Agent": f"steadyvoice/{__version__}", "Content-Type": "application/json", **headers}
        self._proxy = proxy
        self._stale_within = stale_within
        self._error_patience = error_patience
        self._transports: dict[asyncio.AbstractEventLoop, Transport] = {}
        register_fork_aware(self)

    fork_lock = None

    def after_fork(self) -> None:
        """Leave the parent its connections; this process opens its own."""
        for transport in self._transports.values():
            transport.after_fork()
        keep_until_exit(self._transports)
        self._transports = {}

    def prepare(
        self,
        path: str,
        document: Mapping[str, Any],
        *,
        text: str,
        accepted: AcceptedParser,
        params: Mapping[str, str] | None = None,
        json_expected: bool = False,
    ) -> PreparedHTTPRequest:
        """Make a request ready to be sent, for any text, which is to be the field `text` of its document.

        `json_expected` lets JSON pass for audio. Raises TTSBadRequestError when it cannot be written down.
        """
        target = f"{path}?{urlencode(params)}" if params else path
        return PreparedHTTPRequest(self, target, self._written(text), self._written(document), accepted, json_expected)

    async def document(self, path: str, *, connection_timeout: float) -> Any:
        """Ask for something in JSON. Raises TTSError. How long it may take is for whoever asks to say."""
        document, _ = await self.document_and_headers(path, connection_timeout=connection_timeout)
        return document

    async def document_and_headers(self, path: str, *, connection_timeout: float) -> tuple[Any, Mapping[str, str]]:
        """Return the headers of the answer, too; their names in lower case."""
        answer = await self._ask("GET", path, None, connection_timeout)
        try:
            body = await self._beginning(answer, MAX_DOCUMENT)
        finally:
            answer.close()
        if not 200 <= answer.status < 300:
            raise self._refusal(answer.status, answer.headers, body)
        try:
            return json.loads(body), answer.headers
        except (ValueError, RecursionError) as error:
            told = f"{path} is answered with something that is no JSON"
            raise TTSNotAudioError(told, provider=self.provider) from error

    async def aclose(self) -> None:
        """Close this event loop's connections. The next request opens new ones."""
        transport = self._transports.pop(asyncio.get_running_loop(), None)
        if transport:
            await transport.aclose()

    async def post(self, target: str, body: bytes, *, connection_timeout: float, json_expected: bool) -> HTTPResponse:
        """Send a request, and wait until the vendor has accepted it. Raises TTSError.

        `connection_timeout`, in seconds, bounds DNS, TCP and TLS together.
        """
        answer = await self._ask("POST", target, body, connection_timeout)
        if _promises_audio(answer, json_expected):
            return answer
        try:
            raise self._refusal(answer.status, answer.headers, await self._beginning(answer))
        finally:
            answer.close()

    async def _ask(self, method: str, target: str, body: bytes | None, connection_timeout: float) -> HTTPResponse:
        """Send a request and wait for the head of its answer, whose body comes unpacked. Raises TTSError."""
        answer = await self._transport().send(method, target, body, connection_timeout)
        headers = answer.headers
        if "content-encoding" not in headers and "transfer-encoding" not in headers:
            return answer
        try:
            unpacker = decompressor_for(headers)
        except UnsupportedCodingError as error:
            answer.close()
            if not 200 <= answer.status < 300:  # its status tells what is wrong, whatever its body says
                raise self._refusal(answer.status, headers, b"") from error
            told = (
                f"answered in the content coding {str(error)!r}, which was not asked for and cannot be unpacked: "
                "switch compression off at the provider, or at the proxy in between"
            )
            raise TTSNotAudioError(told, provider=self.provider, status=answer.status) from error
        return DecompressedResponse(answer, unpacker) if unpacker else answer

    def _written(self, document: Any) -> bytes:
        try:
            return json.dumps(document, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise TTSBadRequestError(
                f"options: cannot be written as JSON: {single_line(str(error))}", provider=self.provider
            ) from error

    def _transport(self) -> Transport:
        loop = asyncio.get_running_loop()
        transport = self._transports.get(loop)
        if transport is None:
            for other in [other for other in list(self._transports) if other.is_closed()]:
                self._transports.pop(other, None)
            transport = self._transports[loop] = self._new_transport()
        return transport

    def _new_transport(self) -> Transport:
        if self._proxy is None:
            return DirectTransport(self.provider, self._base_url, self._headers, stale_within=self._stale_within)
        from steadyvoice.providers.http.proxy_transport import ProxyTransport  # aiohttp is for those who have a proxy

        return ProxyTransport(self.provider, self._base_url, self._proxy, self._headers)

    async def _beginning(self, answer: HTTPResponse, most: int = MAX_ERROR_BODY) -> bytes:
        """As much of a body as comes soon. Of an error, the status alone says enough to go on."""
        body, budget = bytearray(), WorkBudget()
        try:
            async with asyncio.timeout(self._error_patience):
                while len(body) < most and (data := await answer.read()):
                    body += data
                    budget.spend(len(data))
                    if budget.exhausted:
                        await budget.yield_to_loop()
        except OSError:  # a TimeoutError is one
            pass
        return bytes(body[:most])


class PreparedHTTPRequest:
    """A request that lacks nothing but its text."""

    __slots__ = ("_accepted", "_after", "_before", "_client", "_json_expected", "_target")

    def __init__(
        self, client: HTTPClient, target: str, field: bytes, rest: bytes, accepted: AcceptedParser, json_expected: bool
    ) -> None:
        self._client, self._target, self._accepted, self._json_expected = client, target, accepted, json_expected
        self._before = b"{%s: " % field
        self._after = b"}" if rest == b"{}" else b", " + rest[1:]

    async def send(self, text: str, *, connection_timeout: float) -> HTTPAudioResponse:
        """Send it; returns when the vendor has accepted it. Raises TTSError."""
        body = self._before + json.dumps(text).encode() + self._after
        client = self._client
        answer = await client.post(
            self._target, body, connection_timeout=connection_timeout, json_expected=self._json_expected
        )
        return HTTPAudioResponse(client.provider, answer, self._accepted(answer.headers))


class HTTPAudioResponse:
    """The vendor's yes, and the audio that follows it."""

    __slots__ = ("_answer", "_budget", "_provider", "_received", "accepted", "headers", "status")

    def __init__(self, provider: str, answer: HTTPResponse, accepted: Accepted) -> None:
        self.accepted = accepted
        self.status, self.headers = answer.status, answer.headers
        self._provider, self._answer = provider, answer
        self._received = 0
        self._budget = WorkBudget()

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """The next bytes, b"" at the end. What comes meanwhile may go to `sink` instead.

        Raises TTSCutError, and TTSEmptyAudioError for an end without any.
        """
        if self._budget.exhausted:
            await self._budget.yield_to_loop()
        try:
            return self._counted(await self._answer.read(sink and self._counting(sink)))
        except TTSError:  # of whoever pours; some are an OSError, too
            raise
        except OSError as error:
            raise self._cut(error) from error

    def read_nowait(self) -> bytes | None:
        """The same, if there is anything to be told without a wait; else None.

        It is None, too, when the event loop has to turn first.
        """
        if self._budget.exhausted:
            return None
        try:
            data = self._answer.read_nowait()
        except OSError as error:
            raise self._cut(error) from error
        return None if data is None else self._counted(data)

    def close(self) -> None:
        """Nobody wants the rest of it."""
        self._answer.close()

    def _counting(self, sink: ByteSink) -> ByteSink:
        def counted(data: bytes) -> bool:
            if not sink(data):
                return False
            self._received += len(data)
            return True

        return counted

    def _counted(self, data: bytes) -> bytes:
        self._received += len(data)
        self._budget.spend(len(data))
        if not self._received:
            raise self._error(TTSEmptyAudioError, f"HTTP {self.status} with an empty body")
        return data

    def _cut(self, error: OSError) -> TTSError:
        return self._error(TTSCutError, f"cut off after {self._received} bytes: {error_summary(error)}")

    def _error(self, kind: type[TTSError], message: str) -> TTSError:
        return kind(message, provider=self._provider, status=self.status, request_id=self.accepted.request_id)


def _promises_audio(answer: HTTPResponse, json_expected: bool) -> bool:
    """A success whose type is not plainly something to read. Bytes without a type are judged by whoever hears them."""
    if not 200 <= answer.status < 300:
        return False
    told = answer.headers.get("content-type", "").strip()
    return not _TEXT_CONTENT_TYPES.match(told) or (json_expected and "json" in told.lower())
