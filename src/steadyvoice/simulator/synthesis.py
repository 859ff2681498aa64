"""Audio of the simulator: voices, synthesis, a cache of encoded audio, and response bodies.

The same voice, text and seed give the same audio, byte by byte.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from threading import Lock
from typing import Any
from zlib import crc32

from steadyvoice.audio.conversion import Converter, silence
from steadyvoice.audio.wav import wav_bytes, wav_header
from steadyvoice.providers.base import Accepted, AudioChunk, Provider, SynthesisOffer
from steadyvoice.providers.espeak import Espeak, is_installed
from steadyvoice.providers.tone import Tone
from steadyvoice.simulator.fault_injection.actions import (
    AudioAction,
    FaultAction,
    HeaderOnly,
    Silent,
    TooShort,
    WrongRate,
)
from steadyvoice.simulator.http.response import (
    BodyPart,
    ResponseBody,
    SimulatedResponse,
    body_from_parts,
    collect_parts,
)
from steadyvoice.simulator.script import VoiceEngine
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire.elevenlabs import catalog as elevenlabs_catalog
from steadyvoice.wire.elevenlabs.dialogue import DialogueLine, VoiceSegments
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, timed_audio_body
from steadyvoice.wire.openai import speech as openai_speech
from steadyvoice.wire.openai.speech import AudioDelta, AudioDone, encode_event


class ResponseShape(Enum):
    """Shapes of a response body that carries audio."""

    WHOLE = "whole"  # with a Content-Length
    STREAM = "stream"  # chunked
    TIMED = "timed"  # one JSON object with character times
    TIMED_STREAM = "timed stream"  # JSON objects with character times, one per line
    EVENTS = "events"  # server-sent events


ResponseBuilder = Callable[[AsyncIterator["EncodedAudio"], "SynthesisOrder"], Awaitable[SimulatedResponse]]
"""Function that puts encoded audio into a vendor's own shape."""


@dataclass(frozen=True, slots=True)
class SynthesisOrder:
    """Parsed request for speech, independent of its endpoint."""

    endpoint: str
    text: str
    voice: str  # the vendor's id
    model: str
    format: AudioFormat
    shape: ResponseShape
    seed: int = 0
    speed: float = 1.0
    lines: tuple[DialogueLine, ...] = ()  # of a dialogue; `text` joins them, and `voice` is that of the first
    build: ResponseBuilder | None = None  # of a vendor whose shape is none of these


# Variants of eSpeak NG, so that different voice ids can be told apart by ear.
_TIMBRES = ("", "+f1", "+f2", "+f3", "+f4", "+m1", "+m2", "+m3", "+m4", "+m7")


def create_engine(voice: VoiceEngine) -> Provider:
    """Return the provider for a `voice` setting. Raises TTSConfigurationError for "speech" without eSpeak NG."""
    if voice == "tones" or (voice == "auto" and not is_installed()):
        return Tone()
    ids = (*elevenlabs_catalog.VOICES.values(), *elevenlabs_catalog.FURTHER_VOICES.values(), *openai_speech.VOICES)
    return _FreshEspeak({id: f"en-us{_TIMBRES[stable_hash(id) % len(_TIMBRES)]}" for id in ids})


def stable_hash(text: str) -> int:
    """Return a number from 0 to 2**32 - 1 that is the same for a text in every process."""
    return crc32(text.encode("utf-8", "surrogatepass"))


class _FreshEspeak:
    """Espeak with a new child process for each text, so that the audio of a text is always the same."""

    # A process that has spoken before renders the same text slightly differently.

    name = "simulator"
    local = True

    def __init__(self, voices: Mapping[str, str]) -> None:
        self._voices = voices
        self._template = self._create()

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return self._template.offer(request)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        espeak = self._create()
        try:
            async with aclosing(espeak.speak(request, offer, connection_timeout=connection_timeout)) as events:
                async for event in events:
                    yield event
        finally:
            await espeak.aclose()

    async def aclose(self) -> None:
        await self._template.aclose()

    def _create(self) -> Espeak:
        return Espeak(name=self.name, voices=self._voices)


_PIECE_SECONDS = 0.2  # of audio, the least that is encoded and sent at once


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """Encoded audio, the alignment of its text, and the second of audio at which it ends."""

    data: bytes
    alignment: Alignment | None
    audio_end: float


async def synthesize(
    engine: Provider, order: SynthesisOrder, action: FaultAction | None = None
) -> AsyncGenerator[EncodedAudio, None]:
    """Yield the encoded audio of an order, with `action` applied if it is one on audio.

    The last piece is what the encoder still held.
    """
    target = _format_sent(order.format, action)
    if isinstance(action, HeaderOnly):
        yield _empty_file(target)
        return
    source = engine.offer(_request(order, target, order.voice, order.text)).format
    held: list[Alignment] = []
    audio_end = 0.0
    # `quick` selects the encoders' fastest settings: tests and benchmarks spend most of their time here.
    with closing(Converter(source, target, quick=True)) as converter:
        async for audio in _group_pieces(_samples(engine, order, target, action), source.sample_rate):
            held += [audio.alignment] if audio.alignment else []
            audio_end += len(audio.data) / 2 / source.sample_rate
            if data := converter.feed(audio.data):
                yield EncodedAudio(data, _join_alignments(held), audio_end)
                held = []
        if not audio_end:
            yield _empty_file(target)
            return
        if data := converter.finish():
            yield EncodedAudio(data, _join_alignments(held), audio_end)


def _empty_file(target: AudioFormat) -> EncodedAudio:
    return EncodedAudio(b"".join(silence(target, 0)), None, 0.0)


def _format_sent(requested: AudioFormat, action: FaultAction | None) -> AudioFormat:
    if isinstance(action, WrongRate) and requested.codec is not Codec.OPUS:
        rate = next(rate for rate in (action.rate, 24_000) if rate != requested.sample_rate)
        return replace(requested, sample_rate=rate)
    return requested


def _request(order: SynthesisOrder, target: AudioFormat, voice: str, text: str) -> SpeechRequest:
    seed = stable_hash(f"{voice} {order.seed}")
    return SpeechRequest(text, target, voice=voice, speed=order.speed, seed=seed, unknown_voice="default")


async def _samples(
    engine: Provider, order: SynthesisOrder, target: AudioFormat, action: FaultAction | None
) -> AsyncIterator[AudioChunk]:
    """Yield the engine's samples for an order, with `action` applied if it is one on audio."""
    rate = engine.offer(_request(order, target, order.voice, order.text)).format.sample_rate
    async with aclosing(_engine_samples(engine, order, target)) as lines:
        spoken: AsyncIterator[AudioChunk] = lines
        match action:
            case TooShort(fraction):
                spoken = _first_characters(spoken, int(len(order.text) * fraction), rate)
            case Silent():
                spoken = (AudioChunk(bytes(len(each.data)), each.alignment, each.normalized) async for each in spoken)
        async for audio in spoken:
            yield audio


async def _engine_samples(
    engine: Provider, order: SynthesisOrder, target: AudioFormat
) -> AsyncGenerator[AudioChunk, None]:
    """Yield the engine's samples for the lines of an order. Times count from the beginning of the first line."""
    begin = 0.0
    for text, voice, _ in order.lines or [DialogueLine(order.text, order.voice)]:
        request = _request(order, target, voice, text)
        offer = engine.offer(request)
        samples = 0
        async with aclosing(engine.speak(request, offer, connection_timeout=10.0)) as events:
            async for event in events:
                if not isinstance(event, AudioChunk):
                    continue
                samples += len(event.data) // 2
                times = event.alignment
                if times and begin:
                    event = AudioChunk(event.data, Alignment.joined([(begin, times)]), event.normalized)
                yield event
        begin += samples / offer.format.sample_rate


async def _first_characters(
    spoken: AsyncIterator[AudioChunk], characters: int, rate: int
) -> AsyncGenerator[AudioChunk, None]:
    """Yield the audio of the first characters, and stop, within a word if necessary."""
    start = 0.0
    async for audio in spoken:
        times = audio.alignment
        if times and len(times.characters) >= characters:
            end = times.ends[characters - 1] if characters else start
            kept = Alignment(times.characters[:characters], times.starts[:characters], times.ends[:characters])
            yield AudioChunk(audio.data[: 2 * round((end - start) * rate)], kept)
            return
        characters -= len(times.characters) if times else 0
        start += len(audio.data) / 2 / rate
        yield audio


async def _group_pieces(samples: AsyncIterator[AudioChunk], rate: int) -> AsyncIterator[AudioChunk]:
    """Join pieces until they are long enough to be sent."""
    data, held = b"", []
    async for audio in samples:
        data += audio.data
        held += [audio.alignment] if audio.alignment else []
        if len(data) >= 2 * rate * _PIECE_SECONDS:
            yield AudioChunk(data, _join_alignments(held))
            data, held = b"", []
    if data or held:
        yield AudioChunk(data, _join_alignments(held))


def _join_alignments(pieces: list[Alignment]) -> Alignment | None:
    return Alignment.joined([(0.0, piece) for piece in pieces]) if pieces else None


_CACHE_BYTES = 32 * 1024 * 1024  # bytes of audio


class AudioEntries:
    """Encoded audio by order, least recently used out first, up to `max_bytes` of audio. Threads may share it."""

    def __init__(self, max_bytes: int = _CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Any, list[EncodedAudio]] = OrderedDict()  # least recently used first
        self._size = 0
        self._lock = Lock()

    def get(self, key: Any) -> list[EncodedAudio] | None:
        """Return the audio of an order, if it was kept."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def keep(self, key: Any, spoken: list[EncodedAudio]) -> None:
        """Keep the complete audio of an order, unless it is larger than all entries may be."""
        with self._lock:
            if key in self._entries or _size(spoken) > self._max_bytes:
                return
            self._entries[key] = spoken
            self._size += _size(spoken)
            while self._size > self._max_bytes:
                self._size -= _size(self._entries.popitem(last=False)[1])


@cache
def entries_of(voice: VoiceEngine) -> AudioEntries:
    """Return the audio that the simulators of this process share: tests often start one for each test."""
    return AudioEntries()


class EncodedAudioCache:
    """Engine whose encoded audio is kept.

    Encoding is most of a simulator's work, and tests and benchmarks ask for the same texts often.
    """

    def __init__(self, engine: Provider, entries: AudioEntries) -> None:
        self._engine = engine
        self._entries = entries

    async def speak(
        self, order: SynthesisOrder, action: FaultAction | None = None
    ) -> AsyncGenerator[EncodedAudio, None]:
        """Yield the audio of an order as `synthesize` does. Only complete audio is kept."""
        key = _cache_key(order, action)
        if known := self._entries.get(key):
            for piece in known:
                yield piece
                # Other connections get their turn between pieces, as they do while audio is synthesized.
                await asyncio.sleep(0)
            return
        spoken: list[EncodedAudio] = []
        async with aclosing(synthesize(self._engine, order, action)) as pieces:
            async for piece in pieces:
                spoken.append(piece)
                yield piece
        self._entries.keep(key, spoken)


def _cache_key(order: SynthesisOrder, action: FaultAction | None) -> Any:
    """Return everything on which the audio of an order depends."""
    audio_end = action if isinstance(action, AudioAction) else None
    return order.text, order.voice, order.lines, order.seed, order.speed, order.format, audio_end


def _size(pieces: list[EncodedAudio]) -> int:
    return sum(len(piece.data) for piece in pieces)


# A complete response is written in parts, so that a fault can end it between two.
_PART_BYTES = 4096


async def build_response(pieces: AsyncIterator[EncodedAudio], order: SynthesisOrder) -> SimulatedResponse:
    """Return the response with the audio of an order in its shape. Routes add all headers but Content-Type."""
    if order.build is not None:
        return await order.build(pieces, order)
    match order.shape:
        case ResponseShape.WHOLE:
            data, audio_end = await complete_audio(pieces, order)
            return complete_response(data, audio_end, order.format.mime_type)
        case ResponseShape.TIMED:
            data, audio_end = await _complete_timed_json(pieces, order)
            return complete_response(data, audio_end, "application/json")
        case ResponseShape.STREAM:
            return SimulatedResponse(_audio_body(pieces), headers={"content-type": order.format.mime_type})
        case ResponseShape.TIMED_STREAM:
            return SimulatedResponse(_json_lines_body(pieces, order), headers={"content-type": "application/json"})
        case ResponseShape.EVENTS:
            return SimulatedResponse(
                _sse_body(pieces, order), headers={"content-type": "text/event-stream; charset=utf-8"}
            )


async def _audio_body(pieces: AsyncIterator[EncodedAudio]) -> ResponseBody:
    async for piece in pieces:
        if piece.data:
            yield BodyPart(piece.data, piece.audio_end)


async def _json_lines_body(pieces: AsyncIterator[EncodedAudio], order: SynthesisOrder) -> ResponseBody:
    segments = VoiceSegments(order.lines) if order.lines else None
    async for piece in pieces:
        yield BodyPart(_timed_json(piece.data, piece.alignment, segments) + b"\n", piece.audio_end)


async def _sse_body(pieces: AsyncIterator[EncodedAudio], order: SynthesisOrder) -> ResponseBody:
    audio_end = 0.0
    async for piece in pieces:
        audio_end = piece.audio_end
        if piece.data:
            yield BodyPart(encode_event(AudioDelta(piece.data)), audio_end)
    # A token is about four characters of text, and a twentieth of a second of audio.
    yield BodyPart(encode_event(AudioDone(len(order.text) // 4 + 1, round(audio_end * 20))), audio_end)


async def complete_audio(pieces: AsyncIterator[EncodedAudio], order: SynthesisOrder) -> tuple[bytes, float]:
    """Return the whole audio, and the second at which it ends."""
    parts = await collect_parts(_audio_body(pieces))
    data = b"".join(part.data for part in parts)
    # The encoder wrote the header of a stream, before the size was known.
    if order.format.codec is Codec.WAV:
        rate = int.from_bytes(data[24:28], "little")
        data = wav_bytes(data[len(wav_header(rate)) :], rate)
    return data, parts[-1].audio_end if parts else 0.0


async def _complete_timed_json(pieces: AsyncIterator[EncodedAudio], order: SynthesisOrder) -> tuple[bytes, float]:
    spoken = [piece async for piece in pieces]
    data, audio_end = await complete_audio(_iterate(spoken), order)
    alignment = Alignment.joined([(0.0, piece.alignment) for piece in spoken if piece.alignment])
    return _timed_json(data, alignment, VoiceSegments(order.lines) if order.lines else None), audio_end


async def _iterate(pieces: list[EncodedAudio]) -> AsyncIterator[EncodedAudio]:
    for piece in pieces:
        yield piece


def _timed_json(data: bytes, alignment: Alignment | None, segments: VoiceSegments | None) -> bytes:
    # Neither voice spells out numbers, so the normalized alignment is that of the text as it was sent.
    body = timed_audio_body(TimedAudio(data, alignment, alignment))
    if segments:
        body["voice_segments"] = segments.of(alignment)
    return json.dumps(body, separators=(",", ":")).encode()


def complete_response(data: bytes, audio_end: float, content_type: str) -> SimulatedResponse:
    """Return a response whose body is complete, in parts of which each reaches a second of audio."""
    parts = [
        BodyPart(data[at : at + _PART_BYTES], audio_end * min(at + _PART_BYTES, len(data)) / len(data))
        for at in range(0, len(data), _PART_BYTES)
    ]
    return SimulatedResponse(body_from_parts(parts), headers={"content-type": content_type}, length=len(data))
