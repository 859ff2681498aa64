"""Live service on the loop's time whose vendors fail at set times, and its journal."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from steadyvoice import (
    Accepted,
    AsyncTTSService,
    AudioChunk,
    AudioFormat,
    Speech,
    SpeechRequest,
    SynthesisOffer,
    TTSError,
)
from steadyvoice.service.journal.records import Journal, read_journal
from steadyvoice.speech.errors import TTSServerError
from steadyvoice.speech.format import Codec

from ..conftest import MakeService, loop_clock
from ..scripted_provider import RATE, pcm

TEXT = "Twenty characters it"


@dataclass(frozen=True)
class Stretch:
    """Time in which a vendor does something else: `kind` is error, hang or slow, with a probability."""

    begin: float
    end: float
    kind: str
    probability: float = 1.0


@dataclass
class TimedVendor:
    """Vendor whose state is a function of time: healthy, but for some stretches. Random numbers repeat."""

    name: str
    stretches: Sequence[Stretch] = ()
    local: bool = False
    seed: int = 1
    pieces: int = 3
    every: float = 0.05  # seconds between two pieces
    billed: int = 0
    origin: float | None = None
    _rng: Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return SynthesisOffer(AudioFormat(Codec.PCM, RATE), voice=f"{self.name}-voice", knows_voice=True)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        drawn, latency = self._rng.random(), 0.2 + 0.3 * self._rng.random()
        now = loop_clock() - (self.origin or 0.0)
        state = next(
            (each for each in self.stretches if each.begin <= now < each.end and drawn < each.probability), None
        )
        if state and state.kind == "error":
            await asyncio.sleep(latency / 2)
            raise TTSServerError("HTTP 503", status=503)
        yield Accepted(characters_billed=len(request.text))
        if state and state.kind == "hang":
            await asyncio.Event().wait()
        await asyncio.sleep(latency + (4.0 if state else 0.0))
        self.billed += len(request.text)
        for _ in range(self.pieces):
            yield AudioChunk(pcm(1.2 / self.pieces))
            await asyncio.sleep(self.every)

    async def aclose(self) -> None:
        pass


@dataclass
class Lived:
    """What callers of a live service met with."""

    outcomes: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    attempts: int = 0
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return self.outcomes["muted"] + self.outcomes["failed"]

    @property
    def waited(self) -> int:
        return sum(wait > 2 for wait in self.waits)


async def live(
    make_service: MakeService,
    worlds: Sequence[TimedVendor],
    *,
    callers: int,
    every: float,
    seed: int = 7,
    **settings: Any,
) -> Lived:
    """Have callers come at random, and return what they met with."""
    lived, rng, running = Lived(), Random(seed), set[asyncio.Task[None]]()
    for world in worlds:
        world.origin = loop_clock()

    async def call(tts: AsyncTTSService) -> None:
        began = loop_clock()
        try:
            speech: Speech = await tts.synthesize(TEXT, format="pcm_8000")
        except TTSError:
            lived.outcomes["failed"] += 1
            return
        lived.outcomes[speech.outcome] += 1
        lived.attempts += sum(not attempt.refused for attempt in speech.attempts)
        if speech.outcome != "muted":
            lived.waits.append(loop_clock() - began)

    async with make_service(*worlds, **settings) as tts:
        for _ in range(callers):
            running.add(asyncio.create_task(call(tts)))
            await asyncio.sleep(rng.expovariate(1 / every))
        await asyncio.gather(*running)
        lived.state = tts.get_error_state()
    return lived


def journal_in(folder: Path) -> Journal:
    """Return the journal in a folder, of one run."""
    journal = read_journal([folder])
    assert len(journal.runs) == 1
    assert journal.damaged == []
    return journal
