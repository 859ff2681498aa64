"""Provider whose chunks can be passed through, and a sink that collects them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from steadyvoice import Accepted, AsyncTTSService, AudioFormat, SpeechRequest, SynthesisOffer
from steadyvoice.providers.base import ByteSink
from steadyvoice.speech.format import Codec

from ..scripted_provider import RATE, ScriptedProvider

Step = tuple[float, bytes | Exception]
"""Seconds of waiting, and the chunk or error that follows."""


@dataclass
class ScriptedResponse:
    """Scripted response of the provider."""

    steps: deque[Step]
    accepted: Accepted = field(default_factory=lambda: Accepted(request_id="r1", characters_billed=5))
    closed: bool = False

    async def read(self, sink: ByteSink | None = None) -> bytes:
        while self.steps:
            wait, what = self.steps.popleft()
            await asyncio.sleep(wait)
            if isinstance(what, Exception):
                raise what
            if sink is None or not sink(what):
                return what
        return b""

    def read_nowait(self) -> None:
        """Return None: no chunk is ever ready."""

    def close(self) -> None:
        self.closed = True


@dataclass
class PassthroughProvider(ScriptedProvider):
    """Provider of passthrough responses, the same each time."""

    steps: Iterable[Step] = ()

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return SynthesisOffer(
            AudioFormat(Codec.PCM, RATE), voice="voice", max_characters=None, knows_voice=True, for_any_text=True
        )

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PassthroughProvider:
        return self

    async def send(self, text: str, *, connection_timeout: float) -> ScriptedResponse:
        return ScriptedResponse(deque(self.steps))


@dataclass
class CollectingSink:
    """Sink that accepts all chunks except those with these numbers."""

    spills: tuple[int, ...] = ()
    got: list[bytes] = field(default_factory=list)
    open_calls: int = 0

    def open(self) -> bool:
        self.open_calls += 1
        return self.open_calls not in self.spills

    def write(self, data: bytes) -> None:
        self.got.append(data)


@dataclass
class ReceivedAudio:
    """Audio of an utterance in order of arrival, and the number of chunks that came by the sink."""

    data: bytes = b""
    sink_chunks: int = 0


async def read_with_sink(
    tts: AsyncTTSService, text: str, sink: CollectingSink | None, *, into: ReceivedAudio | None = None
) -> ReceivedAudio:
    """Read a stream, and let everything after its first chunk go to the sink."""
    heard = into or ReceivedAudio()
    stream = tts.stream(text, format="pcm_8000", on_midstream="error")

    def collect() -> None:
        if sink:
            heard.data += b"".join(sink.got)
            heard.sink_chunks += len(sink.got)
            sink.got.clear()

    try:
        async for chunk in stream:
            collect()
            heard.data += chunk
            if sink:
                stream.attach_sink(sink)
    finally:
        collect()
    return heard
