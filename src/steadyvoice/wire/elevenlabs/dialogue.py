"""ElevenLabs text-to-dialogue: several voices in one audio.

https://elevenlabs.io/docs/api-reference/text-to-dialogue/convert
"""

from __future__ import annotations

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
    """Line of a dialogue: a text and the id of its voice."""

    text: str
    voice_id: str


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
