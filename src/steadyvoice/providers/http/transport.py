"""The way to a vendor: requests over connections of our own."""

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
    """An answer whose head has come; header names in lower case."""

    status: int
    headers: dict[str, str]

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """The next bytes, b"" at the end. What comes meanwhile may go to `sink` instead. Raises OSError."""
        ...

    def read_nowait(self) -> bytes | None:
        """The same, if there is anything to be told without a wait; else None."""
        ...

    def close(self) -> None:
        """Nobody wants the rest of it. Unless it has come to its end, the connection is closed with it."""
        ...


class Transport(Protocol):
    """One way to a host, in one event loop."""

    async def send(self, method: str, target: str, body: bytes | None, connection_timeout: float) -> HTTPResponse:
        """Send a request and wait for the head of its answer. Raises TTSError."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...

    def after_fork(self) -> None:
        """Part from the connections in a forked child, without a word to the host: they are the parent's."""
        ...


class DirectTransport:
    """Asks one host, in one event loop.

    A request on a kept connection that breaks without a byte of an answer within `stale_within` seconds is told apart,
    for the server had probably closed it while it lay idle; nothing is ever sent twice from here. `kept_alive` is how
    many seconds it may lie so.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        headers: Mapping[str, str],
        *,
        stale_within: float,
        kept_alive: float = KEEP_ALIVE,
    ) -> None:
        self._provider, self._stale_within = provider, stale_within
        self._loop = asyncio.get_running_loop()
        parts = urlsplit(base_url)
        secure = parts.scheme == "https"
        host = (parts.hostname or "").encode("idna").decode() if parts.hostname else ""
        self._host = f"{host}:{parts.port or (443 if secure else 80)}"
        place = HostAddress(host, parts.port or (443 if secure else 80), tls_context if secure else None)
        self._pool = ConnectionPool(place, self._loop, kept_alive)
        self._path = parts.path
        named = f"[{host}]" if ":" in host else host
        told = {"Host": f"{named}:{parts.port}" if parts.port else named, "Accept-Encoding": "identity", **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in told.items())

    async def send(self, method: str, target: str, body: bytes | None, connection_timeout: float) -> DirectResponse:
        """Send a request and wait for the head of its answer. Raises TTSError."""
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        head = f"{method} {self._path}{target} HTTP/1.1\r\n{self._head}{length}\r\n".encode("latin-1")
        connection = self._pool.kept()
        reused, begun = connection is not None, self._loop.time()
        if connection is None:
            connection = await self._opened(connection_timeout)
        try:
            await connection.request(head + body if body else head)
        except MalformedResponseError as error:
            told = f"what answers is not HTTP as we know it: {error_summary(error)}"
            raise TTSNotAudioError(told, provider=self._provider) from error
        except OSError as error:
            if reused and not connection.received and self._loop.time() - begun <= self._stale_within:
                told = f"a kept connection broke without an answer: {error_summary(error)}"
                raise TTSStaleConnectionError(told, provider=self._provider) from error
            raise TTSNoAnswerError(
                f"hung up without an answer: {error_summary(error)}", provider=self._provider
            ) from error
        except BaseException:
            connection.hang_up()
            raise
        return DirectResponse(connection, self._pool)

    async def aclose(self) -> None:
        """Close the connections."""
        self._pool.close()
        await asyncio.sleep(0)  # in which they are told

    def after_fork(self) -> None:
        """Part from the connections in a forked child: they are the parent's."""
        self._pool.after_fork()

    async def _opened(self, within: float) -> HTTPConnection:
        try:
            async with asyncio.timeout(within):
                return await self._pool.opened()
        except TimeoutError as error:
            raise TTSConnectTimeoutError(f"no connection within {within:g} s", provider=self._provider) from error
        except OSError as error:
            told = f"no connection to {self._host}: {single_line(str(error)) or type(error).__name__}"
            raise TTSConnectError(told, provider=self._provider) from error


class DirectResponse:
    """An answer whose head has come."""

    __slots__ = ("_connection", "_pool", "headers", "status")

    def __init__(self, connection: HTTPConnection, pool: ConnectionPool) -> None:
        self.status, self.headers = connection.status, connection.headers
        self._connection, self._pool = connection, pool

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """The next bytes, b"" at the end. What comes meanwhile may go to `sink` instead. Raises OSError."""
        try:
            return await self._connection.read(sink)
        except MalformedResponseError as error:
            raise ConnectionError(str(error)) from error

    def read_nowait(self) -> bytes | None:
        """The same, if there is anything to be told without a wait; else None."""
        try:
            return self._connection.read_nowait()
        except MalformedResponseError as error:
            raise ConnectionError(str(error)) from error

    def close(self) -> None:
        """Nobody wants the rest of it. Unless it has come to its end, the connection is closed with it."""
        self._pool.give_back(self._connection)


def error_summary(error: Exception) -> str:
    """What an error says, in a line."""
    return single_line(str(error), 120) or type(error).__name__
