"""Real audio for an order, piece by piece: the same for the same voice, text and seed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, closing
from dataclasses import dataclass, replace

from steadyvoice.audio.convert import Converter
from steadyvoice.audio.silence import silence
from steadyvoice.providers.provider import Audio, Provider
from steadyvoice.simulator.acts import Act, HeaderOnly, Silent, TooShort, WrongRate
from steadyvoice.simulator.order import Order
from steadyvoice.simulator.voices import number_of
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest

_SECONDS_A_PIECE = 0.2


@dataclass(frozen=True, slots=True)
class Piece:
    """Some encoded audio, the times of what is heard in it, and the second at which it ends."""

    data: bytes
    alignment: Alignment | None
    heard: float


async def speak(engine: Provider, order: Order, act: Act | None = None) -> AsyncGenerator[Piece, None]:
    """Speak an order piece by piece, badly if `act` is about the sound. Ends with a piece for what encoders hold."""
    target = _format_sent(order.format, act)
    if isinstance(act, HeaderOnly):
        yield _nothing(target)
        return
    source = engine.offer(_request(order, target, order.voice, order.text)).format
    held: list[Alignment] = []
    heard = 0.0
    with closing(Converter(source, target, quick=True)) as converter:
        async for audio in _grouped(_sound(engine, order, target, act), source.sample_rate):
            held += [audio.alignment] if audio.alignment else []
            heard += len(audio.data) / 2 / source.sample_rate
            if data := converter.feed(audio.data):
                yield Piece(data, _joined(held), heard)
                held = []
        if not heard:
            yield _nothing(target)
            return
        if data := converter.finish():
            yield Piece(data, _joined(held), heard)


def _nothing(target: AudioFormat) -> Piece:
    return Piece(b"".join(silence(target, 0)), None, 0.0)


def _format_sent(asked: AudioFormat, act: Act | None) -> AudioFormat:
    if isinstance(act, WrongRate) and asked.codec is not Codec.OPUS:
        rate = next(rate for rate in (act.rate, 24_000) if rate != asked.sample_rate)
        return replace(asked, sample_rate=rate)
    return asked


def _request(order: Order, target: AudioFormat, voice: str, text: str) -> SpeechRequest:
    seed = number_of(f"{voice} {order.seed}")
    return SpeechRequest(text, target, voice=voice, speed=order.speed, seed=seed, unknown_voice="default")


async def _sound(engine: Provider, order: Order, target: AudioFormat, act: Act | None) -> AsyncIterator[Audio]:
    """What the engine says, in its own samples."""
    rate = engine.offer(_request(order, target, order.voice, order.text)).format.sample_rate
    async with aclosing(_said(engine, order, target)) as lines:
        said: AsyncIterator[Audio] = lines
        match act:
            case TooShort(fraction):
                said = _beginning(said, int(len(order.text) * fraction), rate)
            case Silent():
                said = (replace(audio, data=bytes(len(audio.data))) async for audio in said)
        async for audio in said:
            yield audio


async def _said(engine: Provider, order: Order, target: AudioFormat) -> AsyncGenerator[Audio, None]:
    """Say an order, the lines of a dialogue one after the other. Times count from the beginning of the first."""
    begin = 0.0
    for text, voice in order.lines or [(order.text, order.voice)]:
        request = _request(order, target, voice, text)
        offer = engine.offer(request)
        samples = 0
        async with aclosing(engine.speak(request, offer, connection_timeout=10.0)) as events:
            async for event in events:
                if not isinstance(event, Audio):
                    continue
                samples += len(event.data) // 2
                times = event.alignment
                yield replace(event, alignment=Alignment.joined([(begin, times)])) if times and begin else event
        begin += samples / offer.format.sample_rate


async def _beginning(said: AsyncIterator[Audio], characters: int, rate: int) -> AsyncGenerator[Audio, None]:
    """Speak so many characters of it, and stop, be it within a word."""
    start = 0.0
    async for audio in said:
        times = audio.alignment
        if times and len(times.characters) >= characters:
            end = times.ends[characters - 1] if characters else start
            kept = Alignment(times.characters[:characters], times.starts[:characters], times.ends[:characters])
            yield Audio(audio.data[: 2 * round((end - start) * rate)], kept)
            return
        characters -= len(times.characters) if times else 0
        start += len(audio.data) / 2 / rate
        yield audio


async def _grouped(sound: AsyncIterator[Audio], rate: int) -> AsyncIterator[Audio]:
    """Gather what is too small to be sent alone."""
    data, held = b"", []
    async for audio in sound:
        data += audio.data
        held += [audio.alignment] if audio.alignment else []
        if len(data) >= 2 * rate * _SECONDS_A_PIECE:
            yield Audio(data, _joined(held))
            data, held = b"", []
    if data or held:
        yield Audio(data, _joined(held))


def _joined(pieces: list[Alignment]) -> Alignment | None:
    return Alignment.joined([(0.0, piece) for piece in pieces]) if pieces else None
