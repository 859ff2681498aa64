"""Transports to a vendor: their interface, and the direct one, over a connection pool."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from steadyvoice.providers.base import ByteSink
from steadyvoice.providers.http.connection import HTTPConnection, MalformedResponseError
from steadyvoice.providers.http.connection_pool import KEEP_ALIVE, ConnectionPool, HostAddress, tls_context
from steadyvoice.speech.errors import (
    TTSConnectError,
    TTSConnectTimeoutError,
    TTSNoAnswerError,
    TTSNotAudioError,
    TTSStaleConnectionError,
)
from steadyvoice.wire.error_response import single_line


class HTTPResponse(Protocol):
    """Response whose head has come; header names are in lower case."""

    status: int
    headers: dict[str, str]

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """Return the next bytes, b"" at the end; those that come during the wait may go to `sink`. Raises OSError."""
        ...

    def read_nowait(self) -> bytes | None:
        """Return the next bytes, b"" at the end, or None if that would need a wait. Raises OSError."""
        ...

    def close(self) -> None:
        """Abandon the rest of the response. Unless it is complete, its connection is closed."""
        ...


class Transport(Protocol):
    """Connections to one host, in one event loop."""

    async def send(
        self,
        method: str,
        target: str,
        body: bytes | None,
        connection_timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Send a request with further headers, and wait for the head of its response. Raises TTSError."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...

    def after_fork(self) -> None:
        """Drop the connections in a forked child without sending anything: they belong to the parent."""
        ...


class DirectTransport:
    """Transport without a proxy, over a connection pool of its own.

    A request on an idle connection that breaks without a byte of a response within `stale_within` seconds raises
    TTSStaleConnectionError: the server had probably closed the connection while it was idle. Nothing is sent again from
    here. `keep_alive` is the number of seconds for which a connection may be idle.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        headers: Mapping[str, str],
        *,
        stale_within: float,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        self._provider, self._stale_within = provider, stale_within
        self.loop = asyncio.get_running_loop()
        parts = urlsplit(base_url)
        secure = parts.scheme == "https"
        host = (parts.hostname or "").encode("idna").decode() if parts.hostname else ""
        self._host = f"{host}:{parts.port or (443 if secure else 80)}"
        address = HostAddress(host, parts.port or (443 if secure else 80), tls_context if secure else None)
        self.pool = ConnectionPool(address, self.loop, keep_alive)
        self._path = parts.path
        named = f"[{host}]" if ":" in host else host
        fields = {"Host": f"{named}:{parts.port}" if parts.port else named, "Accept-Encoding": "identity", **headers}
        self._fields = fields
        self._head = _header_lines(fields)

    async def send(
        self,
        method: str,
        target: str,
        body: bytes | None,
        connection_timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> DirectResponse:
        """Send a request and wait for the head of its response. Raises TTSError."""
        sent = self.reserve()
        if sent is None:
            connection = await self._connect(connection_timeout)
            sent = SentRequest(connection, self.pool, self._provider, self.loop, stale_within=None)
        sent.start(self.encode(method, target, body, headers))
        return await sent.response()

    def reserve(self) -> SentRequest | None:
        """Return a request over an idle connection, to be started or closed; None if there is none."""
        connection = self.pool.acquire_idle()
        return self.sent_over(connection) if connection else None

    def sent_over(self, connection: HTTPConnection, sent_at: float = 0.0) -> SentRequest:
        """Return a request over a connection that was idle; `sent_at` is set if it was started already."""
        return SentRequest(
            connection, self.pool, self._provider, self.loop, stale_within=self._stale_within, sent_at=sent_at
        )

    def encode(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str] | None = None) -> bytes:
        """Return a request as it is sent."""
        head = self.head(method, target, headers)
        return head + b"\r\n" if body is None else b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    def head(self, method: str, target: str, headers: Mapping[str, str] | None = None) -> bytes:
        """Return the head of a request but for its length. `headers` replace those of every request."""
        lines = _header_lines(merged_headers(self._fields, headers)) if headers else self._head
        return f"{method} {self._path}{target} HTTP/1.1\r\n{lines}".encode("latin-1")

    async def aclose(self) -> None:
        """Close the connections."""
        self.pool.close()
        await asyncio.sleep(0)  # lets asyncio call connection_lost()

    def after_fork(self) -> None:
        """Drop the connections in a forked child: they belong to the parent."""
        self.pool.after_fork()

    async def _connect(self, within: float) -> HTTPConnection:
        try:
            async with asyncio.timeout(within):
                return await self.pool.open()
        except TimeoutError as error:
            raise TTSConnectTimeoutError(f"no connection within {within:g} s", provider=self._provider) from error
        except OSError as error:
            message = f"no connection to {self._host}: {single_line(str(error)) or type(error).__name__}"
            raise TTSConnectError(message, provider=self._provider) from error


class SentRequest:
    """Request over a connection of a pool: `start()` it, then wait for its `response()` or observe the connection.

    `stale_within` is None for a new connection.
    """

    __slots__ = ("_loop", "_pool", "_provider", "_sent_at", "_stale_within", "connection")

    def __init__(
        self,
        connection: HTTPConnection,
        pool: ConnectionPool,
        provider: str,
        loop: asyncio.AbstractEventLoop,
        *,
        stale_within: float | None,
        sent_at: float = 0.0,
    ) -> None:
        self.connection, self._pool = connection, pool
        self._provider, self._loop, self._stale_within = provider, loop, stale_within
        self._sent_at = sent_at  # reading of the event loop's clock

    def start(self, request: bytes) -> None:
        """Send the request, and do not wait."""
        self._sent_at = self._loop.time()
        self.connection.start(request)

    async def response(self) -> DirectResponse:
        """Wait for the head of the response. Raises TTSError."""
        connection = self.connection
        try:
            await connection.wait_for_head()
        except MalformedResponseError as error:
            message = f"malformed HTTP response: {error_summary(error)}"
            raise TTSNotAudioError(message, provider=self._provider) from error
        except OSError as error:
            if self._is_stale:
                message = f"idle connection was closed without a response: {error_summary(error)}"
                raise TTSStaleConnectionError(message, provider=self._provider) from error
            raise TTSNoAnswerError(
                f"connection closed without a response: {error_summary(error)}", provider=self._provider
            ) from error
        except BaseException:
            connection.close()
            raise
        return DirectResponse(connection, self._pool)

    def rest(self) -> DirectResponse:
        """Return the response whose head has come, at the point up to which its body was read."""
        return DirectResponse(self.connection, self._pool)

    def close(self) -> None:
        """Abandon the response. Unless it is complete, the connection is closed."""
        self._pool.release(self.connection)

    @property
    def _is_stale(self) -> bool:
        """True if the server had probably closed the connection while it was idle."""
        if self._stale_within is None or self.connection.received:
            return False
        return self._loop.time() - self._sent_at <= self._stale_within


class DirectResponse:
    """Response over a direct connection, whose body is read from the connection itself."""

    __slots__ = ("_connection", "_pool", "headers", "read", "read_nowait", "status")

    def __init__(self, connection: HTTPConnection, pool: ConnectionPool) -> None:
        self.status, self.headers = connection.status, connection.headers
        self._connection, self._pool = connection, pool
        # Not methods: each chunk would pass through one more coroutine.
        self.read, self.read_nowait = connection.read, connection.read_nowait

    def close(self) -> None:
        """Abandon the rest of the response. Unless it is complete, the connection is closed."""
        self._pool.release(self._connection)


def _header_lines(fields: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items())


def merged_headers(fields: Mapping[str, str], others: Mapping[str, str]) -> Mapping[str, str]:
    """Return headers, with others in place of those of the same name, whatever its case."""
    replaced = {name.lower() for name in others}
    return {**{name: value for name, value in fields.items() if name.lower() not in replaced}, **others}


def error_summary(error: Exception) -> str:
    """Return an error's message in one line, or its type if it has none."""
    return single_line(str(error), 120) or type(error).__name__
