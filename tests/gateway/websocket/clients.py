"""Clients of the websockets: the messages of LiveKit agents 1.8.9 and of Pipecat 1.14, and how these read times."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from steadyvoice.simulator import words_in
from tests.gateway.running_gateway import GEORGE

MULTI = f"/v1/text-to-speech/{GEORGE}/multi-stream-input"
SINGLE = f"/v1/text-to-speech/{GEORGE}/stream-input"
LIVEKIT = (
    "?model_id=eleven_turbo_v2_5&output_format=pcm_24000&enable_ssml_parsing=false&enable_logging=true"
    "&inactivity_timeout=180&apply_text_normalization=auto&sync_alignment=true&auto_mode=true"
)
PIPECAT = "?model_id=eleven_flash_v2_5&output_format=pcm_24000&auto_mode=true"
SENTENCES = ("Good morning, here is a voice.", "It rains all day.")
WORDS = [word for sentence in SENTENCES for word in sentence.split()]
WAIT = 20.0  # seconds, for a message that has to come


@lru_cache
def _words_in(audio: bytes) -> tuple[str, ...]:
    """Return the words of audio, which is often the same as that of another answer."""
    return tuple(words_in(audio, "pcm_24000"))


@dataclass
class Heard:
    """What the client of one context has received. Words have their times as this kind of client computes them."""

    audio: bytes = b""
    words: list[tuple[str, float]] = field(default_factory=list)
    finals: int = 0
    turns: int = 0  # of a dialogue, whose audio is complete
    error: dict[str, Any] | None = None
    partial: str = ""
    began: float = 0.0
    clock: float = 0.0  # Pipecat's

    @property
    def spoken(self) -> list[str]:
        return list(_words_in(self.audio))

    @property
    def seconds(self) -> float:
        return len(self.audio) / 48_000

    @property
    def timed(self) -> list[str]:
        return [word for word, _ in self.words]

    @property
    def times(self) -> list[float]:
        return [time for _, time in self.words]


class Reader:
    """Sorts what the client of a websocket receives by context, and reads words and times as LiveKit does."""

    def __init__(self) -> None:
        self.contexts: dict[str | None, Heard] = {}

    def note(self, message: dict[str, Any]) -> Heard:
        """Take note of a message, and return what was heard of its context."""
        assert message.get("contextId") == message.get("context_id")
        heard = self.contexts.setdefault(message.get("contextId"), Heard())
        if message.get("audio"):
            heard.audio += base64.b64decode(message["audio"])
        if alignment := message.get("alignment"):
            assert alignment == message["normalizedAlignment"]
            self.read_times(heard, alignment)
        if message.get("error"):
            heard.error = message
        heard.finals += message.get("isFinal") is True
        return heard

    def read_times(self, heard: Heard, alignment: dict[str, Any]) -> None:
        """Add words and times as LiveKit does: without an offset of its own."""
        read_words(heard, alignment["chars"], alignment["charStartTimesMs"], 0.0)


def read_words(heard: Heard, characters: Sequence[str], starts: Sequence[int], offset: float) -> None:
    """Add the words of an alignment, which end at blanks."""
    for character, start in zip(characters, starts, strict=True):
        if character == " ":
            if heard.partial:
                heard.words.append((heard.partial, heard.began))
            heard.partial = ""
        else:
            heard.began = heard.began if heard.partial else offset + start / 1000
            heard.partial += character


class PipecatReader(Reader):
    """Reader that adds up what the messages span, as `pipecat.services.elevenlabs.tts` does."""

    def read_times(self, heard: Heard, alignment: dict[str, Any]) -> None:
        read_words(heard, alignment["chars"], alignment["charStartTimesMs"], heard.clock)
        heard.clock += (alignment["charStartTimesMs"][-1] + alignment["charDurationsMs"][-1]) / 1000


class DialogueReader(Reader):
    """Reader of a dialogue as LiveKit's: times count from the beginning of the audio of their own message."""

    def note(self, message: dict[str, Any]) -> Heard:
        assert not {"contextId", "isFinal"} & message.keys()
        heard = self.contexts.setdefault(message.get("context_id"), Heard())
        heard.finals += message.get("is_final") is True
        heard.turns += message.get("is_final_audio_for_turn") is True
        heard.error = message if message.get("error") else heard.error
        if alignment := message.get("alignment"):
            self.read_times(heard, alignment)
        if message.get("audio"):
            heard.audio += base64.b64decode(message["audio"])
        return heard

    def read_times(self, heard: Heard, alignment: dict[str, Any]) -> None:
        read_words(heard, alignment["chars"], alignment["char_start_times_ms"], heard.seconds)


class PipecatDialogueReader(DialogueReader):
    """Reader that adds up what the alignments span, as `pipecat.services.elevenlabs.dialogue` does."""

    def read_times(self, heard: Heard, alignment: dict[str, Any]) -> None:
        read_words(heard, alignment["chars"], alignment["char_start_times_ms"], heard.clock)
        heard.clock += (alignment["char_start_times_ms"][-1] + alignment["char_durations_ms"][-1]) / 1000


class SocketClient:
    """Client of one websocket."""

    def __init__(self, connection: ClientConnection, reader: Reader | None = None) -> None:
        self.connection, self.reader = connection, reader or Reader()

    @property
    def contexts(self) -> dict[str | None, Heard]:
        return self.reader.contexts

    async def send(self, *messages: str) -> None:
        for message in messages:
            await self.connection.send(message)

    async def receive(self) -> dict[str, Any]:
        """Receive one message and take note of it."""
        text = await asyncio.wait_for(self.connection.recv(), WAIT)
        assert len(text) < 1024 * 1024
        message: dict[str, Any] = json.loads(text)
        self.reader.note(message)
        return message

    async def until_final(self, *contexts: str | None) -> None:
        """Receive until these contexts have ended."""
        while not all(context in self.contexts and self.contexts[context].finals for context in contexts):
            await self.receive()


def livekit_turn(context: str, sentences: Sequence[str] = SENTENCES) -> list[str]:
    """Return the messages of one turn of LiveKit's plugin: a sentence a message, and two ends back to back."""
    return [
        json.dumps({"text": " ", "voice_settings": {}, "context_id": context}),
        *(json.dumps({"text": f"{sentence} ", "context_id": context, "flush": True}) for sentence in sentences),
        json.dumps({"text": "", "context_id": context, "flush": True}),
        json.dumps({"context_id": context, "close_context": True}),
    ]


def pipecat_turn(context: str, sentences: Sequence[str] = SENTENCES) -> list[str]:
    """Return the messages of one turn of Pipecat's service: sentences without a blank or a flush between them."""
    return [
        json.dumps({"text": " ", "context_id": context}),
        *(json.dumps({"text": sentence, "context_id": context}) for sentence in sentences),
        json.dumps({"context_id": context, "flush": True}),
        json.dumps({"context_id": context, "close_context": True}),
    ]


@asynccontextmanager
async def livekit_client(url: str, query: str = LIVEKIT, **options: Any) -> AsyncIterator[SocketClient]:
    """Connect as LiveKit does: the key in a header, no extensions."""
    async with _connected(url, MULTI + query, compression=None, **options) as connection:
        yield SocketClient(connection)


@asynccontextmanager
async def pipecat_client(url: str, query: str = PIPECAT, **options: Any) -> AsyncIterator[SocketClient]:
    """Connect as Pipecat does: it offers permessage-deflate."""
    async with _connected(url, MULTI + query, max_size=16 * 1024 * 1024, **options) as connection:
        yield SocketClient(connection, PipecatReader())


@asynccontextmanager
async def _connected(
    url: str, path: str, request_id: str | None = None, **options: Any
) -> AsyncIterator[ClientConnection]:
    headers = {"xi-api-key": "any", **({"x-request-id": request_id} if request_id else {})}
    address = url.replace("http", "ws", 1) + path
    async with connect(address, additional_headers=headers, **options) as connection:
        yield connection
