"""ElevenLabs websockets: query, client messages and server messages, for both sides.

https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-stream-input, and
multi-stream-input. Every message is JSON in a text frame; audio is base64 inside. The sockets of text-to-dialogue,
which send snake_case and take other client messages, are in `dialogue.py`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import add
from typing import Any
from urllib.parse import quote

import msgspec

from steadyvoice._option_rules import is_number
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import ELEVENLABS_FORMAT_NAMES
from steadyvoice.wire.elevenlabs.catalog import DEFAULT_MODEL
from steadyvoice.wire.elevenlabs.speech import DEFAULT_FORMAT, SPEECH_PATH
from steadyvoice.wire.json_stream import PART_COST, PART_SIZE, Base64Parts, parse_in_parts
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
    sync_alignment: bool = False


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
    pronunciation_dictionary_locators: Sequence[Any] | None = None


def socket_path(voice_id: str, form: SocketEndpoint) -> str:
    """Return the path of a websocket. The voice id is quoted, so that it stays one segment."""
    return f"{SPEECH_PATH}/{quote(voice_id, safe='')}{form.value}"


def encode_client_message(message: ClientMessage) -> str:
    """Encode a client's message, without its absent fields. Raises ValueError for values that JSON does not have."""
    schedule = message.chunk_length_schedule
    fields = {
        "text": message.text,
        "context_id": message.context_id,
        "voice_settings": message.voice_settings,
        "pronunciation_dictionary_locators": message.pronunciation_dictionary_locators,
        "generation_config": {"chunk_length_schedule": schedule} if schedule else None,
        "try_trigger_generation": message.try_trigger_generation or None,
        "flush": message.flush or None,
        "close_context": message.close_context or None,
        "close_socket": message.close_socket or None,
        "xi_api_key": message.api_key,
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None}, allow_nan=False)


def parse_query(query: Mapping[str, str], formats: Sequence[str] = FORMATS) -> SocketParameters:
    """Parse a connection's query; `formats` are the values of `output_format`. Raises RequestValidationError."""
    issues: list[ValidationIssue] = []
    output_format = query.get("output_format") or DEFAULT_FORMAT
    if output_format not in formats:
        expected = f"Input should be one of {', '.join(formats)}"
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
        _flag_in(query, "sync_alignment", issues),
    )
    for name in ("enable_logging", "enable_ssml_parsing"):
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
        _field(list, document, issues, "pronunciation_dictionary_locators", "pronunciationDictionaryLocators"),
    )
    if issues:
        raise RequestValidationError(issues)
    return message


class FieldSpelling(Enum):
    """Spelling of the server's fields. Clients should accept all of them, for servers have sent each."""

    USUAL = "usual"  # contextId, isFinal, charDurationsMs: as the SDK has it
    DOCUMENTED = "documented"  # context_id, is_final, charsDurationsMs: as the documentation's examples do
    MIXED = "mixed"  # context_id with isFinal, as LiveKit received it: https://github.com/livekit/agents/pull/5813
    SNAKE = "snake"  # context_id, is_final, char_durations_ms: the sockets of text-to-dialogue
    BOTH = "both"  # contextId and context_id, isFinal: for any client, because Pipecat reads the first one only


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
    """Error message; unless it is about one context, the connection is closed with `code` after it.

    `final`: the context has ended with it.
    """

    error: str
    message: str
    code: int = POLICY_VIOLATION
    context_id: str | None = None
    final: bool = False


ServerMessage = AudioMessage | FinalMessage | ErrorMessage


def encode_message(message: ServerMessage, spelling: FieldSpelling = FieldSpelling.USUAL) -> str:
    """Encode a server's message. Times are rounded to milliseconds, so that adjacent characters still meet."""
    document: dict[str, Any]
    final: bool | None = None
    match message:
        case ErrorMessage(error, text, code, context_id, is_last):
            document = {"message": text, "error": error, "code": code}
            final = is_last or None
        case AudioMessage(audio, alignment, normalized, context_id):
            document = {
                "audio": base64.b64encode(audio).decode("ascii"),
                "alignment": _encode_alignment(alignment, spelling),
                _normalized_field(spelling): _encode_alignment(normalized, spelling),
            }
        case FinalMessage(context_id):
            empty: dict[str, Any] = {"audio": None, "alignment": None, _normalized_field(spelling): None}
            document = {} if context_id is not None else empty
            final = True
    if final or (context_id is None and not isinstance(message, ErrorMessage)):
        snake = spelling in (FieldSpelling.DOCUMENTED, FieldSpelling.SNAKE)
        document["is_final" if snake else "isFinal"] = final
    if context_id is not None:
        document |= dict.fromkeys(_CONTEXT_FIELDS[spelling], context_id)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


_CONTEXT_FIELDS = {
    FieldSpelling.USUAL: ("contextId",),
    FieldSpelling.DOCUMENTED: ("context_id",),
    FieldSpelling.MIXED: ("context_id",),
    FieldSpelling.SNAKE: ("context_id",),
    FieldSpelling.BOTH: ("contextId", "context_id"),
}


def _normalized_field(spelling: FieldSpelling) -> str:
    return "normalized_alignment" if spelling is FieldSpelling.SNAKE else "normalizedAlignment"


def parse_server_message(frame: str) -> tuple[ServerMessage, ...]:
    """Parse a server's message, in any spelling: audio, final and error messages, in this order.

    One frame may be several of them, or none: servers add messages that clients need not know. Times are in seconds, as
    they were counted by the server. Raises ValueError for anything else: malformed JSON or base64, impossible times.
    """
    try:
        return _parse_quickly(frame)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return _parse_leniently(frame)


def parse_long_message(frame: str) -> Iterator[ServerMessage | None]:
    """Parse a server's message as `parse_server_message` does, in steps that each handle some 32 KiB.

    A step without a message is None. Times and audio come in several messages, all times first. Raises ValueError.
    """
    document: dict[str, Any] = {}
    audio, base64_parts = list[bytes](), Base64Parts()
    work = 0
    try:
        for path, value, size in parse_in_parts(frame):
            match path, value:
                case ("audio",), str():
                    audio.append(base64_parts.decode(value))
                case None, _:
                    pass
                case (), _:
                    raise ValueError("not an object")
                case (name,), _:
                    document.setdefault(name, value)  # of a long string, the beginning
                case (name, field), list():
                    work += _ITEM_COST * len(value)
                    document.setdefault(name, {}).setdefault(field, []).extend(value)
            work += size + PART_COST
            if work >= PART_SIZE:
                work = 0
                yield None
        base64_parts.finish()
        context_id = _string_of(document, "contextId", "context_id")
        for alignment, normalized in _aligned_pieces(document):
            yield AudioMessage(b"", alignment, normalized, context_id)
        for data in filter(None, audio):
            yield AudioMessage(data, context_id=context_id)
        yield from _server_messages(document)
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"malformed message: {error}") from error


def _aligned_pieces(document: dict[str, Any]) -> Iterator[tuple[Alignment | None, Alignment | None]]:
    """Take both alignments out of a document, and return them in pieces of equal number.

    A text that is spoken as it is written is in both, and cut at the same characters.
    """
    names = ("alignment", "normalizedAlignment", "normalized_alignment")
    found = {name: document.pop(name) for name in names if name in document}
    both = [
        each if each and _first_of(each, "chars", "characters") else None
        for each in (found.get("alignment"), _first_of(found, *names[1:]))
    ]
    longest = max((len(items) for each in both if each for items in each.values()), default=0)
    count = -(-longest // _MAX_ALIGNED)
    for number in range(count):
        # Where one has fewer characters than pieces, it has empty ones: None would mean that it was left out.
        first, second = (each and (_parse_alignment(_share(each, number, count)) or Alignment()) for each in both)
        yield first, second


def _share(lists: Mapping[str, Sequence[Any]], number: int, count: int) -> Mapping[str, Sequence[Any]]:
    return {
        name: items[len(items) * number // count : len(items) * (number + 1) // count] for name, items in lists.items()
    }


def _parse_quickly(frame: str) -> tuple[ServerMessage, ...]:
    """Parse a message as the vendor's are. Raises ValueError for others, and for errors."""
    body = _MESSAGE.decode(frame)
    if body.error is not None:
        raise ValueError("an error")
    sent, spoken = body.alignment, body.normalized if body.normalized != _NULL else body.normalized_snake
    context_id = body.context_id if body.context_id is not None else body.context_id_snake
    alignment = _quick_alignment(sent)
    # Most texts are spoken as they are written, so that both alignments are the same bytes.
    normalized = alignment if spoken == sent else _quick_alignment(spoken)
    messages: list[ServerMessage] = []
    if body.audio or alignment or normalized:
        messages.append(AudioMessage(body.audio or b"", alignment, normalized, context_id))
    if body.final if body.final is not None else body.final_snake:
        messages.append(FinalMessage(context_id))
    return tuple(messages)


def _quick_alignment(document: msgspec.Raw) -> Alignment | None:
    times = _TIMES.decode(document)
    if times is None or not (characters := times.chars or times.characters):
        return None
    starts = tuple([start / 1000.0 for start in times.starts or times.starts_snake])
    durations = times.durations or times.durations_plural or times.durations_snake
    if len(durations) != len(starts):
        raise ValueError("an alignment has one duration per character")
    ends = tuple(map(add, starts, [duration / 1000.0 for duration in durations]))
    return Alignment(characters, starts, ends)


_NULL = msgspec.Raw(b"null")


class _Message(msgspec.Struct):
    """Message of a server, in any spelling. The alignments are parsed only once it is known that both are needed."""

    audio: bytes | None = None
    alignment: msgspec.Raw = _NULL
    normalized: msgspec.Raw = msgspec.field(name="normalizedAlignment", default=_NULL)
    normalized_snake: msgspec.Raw = msgspec.field(name="normalized_alignment", default=_NULL)
    context_id: str | None = msgspec.field(name="contextId", default=None)
    context_id_snake: str | None = msgspec.field(name="context_id", default=None)
    final: bool | None = msgspec.field(name="isFinal", default=None)
    final_snake: bool | None = msgspec.field(name="is_final", default=None)
    error: str | None = None


class _Times(msgspec.Struct):
    chars: tuple[str, ...] = ()
    characters: tuple[str, ...] = ()
    starts: tuple[float, ...] = msgspec.field(name="charStartTimesMs", default=())
    starts_snake: tuple[float, ...] = msgspec.field(name="char_start_times_ms", default=())
    durations: tuple[float, ...] = msgspec.field(name="charDurationsMs", default=())
    durations_plural: tuple[float, ...] = msgspec.field(name="charsDurationsMs", default=())
    durations_snake: tuple[float, ...] = msgspec.field(name="char_durations_ms", default=())


_MAX_ALIGNED = 1024  # characters of one piece of a long message's alignment
_ITEM_COST = 8  # characters that an item of a list costs besides its own

# As in `timestamps.py`: typed decoding of a message with its base64 takes a tenth of the time of `json` and `base64`.
_MESSAGE = msgspec.json.Decoder(_Message)
_TIMES = msgspec.json.Decoder(_Times | None)


def _parse_leniently(frame: str) -> tuple[ServerMessage, ...]:
    """Parse a message that is not as the vendor's are: numbers in quotes, halves of an emoji, an error, or noise."""
    try:
        document = json.loads(frame)
        if not isinstance(document, dict):
            raise ValueError("not an object")
        return tuple(_server_messages(document))
    except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"malformed message: {error}") from error


def _server_messages(document: Mapping[str, Any]) -> Iterator[ServerMessage]:
    context_id = _string_of(document, "contextId", "context_id")
    audio = document.get("audio")
    alignment = _parse_alignment(document.get("alignment"))
    normalized = _parse_alignment(_first_of(document, "normalizedAlignment", "normalized_alignment"))
    if audio or alignment or normalized:
        data = base64.b64decode(audio, validate=True) if audio else b""
        yield AudioMessage(data, alignment, normalized, context_id)
    if _first_of(document, "isFinal", "is_final") is True:
        yield FinalMessage(context_id)
    if document.get("error") is not None:
        error, code = document["error"], document.get("code")
        text = document.get("message")
        yield ErrorMessage(
            error if isinstance(error, str) else "",
            text if isinstance(text, str) else "",
            code if isinstance(code, int) else POLICY_VIOLATION,
            context_id,
        )


def _parse_alignment(document: Mapping[str, Any] | None) -> Alignment | None:
    """Parse an alignment; None for none, and for one without characters."""
    if not document or not (characters := _first_of(document, "chars", "characters")):
        return None
    starts = _first_of(document, "charStartTimesMs", "char_start_times_ms")
    durations = _first_of(document, "charDurationsMs", "charsDurationsMs", "char_durations_ms")
    seconds = tuple(start / 1000.0 for start in map(float, starts))
    ends = tuple(map(add, seconds, (duration / 1000.0 for duration in map(float, durations))))
    if len(durations) != len(seconds):
        raise ValueError("an alignment has one duration per character")
    return Alignment(tuple(map(str, characters)), seconds, ends)  # refuses times that are not finite


def _first_of(document: Mapping[str, Any], *names: str) -> Any:
    """Return the first of these fields that is present and not null."""
    return next((document[name] for name in names if document.get(name) is not None), None)


def _string_of(document: Mapping[str, Any], *names: str) -> str | None:
    value = _first_of(document, *names)
    return value if isinstance(value, str) else None


def _encode_alignment(alignment: Alignment | None, spelling: FieldSpelling) -> dict[str, Any] | None:
    if alignment is None:
        return None
    starts = [round(start * 1000) for start in alignment.starts]
    ends = [round(end * 1000) for end in alignment.ends]
    durations = [end - start for start, end in zip(starts, ends, strict=True)]
    names = _ALIGNMENT_FIELDS[spelling]
    return dict(zip(names, (list(alignment.characters), starts, durations), strict=True))


_ALIGNMENT_FIELDS = {
    FieldSpelling.USUAL: ("chars", "charStartTimesMs", "charDurationsMs"),
    FieldSpelling.DOCUMENTED: ("chars", "charStartTimesMs", "charsDurationsMs"),
    FieldSpelling.MIXED: ("chars", "charStartTimesMs", "charDurationsMs"),
    FieldSpelling.SNAKE: ("chars", "char_start_times_ms", "char_durations_ms"),
    FieldSpelling.BOTH: ("chars", "charStartTimesMs", "charDurationsMs"),
}


def _field(kind: type, document: Mapping[str, Any], issues: list[ValidationIssue], *names: str) -> Any:
    """Return the first of these fields that is present; a value of the wrong type is added to the issues."""
    name = next((name for name in names if document.get(name) is not None), names[0])
    value = document.get(name)
    if value is not None and not isinstance(value, kind):
        issues.append(ValidationIssue("type_error", ("body", name), f"Input should be {_KINDS[kind]}", value))
        return None
    return value


_KINDS = {str: "a valid string", bool: "true or false", dict: "an object", list: "a valid list"}


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
    return isinstance(value, Sequence) and all(map(is_number, value))


def _number_in(query: Mapping[str, str], name: str, maximum: float, issues: list[ValidationIssue]) -> float | None:
    if name not in query:
        return None
    try:
        value = float(query[name])
    except ValueError:
        value = -1.0
    if 0 <= value <= maximum:
        return value
    issues.append(
        ValidationIssue("number", ("query", name), f"Input should be a number from 0 to {maximum:g}", query[name])
    )
    return None


def _flag_in(query: Mapping[str, str], name: str, issues: list[ValidationIssue]) -> bool:
    value = query.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        issues.append(ValidationIssue("bool_parsing", ("query", name), "Input should be true or false", value))
    return value in ("true", "1")
