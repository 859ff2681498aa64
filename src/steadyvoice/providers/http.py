"""One pooled HTTP client a provider: it asks, hands on what comes, and names what a broken connection means.

It keeps no clock but the one for connecting: whoever reads cancels when it has waited long enough, and the
connection is then closed at once, not drained. Redirects are not followed and no proxy is taken from the
environment: the API key goes to the host that was named, and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from steadyvoice._version import __version__
from steadyvoice.speech.errors import (
    TTSBadRequestError,
    TTSConnectError,
    TTSConnectTimeoutError,
    TTSCutError,
    TTSEmptyAudioError,
    TTSError,
    TTSNoAnswerError,
    TTSNotAudioError,
    TTSStaleConnectionError,
)
from steadyvoice.wire.complaint import header, one_line

if TYPE_CHECKING:
    import aiohttp

Refusal = Callable[[int, Mapping[str, str], bytes], TTSError]
"""What an answer that is no audio means: status, headers and the beginning of the body, as an error."""

ERROR_BODY_READ = 64 * 1024
DOCUMENT_READ = 8 * 1024 * 1024  # an account may have hundreds of voices
READ_BUFFER = 64 * 1024
"""Bytes. A slow listener stops the vendor's stream after about twice this, instead of filling memory."""

KEPT_ALIVE = 30.0
"""Seconds an idle connection is kept: a turn of conversation, so that the next sentence needs no handshake."""

_WORDS = re.compile(r"(text/|application/(json|xml|xhtml|problem|javascript))", re.IGNORECASE)


class HttpClient:
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
        refusal: Refusal,
        *,
        headers: Mapping[str, str],
        proxy: str | None = None,
        stale_within: float = 1.0,
        error_patience: float = 2.0,
    ) -> None:
        self._provider, self._base_url, self._refusal = provider, base_url, refusal
        self._headers = {"User-Agent": f"steadyvoice/{__version__}", "Content-Type": "application/json", **headers}
        self._proxy = proxy
        self._stale_within = stale_within
        self._error_patience = error_patience
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

    @asynccontextmanager
    async def post(
        self,
        path: str,
        document: Mapping[str, Any],
        params: Mapping[str, str] | None = None,
        *,
        connection_timeout: float,
        json_expected: bool = False,
    ) -> AsyncIterator[Reply]:
        """Send a request; inside, the vendor has accepted it. Raises TTSError.

        `connection_timeout`, in seconds, bounds DNS, TCP and TLS together. `json_expected` lets JSON pass for audio.
        """
        body = self._written(document)
        response = await self._answer("POST", path, body, params, connection_timeout)
        try:
            if not _promises_audio(response, json_expected):
                raise self._refusal(response.status, response.headers, await self._beginning(response))
            yield Reply(self._provider, response)
        finally:
            response.close()  # unless it was read to its end, the connection with it

    async def document(self, path: str, *, connection_timeout: float) -> Any:
        """Ask for something in JSON. Raises TTSError. How long it may take is for whoever asks to say."""
        response = await self._answer("GET", path, None, None, connection_timeout)
        try:
            body = await self._beginning(response, DOCUMENT_READ)
        finally:
            response.close()
        if not 200 <= response.status < 300:
            raise self._refusal(response.status, response.headers, body)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            told = f"{path} is answered with something that is no JSON"
            raise TTSNotAudioError(told, provider=self._provider) from error

    async def aclose(self) -> None:
        """Close this event loop's connections. The next request opens new ones."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session:
            await session.close()

    def _written(self, document: Mapping[str, Any]) -> bytes:
        try:
            return json.dumps(document, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise TTSBadRequestError(
                f"options: cannot be written as JSON: {one_line(str(error))}", provider=self._provider
            ) from error

    async def _answer(
        self,
        method: str,
        path: str,
        body: bytes | None,
        params: Mapping[str, str] | None,
        connection_timeout: float,
    ) -> aiohttp.ClientResponse:
        import aiohttp
        from yarl import URL

        url = URL(self._base_url + path, encoded=True).update_query(params or {})
        timeout = aiohttp.ClientTimeout(total=None, connect=connection_timeout, ceil_threshold=float("inf"))
        loop = asyncio.get_running_loop()
        sent = SimpleNamespace(reused=False)
        begun = loop.time()
        try:
            return await self._session().request(
                method,
                url,
                data=body,
                timeout=timeout,
                proxy=self._proxy,
                allow_redirects=False,
                trace_request_ctx=sent,
            )
        except (aiohttp.ClientError, OSError) as error:
            if sent.reused and loop.time() - begun <= self._stale_within and _broke_silently(error):
                told = f"a kept connection broke without an answer: {_reason(error)}"
                raise TTSStaleConnectionError(told, provider=self._provider) from error
            raise _unanswered(error, self._provider, connection_timeout) from error

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            for other in [other for other in list(self._sessions) if other.is_closed()]:
                self._sessions.pop(other, None)
            session = self._sessions[loop] = self._new_session()
        return session

    def _new_session(self) -> aiohttp.ClientSession:
        import aiohttp

        watch = aiohttp.TraceConfig()
        watch.on_connection_reuseconn.append(_note_reuse)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_ALIVE),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER,
            trust_env=False,  # it would also let a .netrc replace the key
            trace_configs=[watch],
        )

    async def _beginning(self, response: aiohttp.ClientResponse, most: int = ERROR_BODY_READ) -> bytes:
        """As much of a body as comes soon. Of an error, the status alone says enough to go on."""
        import aiohttp

        body = b""
        try:
            async with asyncio.timeout(self._error_patience):
                while len(body) < most and (data := await response.content.readany()):
                    body += data
        except (aiohttp.ClientError, OSError):  # a TimeoutError is an OSError
            pass
        return body[:most]


class Reply:
    """The vendor's yes, and the audio that follows it."""

    def __init__(self, provider: str, response: aiohttp.ClientResponse) -> None:
        self._provider, self._response = provider, response
        self._received = 0

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def read(self) -> bytes:
        """The next bytes, b"" at the end. Raises TTSCutError, and TTSEmptyAudioError for an end without any."""
        import aiohttp

        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise self._error(TTSCutError, f"cut off after {self._received} bytes: {_reason(error)}") from error
        self._received += len(data)
        if not self._received:
            raise self._error(TTSEmptyAudioError, f"HTTP {self._response.status} with an empty body")
        return data

    def _error(self, kind: type[TTSError], message: str) -> TTSError:
        request_id = header(self.headers, "request-id") or header(self.headers, "x-request-id")
        shown = one_line(request_id, 100) if request_id else None
        return kind(message, provider=self._provider, status=self._response.status, request_id=shown)


async def _note_reuse(_session: object, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused = True


def _promises_audio(response: aiohttp.ClientResponse, json_expected: bool) -> bool:
    """A success whose type is not plainly something to read. Bytes without a type are judged by whoever hears them."""
    if not 200 <= response.status < 300:
        return False
    told = response.headers.get("Content-Type", "").strip()
    return not _WORDS.match(told) or (json_expected and "json" in told.lower())


def _broke_silently(error: Exception) -> bool:
    """Whether a connection ended without a byte of an answer; failing to get one is another matter."""
    import aiohttp

    lost = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | ConnectionResetError)
    return lost and not isinstance(error, aiohttp.ClientConnectorError | TimeoutError)


def _unanswered(error: Exception, provider: str, connection_timeout: float) -> TTSError:
    """Name what kept an answer away. Once connected, the request may have been worked on, and billed."""
    import aiohttp

    match error:
        case aiohttp.ConnectionTimeoutError():
            return TTSConnectTimeoutError(f"no connection within {connection_timeout:g} s", provider=provider)
        case aiohttp.ClientHttpProxyError():
            return TTSConnectError(f"the proxy refuses to connect: HTTP {error.status}", provider=provider)
        case aiohttp.ClientConnectorError():
            reason = one_line(str(error.os_error) or type(error.os_error).__name__)
            return TTSConnectError(f"no connection to {error.host}:{error.port}: {reason}", provider=provider)
        case aiohttp.ClientResponseError():
            return TTSNotAudioError(f"what answers is not HTTP as we know it: {_reason(error)}", provider=provider)
        case _:
            return TTSNoAnswerError(f"hung up without an answer: {_reason(error)}", provider=provider)


def _reason(error: Exception) -> str:
    import aiohttp

    said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return one_line(said, 120) or type(error).__name__
