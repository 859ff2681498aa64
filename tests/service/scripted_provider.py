"""Provider that does exactly what a test scripts, call by call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from copy import copy
from dataclasses import dataclass, field

from steadyvoice import Accepted, Alignment, AudioChunk, AudioFormat, SpeechRequest, SynthesisOffer, TTSError
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.speech.format import Codec
from steadyvoice.speech.markup import Markup

RATE = 8000


def pcm(seconds: float, level: int = 1000) -> bytes:
    """Return a square wave of so many seconds."""
    return level.to_bytes(2, "little", signed=True) * round(seconds * RATE)


async def read_chunks(stream: AsyncSpeechStream, chunks: int) -> None:
    """Read so many chunks, and leave."""
    async with stream:
        async for _ in stream:
            chunks -= 1
            if not chunks:
                return


@dataclass(frozen=True)
class Say:
    """Action: speak for so long, in pieces, `every` seconds apart."""

    seconds: float | None = None  # None: 60 ms a character
    pieces: int = 4
    first_after: float = 0.1
    every: float = 0.0
    then: TTSError | BaseException | None = None
    aligned: bool = False


@dataclass(frozen=True)
class Hang:
    """Action: accept the request, and send nothing."""


@dataclass(frozen=True)
class Drip:
    """Action: send one sample each so many seconds, for ever."""

    every: float = 0.5


@dataclass(frozen=True)
class Send:
    """Action: send these bytes."""

    data: bytes


Act = Say | Hang | Drip | Send | Exception


@dataclass
class ScriptedProvider:
    """Provider that plays its actions in order, and the last one for ever."""

    acts: Iterable[Act] = (Say(),)
    name: str = "scripted"
    local: bool = False
    format: AudioFormat | None = field(default_factory=lambda: AudioFormat(Codec.PCM, RATE))
    max_characters: int | None = None
    voices: tuple[str, ...] = ("default",)
    requests: list[SpeechRequest] = field(default_factory=list)
    requested_at: list[float] = field(default_factory=list)  # times of the event loop
    cut_short: int = 0
    closed: int = 0
    scripts: frozenset[str] | None = None
    markup: Markup = Markup.NONE
    refuse: Callable[[SpeechRequest], TTSError] | None = None

    def __post_init__(self) -> None:
        self._acts = list(self.acts)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        if self.refuse:
            raise self.refuse(request)
        return SynthesisOffer(
            self.format or request.format,
            voice=f"{self.name}-voice",
            max_characters=self.max_characters,
            knows_voice=request.voice in self.voices,
            scripts=self.scripts,
            markup=self.markup,
        )

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.requests.append(request)
        self.requested_at.append(asyncio.get_running_loop().time())
        # The last action stays, so that a test lists only those that differ.
        act = self._acts.pop(0) if len(self._acts) > 1 else self._acts[0]
        try:
            if isinstance(act, Exception):
                raise copy(act)  # the provider's name is written on it
            yield Accepted(request_id=f"request-{len(self.requests)}", characters_billed=len(request.text))
            match act:
                case Hang():
                    await asyncio.Event().wait()
                case Drip(every):
                    while True:
                        await asyncio.sleep(every)
                        yield AudioChunk(pcm(1 / RATE))
                case Send(data):
                    yield AudioChunk(data)
                case Say():
                    async for chunk in _spoken(act, request.text):
                        yield chunk
        except (GeneratorExit, asyncio.CancelledError):
            self.cut_short += 1
            raise

    async def aclose(self) -> None:
        self.closed += 1


async def _spoken(act: Say, text: str) -> AsyncGenerator[AudioChunk, None]:
    seconds = len(text) * 0.06 if act.seconds is None else act.seconds
    await asyncio.sleep(act.first_after)
    for index in range(act.pieces):
        if index:
            await asyncio.sleep(act.every)
        # All timestamps come with the first piece, as from vendors that know the times before the audio.
        alignment = Alignment.spread(text, seconds) if act.aligned and index == 0 else None
        yield AudioChunk(pcm(seconds / act.pieces), alignment)
    if act.then:
        raise copy(act.then)
