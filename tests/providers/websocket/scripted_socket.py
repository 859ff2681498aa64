"""Vendor on a real websocket that a test scripts: one function for each connection."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, WSMsgType, web

SAMPLE_RATE = 24_000
FORMAT = f"pcm_{SAMPLE_RATE}"


@dataclass
class ScriptedConnection:
    """One connection of the vendor."""

    request: web.Request
    socket: web.WebSocketResponse
    received: list[dict[str, Any]]

    async def next(self) -> dict[str, Any] | None:
        """Return the client's next message, None once it has left."""
        frame = await self.socket.receive()
        if frame.type is not WSMsgType.TEXT:
            return None
        message: dict[str, Any] = json.loads(frame.data)
        self.received.append(message)
        return message

    async def next_flush(self) -> str:
        """Wait for a flush or the end of a context, and return its id."""
        while (message := await self.next()) is not None:
            if message.get("flush") or message.get("close_context"):
                return str(message["context_id"])
        raise ConnectionResetError

    async def send(self, message: Mapping[str, Any] | str) -> None:
        await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def say(self, context: str, seconds: float = 0.2, text: str = "", start: float = 0.0) -> None:
        """Send so much silence, with times for the text if there is one."""
        alignment = None
        if text:
            step = seconds / len(text) * 1000
            alignment = {
                "chars": list(text),
                "charStartTimesMs": [start * 1000 + number * step for number in range(len(text))],
                "charDurationsMs": [step] * len(text),
            }
        await self.send({"audio": silence(seconds), "alignment": alignment, "contextId": context})

    async def final(self, context: str) -> None:
        await self.send({"isFinal": True, "contextId": context})

    def cut(self) -> None:
        """Break the connection without a close frame."""
        assert self.request.transport
        self.request.transport.abort()


def silence(seconds: float) -> str:
    return base64.b64encode(bytes(2 * int(seconds * SAMPLE_RATE))).decode()


Script = Callable[[ScriptedConnection], Awaitable[None]]


@dataclass
class ScriptedSocketVendor:
    """Vendor that runs the first script for the first connection, and so on, and the last one for all others.

    `refusal` is the response to an upgrade in place of the websocket.
    """

    scripts: list[Script] = field(default_factory=list)
    url: str = ""
    connections: list[ScriptedConnection] = field(default_factory=list)
    upgrades: list[web.Request] = field(default_factory=list)
    refusal: Callable[[], web.Response] | None = None
    forward_to: str = ""  # server for requests that are no upgrades
    running: int = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if self.forward_to and "Upgrade" not in request.headers:
            async with (
                ClientSession() as session,
                session.request(
                    request.method,
                    f"{self.forward_to}{request.path_qs}",
                    data=await request.read(),
                    headers={name: request.headers[name] for name in ("xi-api-key", "content-type")},
                ) as response,
            ):
                return web.Response(
                    body=await response.read(), status=response.status, content_type=response.content_type
                )
        self.upgrades.append(request)
        if self.refusal:
            return self.refusal()
        socket = web.WebSocketResponse(compress=False, timeout=0.2, max_msg_size=0)
        await socket.prepare(request)
        connection = ScriptedConnection(request, socket, [])
        self.connections.append(connection)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        self.running += 1
        try:
            await script(connection)
        except (ConnectionError, RuntimeError):
            pass
        finally:
            self.running -= 1
        return socket


@asynccontextmanager
async def scripted_socket_vendor(*scripts: Script, port: int = 0) -> AsyncIterator[ScriptedSocketVendor]:
    vendor = ScriptedSocketVendor(list(scripts))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", vendor.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    vendor.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield vendor
    finally:
        await runner.cleanup()


async def speak_all(connection: ScriptedConnection) -> None:
    """Speak the text of each flush, and end each context that is closed."""
    texts: dict[str, str] = {}
    while (message := await connection.next()) is not None:
        context = message["context_id"]
        texts[context] = texts.get(context, "") + message.get("text", "")
        if message.get("flush") and (text := texts.pop(context).lstrip()):
            await connection.say(context, 0.01 * len(text), text)
        if message.get("close_context"):
            await connection.final(context)


async def forever(connection: ScriptedConnection) -> None:
    """Take everything, and answer nothing."""
    while await connection.next() is not None:
        pass


async def ticks(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
