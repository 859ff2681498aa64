"""The way to a vendor through a proxy: aiohttp's client, which knows how to ask one."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from steadyvoice.breaker.fork_safety import keep_until_exit
from steadyvoice.providers.base import ByteSink
from steadyvoice.providers.cooperative_scheduling import CHUNK_SIZE
from steadyvoice.providers.http.connection import READ_BUFFER
from steadyvoice.providers.http.connection_pool import KEEP_ALIVE, tls_context
from steadyvoice.speech.errors import (
    TTSConnectError,
    TTSConnectTimeoutError,
    TTSError,
    TTSNoAnswerError,
    TTSNotAudioError,
)
from steadyvoice.wire.error_response import single_line


class ProxyTransport:
    """Asks one host through one proxy, in one event loop."""

    def __init__(self, provider: str, base_url: str, proxy: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(proxy)
        # Errors of aiohttp's show the proxy's URL, so the password is kept beside it.
        self._proxy = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._provider, self._base_url = provider, base_url
        # Those of a session go to the proxy, too, in the clear: the key among them (aiohttp 3.14).
        self._headers = {"Accept-Encoding": "identity", **headers}
        self._proxy_headers: dict[str, str] = {}
        if parts.username is not None:
            named = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            # What opens a tunnel is the proxy's alone; without one, each request is for both.
            told = self._proxy_headers if base_url.startswith("https:") else self._headers
            told["Proxy-Authorization"] = f"Basic {b64encode(named).decode()}"
        secure = "https" in (parts.scheme.lower(), urlsplit(base_url).scheme.lower())
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEP_ALIVE, ssl=tls_context() if secure else True
            ),
            auto_decompress=False,  # it would unpack without a bound, and what it cannot unpack is refused elsewhere
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER,
            trust_env=False,  # it would also let a .netrc replace the key
        )

    async def send(self, method: str, target: str, body: bytes | None, connection_timeout: float) -> ProxyResponse:
        """Send a request and wait for the head of its answer. Raises TTSError."""
        timeout = aiohttp.ClientTimeout(total=None, connect=connection_timeout, ceil_threshold=float("inf"))
        url = URL(self._base_url + target, encoded=True)
        try:
            response = await self._session.request(
                method,
                url,
                data=body,
                headers=self._headers,
                timeout=timeout,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise self._unanswered(error, connection_timeout) from error
        return ProxyResponse(response)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()

    def after_fork(self) -> None:
        """Part from the connections in a forked child: aiohttp's finaliser would act on the parent's epoll set."""
        keep_until_exit(self._session)

    def _unanswered(self, error: Exception, connection_timeout: float) -> TTSError:
        """Name what kept an answer away. Once connected, the request may have been worked on, and billed."""
        provider = self._provider
        match error:
            case aiohttp.ConnectionTimeoutError():
                return TTSConnectTimeoutError(f"no connection within {connection_timeout:g} s", provider=provider)
            case aiohttp.ClientHttpProxyError():
                told = "wants a name and a password, or others" if error.status == 407 else "refuses to connect"
                return TTSConnectError(f"the proxy {told}: HTTP {error.status}", provider=provider)
            case aiohttp.ClientProxyConnectionError():
                told = f"no connection to the proxy {error.host}:{error.port}: {_system_reason(error)}"
                return TTSConnectError(told, provider=provider)
            case aiohttp.ClientConnectorError():
                told = f"no connection to {error.host}:{error.port}: {_system_reason(error)}"
                return TTSConnectError(told, provider=provider)
            case aiohttp.ClientResponseError():
                return TTSNotAudioError(
                    f"what answers is not HTTP as we know it: {_error_reason(error)}", provider=provider
                )
            case _:
                return TTSNoAnswerError(f"hung up without an answer: {_error_reason(error)}", provider=provider)


class ProxyResponse:
    """An answer whose head has come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self.headers |= {
            name: ", ".join(response.headers.getall(name))
            for name in ("content-encoding", "transfer-encoding")
            if name in response.headers
        }
        self._response = response

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """The next bytes, b"" at the end; it pours nothing. Raises OSError."""
        try:
            return await self._response.content.read(CHUNK_SIZE)
        except aiohttp.ClientError as error:
            raise ConnectionError(_error_reason(error)) from error

    def read_nowait(self) -> bytes | None:
        """The same, if it were known without a wait, which here it is not."""
        return None

    def close(self) -> None:
        """Nobody wants the rest of it."""
        self._response.close()  # unless it was read to its end, the connection with it


def _error_reason(error: Exception) -> str:
    said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return single_line(said, 120) or type(error).__name__


def _system_reason(error: aiohttp.ClientConnectorError) -> str:
    return single_line(str(error.os_error) or type(error.os_error).__name__)
