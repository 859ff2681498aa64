"""Text streams of a provider, and everything that one yields."""

from __future__ import annotations

from dataclasses import dataclass, field

from steadyvoice.providers.base import Accepted, AudioChunk, SupportsTextStreaming, TextStream
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.simulator import words_in
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError, drop_tracebacks
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest

KEY = "sk_secret_key_0123456789"
TEXT = "Good evening, this is the news. It is read to you by somebody who is not there. "
WORDS = TEXT.split()


def speech_request(format: str = "pcm_24000", **fields: object) -> SpeechRequest:
    return SpeechRequest("", AudioFormat.parse(format), **fields)  # type: ignore[arg-type]


def open_stream(provider: ElevenLabs, request: SpeechRequest | None = None) -> TextStream:
    request = request or speech_request()
    assert isinstance(provider, SupportsTextStreaming)
    stream = provider.open_text_stream(request, provider.offer(request), connection_timeout=5.0)
    assert stream is not None
    return stream


def say(stream: TextStream, text: str = TEXT, *, finish: bool = True) -> TextStream:
    """Send a text word by word, and flush or finish it."""
    for word in text.split(" "):
        if word:
            stream.send(f"{word} ")
    if finish:
        stream.finish()
    else:
        stream.flush()
    return stream


@dataclass
class Collected:
    """All events of a stream, and its error."""

    accepted: list[Accepted] = field(default_factory=list)
    chunks: list[AudioChunk] = field(default_factory=list)
    error: Exception | None = None

    @property
    def audio(self) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks)

    @property
    def words(self) -> list[str]:
        return words_in(self.audio, "pcm_24000")

    @property
    def alignment(self) -> Alignment:
        return Alignment.joined([(0.0, chunk.alignment) for chunk in self.chunks if chunk.alignment])

    @property
    def failure(self) -> TTSError:
        assert isinstance(self.error, TTSError), self.error
        return self.error


async def collect(stream: TextStream) -> Collected:
    """Read a stream to its end or error, and close it."""
    collected = Collected()
    try:
        async for event in stream:
            if isinstance(event, AudioChunk):
                collected.chunks.append(event)
            else:
                collected.accepted.append(event)
    except Exception as error:
        collected.error = drop_tracebacks(error)
    finally:
        stream.close()
    return collected
