"""ElevenLabs' audio with character times, both ways: one JSON object, or one a line."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError, TTSNotAudioError, TTSServerError
from steadyvoice.wire.elevenlabs.errors import CODES
from steadyvoice.wire.error_response import body_excerpt, build_error_in_stream, parse_error_details

_OVERLAP = 0.05  # seconds by which neighbours may overlap without counting for themselves


@dataclass(frozen=True, slots=True)
class TimedAudio:
    """Some audio and when its characters are heard; `alignment` is of the text as it was sent.

    `normalized` is of the text as it is spoken ("$5" is "five dollars"), so it says nothing about where to resume.
    """

    audio: bytes
    alignment: Alignment | None = None
    normalized: Alignment | None = None


def parse_timed_audio(line: bytes, *, api_key: str | None = None, provider: str | None = None) -> TimedAudio:
    """Read one object. Raises TTSNotAudioError for noise, and the vendor's error when the object is one."""
    try:
        document = json.loads(line)
        if isinstance(document, dict) and "audio_base64" in document:
            return TimedAudio(
                base64.b64decode(document["audio_base64"] or "", validate=True),
                _parse_alignment(document.get("alignment")),
                _parse_alignment(document.get("normalized_alignment")),
            )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as cause:
        raise _not_audio_error(line, api_key, provider) from cause
    raise _parse_error(line, api_key, provider)


def timed_audio_body(timed: TimedAudio) -> dict[str, Any]:
    """Write one object. A server of the streaming form puts a line break behind each."""
    return {
        "audio_base64": base64.b64encode(timed.audio).decode("ascii"),
        "alignment": _encode_alignment(timed.alignment),
        "normalized_alignment": _encode_alignment(timed.normalized),
    }


class Timeline:
    """Puts the times of one answer's objects on one line.

    Some servers count from the beginning of the answer, others from that of each object: an object that begins
    before the last one has ended counts for itself.
    """

    def __init__(self) -> None:
        self.begun = False  # whether there was an object already, with times or without
        self._offset = 0.0
        self._end = 0.0

    def placed(self, alignment: Alignment | None) -> Alignment | None:
        """The same, in seconds from the beginning of the answer."""
        self.begun = True
        if alignment is None or not alignment.characters:
            return None
        if self._offset + alignment.starts[0] < self._end - _OVERLAP:
            self._offset = self._end
        placed = Alignment.joined([(self._offset, alignment)])
        self._end = placed.ends[-1]
        return placed


def _parse_alignment(told: Mapping[str, Any] | None) -> Alignment | None:
    if told is None:
        return None
    starts = tuple(float(start) for start in told["character_start_times_seconds"])
    ends = tuple(float(end) for end in told["character_end_times_seconds"])
    if not all(math.isfinite(time) for time in (*starts, *ends)):
        raise ValueError("a time that is not a number")
    return Alignment(tuple(str(character) for character in told["characters"]), starts, ends)


def _encode_alignment(alignment: Alignment | None) -> dict[str, Any] | None:
    if alignment is None:
        return None
    return {
        "characters": list(alignment.characters),
        "character_start_times_seconds": list(alignment.starts),
        "character_end_times_seconds": list(alignment.ends),
    }


def _not_audio_error(line: bytes, api_key: str | None, provider: str | None) -> TTSError:
    return TTSNotAudioError(
        "a line of the answer is not audio with times", provider=provider, body=body_excerpt(line, api_key)
    )


def _parse_error(line: bytes, api_key: str | None, provider: str | None) -> TTSError:
    complaint = parse_error_details(line)
    if not complaint.spoken:
        return _not_audio_error(line, api_key, provider)
    known = CODES.get(complaint.code or "")
    return build_error_in_stream(known.error if known else TTSServerError, line, api_key, provider)
