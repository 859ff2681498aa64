"""ElevenLabs websockets: query, client messages and server messages.

https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-stream-input, and
multi-stream-input. Every message is JSON in a text frame; audio is base64 inside.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import ELEVENLABS_FORMAT_NAMES
from steadyvoice.wire.elevenlabs.catalog import DEFAULT_MODEL
from steadyvoice.wire.elevenlabs.speech import DEFAULT_FORMAT
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue, parse_document

FORMATS = tuple(
    name
    for name in ELEVENLABS_FORMAT_NAMES
    if not name.startswith("wav_") and name not in ("mp3_24000_48", "pcm_32000", "pcm_48000")
)
"""Values of `output_format`, fewer than over HTTP."""

DEFAULT_SCHEDULE = (120.0, 160.0, 250.0, 290.0)
SHORTEST_CHUNK, LONGEST_CHUNK = 50.0, 500.0
"""Limits of `chunk_length_schedule`, in characters."""

DEFAULT_INACTIVITY, LONGEST_INACTIVITY = 20.0, 180.0  # seconds
MAX_CONTEXTS = 5
POLICY_VIOLATION = 1008
"""Close code of every refusal."""


class SocketEndpoint(Enum):
    """Websocket endpoint; the value is the end of its path."""

    SINGLE = "/stream-input"
    MULTI = "/multi-stream-input"


@dataclass(frozen=True, slots=True)
class SocketParameters:
    """Parameters of a connection, from its query. `inactivity_timeout` is in seconds."""

    model_id: str = DEFAULT_MODEL
    output_format: str = DEFAULT_FORMAT
    inactivity_timeout: float = DEFAULT_INACTIVITY
    auto_mode: bool = False
    seed: int | None = None
    language_code: str | None = None
    api_key: str | None = None


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """Message of a client. Absent fields are None or False."""

    text: str | None = None
    context_id: str | None = None
    flush: bool = False
    try_trigger_generation: bool = False
    close_context: bool = False
    close_socket: bool = False
    voice_settings: Mapping[str, Any] | None = None
    chunk_length_schedule: tuple[float, ...] | None = None
    api_key: str | None = None


def parse_query(query: Mapping[str, str]) -> SocketParameters:
    """Parse a connection's query. Raises RequestValidationError."""
    issues: list[ValidationIssue] = []
    output_format = query.get("output_format") or DEFAULT_FORMAT
    if output_format not in FORMATS:
        expected = f"Input should be one of {', '.join(FORMATS)}"
        issues.append(ValidationIssue("enum", ("query", "output_format"), expected, output_format))
    timeout = _number_in(query, "inactivity_timeout", LONGEST_INACTIVITY, issues)
    seed = _number_in(query, "seed", 2**32 - 1, issues)
    call = SocketParameters(
        query.get("model_id") or DEFAULT_MODEL,
        output_format,
        DEFAULT_INACTIVITY if timeout is None else timeout,
        _flag_in(query, "auto_mode", issues),
        None if seed is None else int(seed),
        query.get("language_code"),
        query.get("authorization") or query.get("single_use_token") or query.get("xi-api-key"),
    )
    for name in ("enable_logging", "enable_ssml_parsing", "sync_alignment"):
        _flag_in(query, name, issues)
    if issues:
        raise RequestValidationError(issues)
    return call


def parse_message(frame: str) -> ClientMessage:
    """Parse a client's message, in snake_case or camelCase; null counts as absent.

    Raises RequestValidationError.
    """
    # Half of a surrogate pair passes here, so that it is refused below with the name of its field.
    document = parse_document(frame.encode("utf-8", "surrogatepass"))
    issues: list[ValidationIssue] = []
    message = ClientMessage(
        _field(str, document, issues, "text"),
        _field(str, document, issues, "context_id", "contextId"),
        _field(bool, document, issues, "flush") or False,
        _field(bool, document, issues, "try_trigger_generation", "tryTriggerGeneration") or False,
        _field(bool, document, issues, "close_context", "closeContext") or False,
        _field(bool, document, issues, "close_socket", "closeSocket") or False,
        _field(dict, document, issues, "voice_settings", "voiceSettings"),
        _schedule(_field(dict, document, issues, "generation_config", "generationConfig", "generator_config"), issues),
        _field(str, document, issues, "xi_api_key", "xi-api-key", "xiApiKey", "authorization"),
    )
    if issues:
        raise RequestValidationError(issues)
    return message


class FieldSpelling(Enum):
    """Spelling of the server's fields. Clients should accept all of them, for servers have sent each."""

    USUAL = "usual"  # contextId, isFinal, charDurationsMs: as the SDK has it
    DOCUMENTED = "documented"  # context_id, is_final, charsDurationsMs: as the documentation's examples do
    MIXED = "mixed"  # context_id with isFinal, as LiveKit received it: https://github.com/livekit/agents/pull/5813


@dataclass(frozen=True, slots=True)
class AudioMessage:
    """Message with audio. Alignments are in seconds from the beginning of its audio; `context_id` is for MULTI only."""

    audio: bytes
    alignment: Alignment | None = None
    normalized: Alignment | None = None
    context_id: str | None = None


@dataclass(frozen=True, slots=True)
class FinalMessage:
    """Final message of a text, or of a context."""

    context_id: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """Error message, after which the connection is closed with `code`."""

    error: str
    message: str
    code: int = POLICY_VIOLATION


def encode_message(
    message: AudioMessage | FinalMessage | ErrorMessage, spelling: FieldSpelling = FieldSpelling.USUAL
) -> str:
    """Encode a server's message. Times are rounded to milliseconds, so that adjacent characters still meet."""
    match message:
        case ErrorMessage(error, text, code):
            return json.dumps({"message": text, "error": error, "code": code})
        case AudioMessage(audio, alignment, normalized, context_id):
            document: dict[str, Any] = {
                "audio": base64.b64encode(audio).decode("ascii"),
                "alignment": _encode_alignment(alignment, spelling),
                "normalizedAlignment": _encode_alignment(normalized, spelling),
            }
            final = None
        case FinalMessage(context_id):
            document = {} if context_id is not None else {"audio": None, "alignment": None, "normalizedAlignment": None}
            final = True
    if final or context_id is None:
        document["is_final" if spelling is FieldSpelling.DOCUMENTED else "isFinal"] = final
    if context_id is not None:
        document["contextId" if spelling is FieldSpelling.USUAL else "context_id"] = context_id
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _encode_alignment(alignment: Alignment | None, spelling: FieldSpelling) -> dict[str, Any] | None:
    if alignment is None:
        return None
    starts = [round(start * 1000) for start in alignment.starts]
    ends = [round(end * 1000) for end in alignment.ends]
    return {
        "chars": list(alignment.characters),
        "charStartTimesMs": starts,
        "charsDurationsMs" if spelling is FieldSpelling.DOCUMENTED else "charDurationsMs": [
            end - start for start, end in zip(starts, ends, strict=True)
        ],
    }


def _field(kind: type, document: Mapping[str, Any], issues: list[ValidationIssue], *names: str) -> Any:
    """Return the first of these fields that is present; a value of the wrong type is added to the issues."""
    name = next((name for name in names if document.get(name) is not None), names[0])
    value = document.get(name)
    if value is not None and not isinstance(value, kind):
        issues.append(ValidationIssue("type_error", ("body", name), f"Input should be {_KINDS[kind]}", value))
        return None
    return value


_KINDS = {str: "a valid string", bool: "true or false", dict: "an object"}


def _schedule(config: Mapping[str, Any] | None, issues: list[ValidationIssue]) -> tuple[float, ...] | None:
    schedule = (config or {}).get("chunk_length_schedule")
    if schedule is None:
        return None
    if _are_numbers(schedule) and schedule and all(SHORTEST_CHUNK <= each <= LONGEST_CHUNK for each in schedule):
        return tuple(schedule)
    expected = f"Input should be a list of numbers from {SHORTEST_CHUNK:g} to {LONGEST_CHUNK:g}"
    issues.append(
        ValidationIssue("value_error", ("body", "generation_config", "chunk_length_schedule"), expected, schedule)
    )
    return None


def _are_numbers(value: Any) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in value
    )


def _number_in(query: Mapping[str, str], name: str, most: float, issues: list[ValidationIssue]) -> float | None:
    if name not in query:
        return None
    try:
        value = float(query[name])
    except ValueError:
        value = -1.0
    if 0 <= value <= most:
        return value
    issues.append(
        ValidationIssue("number", ("query", name), f"Input should be a number from 0 to {most:g}", query[name])
    )
    return None


def _flag_in(query: Mapping[str, str], name: str, issues: list[ValidationIssue]) -> bool:
    value = query.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        issues.append(ValidationIssue("bool_parsing", ("query", name), "Input should be true or false", value))
    return value in ("true", "1")
