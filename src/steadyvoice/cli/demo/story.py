"""The story, as data: what is said when, and what happens to the voices meanwhile. It is told in `play`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from steadyvoice.breaker import CircuitBreakerConfig, CircuitState
from steadyvoice.cli.demo.chronicle import Chronicle, Move
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.retry import RetryConfig

VENDOR, BACKUP = "elevenlabs", "backup"


class Happening(Enum):
    """What befalls a voice; the value is how it behaves from then on: a word or two, and more after a colon."""

    CUTS_SHORT = "cuts short: it stops in the middle, and calls that a success"
    FAILS = "answers 503"
    HANGS = "hangs: it accepts, and never answers"
    RECOVERS = "is well again"
    BACKUP_GOES = "is gone: somebody unplugged it"
    BACKUP_RETURNS = "is back: somebody plugged it in again"


@dataclass(frozen=True, slots=True)
class Cue:
    """Something happens at a second of the story."""

    at: float
    what: Happening


@dataclass(frozen=True, slots=True)
class Line:
    """Something is said at a second of the story; or as soon as the vendor's cooldown is over, if that is later."""

    at: float
    text: str
    after_cooldown: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """A morning in half a minute. `scale` stretches or shrinks every time in it, the circuit's and the clocks' too."""

    lines: tuple[Line, ...]
    cues: tuple[Cue, ...]
    length: float
    circuit: CircuitBreakerConfig
    timeouts: TimeoutConfig
    retry: RetryConfig

    @classmethod
    def usual(cls, scale: float = 1.0) -> Story:
        """The one that `steadyvoice demo` tells."""
        return Story(
            lines=tuple(replace(line, at=line.at * scale) for line in _LINES),
            cues=tuple(replace(cue, at=cue.at * scale) for cue in _CUES),
            length=_LENGTH * scale,
            circuit=CircuitBreakerConfig(
                failure_threshold=0.5,
                window_size=6,
                cooldown_period=3.0 * scale,
                cooldown_backoff=2.0,
                success_threshold=2,
            ),
            timeouts=TimeoutConfig(first_audio_timeout=1.5 * scale),
            retry=RetryConfig(base_delay=0.1 * scale),
        )


_LINES = (
    Line(0.0, "Good morning. This is the first voice, and all is well."),
    Line(1.6, "It belongs to a vendor, and it answers quickly."),
    Line(3.2, "An application that speaks has few worries today."),
    Line(5.0, "Now the vendor stops in the middle of its sentences. The backup says the whole of this one."),
    Line(7.0, "Now it answers with errors. That is one failure too many, and its circuit opens."),
    Line(8.2, "While the circuit is open, nobody waits for the vendor."),
    Line(9.2, "The backup speaks at once."),
    Line(11.6, "The cooldown is over. One call asks the vendor again, but it hangs: back to the backup.", True),
    Line(13.8, "The circuit is open again, and for longer this time."),
    Line(15.4, "Now the backup is gone as well. This sentence is silence, and does not pretend otherwise."),
    Line(17.0, "The backup is back. The vendor is still left alone."),
    Line(20.2, "The vendor is well again, and a single call has found out. This is its own voice.", True),
    Line(21.8, "A second call agrees, and the circuit closes."),
    Line(23.4, "The first voice is back, and nobody had to do anything."),
    Line(25.0, "Good night."),
)

_CUES = (
    Cue(4.4, Happening.CUTS_SHORT),
    Cue(6.4, Happening.FAILS),
    Cue(10.4, Happening.HANGS),
    Cue(14.8, Happening.BACKUP_GOES),
    Cue(16.4, Happening.BACKUP_RETURNS),
    Cue(18.0, Happening.RECOVERS),
)

_LENGTH = 26.0


def untold(chronicle: Chronicle) -> list[str]:
    """What should have happened, and did not. Nothing: the story is true."""
    path = [move.after for move in chronicle.moves if move.circuit == VENDOR]
    heard = [(answer.outcome, answer.provider) for answer in chronicle.answers]
    expected = {
        "the vendor's circuit opens, reopens after a failed probe, and closes again": path == _PATH,
        "the second cooldown is longer than the first": _longer_each_time(chronicle.moves),
        "an open circuit refuses calls": any(answer.refusals for answer in chronicle.answers),
        "the backup speaks while the vendor cannot": ("substituted", BACKUP) in heard,
        "without any voice there is silence": ("muted", None) in heard,
        "the first voice speaks at the end": heard[-1:] == [("spoken", VENDOR)],
    }
    return [what for what, happened in expected.items() if not happened]


_PATH = [
    CircuitState.OPEN,
    CircuitState.HALF_OPEN,
    CircuitState.OPEN,
    CircuitState.HALF_OPEN,
    CircuitState.CLOSED,
]


def _longer_each_time(moves: tuple[Move, ...]) -> bool:
    cooldowns = [move.retry_after or 0.0 for move in moves if move.after is CircuitState.OPEN]
    return len(cooldowns) > 1 and cooldowns == sorted(set(cooldowns))
