"""Long messages of a vendor: taken in steps, between which the event loop runs."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.providers.websocket.connection import MAX_MESSAGE, WebSocket
from steadyvoice.providers.websocket.context_connection import ContextConnection
from steadyvoice.providers.websocket.text_stream import SocketTextStream
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSBadRequestError, TTSNotAudioError
from steadyvoice.wire.elevenlabs.websocket import AudioMessage, encode_message
from tests.turn_meter import TurnMeter

from .collected import KEY, Collected, collect, open_stream, speech_request
from .test_context_limits import ReadySocket


def message_of(audio_bytes: int, characters: int) -> str:
    times = Alignment.spread("a" * characters, 60.0) if characters else None
    return encode_message(AudioMessage(random.Random(0).randbytes(audio_bytes), times, times))


async def heard_from(message: str) -> tuple[Collected, TurnMeter]:
    """Return what a stream got from one message and the end of the connection, and the work between two turns."""
    socket, begun = ReadySocket(message, 1), asyncio.Event()

    async def connect() -> WebSocket:
        await begun.wait()
        return socket

    def attach(stream: SocketTextStream, fresh: bool) -> ContextConnection:
        connection.add(stream)
        return connection

    provider, request = ElevenLabs(KEY), speech_request()
    unused = open_stream(provider, request)
    assert isinstance(unused, SocketTextStream)
    route = unused.protocol.route
    connection = ContextConnection(route, connect, on_end=lambda ended: None, replace=lambda: None)
    stream = SocketTextStream(unused.protocol, attach, request.format, provider.name)
    stream.send("Hello. ")
    stream.flush()
    try:
        async with asyncio.timeout(20):
            with TurnMeter() as meter:
                begun.set()
                heard = await collect(stream)
        assert connection.task is None
        return heard, meter
    finally:
        await provider.aclose()


@pytest.mark.parametrize(
    ("audio_bytes", "characters"),
    [(95_000, 50), (97_000, 1000), (3_130_000, 500), (2_800_000, 12_000), (1_000, 70_000)],
    ids=["one step", "some steps", "audio", "small bitrate", "times"],
)
async def test_little_is_copied_between_two_turns_of_the_event_loop(audio_bytes: int, characters: int) -> None:
    message = message_of(audio_bytes, characters)
    assert len(message) < MAX_MESSAGE
    heard, meter = await heard_from(message)
    assert (len(heard.audio), len(heard.alignment.characters)) == (audio_bytes, characters)
    assert meter.most <= 256 * 1024


async def test_damaged_long_message_is_no_audio() -> None:
    heard, _ = await heard_from(message_of(300_000, 10)[:-1])
    assert type(heard.error) is TTSNotAudioError
    assert heard.audio == b"", "nothing is spoken of a message that is not whole"


async def test_error_in_a_long_message_is_itself() -> None:
    error = {"error": "invalid_input_message", "message": "x" * 200_000, "code": 1008}
    heard, _ = await heard_from(json.dumps(error))
    assert isinstance(heard.error, TTSBadRequestError), "which is a ValueError, as malformed messages raise"
