"""Scenario of one fault at a websocket: an answer is spoken while it is written, and the outcome is recorded.

Real sockets and real time with short timeouts; their length does not change the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

from steadyvoice import AsyncTTSService, Audio, ElevenLabs, Tone, TTSError, Words
from steadyvoice.service.result import Attempt
from steadyvoice.simulator import Simulator
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.actions import ACTIONS, FaultAction, FaultTarget, action_name
from steadyvoice.wire.elevenlabs.errors import CODES

from .fault_cases import AFTER, LATE, FaultCase
from .scenario import (
    CLOCKS,
    LOCAL,
    NEVER_OPENS,
    QUICK,
    TEN_TIMES_REAL_TIME,
    VENDOR,
    heard_words,
    run_together,
    run_until_undisturbed,
)

SENTENCES = ("The quick brown fox jumps over the lazy dog, and nobody saw it. ", "Tomorrow it will do it again. ")
TEXT = "".join(SENTENCES)
FORMAT = "pcm_16000"

CLOSE_CODES = (1000, 1001, 1002, 1008, 1009, 1011, 1012, 1013, 4401)

_VARIANTS: dict[type[FaultAction], tuple[FaultAction, ...]] = {
    actions.SlowFirstByte: (actions.SlowFirstByte(0.1), actions.SlowFirstByte(60.0)),
    actions.Stall: (actions.Stall(AFTER), actions.Stall(AFTER, seconds=0.1)),
    actions.Drip: (actions.Drip(), actions.Drip(bytes=8001, every=0.01)),
    actions.Reset: (actions.Reset(), actions.Reset(AFTER)),
    actions.Restart: (actions.Restart(AFTER),),
    actions.Cut: (actions.Cut(AFTER), actions.Cut(LATE)),
    actions.CutTerminated: (actions.CutTerminated(AFTER), actions.CutTerminated(LATE)),
    actions.HalfLine: (actions.HalfLine(AFTER), actions.HalfLine(LATE)),
    actions.ErrorLine: (actions.ErrorLine(after=AFTER), actions.ErrorLine(after=LATE)),
    actions.Close: tuple(actions.Close(code, AFTER) for code in CLOSE_CODES),
    actions.OtherSpelling: (actions.OtherSpelling(), actions.OtherSpelling("mixed")),
    actions.Refuse: (
        *(actions.Refuse(code) for code in CODES),
        *(actions.Refuse(status=status) for status in (429, 500, 503)),
    ),
}

WEBSOCKET_CASES = [
    FaultCase(act, FORMAT)
    for kind in ACTIONS.values()
    if FaultTarget.WEBSOCKET in kind.targets
    for act in _VARIANTS.get(kind, (kind(),))
]


@dataclass(frozen=True)
class TurnOutcome:
    """Outcome of one turn, and what it left behind."""

    case: FaultCase
    outcome: str  # of the turn
    error: Exception | None
    audio: bytes
    words: tuple[str, ...]  # that were announced
    late_words: int  # that were announced after their audio
    counted: float  # failures in the circuit's window
    charged: int  # characters, by the vendor's own ledger
    attempts: tuple[Attempt, ...]  # at the vendor
    running: int  # concurrent requests that the vendor still has

    @property
    def heard(self) -> list[str]:
        """Words that can be heard, of either voice."""
        return heard_words(self.audio, FORMAT)

    @property
    def failures(self) -> list[TTSError]:
        """Failures at the vendor, attempt by attempt."""
        return [each.error for each in self.attempts if each.error and not each.refused]


async def run_case(case: FaultCase) -> TurnOutcome:
    """Have one answer spoken under one fault, word by word."""
    return await run_until_undisturbed(partial(_run_once, case))


async def _run_once(case: FaultCase) -> TurnOutcome:
    paced = any(field.name in ("after", "every") for field in fields(case.act))
    async with Simulator(voice="tones", real_time_factor=TEN_TIMES_REAL_TIME if paced else 0.0) as sim:
        sim.faults.set(case.act)
        vendor = ElevenLabs("any", name=VENDOR, base_url=sim.url)
        tts = AsyncTTSService(
            [vendor, Tone(name=LOCAL)], circuit=NEVER_OPENS, retry=QUICK, timeouts=CLOCKS, muted=False
        )
        turn = tts.conversation(format=FORMAT).turn()
        for word in TEXT.split():
            turn.push(f"{word} ")
        turn.end()
        audio, error, late = b"", None, 0
        words: list[str] = []
        try:
            async for event in turn:
                match event:
                    case Audio():
                        audio += event.data
                    case Words(reported):
                        words += [word.text for word in reported]
                        late += sum(word.start < len(audio) / 32_000 - 0.001 for word in reported)
        except TTSError as failed:
            error = failed
        counted = tts.get_error_state()["window"]["failures"]
        report = turn.report
        await tts.aclose()
        await vendor.aclose()
        await sim.idle()
        sockets = [entry for entry in sim.ledger if entry.endpoint.endswith("multi-stream-input")]
        return TurnOutcome(
            case=case,
            outcome=turn.outcome,
            error=error,
            audio=audio,
            words=tuple(words),
            late_words=late,
            counted=counted,
            charged=sum(entry.charged for entry in sockets),
            attempts=tuple(attempt for attempt in report.attempts if attempt.provider == VENDOR),
            running=sim.request_limit.running,
        )


async def run_all_websocket_cases() -> list[TurnOutcome]:
    """Run all cases, many at a time: a turn takes two seconds, of which it works for some milliseconds."""
    return await run_together(WEBSOCKET_CASES, lambda case, local: run_case(case), at_once=6)


def name_of(case: FaultCase) -> str:
    """Return the fault as the page names it."""
    if isinstance(case.act, actions.Refuse):
        return f"{action_name(case.act)} ({case.act.code or case.act.status})"
    if isinstance(case.act, actions.Close):
        return f"{action_name(case.act)} (code={case.act.code}, after={case.act.after})"
    return case.fault
