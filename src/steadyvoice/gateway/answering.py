"""Audio on its way to a client: bare, in JSON with times, or in events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

from steadyvoice.gateway.order import Order, Wrapping
from steadyvoice.service.output import exactly_sized
from steadyvoice.service.service import AsyncSpeechStream
from steadyvoice.service.spoken import Account
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import Codec
from steadyvoice.wire.elevenlabs_timestamps import TimedAudio, timed_body
from steadyvoice.wire.openai_events import Delta, Done, event_bytes

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


def wrapped_whole(audio: bytes, account: Account, order: Order) -> bytes:
    """A finished utterance as one body."""
    if order.format.codec is Codec.WAV:
        audio = exactly_sized(audio)
    return _timed(audio, account.alignment) if order.wrapping is Wrapping.TIMED else audio


def wrapped(stream: AsyncSpeechStream, order: Order) -> AsyncSpeechStream | AsyncGenerator[bytes, None]:
    """An utterance as it is made."""
    match order.wrapping:
        case Wrapping.BARE:
            return stream
        case Wrapping.TIMED:
            return _lines(stream)
        case Wrapping.EVENTS:
            return _events(stream, order)


async def _events(stream: AsyncSpeechStream, order: Order) -> AsyncGenerator[bytes, None]:
    async for data in stream:
        if data:
            yield event_bytes(Delta(data))
    yield event_bytes(_done(order, stream))


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


def _done(order: Order, account: Account) -> Done:
    """What it would cost, by the rule of thumb: nobody here counts tokens."""
    asked = len(order.text) // _CHARACTERS_A_TOKEN + 1
    return Done(asked, round(account.duration / _SECONDS_A_TOKEN))


def _timed(audio: bytes, times: Alignment | None) -> bytes:
    known = times if times and times.characters else None
    return json.dumps(timed_body(TimedAudio(audio, known, known)), separators=(",", ":")).encode()
