"""OpenAI's speech in server-sent events, both ways: `stream_format: "sse"`."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steadyvoice.speech.errors import TTSError, TTSNotAudioError, TTSServerError
from steadyvoice.wire.complaint import error_midway, kept_body, read_complaint
from steadyvoice.wire.openai_errors import CODES


@dataclass(frozen=True, slots=True)
class Delta:
    """Some audio."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """The end, and what it cost in tokens. A stream without it was cut."""

    input_tokens: int = 0
    output_tokens: int = 0


def event_bytes(event: Delta | Done) -> bytes:
    """Write an event as it goes over the wire."""
    match event:
        case Delta(audio):
            told: dict[str, Any] = {"type": "speech.audio.delta", "audio": base64.b64encode(audio).decode("ascii")}
        case Done(asked, spoken):
            usage = {"input_tokens": asked, "output_tokens": spoken, "total_tokens": asked + spoken}
            told = {"type": "speech.audio.done", "usage": usage}
    return b"data: " + json.dumps(told, separators=(",", ":")).encode() + b"\n\n"


def read_event(line: bytes, *, api_key: str | None = None, provider: str | None = None) -> Delta | Done | None:
    """Read one line of the stream; None when it says nothing of ours.

    Raises TTSNotAudioError for noise, and the vendor's error when the event is one.
    """
    name, _, data = line.strip().partition(b":")
    if name != b"data" or data.strip() in (b"", b"[DONE]"):
        return None
    try:
        event = _read(json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as cause:
        raise _noise(data, api_key, provider) from cause
    if event == "error":
        kind = CODES.get(read_complaint(data).code or "", TTSServerError)
        raise error_midway(kind, data, api_key, provider)
    return event if isinstance(event, Delta | Done) else None


def _read(document: Mapping[str, Any]) -> Delta | Done | str | None:
    if document.get("error") or document.get("detail"):
        return "error"
    match document["type"]:
        case "speech.audio.delta":
            return Delta(base64.b64decode(document["audio"], validate=True))
        case "speech.audio.done":
            usage = document.get("usage") or {}
            return Done(int(usage.get("input_tokens", 0)), int(usage.get("output_tokens", 0)))
        case "error":
            return "error"
        case _:
            return None


def _noise(data: bytes, api_key: str | None, provider: str | None) -> TTSError:
    return TTSNotAudioError("an event of the answer is not audio", provider=provider, body=kept_body(data, api_key))
