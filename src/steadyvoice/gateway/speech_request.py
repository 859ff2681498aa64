"""Speech orders of all dialects: text within its length limit, options (also `x-steadyvoice-` headers), format."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

import msgspec

from steadyvoice._option_rules import POSITIVE_SECONDS
from steadyvoice.service.options import ResolvedOptions, SynthesisOptions
from steadyvoice.speech.errors import TTSBadRequestError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.text import clean_text
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue, parse_document

_OPTION_HEADERS = tuple(
    b"x-steadyvoice-" + name for name in (b"deadline", b"on-midstream", b"voice-substitution", b"cache")
)
_MAX_CACHED = 256  # orders
_MAX_KEY_CHARACTERS = 1_000  # of the options besides the text


class RawRequest(NamedTuple):
    """Request before it is parsed; `voice` is the one in its path, or empty."""

    voice: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes


new_raw_request = partial(tuple.__new__, RawRequest)  # a Python call less than the class


class BodyFormat(Enum):
    """Format of a response body."""

    AUDIO = "audio"
    TIMESTAMPS = "timestamps"  # JSON with the audio in base64 and timestamps of each character
    EVENTS = "events"  # server-sent events


class GatewaySpeechRequest(msgspec.Struct, frozen=True):
    """Utterance that a request asks for: its text, synthesis options and body format.

    `buffered`: the client gets no byte before the utterance is complete.
    """

    text: str
    options: ResolvedOptions
    body_format: BodyFormat = BodyFormat.AUDIO
    buffered: bool = False

    @property
    def format(self) -> AudioFormat:
        """Audio format."""
        return self.options.request.format

    @property
    def content_type(self) -> str:
        """Content type of the response."""
        match self.body_format:
            case BodyFormat.AUDIO:
                return self.format.mime_type
            case BodyFormat.TIMESTAMPS:
                return "application/json"
            case BodyFormat.EVENTS:
                return "text/event-stream; charset=utf-8"


class SpeechOrderParser:
    """Parser of a dialect's requests, with a cache of parsed options.

    Most callers send the same options with every text; the options of the last 256 requests are kept, without texts.
    `field` is the name of the text in a body; `read` parses a complete request.
    """

    def __init__(self, field: str, read: Callable[[RawRequest, dict[str, Any]], GatewaySpeechRequest]) -> None:
        self._field, self._read = field, read
        self._cache: dict[Hashable, tuple[ResolvedOptions, BodyFormat, bool]] = {}

    def parse(self, request: RawRequest) -> GatewaySpeechRequest:
        """Parse a request. Raises RequestValidationError and TTSError."""
        document = parse_document(request.body)
        has_text = self._field in document
        text = document.pop(self._field, None)
        key = (request.voice, request.query, *map(request.headers.get, _OPTION_HEADERS), repr(document))
        if isinstance(text, str) and (cached := self._cache.get(key)):
            return GatewaySpeechRequest(validated_text(text, self._field), *cached)
        if has_text:
            document[self._field] = text
        order = self._read(request, document)
        self._store(key, order)
        return order

    def _store(self, key: tuple[Any, ...], order: GatewaySpeechRequest) -> None:
        if len(key[-1]) > _MAX_KEY_CHARACTERS:
            return
        # The oldest entry goes; dictionaries keep insertion order.
        if len(self._cache) >= _MAX_CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = (order.options, order.body_format, order.buffered)


def validated_text(text: str, field: str) -> str:
    """Return the cleaned text. Raises RequestValidationError, which names `field`, when nothing is left of it."""
    clean = text.strip() if text.isprintable() else clean_text(text)
    if not clean.strip():
        raise RequestValidationError(
            [ValidationIssue("string_too_short", ("body", field), "String should have at least 1 character", text)]
        )
    return clean


def header_options(headers: Mapping[bytes, bytes]) -> SynthesisOptions:
    """Return the synthesis options in the gateway's own headers, in any dialect. Raises TTSBadRequestError.

    The headers are `x-steadyvoice-deadline` (seconds), `-on-midstream`, `-voice-substitution` and `-cache` (`no`:
    neither read from the cache nor write to it).
    """
    deadline, midstream, substitution, cache = (_header_text(headers, name) for name in _OPTION_HEADERS)
    options = SynthesisOptions()
    if deadline is not None:
        options["deadline"] = _seconds(deadline)
    match midstream:
        case None:
            pass
        case "resume" | "restart" | "error" as what:
            options["on_midstream"] = what
        case _:
            raise TTSBadRequestError("x-steadyvoice-on-midstream: must be resume, restart or error")
    match substitution:
        case None:
            pass
        case "any" | "never" as which:
            options["voice_substitution"] = which
        case _:
            raise TTSBadRequestError("x-steadyvoice-voice-substitution: must be any or never")
    match cache:
        case None | "yes":
            pass
        case "no":
            options["cache"] = False
        case _:
            raise TTSBadRequestError("x-steadyvoice-cache: must be yes or no")
    return options


def turn_options(options: SynthesisOptions, headers: Mapping[bytes, bytes]) -> SynthesisOptions:
    """Return the options of a turn, those of the gateway's headers included. A turn is always resumed, never cached."""
    combined = options | header_options(headers)
    combined.pop("on_midstream", None)
    combined.pop("cache", None)
    return combined


def _header_text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1").strip()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not POSITIVE_SECONDS.accepts(seconds):
        raise TTSBadRequestError(f"x-steadyvoice-deadline: {POSITIVE_SECONDS.expected}")
    return seconds
