"""What a caller asks of a speech door, read from either dialect: a text, wishes, and how the audio is to be wrapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import isfinite

from steadyvoice.service.wishes import Wishes
from steadyvoice.speech.errors import TTSBadRequestError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.text import cleaned
from steadyvoice.wire.issues import Issue, UnreadableRequestError


class Wrapping(Enum):
    """How audio goes over the wire."""

    BARE = "bare"
    TIMED = "timed"  # JSON objects with each character's times
    EVENTS = "events"  # server-sent events


@dataclass(frozen=True, slots=True)
class Order:
    """One utterance as it was ordered. `whole`: nobody hears it before it is complete."""

    text: str
    format: AudioFormat
    wishes: Wishes
    wrapping: Wrapping = Wrapping.BARE
    whole: bool = False

    @property
    def content_type(self) -> str:
        match self.wrapping:
            case Wrapping.BARE:
                return self.format.mime_type
            case Wrapping.TIMED:
                return "application/json"
            case Wrapping.EVENTS:
                return "text/event-stream; charset=utf-8"


def spoken_text(text: str, field: str) -> str:
    """The text as it will be spoken. Raises UnreadableRequestError, which names the field, when that is nothing."""
    clean = cleaned(text)
    if not clean.strip():
        raise UnreadableRequestError(
            [Issue("string_too_short", ("body", field), "String should have at least 1 character", text)]
        )
    return clean


def own_wishes(headers: Mapping[bytes, bytes]) -> Wishes:
    """What is asked in the gateway's own headers, whatever the dialect. Raises TTSBadRequestError.

    `x-steadyvoice-deadline` (seconds), `-on-midstream`, `-voice-substitution` and `-cache` (`no`: neither look there
    nor keep it).
    """
    wishes = Wishes()
    if (deadline := _said(headers, b"deadline")) is not None:
        wishes["deadline"] = _seconds(deadline)
    match _said(headers, b"on-midstream"):
        case None:
            pass
        case "resume" | "restart" | "error" as what:
            wishes["on_midstream"] = what
        case _:
            raise TTSBadRequestError("x-steadyvoice-on-midstream: must be resume, restart or error")
    match _said(headers, b"voice-substitution"):
        case None:
            pass
        case "any" | "never" as which:
            wishes["voice_substitution"] = which
        case _:
            raise TTSBadRequestError("x-steadyvoice-voice-substitution: must be any or never")
    match _said(headers, b"cache"):
        case None | "yes":
            pass
        case "no":
            wishes["cache"] = False
        case _:
            raise TTSBadRequestError("x-steadyvoice-cache: must be yes or no")
    return wishes


def _said(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(b"x-steadyvoice-" + name)
    return None if value is None else value.decode("latin-1").strip()


def _seconds(said: str) -> float:
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not (isfinite(seconds) and seconds > 0):
        raise TTSBadRequestError("x-steadyvoice-deadline: must be a number of seconds, more than 0")
    return seconds
