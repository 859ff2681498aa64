"""The story, lived through: a real service over real sockets, and a bare client that asks the same at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from steadyvoice.breaker import Event, StateChanged
from steadyvoice.cli.demo.bare import BareClient
from steadyvoice.cli.demo.chronicle import Answer, Chronicle, Move, Question, Turn
from steadyvoice.cli.demo.record import FORMAT
from steadyvoice.cli.demo.stage import Stage
from steadyvoice.cli.demo.story import BACKUP, VENDOR, Cue, Happening, Line, Story
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.service.spoken import Attempt, Speech

Watcher = Callable[[Turn | Move | Question | Answer], None]


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it: the account, and what was heard."""

    chronicle: Chronicle
    speeches: tuple[Speech, ...]


async def play(story: Story, watch: Watcher, *, seed: int = 1) -> Played:
    """Live through it. `watch` is told of everything at the moment it happens."""
    async with Stage.set_up(seed) as stage:
        performance = _Performance(story, stage, watch)
        async with (
            AsyncTTSService(
                stage.providers,
                circuits={VENDOR: story.circuit},
                timeouts=story.timeouts,
                retry=story.retry,
                rng=Random(seed),
            ) as tts,
            BareClient(stage.bare_url, performance.now) as bare,
        ):
            return await performance.run(tts, bare)


@dataclass(slots=True)
class _Performance:
    """One telling of the story, while it lasts."""

    story: Story
    stage: Stage
    watch: Watcher
    started: float = field(default_factory=time.monotonic)
    turns: list[Turn] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    speeches: list[Speech] = field(default_factory=list)

    def now(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self.started

    async def run(self, tts: AsyncTTSService, bare: BareClient) -> Played:
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
        return Played(
            Chronicle(
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

    async def _say_everything(self, tts: AsyncTTSService, bare: BareClient) -> None:
        for number, line in enumerate(self.story.lines, start=1):
            await self._until(line.at)
            if line.after_cooldown:
                await asyncio.sleep(_cooldown_left(tts))
            bare.ask(number, line.text)
            await self._say(tts, number, line)

    async def _say(self, tts: AsyncTTSService, number: int, line: Line) -> None:
        asked = self.now()
        self.watch(Question(number, line.text, asked))
        speech = await tts.synthesize(line.text, format=FORMAT)
        answer = Answer(
            number=number,
            text=line.text,
            asked=asked,
            answered=self.now(),
            outcome=speech.outcome,
            provider=speech.provider,
            duration=speech.duration,
            failures=tuple(_told(attempt) for attempt in speech.attempts if attempt.error and not attempt.refused),
            refusals=tuple(_told(attempt) for attempt in speech.attempts if attempt.refused),
        )
        self.speeches.append(speech)
        self.answers.append(answer)
        self.watch(answer)

    def _turned(self, cue: Cue) -> None:
        who = BACKUP if cue.what in (Happening.BACKUP_GOES, Happening.BACKUP_RETURNS) else VENDOR
        turn = Turn(self.now(), who, cue.what.value, well=cue.what in _GOOD)
        self.turns.append(turn)
        self.watch(turn)

    def _moved(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            move = Move(
                event.at - self.started, event.name, event.from_state, event.to_state, event.reason, event.retry_after
            )
            self.moves.append(move)
            self.watch(move)

    async def _until(self, second: float) -> None:
        await asyncio.sleep(max(0.0, second - self.now()))


_GOOD = (Happening.RECOVERS, Happening.BACKUP_RETURNS)


def _cooldown_left(tts: AsyncTTSService) -> float:
    left = tts.circuits[VENDOR].snapshot().retry_after
    return left + 0.05 if left else 0.0


def _told(attempt: Attempt) -> str:
    return f"{attempt.provider}: {attempt.error.message if attempt.error else ''}"
