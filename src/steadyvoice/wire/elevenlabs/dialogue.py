"""ElevenLabs text-to-dialogue: several voices in one audio.

https://elevenlabs.io/docs/api-reference/text-to-dialogue/convert. The messages of the websockets' clients are those of
the vendor's SDK 2.78 (`TextToDialogueWebsocketClientMessageMulti`); servers send those of `websocket.py` in snake_case.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from steadyvoice.speech.alignment import Alignment
from steadyvoice.wire.elevenlabs.speech import DEFAULT_FORMAT, SpeechEndpoint, validate_hints
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue, parse_document

DIALOGUE_PATH = "/v1/text-to-dialogue"
DEFAULT_MODEL = "eleven_v3"
MAX_VOICES = 10
"""Different voices in one request."""


class DialogueLine(NamedTuple):
    """Line of a dialogue: a text and the id of its voice. `new_turn`, on a websocket, ends what was sent before it."""

    text: str
    voice_id: str
    new_turn: bool = False


@dataclass(frozen=True, slots=True)
class DialogueRequest:
    """Dialogue request as it is sent; `settings` are the further fields of its body."""

    lines: Sequence[DialogueLine]
    model_id: str
    output_format: str
    settings: Mapping[str, Any]


def parse_dialogue(query: Mapping[str, str], body: bytes, form: SpeechEndpoint) -> DialogueRequest:
    """Parse a client's request. Raises RequestValidationError, which a server answers with a 422."""
    document = parse_document(body)
    inputs = document.pop("inputs", None)
    issues = list(_inputs_issues(inputs))
    output_format = query.get("output_format", DEFAULT_FORMAT)
    issues += validate_hints(document, query)
    if output_format not in form.formats:
        expected = ", ".join(form.formats)
        issues.append(
            ValidationIssue("enum", ("query", "output_format"), f"Input should be one of {expected}", output_format)
        )
    if issues:
        raise RequestValidationError(issues)
    lines = tuple(DialogueLine(each["text"], each["voice_id"]) for each in inputs)
    return DialogueRequest(lines, document.pop("model_id", None) or DEFAULT_MODEL, output_format, document)


FORMATS = SpeechEndpoint.STREAM.formats
"""Values of `output_format` of the websockets: all but WAV."""


@dataclass(frozen=True, slots=True)
class DialogueMessage:
    """Message of a client of a dialogue websocket. Absent fields are None, empty or False.

    `voices` and `voice_settings` are for the first message of a context only.
    """

    context_id: str | None = None
    inputs: Sequence[DialogueLine] = ()
    voices: Sequence[str] | None = None
    voice_settings: Mapping[str, Any] | None = None
    flush: bool = False
    keep_alive: bool = False
    close_context: bool = False
    close_socket: bool = False
    api_key: str | None = None
    pronunciation_dictionary_locators: Sequence[Any] | None = None


def encode_dialogue_message(message: DialogueMessage) -> str:
    """Encode a client's message, without its absent fields. Raises ValueError for values that JSON does not have."""
    fields = {
        "context_id": message.context_id,
        "voices": None if message.voices is None else list(message.voices),
        "voice_settings": message.voice_settings,
        "pronunciation_dictionary_locators": message.pronunciation_dictionary_locators,
        "inputs": [_encode_line(line) for line in message.inputs] or None,
        "flush": message.flush or None,
        "keep_alive": message.keep_alive or None,
        "close_context": message.close_context or None,
        "close_socket": message.close_socket or None,
        "xi_api_key": message.api_key,
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None}, allow_nan=False)


def _encode_line(line: DialogueLine) -> dict[str, Any]:
    return {"text": line.text, "voice_id": line.voice_id, **({"new_turn": True} if line.new_turn else {})}


def parse_dialogue_message(frame: str) -> DialogueMessage:
    """Parse a client's message; null counts as absent. Raises RequestValidationError."""
    document = parse_document(frame.encode("utf-8", "surrogatepass"))
    given = {name: value for name, value in document.items() if value is not None}
    issues = [
        ValidationIssue("type_error", ("body", name), f"Input should be {expected}", given[name])
        for name, (kind, expected) in _MESSAGE_FIELDS.items()
        if not isinstance(given.get(name, kind()), kind)
    ]
    if not issues and "inputs" in given:
        issues += [
            issue
            for number, line in enumerate(given["inputs"])
            for issue in _line_issues(("body", "inputs", number), line)
            if issue.type != "string_too_short"  # white space between tokens is text, too
        ]
    if issues:
        raise RequestValidationError(issues)
    return DialogueMessage(
        given.get("context_id"),
        tuple(
            DialogueLine(line["text"], line["voice_id"], line.get("new_turn") is True)
            for line in given.get("inputs", ())
        ),
        given.get("voices"),
        given.get("voice_settings"),
        given.get("flush", False),
        given.get("keep_alive", False),
        given.get("close_context", False),
        given.get("close_socket", False),
        given.get("xi_api_key") or given.get("authorization") or given.get("single_use_token"),
        given.get("pronunciation_dictionary_locators"),
    )


_MESSAGE_FIELDS: Mapping[str, tuple[type, str]] = {
    **dict.fromkeys(("context_id", "xi_api_key", "authorization", "single_use_token"), (str, "a valid string")),
    **dict.fromkeys(("inputs", "voices", "pronunciation_dictionary_locators"), (list, "a valid list")),
    "voice_settings": (dict, "an object"),
    **dict.fromkeys(("flush", "keep_alive", "close_context", "close_socket"), (bool, "true or false")),
}


def encode_turn_end(context_id: str | None) -> str:
    """Encode the server's message that all audio of a turn, of what was flushed, has been sent."""
    document: dict[str, Any] = {"is_final_audio_for_turn": True}
    return json.dumps(document if context_id is None else document | {"context_id": context_id}, ensure_ascii=False)


def _inputs_issues(inputs: Any) -> Iterator[ValidationIssue]:
    if inputs is None:
        yield ValidationIssue("missing", ("body", "inputs"), "Field required")
    elif not isinstance(inputs, list):
        yield ValidationIssue("list_type", ("body", "inputs"), "Input should be a valid list", inputs)
    elif not inputs:
        expected = "List should have at least 1 item after validation, not 0"
        yield ValidationIssue("too_short", ("body", "inputs"), expected, inputs)
    else:
        for number, each in enumerate(inputs):
            yield from _line_issues(("body", "inputs", number), each)


def _line_issues(where: tuple[str | int, ...], line: Any) -> Iterator[ValidationIssue]:
    if not isinstance(line, dict):
        expected = "Input should be a valid dictionary or object to extract fields from"
        yield ValidationIssue("model_attributes_type", where, expected, line)
        return
    for name in ("text", "voice_id"):
        if name not in line:
            yield ValidationIssue("missing", (*where, name), "Field required", line)
        elif not isinstance(line[name], str):
            yield ValidationIssue("string_type", (*where, name), "Input should be a valid string", line[name])
        elif not line[name].strip():
            yield ValidationIssue(
                "string_too_short", (*where, name), "String should have at least 1 character", line[name]
            )


class VoiceSegments:
    """Voice segments of the successive pieces of a response."""

    def __init__(self, lines: Sequence[DialogueLine]) -> None:
        self._lines = lines
        self._line = self._spoken = 0  # index of the current line, and its characters in earlier pieces

    def of(self, times: Alignment | None) -> list[dict[str, Any]]:
        """Return the segments of the next piece, whose characters follow those of the piece before."""
        segments: list[dict[str, Any]] = []
        begin, count = 0, len(times.characters) if times else 0
        while times and begin < count and self._line < len(self._lines):
            line = self._lines[self._line]
            end = min(count, begin + len(line.text) - self._spoken)
            segments.append(
                {
                    "voice_id": line.voice_id,
                    "start_time_seconds": times.starts[begin],
                    "end_time_seconds": times.ends[end - 1],
                    "character_start_index": begin,
                    "character_end_index": end,
                    "dialogue_input_index": self._line,
                }
            )
            self._spoken += end - begin
            if self._spoken == len(line.text):
                self._line, self._spoken = self._line + 1, 0
            begin = end
        return segments
