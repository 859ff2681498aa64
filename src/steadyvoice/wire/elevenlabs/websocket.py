"""ElevenLabs' websockets: what comes in the query, what the client says, and what the server answers.

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
"""Fewer than over HTTP."""

DEFAULT_SCHEDULE = (120.0, 160.0, 250.0, 290.0)
SHORTEST_CHUNK, LONGEST_CHUNK = 50.0, 500.0
"""Characters: the limits of `chunk_length_schedule`."""

DEFAULT_INACTIVITY, LONGEST_INACTIVITY = 20.0, 180.0  # seconds
MAX_CONTEXTS = 5
POLICY_VIOLATION = 1008
"""The close code of every refusal."""


class SocketEndpoint(Enum):
    """The two websockets; the value is the end of the path."""

    SINGLE = "/stream-input"
    MULTI = "/multi-stream-input"


@dataclass(frozen=True, slots=True)
class SocketParameters:
    """What a connection's query says. `inactivity_timeout` is in seconds."""

    model_id: str = DEFAULT_MODEL
    output_format: str = DEFAULT_FORMAT
    inactivity_timeout: float = DEFAULT_INACTIVITY
    auto_mode: bool = False
    seed: int | None = None
    language_code: str | None = None
    api_key: str | None = None


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """One thing a client says. What it leaves out is None or false."""

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
    """Read a connection's query. Raises RequestValidationError."""
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
    """Read what a client says, in snake_case or camelCase; null is as good as absent.

    Raises RequestValidationError.
    """
    told = parse_document(frame.encode("utf-8", "surrogatepass"))
    issues: list[ValidationIssue] = []
    message = ClientMessage(
        _field(str, told, issues, "text"),
        _field(str, told, issues, "context_id", "contextId"),
        _field(bool, told, issues, "flush") or False,
        _field(bool, told, issues, "try_trigger_generation", "tryTriggerGeneration") or False,
        _field(bool, told, issues, "close_context", "closeContext") or False,
        _field(bool, told, issues, "close_socket", "closeSocket") or False,
        _field(dict, told, issues, "voice_settings", "voiceSettings"),
        _schedule(_field(dict, told, issues, "generation_config", "generationConfig", "generator_config"), issues),
        _field(str, told, issues, "xi_api_key", "xi-api-key", "xiApiKey", "authorization"),
    )
    if issues:
        raise RequestValidationError(issues)
    return message


class FieldSpelling(Enum):
    """How the server spells its fields. Clients should take all of them: each has been seen."""

    USUAL = "usual"  # contextId, isFinal, charDurationsMs: as the SDK has it
    DOCUMENTED = "documented"  # context_id, is_final, charsDurationsMs: as the documentation's examples do
    MIXED = "mixed"  # context_id with isFinal: what LiveKit met, https://github.com/livekit/agents/pull/5813


@dataclass(frozen=True, slots=True)
class AudioMessage:
    """Some audio. Its times are in seconds from the beginning of this audio; `context_id` is MULTI's only."""

    audio: bytes
    alignment: Alignment | None = None
    normalized: Alignment | None = None
    context_id: str | None = None


@dataclass(frozen=True, slots=True)
class FinalMessage:
    """The end of a text, or of a context."""

    context_id: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """Why the connection is about to be closed with `code`."""

    error: str
    message: str
    code: int = POLICY_VIOLATION


def encode_message(
    message: AudioMessage | FinalMessage | ErrorMessage, spelling: FieldSpelling = FieldSpelling.USUAL
) -> str:
    """Write what a server says. Times become whole milliseconds, and neighbours meet."""
    match message:
        case ErrorMessage(error, text, code):
            return json.dumps({"message": text, "error": error, "code": code})
        case AudioMessage(audio, alignment, normalized, context_id):
            told: dict[str, Any] = {
                "audio": base64.b64encode(audio).decode("ascii"),
                "alignment": _encode_alignment(alignment, spelling),
                "normalizedAlignment": _encode_alignment(normalized, spelling),
            }
            final = None
        case FinalMessage(context_id):
            told = {} if context_id is not None else {"audio": None, "alignment": None, "normalizedAlignment": None}
            final = True
    if final or context_id is None:
        told["is_final" if spelling is FieldSpelling.DOCUMENTED else "isFinal"] = final
    if context_id is not None:
        told["contextId" if spelling is FieldSpelling.USUAL else "context_id"] = context_id
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


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


def _field(kind: type, told: Mapping[str, Any], issues: list[ValidationIssue], *names: str) -> Any:
    """The first of these fields that is there."""
    name = next((name for name in names if told.get(name) is not None), names[0])
    value = told.get(name)
    if value is not None and not isinstance(value, kind):
        issues.append(ValidationIssue("type_error", ("body", name), f"Input should be {_KINDS[kind]}", value))
        return None
    return value


_KINDS = {str: "a valid string", bool: "true or false", dict: "an object"}


def _schedule(config: Mapping[str, Any] | None, issues: list[ValidationIssue]) -> tuple[float, ...] | None:
    told = (config or {}).get("chunk_length_schedule")
    if told is None:
        return None
    if _numbers(told) and told and all(SHORTEST_CHUNK <= each <= LONGEST_CHUNK for each in told):
        return tuple(told)
    expected = f"Input should be a list of numbers from {SHORTEST_CHUNK:g} to {LONGEST_CHUNK:g}"
    issues.append(
        ValidationIssue("value_error", ("body", "generation_config", "chunk_length_schedule"), expected, told)
    )
    return None


def _numbers(told: Any) -> bool:
    return isinstance(told, Sequence) and all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in told
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
    said = query.get(name, "false").lower()
    if said not in ("true", "false", "1", "0"):
        issues.append(ValidationIssue("bool_parsing", ("query", name), "Input should be true or false", said))
    return said in ("true", "1")
