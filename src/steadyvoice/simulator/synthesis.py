"""Audio of the simulator: voices, synthesis, a cache of encoded audio, and response bodies.

The same voice, text and seed give the same audio, byte by byte.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from enum import Enum
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
    """How audio travels in an HTTP body."""

    WHOLE = "whole"  # with a Content-Length
    STREAM = "stream"  # chunked
    TIMED = "timed"  # one JSON object with character times
    TIMED_STREAM = "timed stream"  # such objects, one a line
    EVENTS = "events"  # server-sent


@dataclass(frozen=True, slots=True)
class SynthesisOrder:
    """One synthesis."""

    endpoint: str
    text: str
    voice: str  # the vendor's id
    model: str
    format: AudioFormat
    wrapping: ResponseShape
    seed: int = 0
    speed: float = 1.0
    lines: tuple[DialogueLine, ...] = ()  # of a dialogue; `text` is all of them, `voice` the first one's


_TIMBRES = ("", "+f1", "+f2", "+f3", "+f4", "+m1", "+m2", "+m3", "+m4", "+m7")  # espeak's own variants


def create_engine(voice: VoiceEngine) -> Provider:
    """Find the voice that a setting asks for. Raises TTSConfigurationError for "speech" without eSpeak NG."""
    if voice == "tones" or (voice == "auto" and not is_installed()):
        return Tone()
    ids = (*elevenlabs_catalog.VOICES.values(), *elevenlabs_catalog.FURTHER_VOICES.values(), *openai_speech.VOICES)
    return _FreshEspeak({id: f"en-us{_TIMBRES[stable_hash(id) % len(_TIMBRES)]}" for id in ids})


def stable_hash(text: str) -> int:
    """A number that is always the same for a text, from 0 to 2**32 - 1."""
    return crc32(text.encode("utf-8", "surrogatepass"))


class _FreshEspeak:
    """Espeak in a new child for each text: one that has spoken before says the same a little differently."""

    name = "simulator"
    local = True

    def __init__(self, voices: Mapping[str, str]) -> None:
        self._voices = voices
        self._model = self._new()

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return self._model.offer(request)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        espeak = self._new()
        try:
            async with aclosing(espeak.speak(request, offer, connection_timeout=connection_timeout)) as events:
                async for event in events:
                    yield event
        finally:
            await espeak.aclose()

    async def aclose(self) -> None:
        await self._model.aclose()

    def _new(self) -> Espeak:
        return Espeak(name=self.name, voices=self._voices)


_PIECE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """Some encoded audio, the times of what is heard in it, and the second at which it ends."""

    data: bytes
    alignment: Alignment | None
    audio_end: float


async def synthesize(
    engine: Provider, order: SynthesisOrder, action: FaultAction | None = None
) -> AsyncGenerator[EncodedAudio, None]:
    """Speak an order piece by piece, badly if `act` is about the sound. Ends with a piece for what encoders hold."""
    target = _format_sent(order.format, action)
    if isinstance(action, HeaderOnly):
        yield _empty_file(target)
        return
    source = engine.offer(_request(order, target, order.voice, order.text)).format
    held: list[Alignment] = []
    heard = 0.0
    with closing(Converter(source, target, quick=True)) as converter:
        async for audio in _group_pieces(_samples(engine, order, target, action), source.sample_rate):
            held += [audio.alignment] if audio.alignment else []
            heard += len(audio.data) / 2 / source.sample_rate
            if data := converter.feed(audio.data):
                yield EncodedAudio(data, _join_alignments(held), heard)
                held = []
        if not heard:
            yield _empty_file(target)
            return
        if data := converter.finish():
            yield EncodedAudio(data, _join_alignments(held), heard)


def _empty_file(target: AudioFormat) -> EncodedAudio:
    return EncodedAudio(b"".join(silence(target, 0)), None, 0.0)


def _format_sent(asked: AudioFormat, action: FaultAction | None) -> AudioFormat:
    if isinstance(action, WrongRate) and asked.codec is not Codec.OPUS:
        rate = next(rate for rate in (action.rate, 24_000) if rate != asked.sample_rate)
        return replace(asked, sample_rate=rate)
    return asked


def _request(order: SynthesisOrder, target: AudioFormat, voice: str, text: str) -> SpeechRequest:
    seed = stable_hash(f"{voice} {order.seed}")
    return SpeechRequest(text, target, voice=voice, speed=order.speed, seed=seed, unknown_voice="default")


async def _samples(
    engine: Provider, order: SynthesisOrder, target: AudioFormat, action: FaultAction | None
) -> AsyncIterator[AudioChunk]:
    """What the engine says, in its own samples."""
    rate = engine.offer(_request(order, target, order.voice, order.text)).format.sample_rate
    async with aclosing(_engine_samples(engine, order, target)) as lines:
        said: AsyncIterator[AudioChunk] = lines
        match action:
            case TooShort(fraction):
                said = _first_characters(said, int(len(order.text) * fraction), rate)
            case Silent():
                said = (replace(audio, data=bytes(len(audio.data))) async for audio in said)
        async for audio in said:
            yield audio


async def _engine_samples(
    engine: Provider, order: SynthesisOrder, target: AudioFormat
) -> AsyncGenerator[AudioChunk, None]:
    """Say an order, the lines of a dialogue one after the other. Times count from the beginning of the first."""
    begin = 0.0
    for text, voice in order.lines or [(order.text, order.voice)]:
        request = _request(order, target, voice, text)
        offer = engine.offer(request)
        samples = 0
        async with aclosing(engine.speak(request, offer, connection_timeout=10.0)) as events:
            async for event in events:
                if not isinstance(event, AudioChunk):
                    continue
                samples += len(event.data) // 2
                times = event.alignment
                yield replace(event, alignment=Alignment.joined([(begin, times)])) if times and begin else event
        begin += samples / offer.format.sample_rate


async def _first_characters(
    said: AsyncIterator[AudioChunk], characters: int, rate: int
) -> AsyncGenerator[AudioChunk, None]:
    """Speak so many characters of it, and stop, be it within a word."""
    start = 0.0
    async for audio in said:
        times = audio.alignment
        if times and len(times.characters) >= characters:
            end = times.ends[characters - 1] if characters else start
            kept = Alignment(times.characters[:characters], times.starts[:characters], times.ends[:characters])
            yield AudioChunk(audio.data[: 2 * round((end - start) * rate)], kept)
            return
        characters -= len(times.characters) if times else 0
        start += len(audio.data) / 2 / rate
        yield audio


async def _group_pieces(sound: AsyncIterator[AudioChunk], rate: int) -> AsyncIterator[AudioChunk]:
    """Gather what is too small to be sent alone."""
    data, held = b"", []
    async for audio in sound:
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


class EncodedAudioCache:
    """Speaks orders with an engine, and each that is like one of the last from what it kept of that: `most` bytes."""

    def __init__(self, engine: Provider, most: int = _CACHE_BYTES) -> None:
        self._engine = engine
        self._most = most
        self._kept: OrderedDict[Any, list[EncodedAudio]] = OrderedDict()  # least lately wanted first
        self._size = 0

    async def speak(
        self, order: SynthesisOrder, action: FaultAction | None = None
    ) -> AsyncGenerator[EncodedAudio, None]:
        """Say it as `speak` does. Only what was said to its end is kept."""
        key = _cache_key(order, action)
        if known := self._kept.get(key):
            self._kept.move_to_end(key)
            for piece in known:
                yield piece
                await asyncio.sleep(0)  # as speaking does: it is a stream, and others are waiting
            return
        said: list[EncodedAudio] = []
        async with aclosing(synthesize(self._engine, order, action)) as pieces:
            async for piece in pieces:
                said.append(piece)
                yield piece
        self._keep(key, said)

    def _keep(self, key: Any, said: list[EncodedAudio]) -> None:
        if key in self._kept or _size(said) > self._most:
            return
        self._kept[key] = said
        self._size += _size(said)
        while self._size > self._most:
            self._size -= _size(self._kept.popitem(last=False)[1])


def _cache_key(order: SynthesisOrder, action: FaultAction | None) -> Any:
    """Everything that can be heard of an order."""
    heard = action if isinstance(action, AudioAction) else None
    return order.text, order.voice, order.lines, order.seed, order.speed, order.format, heard


def _size(pieces: list[EncodedAudio]) -> int:
    return sum(len(piece.data) for piece in pieces)


_PART_BYTES = 4096  # bytes of an answer that is sent whole


async def build_response(pieces: AsyncIterator[EncodedAudio], order: SynthesisOrder) -> SimulatedResponse:
    """Wrap speech the way the order wants it. Headers are the door's to add, but for the Content-Type."""
    match order.wrapping:
        case ResponseShape.WHOLE:
            data, heard = await _complete_audio(pieces, order)
            return _complete_response(data, heard, order.format.mime_type)
        case ResponseShape.TIMED:
            data, heard = await _complete_timed_json(pieces, order)
            return _complete_response(data, heard, "application/json")
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
    heard = 0.0
    async for piece in pieces:
        heard = piece.audio_end
        if piece.data:
            yield BodyPart(encode_event(AudioDelta(piece.data)), heard)
    # A token is about four characters of text, and a twentieth of a second of audio.
    yield BodyPart(encode_event(AudioDone(len(order.text) // 4 + 1, round(heard * 20))), heard)


async def _complete_audio(pieces: AsyncIterator[EncodedAudio], order: SynthesisOrder) -> tuple[bytes, float]:
    parts = await collect_parts(_audio_body(pieces))
    data = b"".join(part.data for part in parts)
    if order.format.codec is Codec.WAV:  # its true size is known by now
        rate = int.from_bytes(data[24:28], "little")
        data = wav_bytes(data[len(wav_header(rate)) :], rate)
    return data, parts[-1].audio_end if parts else 0.0


async def _complete_timed_json(pieces: AsyncIterator[EncodedAudio], order: SynthesisOrder) -> tuple[bytes, float]:
    said = [piece async for piece in pieces]
    data, heard = await _complete_audio(_iterate(said), order)
    alignment = Alignment.joined([(0.0, piece.alignment) for piece in said if piece.alignment])
    return _timed_json(data, alignment, VoiceSegments(order.lines) if order.lines else None), heard


async def _iterate(pieces: list[EncodedAudio]) -> AsyncIterator[EncodedAudio]:
    for piece in pieces:
        yield piece


def _timed_json(data: bytes, alignment: Alignment | None, segments: VoiceSegments | None) -> bytes:
    # Neither voice spells numbers out, so the text as it is spoken is the text as it was sent.
    body = timed_audio_body(TimedAudio(data, alignment, alignment))
    if segments:
        body["voice_segments"] = segments.of(alignment)
    return json.dumps(body, separators=(",", ":")).encode()


def _complete_response(data: bytes, heard: float, content_type: str) -> SimulatedResponse:
    parts = [
        BodyPart(data[at : at + _PART_BYTES], heard * min(at + _PART_BYTES, len(data)) / len(data))
        for at in range(0, len(data), _PART_BYTES)
    ]
    return SimulatedResponse(body_from_parts(parts), headers={"content-type": content_type}, length=len(data))
