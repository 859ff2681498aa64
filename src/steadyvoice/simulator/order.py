"""What is to be spoken and how it is to be wrapped, whichever door it came through."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from steadyvoice.speech.format import AudioFormat
from steadyvoice.wire.elevenlabs.dialogue import DialogueLine


class Wrapping(Enum):
    """How audio travels in an HTTP body."""

    WHOLE = "whole"  # with a Content-Length
    STREAM = "stream"  # chunked
    TIMED = "timed"  # one JSON object with character times
    TIMED_STREAM = "timed stream"  # such objects, one a line
    EVENTS = "events"  # server-sent


@dataclass(frozen=True, slots=True)
class Order:
    """One synthesis."""

    endpoint: str
    text: str
    voice: str  # the vendor's id
    model: str
    format: AudioFormat
    wrapping: Wrapping
    seed: int = 0
    speed: float = 1.0
    lines: tuple[DialogueLine, ...] = ()  # of a dialogue; `text` is all of them, `voice` the first one's
