"""Recorder of what a framework's own client sends to the gateway's websocket, for replays without the framework.

Set STEADYVOICE_RECORDINGS to a folder and run the suites: each scenario of the frameworks' own ElevenLabs services is
added there to `FRAMEWORK-API.jsonl`: a line for each connection, with its scenario and its request, and one for each
frame. A frame is kept with its mask, so that it can be sent again byte for byte, and with what the client had received
before it: the first audio of a context, or its end.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.gateway.websocket.frames import TEXT, ReceivedFrame, read_frame

FOLDER = os.environ.get("STEADYVOICE_RECORDINGS") or None


class ConnectionRecorder:
    """Forwards the bytes of one connection and records its client's."""

    def __init__(self) -> None:
        self.head = ""
        self.frames: list[dict[str, Any]] = []
        self._news: list[str] = []  # what was received since the client's last frame
        self._seen: set[str] = set()

    async def run(self, client: Any, server: Any) -> None:
        (client_reader, client_writer), (server_reader, server_writer) = client, server
        head = await client_reader.readuntil(b"\r\n\r\n")
        self.head = head.decode("latin-1")
        server_writer.write(head)
        client_writer.write(await server_reader.readuntil(b"\r\n\r\n"))
        await asyncio.gather(
            self._forward(client_reader, server_writer, self._note_sent),
            self._forward(server_reader, client_writer, self._note_received),
        )

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Any) -> None:
        try:
            while True:
                frame = await read_frame(reader)
                note(frame)
                writer.write(frame.raw)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _note_sent(self, frame: ReceivedFrame) -> None:
        assert frame.raw[0] & 0x80, "a message in fragments"
        data = frame.data.decode() if frame.opcode == TEXT else frame.data.hex()
        news, self._news = self._news, []
        self.frames.append({"after": news, "opcode": frame.opcode, "mask": frame.mask.hex(), "data": data})

    def _note_received(self, frame: ReceivedFrame) -> None:
        if frame.opcode != TEXT:
            return
        message = json.loads(frame.data)
        context = message.get("context_id")
        kind = "end" if message.get("isFinal") or message.get("is_final") or message.get("error") else "audio"
        if (event := f"{kind} {context}") not in self._seen:
            self._seen.add(event)
            self._news.append(event)


@asynccontextmanager
async def recorded(url: str, client: str, scenario: str) -> AsyncIterator[str]:
    """Yield the URL of a proxy in front of `url` that records a client, or `url` itself without a folder."""
    if FOLDER is None:
        yield url
        return
    parts, connections, tasks = urlsplit(url), list[ConnectionRecorder](), set[asyncio.Task[None]]()

    async def connected(*client: Any) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        connections.append(recorder := ConnectionRecorder())
        await recorder.run(client, await asyncio.open_connection(parts.hostname, parts.port))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        lines = [line for each in connections for line in ({"scenario": scenario, "head": each.head}, *each.frames)]
        with (Path(FOLDER) / f"{client}.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
