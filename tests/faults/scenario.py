"""Scenario of one fault: the vendor fails, the service speaks, and the outcome is recorded.

Real sockets and real time with short timeouts; their length does not change the outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, Protocol, TypeVar

from steadyvoice import (
    AsyncTTSService,
    CircuitBreakerConfig,
    ElevenLabs,
    Espeak,
    Provider,
    RetryConfig,
    TimeoutConfig,
    Tone,
    TTSConfigurationError,
    TTSError,
)
from steadyvoice.providers.vendor import VendorProvider
from steadyvoice.service.resilience.failover import LOCAL_GRACE
from steadyvoice.service.result import Attempt, ReportedUtterance
from steadyvoice.simulator import Simulator, words_in
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.actions import TlsFailure, WrongLength
from steadyvoice.simulator.ledger import LedgerEntry
from steadyvoice.speech.failure_kinds import FAILURE_TABLE

from .fault_cases import FaultCase

Endpoint = Literal["synthesize", "stream"]
ENDPOINTS: tuple[Endpoint, ...] = ("synthesize", "stream")

TEXT = "The quick brown fox jumps over the lazy dog, and nobody who saw it is any the wiser."
VENDOR, LOCAL = "elevenlabs", "local"

# 2,000 bytes of MP3 every 0.25 s are 0.125 s of audio: with 0.75 s, the slow timeout would end at the very moment at
# which the seventh chunk comes, and the audio delivered until then would depend on chance.
CLOCKS = TimeoutConfig(
    connection_timeout=2.0, first_audio_timeout=3.0, stall_timeout=2.0, slow_timeout=0.69, total_timeout=6.0
)
DEADLINE = CLOCKS.total_timeout + LOCAL_GRACE
NEVER_OPENS = CircuitBreakerConfig(window_size=100, minimum_calls=100)
QUICK = RetryConfig(base_delay=0.01, max_delay=0.01)
TEN_TIMES_REAL_TIME = 0.1

R = TypeVar("R")
Ended = TypeVar("Ended", bound="Outcome")

heard_words = lru_cache(maxsize=200)(words_in)
"""Words in a piece of audio. The audio of most faults is one of a few, and reading it is most of a case's work."""


@dataclass(frozen=True)
class FaultOutcome:
    """Outcome of one utterance, and what it left behind."""

    case: FaultCase
    endpoint: Endpoint
    took: float  # seconds
    error: TTSError | None  # that the caller met with
    account: ReportedUtterance | None
    audio: bytes
    with_sink: int  # bytes of it
    counted: float  # failures in the circuit's window
    requests: int  # that reached the vendor
    charged: int  # characters, by the vendor's own ledger
    attempts: tuple[Attempt, ...]  # at the vendor
    ledger: tuple[LedgerEntry, ...]  # the vendor's own, of these
    bills: dict[str, Any]  # the service's own
    relayed: bool  # at first

    @property
    def failures(self) -> list[TTSError]:
        """Failures at the vendor, attempt by attempt."""
        if self.account is None:
            return [self.error] if self.error else []
        return [attempt.error for attempt in self.attempts if attempt.error and not attempt.refused]

    @property
    def words(self) -> list[str]:
        """Words in the simulator's own voice that can be heard."""
        return heard_words(self.audio, self.case.format)


def is_waiting(case: FaultCase) -> bool:
    """Return whether nothing, or next to nothing, comes for seconds."""
    match case.act:
        case actions.Hang() | actions.HangAfterHeaders() | actions.Drip():
            return True
        case actions.SlowAccept(seconds) | actions.SlowFirstByte(seconds) | actions.Stall(seconds=seconds):
            return seconds is None or seconds > 1.0
    return False


class IntermittentSink:
    """Sink that is closed every third time."""

    def __init__(self) -> None:
        self.held = 0  # bytes, in all
        self._got, self._asked = b"", 0

    def open(self) -> bool:
        self._asked += 1
        return self._asked % 3 > 0

    def write(self, data: bytes) -> None:
        self._got += data
        self.held += len(data)

    def take_chunks(self) -> bytes:
        """Return and clear the chunks collected since the last call."""
        got, self._got = self._got, b""
        return got


def local_voice() -> Provider:
    """Return the best local voice of this machine."""
    try:
        return Espeak(name=LOCAL)
    except TTSConfigurationError:
        return Tone(name=LOCAL)


async def run_case(
    case: FaultCase,
    endpoint: Endpoint,
    local: Provider,
    *,
    by: Callable[..., VendorProvider] = ElevenLabs,
    with_sink: bool = False,
    warm: bool = False,
    **settings: Any,
) -> FaultOutcome:
    """Have one text spoken under one fault. With `with_sink`, chunks go to a sink, except every third one.

    With `warm`, there is a connection to the vendor that has served a healthy request.
    """
    once = partial(_run_once, case, endpoint, local, by=by, with_sink=with_sink, warm=warm, **settings)
    return await run_until_undisturbed(once)


async def _run_once(
    case: FaultCase,
    endpoint: Endpoint,
    local: Provider,
    *,
    by: Callable[..., VendorProvider],
    with_sink: bool,
    warm: bool,
    **settings: Any,
) -> FaultOutcome:
    midway = hasattr(case.act, "after") or isinstance(case.act, WrongLength)
    async with Simulator(
        voice="tones", tls=isinstance(case.act, TlsFailure), real_time_factor=TEN_TIMES_REAL_TIME if midway else 0.0
    ) as sim:
        vendor = by("any-key", name=VENDOR, base_url=sim.url)
        tts = AsyncTTSService([vendor, local], circuit=NEVER_OPENS, retry=QUICK, timeouts=CLOCKS, **settings)
        if warm and endpoint == "synthesize":
            await tts.synthesize(TEXT, format=case.format)
        elif warm:
            assert [chunk async for chunk in tts.stream(TEXT, format=case.format)]
        served = len(sim.ledger)
        sim.faults.set(case.act)
        began = asyncio.get_running_loop().time()
        relays: list[int] = []  # in progress once the request was sent
        asyncio.get_running_loop().call_soon(lambda: relays.append(len(tts.relays)))
        audio, error, sink = b"", None, IntermittentSink()
        account: ReportedUtterance | None = None
        try:
            if endpoint == "synthesize":
                speech = await tts.synthesize(TEXT, format=case.format)
                account, audio = speech, speech.audio
            else:
                account = stream = tts.stream(TEXT, format=case.format)
                async for chunk in stream:
                    audio += sink.take_chunks() + chunk
                    if with_sink:
                        stream.attach_sink(sink)
        except TTSError as failed:
            error = failed
        audio += sink.take_chunks()
        took = asyncio.get_running_loop().time() - began
        counted = tts.get_error_state()["window"]["failures"]
        await vendor.aclose()
        await sim.idle()
        asked = tuple(entry for entry in list(sim.ledger)[served:] if entry.characters)
        attempts = account.attempts if account else ()
        return FaultOutcome(
            case=case,
            endpoint=endpoint,
            took=took,
            error=error,
            account=account,
            audio=audio,
            with_sink=sink.held,
            counted=counted,
            requests=len(asked),
            charged=sum(entry.charged for entry in asked),
            attempts=tuple(attempt for attempt in attempts if attempt.provider == VENDOR),
            ledger=asked,
            bills=tts.get_error_state()["bills"],
            relayed=relays == [1],
        )


async def run_all_cases(
    cases: list[FaultCase],
    *,
    at_once: int = 2,
    by: Callable[..., VendorProvider] = ElevenLabs,
    selected: Container[tuple[FaultCase, Endpoint]] | None = None,
) -> list[FaultOutcome]:
    """Run all cases at both endpoints, or at those `selected`."""

    async def each_way(case: FaultCase, local: Provider) -> list[FaultOutcome]:
        endpoints = [each for each in ENDPOINTS if selected is None or (case, each) in selected]
        return await asyncio.gather(*[run_case(case, endpoint, local, by=by) for endpoint in endpoints])

    return [outcome for outcomes in await run_together(cases, each_way, at_once=at_once) for outcome in outcomes]


class Outcome(Protocol):
    """Outcome of a scenario, as far as it concerns whether to repeat it."""

    @property
    def failures(self) -> list[TTSError]:
        """Failures at the vendor, attempt by attempt."""


async def run_until_undisturbed(once: Callable[[], Awaitable[Ended]]) -> Ended:
    """Run a scenario again while this process got so little processor time that timeouts are not the vendor's.

    Three times at most: the outcome says so then, and no character or circuit is wrong for it.
    """
    for _ in range(3):
        outcome = await once()
        if not any(error.starved for error in outcome.failures):
            break
    return outcome


async def run_together(
    cases: Sequence[FaultCase], run: Callable[[FaultCase, Provider], Awaitable[R]], *, at_once: int = 2
) -> list[R]:
    """Run cases with one local voice: first all that wait for a timeout, and then the others, some at a time.

    A process that is busy when a timeout ends makes the outcome depend on chance, because it excuses the provider.
    """
    busy, local = asyncio.Semaphore(at_once), local_voice()
    waiting = [case for case in cases if is_waiting(case)]

    async def in_turn(case: FaultCase) -> R:
        async with busy:
            return await run(case, local)

    try:
        done = dict(zip(waiting, await asyncio.gather(*[run(case, local) for case in waiting]), strict=True))
        others = [case for case in cases if case not in done]
        done |= zip(others, await asyncio.gather(*map(in_turn, others)), strict=True)
        return [done[case] for case in cases]
    finally:
        await local.aclose()


async def run_each_way(
    case: FaultCase, ways: Sequence[Callable[[], Awaitable[R]]], seen: Callable[[R], object]
) -> list[R]:
    """Run a case in several ways at the same time, to compare what was `seen`.

    How much of a wait is a provider's and how much this process lost is measured by each way for itself, and a drip is
    cut off between two of its chunks: on a busy machine, one way may name another timeout than the other. So a case is
    run again until the ways agree, three times at most. A difference that is not up to chance stays one.
    """
    for _ in range(3):
        outcomes = await asyncio.gather(*[way() for way in ways])
        if all(seen(outcome) == seen(outcomes[0]) for outcome in outcomes):
            break
    return list(outcomes)


def weight_of(failures: Sequence[TTSError]) -> float:
    """Return the weight that a circuit counts for failures: none for those for which this process is to blame.

    Of a process that gets little processor time, timeouts say nothing about the provider.
    """
    return sum(FAILURE_TABLE[error.kind].circuit_weight for error in failures if not error.starved)
