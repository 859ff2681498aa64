"""A vendor that is never the bottleneck: real MP3 in sixteen chunks of 2 KiB, without looking at what is asked.

It answers all at once, or with `pace` as its second argument a chunk every so many seconds. In `mp3_22050_32` a chunk
is half a second of audio, else an eighth; asked for times it gives JSON with them.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import cache
from typing import cast

import uvloop

from steadyvoice.audio.codec import encoder_for
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import AudioFormat
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, timed_audio_body

CHUNKS = 16
SIZE = CHUNKS * 2048
USUAL, SLIM = "mp3_44100_128", "mp3_22050_32"
TEXT = "The rain has stopped, we walk home."

_LENGTH = re.compile(rb"content-length: *(\d+)", re.I)


def seconds(name: str) -> float:
    """Of audio in all the chunks."""
    return SIZE * 8 / ((AudioFormat.parse(name).bitrate or 0) * 1000)


@cache
def parts(name: str = USUAL) -> list[bytes]:
    """A tone, as MP3 in whole frames."""
    format = AudioFormat.parse(name)
    encoder = encoder_for(format)
    count = round(seconds(name) * format.sample_rate)
    wave = b"".join(int(8000 * ((n // 50) % 2 * 2 - 1)).to_bytes(2, "little", signed=True) for n in range(count))
    data = encoder.feed(wave) + encoder.finish()
    size = -(-len(data) // CHUNKS)
    return [data[offset : offset + size] for offset in range(0, len(data), size)]


def _timed(name: str) -> list[bytes]:
    """The same with times, a line a chunk."""
    spread, pieces = Alignment.spread(TEXT, seconds(name)), parts(name)
    cuts = [round(len(TEXT) * index / len(pieces)) for index in range(len(pieces) + 1)]
    lines = []
    for index, piece in enumerate(pieces):
        begin, end = cuts[index], cuts[index + 1]
        times = Alignment(spread.characters[begin:end], spread.starts[begin:end], spread.ends[begin:end])
        lines.append(json.dumps(timed_audio_body(TimedAudio(piece, times, times))).encode() + b"\n")
    return lines


def _answer(content_type: str, chunks: list[bytes]) -> tuple[bytes, list[bytes]]:
    fields = {"content-type": content_type, "request-id": "r1", "character-cost": str(len(TEXT))}
    fields |= {"current-concurrent-requests": "1", "maximum-concurrent-requests": "100000"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"HTTP/1.1 200 OK\r\n{lines}transfer-encoding: chunked\r\n\r\n".encode()
    return head, [f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks]


@cache
def _prepared_answer(slim: bool, timed: bool) -> tuple[bytes, list[bytes]]:
    name = SLIM if slim else USUAL
    return _answer("application/json", _timed(name)) if timed else _answer("audio/mpeg", parts(name))


class Vendor(asyncio.Protocol):
    """Connection of a client."""

    pace = 0.0

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, end)
            request_end = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < request_end:
                return
            request, self._received = self._received[:request_end], self._received[request_end:]
            self._answer(request[: request.find(b"\r\n")])

    def _answer(self, line: bytes) -> None:
        head, chunks = _prepared_answer(SLIM.encode() in line, b"/with-timestamps" in line)
        if not self.pace:
            self._transport.write(b"".join([head, *chunks, b"0\r\n\r\n"]))
            return
        self._transport.write(head)
        self._next(chunks, 0)

    def _next(self, chunks: list[bytes], index: int) -> None:
        if self._transport.is_closing():
            return
        if index == len(chunks):
            self._transport.write(b"0\r\n\r\n")
            return
        self._transport.write(chunks[index])
        asyncio.get_running_loop().call_later(self.pace, self._next, chunks, index + 1)


async def _serve(port: int) -> None:
    # Encoded before the port is printed, or the first request would wait for the encoder.
    for slim in (False, True):
        for timed in (False, True):
            _prepared_answer(slim, timed)
    # Two thousand connections may arrive at once; the usual backlog of 100 would drop some, which try again after a
    # second.
    server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", port, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        Vendor.pace = float(sys.argv[2])
    uvloop.run(_serve(int(sys.argv[1])))
