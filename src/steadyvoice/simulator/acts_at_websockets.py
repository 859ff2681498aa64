"""What goes wrong at ElevenLabs' websockets only, as values. Seen in the wild; each docstring says how it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from steadyvoice.simulator.act import WEBSOCKET, Doors, FaultError, check_seconds

SpellingStyle = Literal["documented", "mixed"]
"""All in snake_case as the documentation's examples have it, or only `context_id`."""


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """Let the client in, and then be gone without a word: no answer, no pong, no close, nothing charged."""

    doors: ClassVar[Doors] = WEBSOCKET


@dataclass(frozen=True, slots=True)
class IdleTimeout:
    """Say at once that no text came in time, and close with 1008."""

    doors: ClassVar[Doors] = WEBSOCKET


@dataclass(frozen=True, slots=True)
class FinalWithoutAudio:
    """End each text with `isFinal`, no audio and no error: how the multi-context websocket is out of credit."""

    doors: ClassVar[Doors] = WEBSOCKET


@dataclass(frozen=True, slots=True)
class Restart:
    """Close with 1012, service restart, in the middle."""

    doors: ClassVar[Doors] = WEBSOCKET
    after: float = 0.0

    def __post_init__(self) -> None:
        check_seconds(self, "after")


@dataclass(frozen=True, slots=True)
class OtherSpelling:
    """Spell as the documentation's examples do: `is_final`, `context_id`, `charsDurationsMs`; or mix the two spellings
    as the multi-context websocket has been seen to do: `context_id` with `isFinal`.
    """

    doors: ClassVar[Doors] = WEBSOCKET
    style: SpellingStyle = "documented"

    def __post_init__(self) -> None:
        if self.style not in get_args(SpellingStyle):
            raise FaultError(f"style: one of {', '.join(get_args(SpellingStyle))}, got {self.style!r}", "style")


@dataclass(frozen=True, slots=True)
class AbsoluteTimes:
    """Count characters' times from the beginning of the text, not from that of each message's audio."""

    doors: ClassVar[Doors] = WEBSOCKET


@dataclass(frozen=True, slots=True)
class BigFrame:
    """Blow the first message up beyond the 1 MiB that Python's `websockets` takes: with blanks, so it stays true."""

    doors: ClassVar[Doors] = WEBSOCKET
    bytes: int = 1_100_000

    def __post_init__(self) -> None:
        if not 1 <= self.bytes <= 64 * 1024 * 1024:
            raise FaultError(f"bytes: from 1 to 64 MiB, got {self.bytes}", "bytes")
