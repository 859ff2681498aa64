"""Run of the demo's scenario: a real service over real sockets, beside a plain client that sends the same requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
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
    """Join utterances in `FORMAT` with pauses. Returns a WAV file, and its captions as WebVTT."""
    pause = bytes(2 * round(PAUSE * RATE))
    audio = b""
    alignments: list[tuple[float, Alignment]] = []
    for speech in speeches:
        start = len(audio) / 2 / RATE
        alignments += [(start, speech.alignment), (start + speech.duration, _WORD_BREAK)]
        audio += speech.audio + pause
    return wav_bytes(audio, RATE), captions(Alignment.joined(alignments))


_WORD_BREAK = Alignment((" ",), (0.0,), (0.0,))  # separates the last word of an utterance from the next one's first


TIMEOUT = 240.0
"""Timeout in seconds of the plain client: the default of the vendor's own Python SDK.

https://github.com/elevenlabs/elevenlabs-python, `client.py`, `_defaulted_timeout`
"""


class DirectClient:
    """Plain HTTP client without steadyvoice. Requests run in the background, so that a hang delays no other."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url, self._clock = url, clock
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        self._requested_at: dict[int, float] = {}
        self._tasks: dict[int, asyncio.Task[DirectResult]] = {}

    def request(self, number: int, text: str) -> None:
        """Start the request for an utterance."""
        self._requested_at[number] = self._clock()
        self._tasks[number] = asyncio.create_task(self._result(number, text))

    async def end(self) -> tuple[DirectResult, ...]:
        """Return the results of all requests, and cancel those that have no answer yet."""
        now = self._clock()
        waiting = [number for number, task in self._tasks.items() if not task.done()]
        await self.aclose()
        return tuple(
            DirectResult(number, self._requested_at[number], now, "still waiting", f"Its timeout is {TIMEOUT:g} s.")
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
        """Cancel all requests, and close the connections."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._session.close()

    async def _result(self, number: int, text: str) -> DirectResult:
        outcome, detail = await self._post(text)
        return DirectResult(number, self._requested_at[number], self._clock(), outcome, detail)

    async def _post(self, text: str) -> tuple[DirectOutcome, str]:
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
            return "cut short", f"Only {seconds:.1f} s of audio, reported as success."
        return "spoken", ""


EventListener = Callable[[ProviderChange | CircuitChange | UtteranceRequested | UtteranceResult], None]


@dataclass(frozen=True, slots=True)
class DemoRun:
    """Completed run: its record, and the audio of its utterances."""

    record: DemoRecord
    speeches: tuple[Speech, ...]


async def run_scenario(scenario: Scenario, listener: EventListener, *, seed: int = 1) -> DemoRun:
    """Run a scenario. `listener` is called with every event when it happens."""
    async with DemoEnvironment.set_up(seed) as environment:
        run = _ScenarioRunner(scenario, environment, listener)
        async with (
            AsyncTTSService(
                environment.providers,
                circuits={VENDOR: scenario.circuit},
                timeouts=scenario.timeouts,
                retry=scenario.retry,
                rng=Random(seed),
            ) as tts,
            DirectClient(environment.direct_url, run.now) as direct,
        ):
            return await run.complete(tts, direct)


@dataclass(slots=True)
class _ScenarioRunner:
    """Run of a scenario in progress."""

    scenario: Scenario
    environment: DemoEnvironment
    listener: EventListener
    started: float = field(default_factory=time.monotonic)
    provider_changes: list[ProviderChange] = field(default_factory=list)
    circuit_changes: list[CircuitChange] = field(default_factory=list)
    results: list[UtteranceResult] = field(default_factory=list)
    speeches: list[Speech] = field(default_factory=list)

    def now(self) -> float:
        """Return the seconds since the scenario began."""
        return time.monotonic() - self.started

    async def complete(self, tts: AsyncTTSService, direct: DirectClient) -> DemoRun:
        """Run to the end, and return the record."""
        self.started = time.monotonic()
        for circuit in tts.circuits.values():
            circuit.subscribe(self._record_transition)
        await self._play(tts, direct)
        await self._sleep_until(self.scenario.length)
        # Waits of the plain client count to the end of the scenario: its own timeout is four minutes.
        direct_results = await direct.end()
        return DemoRun(
            DemoRecord(
                length=self.now(),
                circuits=tuple(tts.circuits),
                provider_changes=tuple(self.provider_changes),
                circuit_changes=tuple(self.circuit_changes),
                results=tuple(self.results),
                direct_results=direct_results,
                charged=self.environment.charged,
            ),
            tuple(self.speeches),
        )

    async def _play(self, tts: AsyncTTSService, direct: DirectClient) -> None:
        """Play incidents and utterances one after the other: on a slow machine they are late, and in the same order."""
        schedule: list[ScheduledIncident | ScheduledUtterance] = [*self.scenario.incidents, *self.scenario.utterances]
        numbers = count(1)
        for scheduled in sorted(schedule, key=lambda each: each.at):
            await self._sleep_until(scheduled.at)
            if isinstance(scheduled, ScheduledIncident):
                self.environment.apply(scheduled.incident)
                self._record_incident(scheduled)
                continue
            if scheduled.after_cooldown:
                await asyncio.sleep(_remaining_cooldown(tts))
            number = next(numbers)
            direct.request(number, scheduled.text)
            await self._request(tts, number, scheduled)

    async def _request(self, tts: AsyncTTSService, number: int, line: ScheduledUtterance) -> None:
        requested_at = self.now()
        self.listener(UtteranceRequested(number, line.text, requested_at))
        speech = await tts.synthesize(line.text, format=FORMAT)
        answer = UtteranceResult(
            number=number,
            text=line.text,
            requested_at=requested_at,
            answered_at=self.now(),
            outcome=speech.outcome,
            provider=speech.provider,
            duration=speech.duration,
            failures=tuple(
                _failure_text(attempt) for attempt in speech.attempts if attempt.error and not attempt.refused
            ),
            refusals=tuple(_failure_text(attempt) for attempt in speech.attempts if attempt.refused),
        )
        self.speeches.append(speech)
        self.results.append(answer)
        self.listener(answer)

    def _record_incident(self, scheduled: ScheduledIncident) -> None:
        provider = BACKUP if scheduled.incident in (Incident.BACKUP_GOES, Incident.BACKUP_RETURNS) else VENDOR
        change = ProviderChange(self.now(), provider, scheduled.incident.value, well=scheduled.incident in _RECOVERIES)
        self.provider_changes.append(change)
        self.listener(change)

    def _record_transition(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            change = CircuitChange(
                event.at - self.started, event.name, event.from_state, event.to_state, event.reason, event.retry_after
            )
            self.circuit_changes.append(change)
            self.listener(change)

    async def _sleep_until(self, second: float) -> None:
        await asyncio.sleep(max(0.0, second - self.now()))


_RECOVERIES = (Incident.RECOVERS, Incident.BACKUP_RETURNS)


def _remaining_cooldown(tts: AsyncTTSService) -> float:
    wait = tts.circuits[VENDOR].snapshot().retry_after
    # A little later than the cooldown, so that the request becomes a probe also when the clock is coarse.
    return wait + 0.05 if wait else 0.0


def _failure_text(attempt: Attempt) -> str:
    return f"{attempt.provider}: {attempt.error.message if attempt.error else ''}"
