"""Fake vendor for tests of a provider: a small HTTP server on loopback, in a thread of its own, with faults by order.

The server runs on another thread than the provider, so that a provider that blocks its event loop is found out instead
of blocking the test.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from steadyvoice.audio.conversion import convert
from steadyvoice.audio.word_tones import synthesize_tones
from steadyvoice.speech.alignment import Alignment, Word
from steadyvoice.speech.format import AudioFormat, Codec

WRITE_SIZE = 8 * 1024  # bytes of a body that are sent at once
PATIENCE = 5.0
"""Seconds after which the server stops to wait for the provider, or for the check."""

_SOCKET_BUFFER = 64 * 1024  # bytes; the kernel's own choice would hide how much a provider reads ahead
_TICK = 0.005  # seconds


@dataclass(frozen=True, slots=True)
class VendorRequest:
    """HTTP request of a provider. Names of headers are in lower case."""

    method: str  # HTTP method
    target: str  # path and query
    headers: Mapping[str, str]  # by name, in lower case
    body: bytes  # bytes of the body

    @property
    def path(self) -> str:
        """Path of the URL, without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> Mapping[str, str]:
        """Parameters of the URL's query. Of those given twice, the first."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def json(self) -> Any:
        """Body as JSON. Raises ValueError."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class VendorResponse:
    """HTTP response of a fake vendor.

    A `body` of bytes is sent with its length; any other iterable of bytes as chunks, one for each of its items.

    - `document`: body, encoded as JSON.
    - `headers`: further headers.
    """

    body: bytes | Iterable[bytes] = b""
    status: int = 200  # HTTP status
    content_type: str = "application/octet-stream"  # header Content-Type
    headers: Mapping[str, str] = field(default_factory=dict)  # further headers

    @classmethod
    def of_json(cls, document: Any, status: int = 200, **headers: str) -> VendorResponse:
        """Return a JSON document. Headers are named with underscores: `retry_after="7"`.

        - `status`: HTTP status.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(json.dumps(document).encode(), status, "application/json", named)


@dataclass(frozen=True, slots=True)
class FakeSpeech:
    """Tones in place of a vendor's speech, in the format that the vendor was asked for, and the times of its words.

    - `alignment`: second at which each character begins and ends.
    """

    text: str  # the text that is spoken
    format: AudioFormat  # format of the audio
    audio: bytes = field(repr=False)  # bytes of the audio
    alignment: Alignment = field(repr=False)
    seconds: float  # seconds of the audio

    @property
    def words(self) -> list[Word]:
        """Words with their times in seconds."""
        return self.alignment.words()

    def pieces(self, size: int = WRITE_SIZE) -> Iterator[tuple[bytes, list[Word]]]:
        """Yield the audio in pieces of `size` bytes, each with the words that begin in it, for streamed responses."""
        words, begin = self.words, 0
        for place in range(0, len(self.audio), size):
            stop = self.seconds * (place + size) / len(self.audio)
            end = len(words) if place + size >= len(self.audio) else begin
            while end < len(words) and words[end].start < stop:
                end += 1
            yield self.audio[place : place + size], words[begin:end]
            begin = end


Speak = Callable[[str, str], FakeSpeech]
"""Function of a text and the name of a format, such as `pcm_24000`, that returns speech to put into a response."""

Respond = Callable[[VendorRequest, Speak], VendorResponse]
"""Function of a fake vendor: the response of the healthy vendor to a request."""


@dataclass(frozen=True, slots=True)
class VendorFault:
    """Deviation of the fake vendor from a healthy response.

    - `response`: sent in place of the healthy one.
    - `stop_after`: bytes of the body after which the server stops, 0 right after the head; None: it does not stop. With
      `before_head`, it stops before it has sent anything.
    - `then`: what follows the stop: `hang` until the client leaves, `cut` the connection, or `wait` for `proceed()`.
    - `drip`: seconds of waiting between two pieces of the body.
    - `repeat`: number of times that the audio is repeated.
    """

    response: VendorResponse | None = None
    stop_after: int | None = None
    before_head: bool = False  # closed before the head of the response
    then: Literal["hang", "cut", "wait"] = "hang"
    drip: float = 0.0
    repeat: int = 1


HEALTHY = VendorFault()


class FakeVendor:
    """HTTP server in a thread, which answers as `respond` does, but for its `fault`.

    Counters may be read from any thread. `author_error` is the first exception that `respond` raised.

    - `fault`: fault of the following requests, None for none.
    """

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self.url = ""
        self._clear()
        self.connections = self.open_connections = 0
        self.author_error: Exception | None = None
        self._proceed = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-vendor", daemon=True)

    def _clear(self) -> None:
        self.requests: list[VendorRequest] = []
        self.spoken: list[FakeSpeech] = []
        self.bytes_sent = 0
        self.stopped = False
        """Whether the server has come to the point at which its fault has it stop."""
        self.lost_patience = False
        """Whether it went on by itself, because the check never said `proceed()`."""
        self.fault = HEALTHY

    def use(self, fault: VendorFault) -> None:
        """Forget what came before, and answer with this fault from now on."""
        self._clear()
        self._proceed.clear()
        self.fault = fault

    def proceed(self) -> None:
        """Go on behind the point at which the server stopped to wait."""
        self._proceed.set()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(PATIENCE):
            raise RuntimeError("the fake vendor's server has not started")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._end.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task  # noqa: S101 - a coroutine that asyncio calls for a connection runs in a task
        self._tasks.add(task)
        self.connections += 1
        self.open_connections += 1
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        with suppress(OSError, EOFError, asyncio.CancelledError):
            while await self._exchange(reader, writer):
                pass
        writer.close()
        self.open_connections -= 1
        self._tasks.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request, and return whether the connection stays open."""
        request = await _read_request(reader)
        self.requests.append(request)
        fault = self.fault
        response = fault.response or self._healthy_response(request, fault)
        sender = _ResponseSender(response, writer)
        if fault.before_head:
            if not await self._stop(fault, reader, writer):
                return False
            fault = HEALTHY
        await sender.send_head()
        async for part in _parts(response.body, fault.drip):
            stops = fault.stop_after is not None and sender.sent + len(part) >= fault.stop_after
            kept = part if fault.stop_after is None else part[: max(0, fault.stop_after - sender.sent)]
            await self._count(sender, kept)
            if stops:
                if not await self._stop(fault, reader, writer):
                    return False
                fault = HEALTHY
                await self._count(sender, part[len(kept) :])
        await sender.finish()
        return True

    async def _count(self, sender: _ResponseSender, part: bytes) -> None:
        await sender.send(part)
        self.bytes_sent += len(part)

    async def _stop(self, fault: VendorFault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Stop as the fault says, and return whether to go on."""
        self.stopped = True
        if fault.then == "hang":
            await reader.read()
            return False
        if fault.then == "cut":
            # With a linger time of zero, closing sends a reset instead of a FIN.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        waited = 0.0
        while not self._proceed.is_set() and waited < PATIENCE:
            await asyncio.sleep(_TICK)
            waited += _TICK
        self.lost_patience |= not self._proceed.is_set()
        return True

    def _healthy_response(self, request: VendorRequest, fault: VendorFault) -> VendorResponse:
        def speak(text: str, format: str) -> FakeSpeech:
            speech = fake_speech(text, AudioFormat.parse(format))
            if fault.repeat > 1:
                speech = replace(speech, audio=speech.audio * fault.repeat, seconds=speech.seconds * fault.repeat)
            self.spoken.append(speech)
            return speech

        try:
            return self._respond(request, speak)
        except Exception as error:
            self.author_error = self.author_error or error
            return VendorResponse.of_json({"error": "the fake vendor failed"}, 500)


class _ResponseSender:
    """Response that is written piece by piece, with its length, or in chunks if that is not known."""

    def __init__(self, response: VendorResponse, writer: asyncio.StreamWriter) -> None:
        self._response, self._writer = response, writer
        self._length = len(response.body) if isinstance(response.body, bytes) else None
        self._chunked = self._length is None
        self.sent = 0

    async def send_head(self) -> None:
        response = self._response
        framing = {"transfer-encoding": "chunked"} if self._chunked else {"content-length": str(self._length)}
        fields = {"content-type": response.content_type, **framing, **response.headers}
        lines = [f"HTTP/1.1 {response.status} Scripted", *(f"{name}: {value}" for name, value in fields.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        await self._writer.drain()

    async def send(self, part: bytes) -> None:
        if part:
            self._writer.write(b"%x\r\n%b\r\n" % (len(part), part) if self._chunked else part)
            self.sent += len(part)
            await self._writer.drain()

    async def finish(self) -> None:
        if self._chunked:
            self._writer.write(b"0\r\n\r\n")
            await self._writer.drain()


async def _read_request(reader: asyncio.StreamReader) -> VendorRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b"".join([chunk async for chunk in _chunks(reader)])
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return VendorRequest(method, target, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(re.split(rb"[;\r]", await reader.readline())[0], 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readline()


async def _parts(body: bytes | Iterable[bytes], drip: float) -> AsyncIterator[bytes]:
    """Yield a body in the pieces that are written, at least one."""
    size = 64 if drip else WRITE_SIZE
    pieces = [body[place : place + size] for place in range(0, len(body), size)] if isinstance(body, bytes) else body
    is_empty = True
    for piece in pieces:
        is_empty = False
        yield piece
        await asyncio.sleep(drip)
    if is_empty:
        yield b""


def fake_speech(text: str, format: AudioFormat) -> FakeSpeech:
    """Return a text in tones of any format."""
    source = AudioFormat(Codec.PCM, format.sample_rate)
    samples, alignment = synthesize_tones(text, sample_rate=format.sample_rate)
    return FakeSpeech(
        text, format, convert(samples, source, format), alignment, seconds=len(samples) / 2 / format.sample_rate
    )
