"""Websocket client that sends messages and receives everything until the end."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp

from steadyvoice.simulator import Simulator, words_in

from .client import GEORGE, TEXT

KEY = {"xi-api-key": "any"}
BEGIN = {"text": " "}
END = {"text": ""}
WHOLE_TEXT = (BEGIN, {"text": f"{TEXT} "}, END)
HANGS = 200  # iterations of the event loop, see `client.SILENT_ITERATIONS`


@dataclass
class Received:
    """All messages in order, and the close code, or None without a close."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    code: int | None = None
    reason: str | None = None

    def audio(self, context: str | None = None) -> bytes:
        own = [message for message in self.messages if message.get("contextId", message.get("context_id")) == context]
        return b"".join(base64.b64decode(message.get("audio") or "") for message in own)

    def words(self, context: str | None = None) -> list[str]:
        return words_in(self.audio(context), "pcm_8000")

    @property
    def sounds(self) -> list[dict[str, Any]]:
        return [message for message in self.messages if message.get("audio")]

    @property
    def error(self) -> str | None:
        return next((message["error"] for message in self.messages if "error" in message), None)


def address(sim: Simulator, multi: bool = False, voice: str = GEORGE, **query: Any) -> str:
    form = "multi-stream-input" if multi else "stream-input"
    return f"{sim.url}/v1/text-to-speech/{voice}/{form}?{urlencode({'output_format': 'pcm_8000', **query})}"


async def talk(
    sim: Simulator,
    messages: Iterable[Mapping[str, Any] | str | bytes] = WHOLE_TEXT,
    *,
    fault: str | None = None,
    headers: Mapping[str, str] = KEY,
    multi: bool = False,
    voice: str = GEORGE,
    **query: Any,
) -> Received:
    """Send all messages, then receive until the connection is closed."""
    headers_sent = {**headers, **({"x-sim-fault": fault} if fault else {})}
    async with (
        aiohttp.ClientSession() as session,
        # Without a limit on messages: one of the simulator's faults is a message larger than the usual limit.
        session.ws_connect(address(sim, multi, voice, **query), headers=headers_sent, max_msg_size=0) as socket,
    ):
        for message in messages:
            await send(socket, message)
        return await listen(socket)


async def send(socket: aiohttp.ClientWebSocketResponse, message: Mapping[str, Any] | str | bytes) -> None:
    match message:
        case str():
            await socket.send_str(message)
        case bytes():
            await socket.send_bytes(message)
        case _:
            await socket.send_json(message)


async def listen(socket: aiohttp.ClientWebSocketResponse) -> Received:
    received = Received()
    while True:
        frame = await socket.receive()
        if frame.type is not aiohttp.WSMsgType.TEXT:
            received.code, received.reason = socket.close_code, frame.extra
            return received
        received.frames.append(frame.data)
        try:
            received.messages.append(frame.json())
        except ValueError:
            received.messages.append({"truncated": frame.data})
