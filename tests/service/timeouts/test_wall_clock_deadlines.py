"""Wall-clock deadlines: neither bytes that keep coming nor our own work extends them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from steadyvoice import (
    Accepted,
    AsyncTTSService,
    AudioChunk,
    AudioFormat,
    Provider,
    SpeechRequest,
    SynthesisOffer,
    TimeoutConfig,
    TTSError,
)
from steadyvoice.providers.base import ByteSink
from steadyvoice.service.resilience.failover import LOCAL_GRACE
from steadyvoice.speech.errors import TTSReadTimeoutError, TTSStreamInterruptedError
from steadyvoice.speech.format import Codec

from ..conftest import BRIEF, MakeService, loop_clock
from ..pipeline.passthrough_provider import CollectingSink
from ..scripted_provider import RATE, Say, ScriptedProvider, pcm
from ..skipping_clock import SkippingClock
from ..word_tone_provider import SHORT_TEXT

pytestmark = pytest.mark.looptime


def service(clock: SkippingClock, *providers: Provider, **settings: Any) -> AsyncTTSService:
    return AsyncTTSService(list(providers), clock=clock, rng=Random(1), circuit=BRIEF, **settings)


@dataclass
class Flood(ScriptedProvider):
    """Provider that always has bytes ready: each takes a while to handle, and none lets the event loop run."""

    clock: SkippingClock = field(default_factory=SkippingClock)
    takes: float = 0.1  # seconds, for each piece
    piece: bytes = b""
    pieces: int | None = None
    first: bytes = b""
    sent: int = 0

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.requests.append(request)
        yield Accepted()
        yield AudioChunk(self.first)
        while self.pieces is None or self.sent < self.pieces:
            self.sent += 1
            self.clock.skipped += self.takes
            yield AudioChunk(self.piece)
            assert self.sent < 10_000, "nobody looks at a clock"


ENDLESS_TAG = b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f"
FLAC_WITHOUT_FRAMES = b"fLaC\x00\x00\x00\x22" + bytes(34) + b"\x01\xff\xff\xff"

FLOODS = [
    pytest.param("mp3_44100_128", ENDLESS_TAG, bytes(1000), id="an ID3 tag of 256 MB"),
    pytest.param("flac_44100", FLAC_WITHOUT_FRAMES, bytes(1000), id="a FLAC that never has a frame"),
    pytest.param("pcm_8000", b"", b"", id="events without any audio"),
]


@pytest.mark.parametrize(("format", "first", "piece"), FLOODS)
async def test_flood_without_audio_ends_at_the_first_audio_timeout(format: str, first: bytes, piece: bytes) -> None:
    clock = SkippingClock()
    flood = Flood(clock=clock, first=first, piece=piece, format=AudioFormat.parse(format), name="flood")
    tts = service(clock, flood, ScriptedProvider(name="second"), timeouts=TimeoutConfig(first_audio_timeout=2.0))
    speech = await tts.synthesize("Good morning", format=format)
    assert speech.provider == "second"
    assert flood.sent <= 21
    assert isinstance(speech.attempts[0].error, TTSReadTimeoutError)
    assert speech.attempts[0].waited == pytest.approx(2.0, abs=0.11)
    assert tts.get_error_state()["totals"]["failures"] == 1


@pytest.mark.parametrize(("format", "first", "piece"), FLOODS)
async def test_flood_without_audio_ends_at_the_callers_deadline(format: str, first: bytes, piece: bytes) -> None:
    clock = SkippingClock()
    flood = Flood(clock=clock, first=first, piece=piece, format=AudioFormat.parse(format), name="flood")
    tts = service(clock, flood, muted=False)
    with pytest.raises(TTSError):
        await tts.synthesize("Good morning", format=format, deadline=4.0)
    assert clock.skipped <= 4.2


async def test_tags_after_the_first_audio_are_a_stall() -> None:
    clock = SkippingClock()
    flood = Flood(clock=clock, first=pcm(0.1), piece=b"", name="flood")
    tts = service(clock, flood, timeouts=TimeoutConfig(stall_timeout=3.0))
    with pytest.raises(TTSStreamInterruptedError, match="stalled for 3 s"):
        async for _ in tts.stream("Good morning", format="pcm_8000", on_midstream="error"):
            pass
    assert clock.skipped <= 3.2


async def test_flood_of_single_samples_ends_at_the_total_timeout() -> None:
    clock = SkippingClock()
    flood = Flood(clock=clock, piece=pcm(1 / RATE), name="flood", local=True)
    tts = service(clock, flood, muted=False, timeouts=TimeoutConfig(total_timeout=9.0))
    with pytest.raises(TTSError):
        await tts.synthesize("Good morning", format="pcm_8000")
    assert clock.skipped <= 9.0 + LOCAL_GRACE + 0.3


@dataclass
class Torrent(ScriptedProvider):
    """Connection with passthrough bytes, all of which are there at once."""

    clock: SkippingClock = field(default_factory=SkippingClock)
    first: bytes = b""
    piece: bytes = b""
    takes: float = 0.1
    taken: int = 0
    accepted: Accepted = field(default_factory=Accepted)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return SynthesisOffer(self.format or request.format, voice="voice", for_any_text=True)

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> Torrent:
        return self

    async def send(self, text: str, *, connection_timeout: float) -> Torrent:
        return self

    async def read(self, sink: ByteSink | None = None) -> bytes:
        data = self.read_nowait()
        while sink and sink(data):
            data = self.read_nowait()
        return data

    def read_nowait(self) -> bytes:
        self.taken += 1
        assert self.taken < 10_000, "nobody looks at a clock"
        self.clock.skipped += self.takes
        return self.first if self.taken == 1 else self.piece

    def close(self) -> None:
        """Do nothing: nothing is open."""


async def test_passthrough_flood_ends_at_the_first_audio_timeout() -> None:
    clock = SkippingClock()
    torrent = Torrent(
        clock=clock, first=ENDLESS_TAG, piece=bytes(1000), format=AudioFormat(Codec.MP3, 44100, 128), name="torrent"
    )
    second = ScriptedProvider(name="second")
    tts = service(clock, torrent, second, timeouts=TimeoutConfig(first_audio_timeout=2.0))
    stream = tts.stream("Good morning", format="mp3_44100_128", on_midstream="error")
    async for _ in stream:
        pass
    assert stream.provider == "second"
    assert torrent.taken <= 22


async def test_audio_to_the_sink_is_checked_by_the_timeouts() -> None:
    clock = SkippingClock()
    torrent = Torrent(clock=clock, first=pcm(0.1), piece=pcm(1 / RATE), name="torrent")
    tts = service(clock, torrent, timeouts=TimeoutConfig(total_timeout=5.0, slow_timeout=1000.0))
    stream = tts.stream("Good morning", format="pcm_8000", on_midstream="error")

    async def read_all_to_sink() -> None:
        async for _ in stream:
            stream.attach_sink(CollectingSink())

    with pytest.raises(TTSStreamInterruptedError):
        await read_all_to_sink()
    assert clock.skipped <= 5.4


async def test_time_of_the_consumer_does_not_count() -> None:
    clock = SkippingClock()
    torrent = Flood(clock=clock, takes=0.0, piece=pcm(0.1), pieces=10, name="flood")
    tts = service(clock, torrent, timeouts=TimeoutConfig(read_timeout=2.0, total_timeout=3.0))
    async for _ in tts.stream("Good morning", format="pcm_8000"):
        clock.skipped += 100
    assert tts.get_error_state()["totals"]["successes"] == 1


# ---------------------------------------------------------------- audio that nobody has heard gives no more time

AT_THE_PACE_OF_SPEECH = Say(seconds=12.0, pieces=12, every=1.0)


async def test_whole_answer_keeps_its_callers_deadline(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([AT_THE_PACE_OF_SPEECH]), muted=False)
    began = loop_clock()
    with pytest.raises(TTSError):
        await tts.synthesize(SHORT_TEXT, format="pcm_8000", deadline=5.0)
    assert loop_clock() - began == pytest.approx(5.0, abs=0.1)


async def test_stream_that_is_held_back_keeps_its_callers_deadline(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([AT_THE_PACE_OF_SPEECH]), muted=False)
    began = loop_clock()
    with pytest.raises(TTSError):
        await anext(tts.stream("one sentence without an end and without a pause " * 3, format="pcm_8000", deadline=5.0))
    assert loop_clock() - began == pytest.approx(5.0, abs=0.1)


async def test_long_whole_answer_is_not_cut_by_the_configured_total(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([AT_THE_PACE_OF_SPEECH]), timeouts=TimeoutConfig(total_timeout=5.0))
    assert (await tts.synthesize(SHORT_TEXT, format="pcm_8000")).outcome == "spoken"


async def test_delivered_stream_continues_beyond_its_deadline(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([AT_THE_PACE_OF_SPEECH]), on_midstream="error")
    assert len([chunk async for chunk in tts.stream(SHORT_TEXT, format="pcm_8000", deadline=5.0)]) == 12
