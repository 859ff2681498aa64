"""Speech orders: text, synthesis options and body format, whatever the dialect."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from typing import Any, NamedTuple

from steadyvoice.service.options import ResolvedOptions, SynthesisOptions
from steadyvoice.speech.errors import TTSBadRequestError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.text import clean_text
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue, parse_document

_OPTION_HEADERS = tuple(
    b"x-steadyvoice-" + name for name in (b"deadline", b"on-midstream", b"voice-substitution", b"cache")
)
_MAX_CACHED = 256  # orders
_MAX_KEY_CHARACTERS = 1_000  # characters, of what is asked for besides the text


class RawRequest(NamedTuple):
    """What a door got: the voice in its path if there is one, and the rest as it came."""

    voice: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes


class BodyFormat(Enum):
    """How audio goes over the wire."""

    AUDIO = "bare"
    TIMESTAMPS = "timed"  # JSON objects with each character's times
    EVENTS = "events"  # server-sent events


@dataclass(frozen=True, slots=True)
class SpeechOrder:
    """One utterance as it was ordered: its text, and how it is to be said.

    `whole`: nobody hears it before it is complete.
    """

    text: str
    style: ResolvedOptions
    body_format: BodyFormat = BodyFormat.AUDIO
    whole: bool = False

    @property
    def format(self) -> AudioFormat:
        return self.style.request.format

    @property
    def content_type(self) -> str:
        match self.body_format:
            case BodyFormat.AUDIO:
                return self.format.mime_type
            case BodyFormat.TIMESTAMPS:
                return "application/json"
            case BodyFormat.EVENTS:
                return "text/event-stream; charset=utf-8"


class SpeechOrderParser:
    """Reads orders, and remembers the last few but for their texts: most callers ask for the same again and again.

    The text is in the `field` of a body; `read` makes an order of all that came, the body as a document.
    """

    def __init__(self, field: str, read: Callable[[RawRequest, dict[str, Any]], SpeechOrder]) -> None:
        self._field, self._read = field, read
        self._known: dict[Hashable, tuple[ResolvedOptions, BodyFormat, bool]] = {}

    def order(self, asked: RawRequest) -> SpeechOrder:
        """Raises RequestValidationError and TTSError."""
        document = parse_document(asked.body)
        has_text = self._field in document
        text = document.pop(self._field, None)
        key = (asked.voice, asked.query, *map(asked.headers.get, _OPTION_HEADERS), repr(document))
        if isinstance(text, str) and (known := self._known.get(key)):
            return SpeechOrder(validated_text(text, self._field), *known)
        if has_text:
            document[self._field] = text
        order = self._read(asked, document)
        self._remember(key, order)
        return order

    def _remember(self, key: tuple[Any, ...], order: SpeechOrder) -> None:
        if len(key[-1]) > _MAX_KEY_CHARACTERS:
            return
        if len(self._known) >= _MAX_CACHED:
            del self._known[next(iter(self._known))]
        self._known[key] = (order.style, order.body_format, order.whole)


def validated_text(text: str, field: str) -> str:
    """The text as it will be spoken. Raises RequestValidationError, which names the field, when that is nothing."""
    clean = clean_text(text)
    if not clean.strip():
        raise RequestValidationError(
            [ValidationIssue("string_too_short", ("body", field), "String should have at least 1 character", text)]
        )
    return clean


def header_options(headers: Mapping[bytes, bytes]) -> SynthesisOptions:
    """What is asked in the gateway's own headers, whatever the dialect. Raises TTSBadRequestError.

    `x-steadyvoice-deadline` (seconds), `-on-midstream`, `-voice-substitution` and `-cache` (`no`: neither look there
    nor keep it).
    """
    deadline, midstream, substitution, cache = (_header_text(headers, name) for name in _OPTION_HEADERS)
    wishes = SynthesisOptions()
    if deadline is not None:
        wishes["deadline"] = _seconds(deadline)
    match midstream:
        case None:
            pass
        case "resume" | "restart" | "error" as what:
            wishes["on_midstream"] = what
        case _:
            raise TTSBadRequestError("x-steadyvoice-on-midstream: must be resume, restart or error")
    match substitution:
        case None:
            pass
        case "any" | "never" as which:
            wishes["voice_substitution"] = which
        case _:
            raise TTSBadRequestError("x-steadyvoice-voice-substitution: must be any or never")
    match cache:
        case None | "yes":
            pass
        case "no":
            wishes["cache"] = False
        case _:
            raise TTSBadRequestError("x-steadyvoice-cache: must be yes or no")
    return wishes


def _header_text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1").strip()


def _seconds(said: str) -> float:
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not (isfinite(seconds) and seconds > 0):
        raise TTSBadRequestError("x-steadyvoice-deadline: must be a number of seconds, more than 0")
    return seconds
