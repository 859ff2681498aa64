"""A vendor that is never the bottleneck: real MP3 in sixteen chunks of 2 KiB, without looking at what is asked.

A request whose path ends in `?pace=0.1` gets a chunk every so many seconds; any other all at once.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import cache
from typing import cast

import uvloop

from steadyvoice.audio.encode import encoder_of
from steadyvoice.speech.format import AudioFormat

CHUNKS = 16
SAMPLES = 78 * 1152  # as many as make thirty-two KiB
TEXT = "The rain has stopped, we walk home."

_LENGTH = re.compile(rb"content-length: *(\d+)", re.I)
_PACE = re.compile(rb"[?&]pace=([0-9.]+)")


@cache
def parts() -> list[bytes]:
    """Two seconds of a tone, as MP3 of 128 kbit/s, in whole frames."""
    encoder = encoder_of(AudioFormat.parse("mp3_44100_128"))
    wave = b"".join(int(8000 * ((n // 50) % 2 * 2 - 1)).to_bytes(2, "little", signed=True) for n in range(SAMPLES))
    data = encoder.feed(wave) + encoder.finish()
    size = -(-len(data) // CHUNKS)
    return [data[at : at + size] for at in range(0, len(data), size)]


def _head() -> bytes:
    fields = {"content-type": "audio/mpeg", "request-id": "r1", "character-cost": str(len(TEXT))}
    fields |= {"current-concurrent-requests": "1", "maximum-concurrent-requests": "100000"}
    told = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 200 OK\r\n{told}transfer-encoding: chunked\r\n\r\n".encode()


class Vendor(asyncio.Protocol):
    """One connection."""

    head, parts, end = b"", [b""], b"0\r\n\r\n"

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            request, self._received = self._received[:whole], self._received[whole:]
            self._answer(request[: request.find(b"\r\n")])

    def _answer(self, line: bytes) -> None:
        if pace := _PACE.search(line) or _pace:
            self._transport.write(self.head)
            self._next(0, float(pace[1]))
        else:
            self._transport.write(b"".join([self.head, *self.parts, self.end]))

    def _next(self, index: int, pace: float) -> None:
        if self._transport.is_closing():
            return
        if index == len(self.parts):
            self._transport.write(self.end)
            return
        self._transport.write(self.parts[index])
        asyncio.get_running_loop().call_later(pace, self._next, index + 1, pace)


_pace: re.Match[bytes] | None = None


async def _serve() -> None:
    Vendor.head = _head()
    Vendor.parts = [f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts()]
    server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    _pace = _PACE.search(sys.argv[2].encode()) if len(sys.argv) > 2 else None
    uvloop.run(_serve())
