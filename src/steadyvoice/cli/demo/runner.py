"""Run of the demo's scenario: a real service over real sockets, beside a plain client that sends the same requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Self

import aiohttp

from steadyvoice.audio.validation import is_long_enough
from steadyvoice.audio.wav import wav_bytes
from steadyvoice.breaker import Event, StateChanged
from steadyvoice.cli.demo.results import (
    CircuitChange,
    DemoRecord,
    DirectOutcome,
    DirectResult,
    ProviderChange,
    UtteranceRequested,
    UtteranceResult,
)
from steadyvoice.cli.demo.scenario import (
    BACKUP,
    VENDOR,
    DemoEnvironment,
    Incident,
    Scenario,
    ScheduledIncident,
    ScheduledUtterance,
)
from steadyvoice.service.result import Attempt, Speech
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.captions import captions

RATE = 24000
FORMAT = f"pcm_{RATE}"
PAUSE = 0.4
"""Seconds between two utterances."""


def join_speeches(speeches: Sequence[Speech]) -> tuple[bytes, str]:
    """Lay utterances in `FORMAT` end to end: a WAV file, and its captions as WebVTT."""
    pause = bytes(2 * round(PAUSE * RATE))
    audio = b""
    alignments: list[tuple[float, Alignment]] = []
    for speech in speeches:
        start = len(audio) / 2 / RATE
        alignments += [(start, speech.alignment), (start + speech.duration, _WORD_BREAK)]
        audio += speech.audio + pause
    return wav_bytes(audio, RATE), captions(Alignment.joined(alignments))


_WORD_BREAK = Alignment((" ",), (0.0,), (0.0,))  # so that the next utterance begins with a word of its own


TIMEOUT = 240.0
"""Seconds: the vendor's own Python SDK allows as much when nobody says otherwise.

https://github.com/elevenlabs/elevenlabs-python, `client.py`, `_defaulted_timeout`
"""


class DirectClient:
    """Asks in the background, each utterance for itself, so that one that hangs delays no other."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url, self._clock = url, clock
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        self._asked: dict[int, float] = {}
        self._tasks: dict[int, asyncio.Task[DirectResult]] = {}

    def ask(self, number: int, text: str) -> None:
        """Send it off."""
        self._asked[number] = self._clock()
        self._tasks[number] = asyncio.create_task(self._answer(number, text))

    async def end(self) -> tuple[DirectResult, ...]:
        """Stop the clock: give what each one has come to, and hang up on those that still wait."""
        now = self._clock()
        waiting = [number for number, task in self._tasks.items() if not task.done()]
        await self.aclose()
        return tuple(
            DirectResult(number, self._asked[number], now, "still waiting", f"Its timeout is {TIMEOUT:g} s.")
            if number in waiting
            else task.result()
            for number, task in self._tasks.items()
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Hang up."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._session.close()

    async def _answer(self, number: int, text: str) -> DirectResult:
        outcome, told = await self._ask(text)
        return DirectResult(number, self._asked[number], self._clock(), outcome, told)

    async def _ask(self, text: str) -> tuple[DirectOutcome, str]:
        path = f"{self._url}/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream"
        try:
            async with self._session.post(
                path, params={"output_format": FORMAT}, json={"text": text}, headers={"xi-api-key": "demo"}
            ) as reply:
                audio = await reply.read()
                if reply.status != 200:
                    return "failed", f"HTTP {reply.status}."
        except (aiohttp.ClientError, TimeoutError) as error:
            return "failed", f"{type(error).__name__}."
        seconds = len(audio) / 2 / RATE
        if not is_long_enough(text, seconds):
            return "cut short", f"Only {seconds:.1f} s of audio came, and it was called a success."
        return "spoken", ""


EventListener = Callable[[ProviderChange | CircuitChange | UtteranceRequested | UtteranceResult], None]


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What came of it: the account, and what was heard."""

    chronicle: DemoRecord
    speeches: tuple[Speech, ...]


async def run_scenario(story: Scenario, watch: EventListener, *, seed: int = 1) -> DemoRun:
    """Live through it. `watch` is told of everything at the moment it happens."""
    async with DemoEnvironment.set_up(seed) as stage:
        performance = _ScenarioRunner(story, stage, watch)
        async with (
            AsyncTTSService(
                stage.providers,
                circuits={VENDOR: story.circuit},
                timeouts=story.timeouts,
                retry=story.retry,
                rng=Random(seed),
            ) as tts,
            DirectClient(stage.bare_url, performance.now) as bare,
        ):
            return await performance.run(tts, bare)


@dataclass(slots=True)
class _ScenarioRunner:
    """One telling of the story, while it lasts."""

    story: Scenario
    stage: DemoEnvironment
    watch: EventListener
    started: float = field(default_factory=time.monotonic)
    turns: list[ProviderChange] = field(default_factory=list)
    moves: list[CircuitChange] = field(default_factory=list)
    answers: list[UtteranceResult] = field(default_factory=list)
    speeches: list[Speech] = field(default_factory=list)

    def now(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self.started

    async def run(self, tts: AsyncTTSService, bare: DirectClient) -> DemoRun:
        self.started = time.monotonic()
        for circuit in tts.circuits.values():
            circuit.subscribe(self._moved)
        happenings = asyncio.create_task(self._let_things_happen())
        try:
            await self._say_everything(tts, bare)
            await happenings
        finally:
            happenings.cancel()
        await self._until(self.story.length)
        left_alone = await bare.end()
        return DemoRun(
            DemoRecord(
                length=self.now(),
                circuits=tuple(tts.circuits),
                turns=tuple(self.turns),
                moves=tuple(self.moves),
                answers=tuple(self.answers),
                bare=left_alone,
                charged=self.stage.charged,
            ),
            tuple(self.speeches),
        )

    async def _let_things_happen(self) -> None:
        for cue in self.story.cues:
            await self._until(cue.at)
            self.stage.happen(cue.what)
            self._turned(cue)

    async def _say_everything(self, tts: AsyncTTSService, bare: DirectClient) -> None:
        for number, line in enumerate(self.story.lines, start=1):
            await self._until(line.at)
            if line.after_cooldown:
                await asyncio.sleep(_remaining_cooldown(tts))
            bare.ask(number, line.text)
            await self._say(tts, number, line)

    async def _say(self, tts: AsyncTTSService, number: int, line: ScheduledUtterance) -> None:
        asked = self.now()
        self.watch(UtteranceRequested(number, line.text, asked))
        speech = await tts.synthesize(line.text, format=FORMAT)
        answer = UtteranceResult(
            number=number,
            text=line.text,
            asked=asked,
            answered=self.now(),
            outcome=speech.outcome,
            provider=speech.provider,
            duration=speech.duration,
            failures=tuple(
                _failure_text(attempt) for attempt in speech.attempts if attempt.error and not attempt.refused
            ),
            refusals=tuple(_failure_text(attempt) for attempt in speech.attempts if attempt.refused),
        )
        self.speeches.append(speech)
        self.answers.append(answer)
        self.watch(answer)

    def _turned(self, cue: ScheduledIncident) -> None:
        who = BACKUP if cue.what in (Incident.BACKUP_GOES, Incident.BACKUP_RETURNS) else VENDOR
        turn = ProviderChange(self.now(), who, cue.what.value, well=cue.what in _RECOVERIES)
        self.turns.append(turn)
        self.watch(turn)

    def _moved(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            move = CircuitChange(
                event.at - self.started, event.name, event.from_state, event.to_state, event.reason, event.retry_after
            )
            self.moves.append(move)
            self.watch(move)

    async def _until(self, second: float) -> None:
        await asyncio.sleep(max(0.0, second - self.now()))


_RECOVERIES = (Incident.RECOVERS, Incident.BACKUP_RETURNS)


def _remaining_cooldown(tts: AsyncTTSService) -> float:
    left = tts.circuits[VENDOR].snapshot().retry_after
    return left + 0.05 if left else 0.0


def _failure_text(attempt: Attempt) -> str:
    return f"{attempt.provider}: {attempt.error.message if attempt.error else ''}"
