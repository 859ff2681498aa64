"""From pieces of speech to a body: bare, in JSON with times, or in events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from steadyvoice.audio.wav import wav_bytes, wav_header
from steadyvoice.simulator.answer import Answer, Body, Part, collected, in_parts
from steadyvoice.simulator.order import Order, Wrapping
from steadyvoice.simulator.speaking import Piece
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import Codec
from steadyvoice.wire.elevenlabs.dialogue import VoiceSegments
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, timed_audio_body
from steadyvoice.wire.openai.speech import AudioDelta, AudioDone, encode_event

_PART = 4096  # bytes of an answer that is sent whole


async def wrapped(pieces: AsyncIterator[Piece], order: Order) -> Answer:
    """Wrap speech the way the order wants it. Headers are the door's to add, but for the Content-Type."""
    match order.wrapping:
        case Wrapping.WHOLE:
            data, heard = await _whole(pieces, order)
            return _sent_whole(data, heard, order.format.mime_type)
        case Wrapping.TIMED:
            data, heard = await _timed_whole(pieces, order)
            return _sent_whole(data, heard, "application/json")
        case Wrapping.STREAM:
            return Answer(_bare(pieces), headers={"content-type": order.format.mime_type})
        case Wrapping.TIMED_STREAM:
            return Answer(_lines(pieces, order), headers={"content-type": "application/json"})
        case Wrapping.EVENTS:
            return Answer(_events(pieces, order), headers={"content-type": "text/event-stream; charset=utf-8"})


async def _bare(pieces: AsyncIterator[Piece]) -> Body:
    async for piece in pieces:
        if piece.data:
            yield Part(piece.data, piece.heard)


async def _lines(pieces: AsyncIterator[Piece], order: Order) -> Body:
    segments = VoiceSegments(order.lines) if order.lines else None
    async for piece in pieces:
        yield Part(_json(piece.data, piece.alignment, segments) + b"\n", piece.heard)


async def _events(pieces: AsyncIterator[Piece], order: Order) -> Body:
    heard = 0.0
    async for piece in pieces:
        heard = piece.heard
        if piece.data:
            yield Part(encode_event(AudioDelta(piece.data)), heard)
    # A token is about four characters of text, and a twentieth of a second of audio.
    yield Part(encode_event(AudioDone(len(order.text) // 4 + 1, round(heard * 20))), heard)


async def _whole(pieces: AsyncIterator[Piece], order: Order) -> tuple[bytes, float]:
    parts = await collected(_bare(pieces))
    data = b"".join(part.data for part in parts)
    if order.format.codec is Codec.WAV:  # its true size is known by now
        rate = int.from_bytes(data[24:28], "little")
        data = wav_bytes(data[len(wav_header(rate)) :], rate)
    return data, parts[-1].heard if parts else 0.0


async def _timed_whole(pieces: AsyncIterator[Piece], order: Order) -> tuple[bytes, float]:
    said = [piece async for piece in pieces]
    data, heard = await _whole(_again(said), order)
    alignment = Alignment.joined([(0.0, piece.alignment) for piece in said if piece.alignment])
    return _json(data, alignment, VoiceSegments(order.lines) if order.lines else None), heard


async def _again(pieces: list[Piece]) -> AsyncIterator[Piece]:
    for piece in pieces:
        yield piece


def _json(data: bytes, alignment: Alignment | None, segments: VoiceSegments | None) -> bytes:
    # Neither voice spells numbers out, so the text as it is spoken is the text as it was sent.
    body = timed_audio_body(TimedAudio(data, alignment, alignment))
    if segments:
        body["voice_segments"] = segments.of(alignment)
    return json.dumps(body, separators=(",", ":")).encode()


def _sent_whole(data: bytes, heard: float, content_type: str) -> Answer:
    parts = [
        Part(data[at : at + _PART], heard * min(at + _PART, len(data)) / len(data)) for at in range(0, len(data), _PART)
    ]
    return Answer(in_parts(parts), headers={"content-type": content_type}, length=len(data))
