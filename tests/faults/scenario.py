"""Lives through one bad day: the vendor fails in one way, the service speaks, and everything is written down.

Real sockets and real time, kept short by short clocks; how long they are changes nothing that is written down.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

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
from steadyvoice.service.pipeline.timeouts import LOCAL_GRACE
from steadyvoice.service.result import Attempt, ReportedUtterance
from steadyvoice.simulator import Simulator, words_in
from steadyvoice.simulator.fault_injection.actions import TlsFailure, WrongLength
from steadyvoice.simulator.ledger import LedgerEntry

from .fault_cases import BadDay

Door = Literal["synthesize", "stream"]
DOORS: tuple[Door, ...] = ("synthesize", "stream")

TEXT = "The quick brown fox jumps over the lazy dog, and nobody who saw it is any the wiser."
VENDOR, LOCAL = "elevenlabs", "local"

CLOCKS = TimeoutConfig(
    connection_timeout=2.0, first_audio_timeout=3.0, stall_timeout=2.0, slow_timeout=0.75, total_timeout=6.0
)
DEADLINE = CLOCKS.total_timeout + LOCAL_GRACE
NEVER_OPENS = CircuitBreakerConfig(window_size=100, minimum_calls=100)
QUICK = RetryConfig(base_delay=0.01, max_delay=0.01)
TEN_TIMES_REAL_TIME = 0.1


@dataclass(frozen=True)
class Fate:
    """What became of one utterance, and what it left behind."""

    day: BadDay
    door: Door
    took: float  # seconds
    error: TTSError | None  # that the caller met with
    account: ReportedUtterance | None
    audio: bytes
    poured: int  # bytes of it
    counted: float  # failures in the circuit's window
    requests: int  # that reached the vendor
    charged: int  # characters, by the vendor's own ledger
    attempts: tuple[Attempt, ...]  # at the vendor
    ledger: tuple[LedgerEntry, ...]  # the vendor's own, of these
    bills: dict[str, Any]  # the service's own

    @property
    def failures(self) -> list[TTSError]:
        """What went wrong at the vendor, attempt by attempt."""
        if self.account is None:
            return [self.error] if self.error else []
        return [attempt.error for attempt in self.attempts if attempt.error and not attempt.refused]

    @property
    def words(self) -> list[str]:
        """What can be heard in the simulator's own voice."""
        return words_in(self.audio, self.day.format)


class Bucket:
    """An outlet that is closed every third time."""

    def __init__(self) -> None:
        self.held = 0  # bytes, in all
        self._got, self._asked = b"", 0

    def open(self) -> bool:
        self._asked += 1
        return self._asked % 3 > 0

    def write(self, data: bytes) -> None:
        self._got += data
        self.held += len(data)

    def emptied(self) -> bytes:
        """What has been poured since."""
        got, self._got = self._got, b""
        return got


def local_voice() -> Provider:
    """The best this machine has."""
    try:
        return Espeak(name=LOCAL)
    except TTSConfigurationError:
        return Tone(name=LOCAL)


async def live_through(
    day: BadDay,
    door: Door,
    local: Provider,
    *,
    by: type[ElevenLabs] = ElevenLabs,
    poured: bool = False,
    **settings: Any,
) -> Fate:
    """Have one text spoken on one bad day; what may be is `poured`, but for every third piece."""
    midway = hasattr(day.act, "after") or isinstance(day.act, WrongLength)
    async with Simulator(
        voice="tones", tls=isinstance(day.act, TlsFailure), real_time_factor=TEN_TIMES_REAL_TIME if midway else 0.0
    ) as sim:
        sim.faults.set(day.act)
        vendor = by("any", name=VENDOR, base_url=sim.url)
        tts = AsyncTTSService([vendor, local], circuit=NEVER_OPENS, retry=QUICK, timeouts=CLOCKS, **settings)
        began = asyncio.get_running_loop().time()
        audio, error, bucket = b"", None, Bucket()
        account: ReportedUtterance | None = None
        try:
            if door == "synthesize":
                speech = await tts.synthesize(TEXT, format=day.format)
                account, audio = speech, speech.audio
            else:
                account = stream = tts.stream(TEXT, format=day.format)
                async for chunk in stream:
                    audio += bucket.emptied() + chunk
                    if poured:
                        stream.attach_sink(bucket)
        except TTSError as failed:
            error = failed
        audio += bucket.emptied()
        took = asyncio.get_running_loop().time() - began
        counted = tts.get_error_state()["window"]["failures"]
        await vendor.aclose()
        await sim.idle()
        asked = tuple(entry for entry in sim.ledger if entry.endpoint.startswith("text-to-speech"))
        attempts = account.attempts if account else ()
        return Fate(
            day=day,
            door=door,
            took=took,
            error=error,
            account=account,
            audio=audio,
            poured=bucket.held,
            counted=counted,
            requests=len(asked),
            charged=sum(entry.charged for entry in asked),
            attempts=tuple(attempt for attempt in attempts if attempt.provider == VENDOR),
            ledger=asked,
            bills=tts.get_error_state()["bills"],
        )


async def live_through_all(days: list[BadDay], *, at_once: int = 2) -> list[Fate]:
    """Live through them all, several at a time, for most of each is waiting."""
    places = asyncio.Semaphore(at_once)
    local = local_voice()

    async def one(day: BadDay, door: Door) -> Fate:
        async with places:
            return await live_through(day, door, local)

    try:
        return await asyncio.gather(*(one(day, door) for day in days for door in DOORS))
    finally:
        await local.aclose()
