"""Answers without end, always ready, or all at once: bounded in memory and in turns of the event loop.

Some are tried in all sizes, and their memory measured each time, with STEADYVOICE_DEEP=1 only.
"""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat

import pytest

from steadyvoice import (
    Accepted,
    Alignment,
    AudioChunk,
    AudioFormat,
    RetryConfig,
    SpeechRequest,
    SynthesisOffer,
    TTSError,
)
from steadyvoice.audio.conversion import convert
from steadyvoice.providers.base import CHUNK_SIZE
from steadyvoice.service.pipeline.audio_validation import MAX_LEADING_SILENCE, MAX_UNVALIDATED_BYTES
from steadyvoice.speech.failure_kinds import FailureKind
from tests.case_selection import DEEP

from ..conftest import MakeService
from ..scripted_provider import pcm

pytestmark = pytest.mark.slow

TEXT = "The quick brown fox jumps over the lazy dog, and then it does so again."
LONG_TEXT = "The quick brown fox jumps over the lazy dog. " * 40


@dataclass
class AlwaysReady:
    """Response whose chunks are always ready, and counted."""

    pieces: Callable[[], Iterator[bytes | AudioChunk]]
    format: str
    name: str = "always-ready"
    local: bool = False
    taken: int = 0
    steps: int = 0
    turns: int = 0
    spans: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)  # objects in memory before each chunk, about

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return SynthesisOffer(AudioFormat.parse(self.format), voice="v")

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        yield Accepted()
        loop, span, seen = asyncio.get_running_loop(), 0, -1
        count = [0]

        def turned() -> None:
            count[0] += 1
            loop.call_soon(turned)

        turned()
        for piece in self.pieces():
            if count[0] != seen:
                self.spans.append(span)
                span, seen = 0, count[0]
            self.turns = count[0]
            self.steps += 1
            self.blocks.append(sys.getallocatedblocks())
            audio = piece if isinstance(piece, AudioChunk) else AudioChunk(piece)
            self.taken += len(audio.data)
            span += len(audio.data)
            yield audio

    async def aclose(self) -> None:
        pass


def tone(seconds: float, name: str) -> bytes:
    samples = (pcm(0.001) + pcm(0.001, -1000)) * round(seconds * 500)
    return convert(samples, AudioFormat.parse("pcm_8000"), AudioFormat.parse(name))


def endless(block: bytes, *, begin: bytes = b"", size: int = 16 * 1024) -> Callable[[], Iterator[bytes]]:
    """Yield a beginning, and then the same block for ever, in chunks of about one size."""
    chunk = block * max(1, size // len(block))
    return lambda: chain([begin] if begin else [], repeat(chunk))


ID3 = b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f"  # claims 256 MB
STREAMINFO = bytes.fromhex("00000022 1000 1000 000000 000000") + (24000 << 44 | 15 << 36).to_bytes(8) + bytes(16)
FLAC = b"fLaC\x80" + STREAMINFO[1:]
RIFF = b"RIFF\xff\xff\xff\xffWAVE"
WAV_FORM = b"fmt \x10\x00\x00\x00\x01\x00\x01\x00\xc0\x5d\x00\x00\x80\xbb\x00\x00\x02\x00\x10\x00"


def page(kind: int, segments: bytes, body: bytes) -> bytes:
    return b"OggS\0" + bytes([kind]) + bytes(8) + b"\1\0\0\0" + bytes(8) + bytes([len(segments)]) + segments + body


OPUS_HEAD = page(2, b"\x13", b"OpusHead\x01\x01" + bytes(2) + (48000).to_bytes(4, "little") + bytes(3))

WITHOUT_AUDIO = {
    "mp3: a tag that claims 256 MB": ("mp3_44100_128", endless(bytes(1000), begin=ID3)),
    "mp3: one tag after the other": ("mp3_44100_128", endless(b"ID3\x04\x00\x00\x00\x00\x00\x00")),
    "mp3: what looks like headers": ("mp3_44100_128", endless(b"\xff\xfb\x90\xc4", begin=ID3[:6] + bytes(4))),
    "mp3: nothing but sync bits": ("mp3_44100_128", endless(b"\xff")),
    "mp3: noise behind a tag": ("mp3_44100_128", endless(bytes(range(200)), begin=ID3[:6] + bytes(4))),
    "aac: a tag that claims 256 MB": ("aac_24000_64", endless(bytes(1000), begin=ID3)),
    "aac: nothing but sync bits": ("aac_24000_64", endless(b"\xff\xf1", begin=ID3[:6] + bytes(4))),
    "flac: metadata without end": ("flac_24000", endless(b"\1\xff\xff\xff" + bytes(9000), begin=b"fLaC" + STREAMINFO)),
    "flac: empty metadata blocks": ("flac_24000", endless(b"\x01\0\0\0", begin=b"fLaC" + STREAMINFO)),
    "flac: no streaminfo": ("flac_24000", endless(b"noise!", begin=b"fLaC\x81\0\0\0")),
    "flac: no frame": ("flac_24000", endless(bytes(range(256)), begin=FLAC)),
    "flac: what looks like frames": ("flac_24000", endless(b"\xff\xf8", begin=FLAC)),
    "opus: tags without end": ("opus_48000_64", endless(page(1, b"\xff" * 255, bytes(255 * 255)), begin=OPUS_HEAD)),
    "opus: pages of one byte": ("opus_48000_64", endless(page(1, b"\xff", bytes(255)), begin=OPUS_HEAD)),
    "opus: empty pages": ("opus_48000_64", endless(page(0, b"", b""), begin=OPUS_HEAD)),
    "opus: empty packets": ("opus_48000_64", endless(page(0, bytes(255), b""), begin=OPUS_HEAD)),
    "opus: no page": ("opus_48000_64", endless(b"noise", begin=b"OggS")),
    "wav: a form that claims 4 GB": ("wav_24000", endless(bytes(1000), begin=RIFF + b"fmt \xff\xff\xff\xff")),
    "wav: a chunk that claims 4 GB": ("wav_24000", endless(bytes(1000), begin=RIFF + b"LIST\xff\xff\xff\xff")),
    "wav: empty chunks": ("wav_24000", endless(b"LIST\0\0\0\0", begin=RIFF)),
    "wav: nothing behind its samples": (
        "wav_24000", endless(bytes(1000), begin=RIFF + WAV_FORM + b"data\x04\0\0\0abcd"),
    ),
    "pcm: nothing at all": ("pcm_24000", endless(b"\0")),
    "ulaw: nothing at all": ("ulaw_8000", endless(b"\xff")),
}  # fmt: skip


MILLIONS = [what for what in WITHOUT_AUDIO if "empty" in what or "one tag after the other" in what]
"""Answers of millions of parts without bytes, whose memory takes seconds to trace: their objects are counted."""
MOST_OBJECTS = 5_000


@pytest.mark.parametrize(
    ("what", "size"),
    [
        (what, size)
        for what in WITHOUT_AUDIO
        for size in (CHUNK_SIZE, 400_000)
        if size == CHUNK_SIZE or DEEP or what not in MILLIONS
    ],
)
async def test_answer_without_audio_is_rejected_after_a_megabyte(
    what: str, size: int, make_service: MakeService
) -> None:
    name, pieces = WITHOUT_AUDIO[what]
    vendor = AlwaysReady(lambda: rechunk(pieces(), size), name)

    measured = size == CHUNK_SIZE and (DEEP or what not in MILLIONS)
    error, peak = await rejection(make_service, vendor, name, measured=measured)

    assert error.kind in (FailureKind.NOT_AUDIO, FailureKind.WRONG_FORMAT, FailureKind.SILENT_AUDIO)
    assert vendor.taken <= MAX_UNVALIDATED_BYTES + 2 * max(size, CHUNK_SIZE)
    assert max(vendor.spans, default=0) <= max(size, 2 * CHUNK_SIZE)
    assert max(vendor.blocks) - vendor.blocks[0] < MOST_OBJECTS
    assert peak < 6 * MAX_UNVALIDATED_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("what", [what for what in WITHOUT_AUDIO if what[:3] in ("mp3", "aac")])
async def test_megabytes_without_audio_after_some_are_rejected(what: str, make_service: MakeService) -> None:
    name, pieces = WITHOUT_AUDIO[what]
    vendor = AlwaysReady(lambda: chain([tone(1.0, name)], rechunk(pieces(), CHUNK_SIZE)), name)

    error, peak = await rejection(make_service, vendor, name, measured=DEEP or what not in MILLIONS)

    assert error.kind in (FailureKind.NOT_AUDIO, FailureKind.WRONG_FORMAT)
    assert vendor.taken <= MAX_UNVALIDATED_BYTES + 100_000
    assert max(vendor.blocks) - vendor.blocks[0] < MOST_OBJECTS
    assert peak < 6 * MAX_UNVALIDATED_BYTES


async def test_limit_is_named_in_the_error(make_service: MakeService) -> None:
    name, pieces = WITHOUT_AUDIO["mp3: a tag that claims 256 MB"]
    error, _ = await rejection(make_service, AlwaysReady(pieces, name), name)
    assert str(MAX_UNVALIDATED_BYTES) in str(error)


@pytest.mark.parametrize("name", ["pcm_48000", "wav_48000"])
async def test_five_seconds_of_silence_in_the_largest_format_are_held(name: str, make_service: MakeService) -> None:
    quiet = MAX_LEADING_SILENCE - 0.2
    audio = convert(
        bytes(2 * round(quiet * 8000)) + (pcm(0.001) + pcm(0.001, -1000)) * 2500,
        AudioFormat.parse("pcm_8000"),
        AudioFormat.parse(name),
    )
    vendor = AlwaysReady(lambda: iter([audio]), name)
    async with make_service(vendor, muted=False) as tts:
        assert len((await tts.synthesize(TEXT, format=name)).audio) >= 480_000


@pytest.mark.parametrize("name", ["mp3_44100_128", "pcm_24000"])
async def test_large_read_is_handled_in_pieces(name: str, make_service: MakeService) -> None:
    audio, text = tone(30.0, name), LONG_TEXT[: len(LONG_TEXT) * 3 // 10]
    turns = LoopTurnCounter()
    vendor = AlwaysReady(lambda: iter([audio]), name)
    async with make_service(vendor, muted=False) as tts:
        sizes = [len(data) async for data in tts.stream(text, format=name, on_midstream="error")]
        assert sum(sizes) == len(audio)
        assert max(sizes) <= 2 * CHUNK_SIZE
        assert turns.stop() >= len(audio) / (2 * CHUNK_SIZE)


async def test_events_without_bytes_let_the_event_loop_run(make_service: MakeService) -> None:
    vendor = AlwaysReady(lambda: chain(repeat(AudioChunk(b""), 20_000), [pcm(5.0)]), "pcm_8000")
    async with make_service(vendor, muted=False) as tts:
        await tts.synthesize(TEXT, format="pcm_8000")
    assert vendor.turns > 100


async def test_timestamps_without_audio_are_bounded(make_service: MakeService) -> None:
    times = Alignment(("a",) * 1000, (0.0,) * 1000, (0.0,) * 1000)
    vendor = AlwaysReady(lambda: repeat(AudioChunk(b"", times)), "pcm_8000")
    error, _ = await rejection(make_service, vendor, "pcm_8000")
    assert error.kind is FailureKind.NOT_AUDIO
    assert vendor.steps < 1000


async def test_hours_of_compressed_silence_are_decoded_in_blocks(make_service: MakeService) -> None:
    quiet = convert(bytes(2 * 24000 * 600), AudioFormat.parse("pcm_24000"), AudioFormat.parse("flac_24000"))
    vendor = AlwaysReady(lambda: iter([quiet]), "flac_24000")
    error, peak = await rejection(make_service, vendor, "flac_24000", text=LONG_TEXT)
    assert error.kind is FailureKind.SILENT_AUDIO
    assert peak < 16_000_000


async def rejection(
    make_service: MakeService, vendor: AlwaysReady, name: str, text: str = TEXT, *, measured: bool = True
) -> tuple[TTSError, int]:
    """Return the error of a synthesis and the peak of bytes held, which takes long to measure."""
    async with make_service(vendor, muted=False, retry=RetryConfig(max_attempts=1)) as tts:
        if measured:
            tracemalloc.start()
        try:
            with pytest.raises(TTSError) as failed:
                await tts.synthesize(text, format=name)
            return failed.value, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def rechunk(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]


class LoopTurnCounter:
    """Counter of the event loop's turns."""

    def __init__(self) -> None:
        self.count, self._on = 0, True
        self._loop = asyncio.get_running_loop()
        self._turn()

    def _turn(self) -> None:
        self.count += 1
        if self._on:
            self._loop.call_soon(self._turn)

    def stop(self) -> int:
        self._on = False
        return self.count
