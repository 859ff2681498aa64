"""Provider whose words can be read back from its audio, and which fails wherever a test wants."""

from __future__ import annotations

import asyncio
import re
from array import array
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import pytest

from steadyvoice import (
    Accepted,
    Alignment,
    AsyncSpeechStream,
    AudioChunk,
    AudioFormat,
    CircuitBreakerConfig,
    SpeechRequest,
    SynthesisOffer,
    TimeoutConfig,
)
from steadyvoice.audio.conversion import convert
from steadyvoice.audio.crossfade import apply_gain
from steadyvoice.audio.word_tones import synthesize_tones, words_in
from steadyvoice.speech.errors import TTSCutError, TTSServerError
from steadyvoice.speech.format import Codec
from steadyvoice.speech.markup import MarkedText, Markup, parse_markup

DOWN = TTSServerError("HTTP 503", status=503)
LONG_TEXT = " ".join(f"This is sentence number {i}, and it is not the last one of them all." for i in range(12))
SHORT_TEXT = "The rain has stopped. We walk home now, slowly, and nobody says a word."


FaultKind = Literal["cut", "stall", "drip", "truncate", "hush"]
Times = Literal["with", "before", "after", "late", "never", "nonsense", "zero", "half"]


PATIENT = CircuitBreakerConfig(failure_threshold=1.0, window_size=50, minimum_calls=50)
TIMES = TimeoutConfig(read_timeout=3.0)


@dataclass(frozen=True)
class Fault:
    """Fault of one answer, after this share of its bytes."""

    manner: FaultKind
    share: float


@dataclass
class WordToneProvider:
    """Provider that speaks in word tones, in the requested format unless it has its own; one fault an answer, while
    there are any.

    `times` tells how timestamps come, if they are requested and it is `timed`.
    """

    faults: list[Fault] = field(default_factory=list)
    name: str = "tonal"
    timed: bool = True
    times: Times = "with"
    format: AudioFormat | None = None
    seed: int = 0
    pitch: float = 1.0
    level: float = 1.0
    local: bool = False
    chunk: float = 0.13  # seconds of audio
    every: float = 0.0  # seconds between chunks
    max_characters: int | None = None
    markup: Markup = Markup.NONE  # that it takes, and says aloud like any word
    performs: bool = False  # what markup it takes is not said aloud, and takes no time
    pauses: bool = False  # tags are three seconds of silence each
    requests: list[SpeechRequest] = field(default_factory=list)
    left: int = 0  # listeners who left in the middle

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        timed = self.timed and request.timestamps
        form = self.format or request.format
        return SynthesisOffer(form, self.name, max_characters=self.max_characters, timed=timed, markup=self.markup)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.requests.append(request)
        fault = self.faults.pop(0) if self.faults else None
        yield Accepted(request_id=f"{self.name}-{len(self.requests)}")
        data, alignment = _spoken(request.text, offer.format, self.seed, self.pitch, self.level)
        if self.pauses:
            data, alignment = _with_pauses(request.text, offer.format)
        if self.performs and (marked := parse_markup(request.text)):
            data, alignment = _performed(marked, offer.format, self.pitch)
        # Silence is no early end: all bytes are sent, and only the sound is missing.
        if fault and fault.manner == "hush":
            data, fault = _hushed(data, offer.format, fault.share), None
        upto = len(data) if fault is None else int(len(data) * fault.share)
        if fault and fault.manner == "truncate" and fault.share < 1.0 and offer.timed:
            # An answer that lacks only the time of its last punctuation mark is a complete one at some vendors.
            upto = min(upto, int(len(data) * _start_of_last_letter(alignment) / alignment.ends[-1]))
        try:
            for chunk in self._chunks(data, upto, alignment if offer.timed else None):
                yield chunk
                await asyncio.sleep(self.every)
            match fault and fault.manner:
                case "cut":
                    raise TTSCutError("the line broke")
                case "stall":
                    await asyncio.Event().wait()
                case "drip":
                    for offset in range(upto, len(data)):
                        await asyncio.sleep(1.0)
                        yield AudioChunk(data[offset : offset + 1])
        except (GeneratorExit, asyncio.CancelledError):
            # Both endings are counted: a consumer closes the generator, a deadline cancels the task.
            self.left += 1
            raise

    async def aclose(self) -> None:
        pass

    def _chunks(self, data: bytes, upto: int, alignment: Alignment | None) -> Iterator[AudioChunk]:
        """Yield the answer in chunks, with the timestamps of each chunk, or as `times` tells."""
        seconds = alignment.ends[-1] if alignment else len(data) / 16000
        # Odd numbers of bytes: a sample of two bytes is split between chunks, as on real connections.
        size = max(1, round(self.chunk / seconds * len(data))) | 1  # odd: samples come in halves
        aligned_until = 0.0
        for offset in range(0, upto, size):
            end = min(offset + size, upto)
            now = end / len(data) * seconds
            until = {"before": seconds, "late": now - 0.5, "never": 0.0}.get(self.times, now)
            part = _between(alignment, aligned_until, until) if alignment else None
            if self.times == "nonsense" and part and offset > len(data) * 0.4:
                part = Alignment(tuple("x" * len(part.characters)), part.starts, part.ends)
            if self.times == "zero" and part:
                never = (0.0,) * len(part.characters)
                part = Alignment(part.characters, never, never)
            if self.times == "half" and part:
                starts, ends = (tuple(time / 2 for time in times) for times in (part.starts, part.ends))
                part = Alignment(part.characters, starts, ends)
            aligned_until = max(aligned_until, until)
            if self.times == "after":
                yield AudioChunk(data[offset:end])
                yield AudioChunk(b"", part)
            else:
                yield AudioChunk(data[offset:end], part)


@lru_cache(maxsize=1000)
def _spoken(text: str, format: AudioFormat, seed: int, pitch: float, level: float) -> tuple[bytes, Alignment]:
    pcm, alignment = synthesize_tones(text, sample_rate=format.sample_rate, seed=seed, pitch=pitch)
    pcm = apply_gain(array("h", pcm), level).tobytes()
    return convert(pcm, AudioFormat(Codec.PCM, format.sample_rate), format), alignment


def _performed(marked: MarkedText, format: AudioFormat, pitch: float) -> tuple[bytes, Alignment]:
    """Return the words, and the timestamps of all characters."""
    data, spoken_alignment = _spoken(marked.words.text, format, 0, pitch, 1.0)
    times = zip(
        range(1, len(spoken_alignment.characters) + 1), spoken_alignment.starts, spoken_alignment.ends, strict=True
    )
    return data, Alignment.of_original(marked.words, times)


def _with_pauses(text: str, format: AudioFormat) -> tuple[bytes, Alignment]:
    """Return samples in which `<...>` is three seconds of silence."""
    pieces = re.split("(<[^>]*>)", text)
    audio, alignments, now = b"", [], 0.0
    for piece in pieces:
        pcm, times = synthesize_tones(piece, sample_rate=format.sample_rate)
        if piece.startswith("<"):
            pcm, times = bytes(6 * format.sample_rate), Alignment.spread(piece, 3.0)
        audio += pcm
        alignments.append((now, times))
        now += len(pcm) / 2 / format.sample_rate
    return audio, Alignment.joined(alignments)


def _hushed(audio: bytes, format: AudioFormat, share: float) -> bytes:
    """Return the audio, silent after that share of it."""
    samples = AudioFormat(Codec.PCM, format.sample_rate)
    pcm = convert(audio, format, samples)
    heard = int(len(pcm) * share) // 2 * 2
    return convert(pcm[:heard] + bytes(len(pcm) - heard), samples, format)


def _start_of_last_letter(alignment: Alignment) -> float:
    letters = (
        start for character, start in zip(alignment.characters, alignment.starts, strict=True) if character.isalnum()
    )
    return max(letters, default=alignment.ends[-1])


def _between(alignment: Alignment, start: float, end: float) -> Alignment | None:
    kept = [i for i, begin in enumerate(alignment.starts) if start <= begin < end]
    if not kept:
        return None
    begin, upto = kept[0], kept[-1] + 1
    return Alignment(alignment.characters[begin:upto], alignment.starts[begin:upto], alignment.ends[begin:upto])


async def read_into(stream: AsyncSpeechStream, parts: list[bytes]) -> None:
    async for chunk in stream:
        parts.append(chunk)  # noqa: PERF401 - what comes before an error counts


async def read_all(stream: AsyncSpeechStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


def assert_all_words_once(stream: AsyncSpeechStream, audio: bytes, text: str) -> None:
    """Assert that every word is heard once, in order, and that the report agrees."""
    assert words_in(audio, stream.format) == text.split()
    spans = stream.report.spans
    assert (spans[0].begin, spans[-1].end) == (0, len(text))
    assert all(a.end == b.begin and a.stop == b.start for a, b in pairwise(spans))
    rate = stream.format.bytes_per_second
    if rate:
        assert stream.duration == pytest.approx(len(audio) / rate, abs=0.05)
