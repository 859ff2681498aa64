"""Transport to a vendor through an HTTP proxy, by aiohttp's client, which implements CONNECT and proxy passwords."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from steadyvoice.breaker.fork_safety import keep_until_exit
from steadyvoice.providers.base import CHUNK_SIZE, ByteSink
from steadyvoice.providers.http.connection import READ_BUFFER
from steadyvoice.providers.http.connection_pool import KEEP_ALIVE, tls_context
from steadyvoice.providers.http.transport import merged_headers
from steadyvoice.speech.errors import (
    TTSConnectError,
    TTSConnectTimeoutError,
    TTSError,
    TTSNoAnswerError,
    TTSNotAudioError,
)
from steadyvoice.wire.error_response import single_line


class ProxyTransport:
    """Transport to one host through one proxy, in one event loop."""

    def __init__(self, provider: str, base_url: str, proxy: str, headers: Mapping[str, str]) -> None:
        self._provider, self._base_url = provider, base_url
        self._proxy, credentials = split_proxy(proxy)
        # Headers go with each request, not with the session: aiohttp 3.14 sends a session's headers to the proxy, too,
        # the API key among them, in clear text.
        self._headers = {"Accept-Encoding": "identity", **headers}
        self._proxy_headers: dict[str, str] = {}
        # With TLS, only the proxy sees the CONNECT request; without, it reads each request itself.
        (self._proxy_headers if base_url.startswith("https:") else self._headers).update(credentials)
        secure = "https" in (urlsplit(proxy).scheme.lower(), urlsplit(base_url).scheme.lower())
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEP_ALIVE, ssl=tls_context() if secure else True
            ),
            auto_decompress=False,  # it would decompress without a limit; http/content_coding.py does it instead
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER,
            trust_env=False,  # it would also let a .netrc file replace the API key
        )

    async def send(
        self,
        method: str,
        target: str,
        body: bytes | None,
        connection_timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> ProxyResponse:
        """Send a request and wait for the head of its response. Raises TTSError."""
        timeout = aiohttp.ClientTimeout(total=None, connect=connection_timeout, ceil_threshold=float("inf"))
        url = URL(self._base_url + target, encoded=True)
        try:
            response = await self._session.request(
                method,
                url,
                data=body,
                headers=merged_headers(self._headers, headers or {}),
                timeout=timeout,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise connection_error(error, connection_timeout, self._provider) from error
        return ProxyResponse(response)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()

    def after_fork(self) -> None:
        """Drop the connections in a forked child: aiohttp's finalizer would act on the parent's epoll set."""
        keep_until_exit(self._session)


class ProxyResponse:
    """Response through a proxy."""

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
        """Return the next bytes, b"" at the end. `sink` is not used. Raises OSError."""
        try:
            return await self._response.content.read(CHUNK_SIZE)
        except aiohttp.ClientError as error:
            raise ConnectionError(_error_reason(error)) from error

    def read_nowait(self) -> bytes | None:
        """Return None: aiohttp does not show whether bytes are available without a wait."""
        return None

    def close(self) -> None:
        """Abandon the rest of the response."""
        self._response.close()  # closes the connection, too, unless the body was read to its end


def split_proxy(proxy: str) -> tuple[str, dict[str, str]]:
    """Return a proxy's URL without user and password, and the header with them, if there are any.

    aiohttp's errors show the proxy's URL, so the password is kept apart from it.
    """
    parts = urlsplit(proxy)
    url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if parts.username is None:
        return url, {}
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return url, {"Proxy-Authorization": f"Basic {b64encode(user).decode()}"}


def connection_error(error: Exception, connection_timeout: float, provider: str) -> TTSError:
    """Return the TTSError for a request of aiohttp's without a response. Once connected, it may have been billed."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return TTSConnectTimeoutError(f"no connection within {connection_timeout:g} s", provider=provider)
        case aiohttp.ClientHttpProxyError():
            problem = "proxy authentication failed" if error.status == 407 else "proxy refused the connection"
            return TTSConnectError(f"{problem}: HTTP {error.status}", provider=provider)
        case aiohttp.ClientProxyConnectionError():
            message = f"no connection to the proxy {error.host}:{error.port}: {_system_reason(error)}"
            return TTSConnectError(message, provider=provider)
        case aiohttp.ClientConnectorError():
            message = f"no connection to {error.host}:{error.port}: {_system_reason(error)}"
            return TTSConnectError(message, provider=provider)
        case aiohttp.ClientResponseError():
            return TTSNotAudioError(f"malformed HTTP response: {_error_reason(error)}", provider=provider)
        case _:
            return TTSNoAnswerError(f"connection closed without a response: {_error_reason(error)}", provider=provider)


def _error_reason(error: Exception) -> str:
    message = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return single_line(message, 120) or type(error).__name__


def _system_reason(error: aiohttp.ClientConnectorError) -> str:
    return single_line(str(error.os_error) or type(error.os_error).__name__)
