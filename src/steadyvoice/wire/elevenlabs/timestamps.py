"""ElevenLabs audio with character timestamps: one JSON object, or one per line of a stream."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError, TTSNotAudioError, TTSServerError
from steadyvoice.wire.elevenlabs.errors import CODES
from steadyvoice.wire.error_response import body_excerpt, build_error_in_stream, parse_error_details

_OVERLAP = 0.05  # seconds by which successive objects may overlap and still have one common origin


# A msgspec structure and no dataclass: it is made for each line of a stream, without a Python call.
class TimedAudio(msgspec.Struct, frozen=True):
    """Audio with timestamps; `alignment` is of the text as it was sent.

    `normalized` is of the text as it is spoken ("$5" is "five dollars"), which is useless as a place to resume from.
    """

    audio: bytes
    alignment: Alignment | None = None
    normalized: Alignment | None = None


def parse_timed_audio(line: bytes, *, api_key: str | None = None, provider: str | None = None) -> TimedAudio:
    """Parse one object. Raises TTSNotAudioError for anything else, and the vendor's error when the object is one."""
    try:
        body = _BODY.decode(line)
        sent, spoken = body.alignment, body.normalized_alignment
        times = _TIMES.decode(sent)
        alignment = times and Alignment(times.characters, times.starts, times.ends)
        # Most texts are spoken as they are written, so that both alignments are the same bytes.
        if spoken == sent:
            return TimedAudio(body.audio_base64 or b"", alignment, alignment)
        times = _TIMES.decode(spoken)
        normalized = times and Alignment(times.characters, times.starts, times.ends)
        return TimedAudio(body.audio_base64 or b"", alignment, normalized)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return _parse_leniently(line, api_key, provider)


def parse_usual_lines(lines: Sequence[object], timeline: Timeline) -> TimedAudio | None:
    """Parse lines that are as the vendor's nearly always are, and place them on their timeline.

    They hold audio, equal times of the text as it was sent and as it is spoken, and count from the beginning of the
    response. Returns None, and changes nothing, for lines that are not or hold no audio at all.
    """
    audio: list[bytes] = []
    times: list[_Times] = []
    end = timeline.end
    try:
        for line in lines:
            body = _BODY.decode(line)  # type: ignore[arg-type]
            if body.normalized_alignment != body.alignment:
                return None
            if body.audio_base64:
                audio.append(body.audio_base64)
            found = _TIMES.decode(body.alignment)
            if found and found.characters:
                count = len(found.characters)
                if found.starts[0] < end - _OVERLAP or len(found.starts) != count or len(found.ends) != count:
                    return None
                end = found.ends[-1]
                times.append(found)
    except (ValueError, TypeError, IndexError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    if not audio or timeline.offset:
        return None
    timeline.begun, timeline.end = True, end
    if len(times) <= 1:
        alignment = Alignment(times[0].characters, times[0].starts, times[0].ends) if times else None
    else:
        characters, starts, ends = zip(*map(_LISTS_OF, times), strict=True)
        alignment = Alignment(tuple(chain(*characters)), tuple(chain(*starts)), tuple(chain(*ends)))
    return TimedAudio(audio[0] if len(audio) == 1 else b"".join(audio), alignment, alignment)


class _Body(msgspec.Struct):
    """Object of a response. The alignments are parsed only once it is known that both are needed."""

    audio_base64: bytes | None
    alignment: msgspec.Raw = msgspec.Raw(b"null")
    normalized_alignment: msgspec.Raw = msgspec.Raw(b"null")


class _Times(msgspec.Struct):
    characters: tuple[str, ...]
    starts: tuple[float, ...] = msgspec.field(name="character_start_times_seconds")
    ends: tuple[float, ...] = msgspec.field(name="character_end_times_seconds")


# Typed decoding of a line with its base64 takes 3 µs, where `json` and `base64` took 20, and refuses NaN, numbers that
# are too large, and wrong base64 by itself.
_BODY = msgspec.json.Decoder(_Body)
_TIMES = msgspec.json.Decoder(_Times | None)
_LISTS_OF = attrgetter("characters", "starts", "ends")


def _parse_leniently(line: bytes, api_key: str | None, provider: str | None) -> TimedAudio:
    """Parse an object that is not as the vendor's are: numbers in quotes, halves of an emoji, an error, or noise."""
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
    """Return the body of one object. A server of the streaming endpoint puts a line break behind each."""
    return {
        "audio_base64": base64.b64encode(timed.audio).decode("ascii"),
        "alignment": _encode_alignment(timed.alignment),
        "normalized_alignment": _encode_alignment(timed.normalized),
    }


class Timeline:
    """Common timeline for the timestamps of one response's objects.

    Some servers count from the beginning of the response, others from the beginning of each object: an object that
    begins before the previous one has ended has an origin of its own.
    """

    def __init__(self) -> None:
        self.begun = False  # whether there was an object already, with timestamps or without
        self.offset = 0.0
        """Seconds by which the times of the present object are shifted."""
        self.end = 0.0
        """End of the last character, in seconds from the beginning of the response."""

    def placed(self, alignment: Alignment | None) -> Alignment | None:
        """Return an object's alignment in seconds from the beginning of the response, None if it has no characters."""
        self.begun = True
        if alignment is None or not alignment.characters:
            return None
        if self.offset + alignment.starts[0] < self.end - _OVERLAP:
            self.offset = self.end
        if self.offset:
            alignment = Alignment.joined([(self.offset, alignment)])
        self.end = alignment.ends[-1]
        return alignment


def _parse_alignment(document: Mapping[str, Any] | None) -> Alignment | None:
    if document is None:
        return None
    starts = tuple(map(float, document["character_start_times_seconds"]))
    ends = tuple(map(float, document["character_end_times_seconds"]))
    return Alignment(tuple(map(str, document["characters"])), starts, ends)  # refuses times that are not finite


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
        "a line of the response is not audio with timestamps", provider=provider, body=body_excerpt(line, api_key)
    )


def _parse_error(line: bytes, api_key: str | None, provider: str | None) -> TTSError:
    details = parse_error_details(line)
    if not details.recognized:
        return _not_audio_error(line, api_key, provider)
    known = CODES.get(details.code or "")
    return build_error_in_stream(known.error if known else TTSServerError, line, api_key, provider)
