"""Timed audio that is held until it is complete: read without waking a task for each chunk."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from steadyvoice.breaker import Permit
from steadyvoice.providers.base import AudioChunk, AudioResponse, Provider, SupportsOpen
from steadyvoice.service.pipeline.delivery import Delivery
from steadyvoice.service.pipeline.provider_call import AudioSink, ProviderCall
from steadyvoice.speech.errors import TTSError


class OpenableProvider(SupportsOpen, Provider, Protocol):
    """Provider whose timed responses can be read directly."""


class HeldCall(ProviderCall):
    """Call whose timed audio is held until it is complete, so that no chunk has to wake the task that waits for it.

    From the first valid sound on, each chunk is decoded, validated and held within the read callback of its connection.
    """

    provider: OpenableProvider

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chunks: deque[AudioChunk] = deque()  # decoded, and not read yet
        self._error: TTSError | None = None  # behind those chunks
        self._decoded = self._finished = self._closed = False
        self._reply: AudioResponse | None = None
        self._sink: AudioSink | None = None

    def _begin(self) -> None:
        """Do nothing: the request is sent with the first read."""

    async def _aclose(self) -> None:
        self._error = None  # whose traceback keeps this call
        if self._reply and not self._closed:
            self._closed = True
            self._reply.close()

    async def _read(self, sink: AudioSink | None, left: float) -> bytes | None:
        if not self._chunks and not self._error:
            data = await self._read_response(sink, left)
            if not data and (self._finished or not self._decoded):
                return None
            self._decode(data)
        if self._chunks:
            return self._audio_of(self._chunks.popleft())
        error, self._error = self._error, None
        if error is None:
            return None if self._finished else b""
        try:
            raise error
        finally:
            del error

    async def _read_response(self, sink: AudioSink | None, left: float) -> bytes | None:
        reply = self._reply
        if reply is None:
            opening = self.provider.open(self.request, self.offer, connection_timeout=self._connecting)
            self._reply = reply = await self._in_time(opening, left)
            if reply is None:
                return None
            self._accept(reply.accepted)
            left = self._timeouts.limit(self._count_time())
        # Only validated audio goes to the sink, so the first chunks always take the usual way.
        self._sink = sink if self.first_sound is not None else None
        try:
            data = await self._in_time(reply.read(self._write_to_sink if self._sink else None), left)
        finally:
            self._sink = None  # it refers to the delivery, which refers to this call
        self._decoded |= bool(data)
        return data

    def _decode(self, data: bytes | None) -> None:
        """Decode the next bytes, or the rest after the end. An error is raised behind the audio before it."""
        assert self._reply is not None  # noqa: S101 - it has been read
        decoder = self._reply.decoder
        assert decoder is not None  # noqa: S101 - see SupportsOpen
        try:
            if data:
                decoder.feed(data, self._chunks.append)
            else:
                self._finished = True
                decoder.finish(self._chunks.append)
        except TTSError as error:
            self._error = error

    def _write_to_sink(self, data: bytes) -> bool:
        """Hold valid audio without waking the reader. Raises TTSError, in the task that reads."""
        reply, sink = self._reply, self._sink
        if reply is None or reply.decoder is None or sink is None or self._timer.expired or not sink.open():
            return False
        now = self._count_time()
        self._decoded = True
        reply.decoder.feed(data, self._hold)
        self._limit_moved = True
        self._raise_if_expired(now)
        return True

    def _hold(self, chunk: AudioChunk) -> None:
        data, sink, validator = self._audio_of(chunk), self._sink, self.validator
        if not data or sink is None:
            return
        before = validator.seconds
        validator.take(data)
        self._timeouts.add_audio(validator.seconds - before, has_audio=True)
        sink.write(data)


class HeldSink:
    """Sink of audio that is held by its delivery, and reported to the permit of the call."""

    __slots__ = ("_hold", "_progress", "open")

    def __init__(self, delivery: Delivery, permit: Permit) -> None:
        self.open, self._hold, self._progress = delivery.holds_at_once, delivery.hold, permit.progress

    def write(self, data: bytes) -> None:
        """Hold the bytes."""
        self._hold(data)
        self._progress()
