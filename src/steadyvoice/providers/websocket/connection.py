"""Client of a vendor's websockets, by aiohttp: upgrade, messages, and the errors of both."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from steadyvoice._version import __version__
from steadyvoice.breaker.fork_safety import keep_until_exit
from steadyvoice.providers.base import TextStreamingUnsupportedError
from steadyvoice.providers.http.client import MAX_ERROR_BODY, ErrorParser
from steadyvoice.providers.http.connection_pool import tls_context
from steadyvoice.providers.http.proxy_transport import connection_error, split_proxy
from steadyvoice.speech.errors import TTSConnectTimeoutError, TTSError, TTSNotAudioError
from steadyvoice.wire.error_response import get_header, single_line

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of one message: as much as one stream may buffer, and what LiveKit's client of the same sockets accepts."""

_CLOSE_TIMEOUT = 1.0  # seconds that a vendor has to answer a close frame
_ERROR_BODY_TIMEOUT = 2.0  # seconds to wait for the body of an error


class SocketClosedError(Exception):
    """End of a websocket. `code` is that of the close frame, None without one."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class MalformedMessageError(Exception):
    """Message that is no text, too long, or invalid."""


# Vendor's id of the upgrade in this task: aiohttp's websocket does not show the headers of its response.
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class _UpgradeRefusedError(Exception):
    """Response other than 101 to the upgrade."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status, self.headers, self.body = status, headers, body


class WebSocket(Protocol):
    """Open websocket, as the contexts on it need it."""

    @property
    def request_id(self) -> str | None:
        """Vendor's id of the upgrade."""
        ...

    async def receive(self) -> str | None:
        """Return the next text message; None for a pong. Raises SocketClosedError and MalformedMessageError."""
        ...

    async def send(self, message: str) -> None:
        """Send a text message. Raises OSError if the connection is broken, which `receive` reports as well."""
        ...

    async def ping(self) -> None:
        """Send a ping. Raises OSError."""
        ...

    async def aclose(self) -> None:
        """Send a close frame, and wait a second for the vendor's. Never raises."""
        ...

    def after_fork(self) -> None:
        """Close this process's copy of the descriptor, in a forked child. Nothing is sent."""
        ...


class WebSocketClient:
    """Client of one host, in one event loop. Redirects are not followed: the API key is sent to that host only.

    `parse_error` turns a refused upgrade into an error; `headers` are sent with each upgrade.
    """

    def __init__(
        self, provider: str, base_url: str, parse_error: ErrorParser, headers: Mapping[str, str], proxy: str | None
    ) -> None:
        self._provider, self._base_url, self._parse_error = provider, base_url, parse_error
        self._headers = {"User-Agent": f"steadyvoice/{__version__}", **headers}
        self._proxy: str | None = None
        self._proxy_headers: dict[str, str] = {}
        secure = base_url.startswith("https:")
        if proxy is not None:
            self._proxy, credentials = split_proxy(proxy)
            (self._proxy_headers if secure else self._headers).update(credentials)
            secure = secure or urlsplit(proxy).scheme.lower() == "https"
        # aiohttp follows redirects of an upgrade, and does not show the body of a refused one: it gives the reason,
        # such as an exhausted quota, which has the same status as a bad key. Both are taken from these hooks.
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(_refuse_redirect)
        trace.on_request_end.append(_refuse_response)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls_context() if secure else True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,  # it would also let a .netrc file replace the API key
            trace_configs=[trace],
        )

    async def connect(self, target: str, timeout: float) -> WebSocket:
        """Open the websocket at a path and query. `timeout`, in seconds, bounds the upgrade.

        Raises TTSError, and TextStreamingUnsupportedError if the server has no websocket there.
        """
        url = URL(self._base_url + target, encoded=True)
        try:
            async with asyncio.timeout(timeout):
                socket = await self._session.ws_connect(
                    url,
                    headers=self._headers,
                    proxy=self._proxy,
                    proxy_headers=self._proxy_headers,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_TIMEOUT),
                    max_msg_size=MAX_MESSAGE,
                    autoping=False,
                )
        except _UpgradeRefusedError as refused:
            raise self._refusal(refused) from None
        except aiohttp.WSServerHandshakeError as error:
            message = f"the server did not complete the websocket's upgrade: {single_line(error.message, 120)}"
            raise TTSNotAudioError(message, provider=self._provider, status=error.status) from error
        except TimeoutError as error:
            message = f"no websocket within {timeout:g} s"
            raise TTSConnectTimeoutError(message, provider=self._provider) from error
        except (aiohttp.ClientError, OSError) as error:
            raise connection_error(error, timeout, self._provider) from error
        return _AiohttpSocket(socket, _request_id.get())

    async def aclose(self) -> None:
        """Close the client. Its websockets are closed by their owners."""
        await self._session.close()

    def after_fork(self) -> None:
        """Keep the parent's client until the child exits, unused."""
        keep_until_exit(self._session)

    def _refusal(self, refused: _UpgradeRefusedError) -> Exception:
        error: TTSError = self._parse_error(refused.status, refused.headers, refused.body)
        # Servers without the endpoint answer 404; those on ASGI reject any unknown websocket with a bare 403.
        missing = refused.status in (404, 405, 501) and error.code is None
        if missing or (refused.status == 403 and not refused.body):
            return TextStreamingUnsupportedError(f"HTTP {refused.status} for the websocket")
        return error


class _AiohttpSocket:
    """WebSocket over aiohttp's."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, request_id: str | None) -> None:
        self._socket = socket
        self.request_id = request_id

    async def receive(self) -> str | None:
        message = await self._socket.receive()
        match message.type:
            case aiohttp.WSMsgType.TEXT:
                return str(message.data)
            case aiohttp.WSMsgType.PING:
                with suppress(OSError):
                    await self._socket.pong(message.data)
                return None
            case aiohttp.WSMsgType.PONG:
                return None
            case aiohttp.WSMsgType.CLOSE:
                raise SocketClosedError(message.data, message.extra or "")
            case aiohttp.WSMsgType.BINARY:
                raise MalformedMessageError("a binary message on the websocket")
            case aiohttp.WSMsgType.ERROR:
                raise _error_of(message.data)
        # aiohttp has the code 1000 for the end of a connection without a close frame.
        raise SocketClosedError(None)

    async def send(self, message: str) -> None:
        await self._socket.send_str(message)

    async def ping(self) -> None:
        await self._socket.ping()

    async def aclose(self) -> None:
        await self._socket.close()

    def after_fork(self) -> None:
        """Close this process's copy of the descriptor, in a forked child. Nothing is sent."""
        connection = self._socket.get_extra_info("socket")
        keep_until_exit(self._socket)
        with suppress(OSError):
            os.close(connection.fileno())


def _error_of(error: object) -> Exception:
    """Return the exception for an error of aiohttp's reader: an invalid message, or a lost connection."""
    if isinstance(error, aiohttp.WebSocketError):
        if error.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
            return MalformedMessageError(f"a message of more than {MAX_MESSAGE} bytes on the websocket")
        return MalformedMessageError(f"invalid data on the websocket: {single_line(str(error), 120)}")
    return SocketClosedError(None)


async def _refuse_redirect(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    response = params.response
    response.close()
    raise _UpgradeRefusedError(response.status, _lower(response.headers), b"")


async def _refuse_response(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
) -> None:
    response = params.response
    if response.status == 101:
        _request_id.set(get_header(response.headers, "request-id"))
        return
    body = bytearray()
    try:
        async with asyncio.timeout(_ERROR_BODY_TIMEOUT):
            while len(body) < MAX_ERROR_BODY and (data := await response.content.read(MAX_ERROR_BODY)):
                body += data
    except (aiohttp.ClientError, OSError):  # a TimeoutError is one: a part of the body is enough
        pass
    finally:
        response.close()
    raise _UpgradeRefusedError(response.status, _lower(response.headers), bytes(body[:MAX_ERROR_BODY]))


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
