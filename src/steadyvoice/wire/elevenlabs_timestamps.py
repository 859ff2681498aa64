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
from steadyvoice.wire.complaint import error_midway, kept_body, read_complaint
from steadyvoice.wire.elevenlabs_errors import CODES

_OVERLAP = 0.05  # seconds by which neighbours may overlap without counting for themselves


@dataclass(frozen=True, slots=True)
class TimedAudio:
    """Some audio and when its characters are heard; `alignment` is of the text as it was sent.

    `normalized` is of the text as it is spoken ("$5" is "five dollars"), so it says nothing about where to resume.
    """

    audio: bytes
    alignment: Alignment | None = None
    normalized: Alignment | None = None


def read_timed(line: bytes, *, api_key: str | None = None, provider: str | None = None) -> TimedAudio:
    """Read one object. Raises TTSNotAudioError for noise, and the vendor's error when the object is one."""
    try:
        document = json.loads(line)
        if isinstance(document, dict) and "audio_base64" in document:
            return TimedAudio(
                base64.b64decode(document["audio_base64"] or "", validate=True),
                _read_alignment(document.get("alignment")),
                _read_alignment(document.get("normalized_alignment")),
            )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as cause:
        raise _noise(line, api_key, provider) from cause
    raise _error_in(line, api_key, provider)


def timed_body(timed: TimedAudio) -> dict[str, Any]:
    """Write one object. A server of the streaming form puts a line break behind each."""
    return {
        "audio_base64": base64.b64encode(timed.audio).decode("ascii"),
        "alignment": _written(timed.alignment),
        "normalized_alignment": _written(timed.normalized),
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


def _read_alignment(told: Mapping[str, Any] | None) -> Alignment | None:
    if told is None:
        return None
    starts = tuple(float(start) for start in told["character_start_times_seconds"])
    ends = tuple(float(end) for end in told["character_end_times_seconds"])
    if not all(math.isfinite(time) for time in (*starts, *ends)):
        raise ValueError("a time that is not a number")
    return Alignment(tuple(str(character) for character in told["characters"]), starts, ends)


def _written(alignment: Alignment | None) -> dict[str, Any] | None:
    if alignment is None:
        return None
    return {
        "characters": list(alignment.characters),
        "character_start_times_seconds": list(alignment.starts),
        "character_end_times_seconds": list(alignment.ends),
    }


def _noise(line: bytes, api_key: str | None, provider: str | None) -> TTSError:
    return TTSNotAudioError(
        "a line of the answer is not audio with times", provider=provider, body=kept_body(line, api_key)
    )


def _error_in(line: bytes, api_key: str | None, provider: str | None) -> TTSError:
    complaint = read_complaint(line)
    if not complaint.spoken:
        return _noise(line, api_key, provider)
    known = CODES.get(complaint.code or "")
    return error_midway(known.error if known else TTSServerError, line, api_key, provider)
