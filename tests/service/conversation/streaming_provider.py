"""Provider that takes text while it is written, speaks it in word tones, and breaks off wherever a test wants."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from copy import copy
from dataclasses import dataclass, field
from typing import Self

from steadyvoice import Accepted, Alignment, AudioChunk, SpeechRequest, SynthesisOffer, TTSError
from steadyvoice.audio.word_tones import synthesize_tones
from steadyvoice.providers.base import TextStreamingUnsupportedError
from steadyvoice.speech.errors import TTSSocketDroppedError

from ..word_tone_provider import Fault, WordToneProvider

CHUNK = 0.13  # seconds of audio


@dataclass
class StreamingProvider(WordToneProvider):
    """Word-tone provider with text streams; `breaks` are faults of its streams, in order, after so many seconds."""

    name: str = "streaming"
    breaks: list[tuple[str, float]] = field(default_factory=list)
    delay: float = 0.1  # seconds from a flush to its audio
    unsupported: bool = False  # found out with the first text
    supports: bool = True
    drains: float = 0.0  # seconds that the vendor goes on behind a close
    streams: list[FakeTextStream] = field(default_factory=list)
    prewarmed: int = 0

    def open_text_stream(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> FakeTextStream | None:
        if not self.supports:
            return None
        manner, after = self.breaks.pop(0) if self.breaks else ("", 0.0)
        stream = FakeTextStream(self, offer.format.sample_rate, manner, after)
        self.streams.append(stream)
        return stream

    async def prewarm(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> None:
        self.prewarmed += 1

    def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        return super().speak(request, offer, connection_timeout=connection_timeout)


class FakeTextStream:
    """Text stream that speaks at each flush."""

    def __init__(self, provider: StreamingProvider, rate: int, manner: str, after: float) -> None:
        self._provider, self._rate, self._manner, self._after = provider, rate, manner, after
        self.released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent: list[str] = []
        self.flushes: list[str] = []
        self._unflushed = ""
        self._events: deque[Accepted | AudioChunk | float] = deque()
        self._changed = asyncio.Event()
        self._finished = self.closed = False
        self._seconds = 0.0
        self._dead: Exception | None = None

    @property
    def characters_sent(self) -> int:
        return len("".join(self.sent))

    @property
    def expects_audio(self) -> bool:
        return bool(self._events) or self._finished

    def kill(self, error: TTSError) -> None:
        """End with this error, at once."""
        self._dead = error
        self._changed.set()

    def send(self, text: str) -> None:
        if not self.sent:
            self._events.append(Accepted(request_id=f"context-{len(self._provider.streams)}"))
        self.sent.append(text)
        self._unflushed += text
        self._changed.set()

    def flush(self) -> None:
        text, self._unflushed = self._unflushed, ""
        self.flushes.append(text)
        if text.strip():
            pcm, times = synthesize_tones(text, sample_rate=self._rate)
            self._events.append(self._provider.delay)
            size = round(CHUNK * self._rate) * 2
            aligned = 0
            for offset in range(0, len(pcm), size):
                until = (offset + size) / 2 / self._rate
                count = sum(start < until for start in times.starts)
                shift = self._seconds
                part = Alignment(
                    times.characters[aligned:count],
                    tuple(shift + each for each in times.starts[aligned:count]),
                    tuple(shift + each for each in times.ends[aligned:count]),
                )
                self._events.append(AudioChunk(pcm[offset : offset + size], part if count > aligned else None))
                aligned = count
            self._seconds += len(pcm) / 2 / self._rate
        self._changed.set()

    def finish(self) -> None:
        self.flush()
        self._finished = True
        self._changed.set()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if self._provider.drains:
                asyncio.get_running_loop().call_later(self._provider.drains, self._release)
            else:
                self._release()

    def _release(self) -> None:
        if not self.released.done():
            self.released.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Accepted | AudioChunk:
        while True:
            if self._dead:
                raise copy(self._dead)
            if self._provider.unsupported:
                self._provider.supports = False
                raise TextStreamingUnsupportedError
            if self._events:
                event = self._events.popleft()
                if isinstance(event, float):
                    await asyncio.sleep(event)
                    continue
                if isinstance(event, AudioChunk):
                    self._after -= CHUNK
                    await self._fault()
                    await asyncio.sleep(self._provider.every)
                return event
            if self._finished:
                self._release()
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()

    async def _fault(self) -> None:
        if self._after > 0:
            return
        if self._manner == "cut":
            raise TTSSocketDroppedError("the socket closed with 1006")
        if self._manner == "stall":
            await asyncio.Event().wait()
        if self._manner == "truncate":
            self._events.clear()
            self._finished = True
            raise StopAsyncIteration


__all__ = ["Fault", "StreamingProvider"]
