"""Audio on its way to a client: bare, in JSON with times, or in events."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterator
from itertools import chain

from steadyvoice.audio.silence import silence
from steadyvoice.gateway.order import Order, Wrapping
from steadyvoice.service.spoken import Account
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.speech.alignment import Alignment
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, timed_audio_body
from steadyvoice.wire.openai.speech import AudioDelta, AudioDone, encode_event

_BREATH = 0.1  # seconds
_SECONDS_A_TOKEN = 0.05
_CHARACTERS_A_TOKEN = 4


UNSPOKEN = {"x-steadyvoice-outcome": "failed", "x-steadyvoice-provider": "none"}
"""What these headers say on an answer without audio: nobody was heard."""


def gateway_headers(account: Account) -> dict[str, str]:
    """Who speaks, and how it came to that: as far as it is known when the answer begins."""
    return {
        "x-steadyvoice-outcome": account.outcome,
        "x-steadyvoice-provider": account.provider or "none",
    }


def breath(order: Order) -> bytes:
    """Return a tenth of a second of silence, for a text with nothing to pronounce: to clients no audio is a failure."""
    return b"".join(silence(order.format, _BREATH))


def whole_body(audio: bytes, account: Account, order: Order) -> tuple[int, Iterator[bytes]]:
    """Return the length of a finished utterance's body, and the body in parts: none of it is held a second time."""
    if order.wrapping is not Wrapping.TIMED:
        return len(audio), _slices(audio, _PART)
    begin, end = _DOCUMENT_BEGIN, _document_end(account.alignment)
    length = len(begin) + 4 * ((len(audio) + 2) // 3) + len(end)
    encoded = (b64encode(piece) for piece in _slices(audio, _ENCODED))
    return length, chain([begin], encoded, _slices(end, _PART))


def wrapped(stream: AsyncSpeechStream, order: Order) -> AsyncSpeechStream | AsyncGenerator[bytes, None]:
    """An utterance as it is made."""
    match order.wrapping:
        case Wrapping.BARE:
            return stream
        case Wrapping.TIMED:
            return _document(stream) if order.whole else _lines(stream)
        case Wrapping.EVENTS:
            return _events(stream, order)


async def _events(stream: AsyncSpeechStream, order: Order) -> AsyncGenerator[bytes, None]:
    async for data in stream:
        if data:
            yield encode_event(AudioDelta(data))
    yield encode_event(_done(order, stream))


async def _document(stream: AsyncSpeechStream) -> AsyncGenerator[bytes, None]:
    """One object as it is made: the audio in pieces that base64 joins without a seam, and the times at the end."""
    begin, rest = _DOCUMENT_BEGIN, b""  # nothing is sent before there is audio: until then it may become an error
    async for data in stream:
        data = rest + data
        whole = len(data) - len(data) % 3
        rest = data[whole:]
        if whole:
            yield begin + b64encode(memoryview(data)[:whole])
            begin = b""
    yield begin + b64encode(rest)
    for part in _slices(_document_end(stream.alignment), _PART):
        yield part


_DOCUMENT_BEGIN = b'{"audio_base64":"'
_PART = 64 * 1024  # bytes of a body that are sent at once
_ENCODED = _PART // 4 * 3  # bytes of audio that become as many in base64


def _document_end(times: Alignment | None) -> bytes:
    known = times if times and times.characters else None
    told = json.dumps(timed_audio_body(TimedAudio(b"", known))["alignment"], separators=(",", ":"))
    return f'","alignment":{told},"normalized_alignment":{told}}}'.encode()


def _slices(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


async def _lines(stream: AsyncSpeechStream) -> AsyncGenerator[bytes, None]:
    """Each line brings audio, and the times of what has become certain meanwhile."""
    times = _Times(stream)
    async for data in stream:
        fresh = times.fresh()
        if data or fresh.characters:
            yield _timed(data, fresh) + b"\n"
    if (fresh := times.fresh()).characters:
        yield _timed(b"", fresh) + b"\n"


class _Times:
    """Tells each character's times once, as soon as they are known."""

    def __init__(self, account: Account) -> None:
        self._spoken = account.spoken
        self._pieces = self._characters = 0  # told: whole pieces, and of the one at hand

    def fresh(self) -> Alignment:
        """What has become known since."""
        told: list[tuple[float, Alignment]] = []
        for offset, piece in self._spoken.alignments[self._pieces :]:
            told.append((offset, piece.since(self._characters)))
            self._pieces, self._characters = self._pieces + 1, 0
        if current := self._spoken.current:
            told.append((current[0], current[1].since(self._characters)))
            self._characters = len(current[1].characters)
        return Alignment.joined(told)


def _done(order: Order, account: Account) -> AudioDone:
    """What it would cost, by the rule of thumb: nobody here counts tokens."""
    asked = len(order.text) // _CHARACTERS_A_TOKEN + 1
    return AudioDone(asked, round(account.duration / _SECONDS_A_TOKEN))


def _timed(audio: bytes, times: Alignment | None) -> bytes:
    known = times if times and times.characters else None
    return json.dumps(timed_audio_body(TimedAudio(audio, known, known)), separators=(",", ":")).encode()
