"""ElevenLabs audio with character timestamps: one JSON object, or one per line of a stream."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError, TTSNotAudioError, TTSServerError
from steadyvoice.wire.elevenlabs.errors import CODES
from steadyvoice.wire.error_response import body_excerpt, build_error_in_stream, parse_error_details
from steadyvoice.wire.json_lines import JSONLineReader, StreamedLine, split_lines

_MAX_BYTES_WITHOUT_AUDIO = 1024 * 1024  # bytes of consecutive lines without audio

T = TypeVar("T")

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
_decode_bodies, _decode_times = _BODY.decode_lines, msgspec.json.Decoder(_Times).decode_lines
_AUDIO_OF, _ALIGNMENT_OF, _NORMALIZED_OF = map(attrgetter, ("audio_base64", "alignment", "normalized_alignment"))
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


class TimedLineDecoder(Generic[T]):
    """Decoder of a response of JSON lines with audio and the time of each character.

    `make_chunk` makes a chunk of audio, the times of the text as it was sent, and of the text as it is spoken if they
    differ. Lines that come in one read become one chunk, because each chunk costs some fifty calls behind this. An
    error may come with status 200, as a JSON document in place of a line: as the first line, `judge` says which error
    the lines are; in the middle of audio, it is the vendor's error.
    """

    def __init__(
        self,
        make_chunk: Callable[[bytes, Alignment | None, Alignment | None], T],
        judge: Callable[[Sequence[bytes | StreamedLine]], TTSError],
        *,
        api_key: str | None,
        provider: str,
        request_id: str | None,
    ) -> None:
        self.error: TTSError | None = None
        """Error behind the chunks that were returned last."""
        self._make_chunk, self._judge = make_chunk, judge
        self._api_key, self._provider, self._request_id = api_key, provider, request_id
        self._lines, self._timeline, self._normalized = JSONLineReader(), Timeline(), Timeline()
        self._without_audio = 0  # bytes of consecutive lines without audio

    @property
    def is_between_chunks(self) -> bool:
        """True if the response may end here: no part of a line is held."""
        return not self._lines.rest()

    def feed(self, data: bytes) -> Sequence[T]:
        """Add the next bytes of the response, and return the chunks of the lines that they complete."""
        reader, before = self._lines, self._lines.held
        # The vendor sends each line by itself, and nearly always it arrives like that, or with others.
        is_whole = not before and data.endswith(b"\n")
        lines = data if is_whole else reader.feed_short(data)
        if lines is not None:
            try:
                return (self._usual_chunk(lines),)
            except _UNUSUAL:
                pass
        try:
            split = reader.feed(data) if is_whole or lines is None else split_lines(lines)
        except TTSError as error:
            self.error = error
            return ()
        return self._feed_each(split, before + len(data))

    def _usual_chunk(self, lines: bytes) -> T:
        """Return the chunk of complete lines that are as the vendor's nearly always are. Raises one of _UNUSUAL.

        All of them are decoded in one call: each has audio and one alignment, which goes on where the last one ended.
        """
        timeline, bodies = self._timeline, _decode_bodies(lines)
        sent, audio = list(map(_ALIGNMENT_OF, bodies)), list(map(_AUDIO_OF, bodies))
        if timeline.offset or not all(audio) or sent != list(map(_NORMALIZED_OF, bodies)):
            raise _UnusualLineError
        found = _decode_times(b"\n".join(sent))
        all_characters, all_starts, all_ends = zip(*map(_LISTS_OF, found), strict=True)
        end = timeline.end
        for characters, starts, ends in zip(all_characters, all_starts, all_ends, strict=True):
            if starts[0] < end - _OVERLAP or not len(characters) == len(starts) == len(ends):
                raise _UnusualLineError
            end = ends[-1]
        if len(audio) == 1:
            alignment = Alignment(characters, starts, ends)
        else:
            alignment = Alignment(tuple(chain(*all_characters)), tuple(chain(*all_starts)), tuple(chain(*all_ends)))
        # Nothing is noted before all of it is known to be usual: otherwise, the lines are read again one by one.
        timeline.begun, timeline.end = True, end
        self._without_audio = 0
        return self._make_chunk(b"".join(audio), alignment, None)

    def finish(self) -> Sequence[T]:
        """End the response, and return the chunks of a last line without a line break."""
        rest = self._lines.rest()
        return self._chunks([rest], ()) if rest else ()

    def _feed_each(self, lines: Sequence[bytes | StreamedLine], size: int) -> Sequence[T]:
        """Return the chunks of lines of any kind, which are so many bytes with what was held before."""
        self._without_audio += size - self._lines.held
        chunks = self._chunks(lines, (self._lines.rest(),))
        if self._without_audio > _MAX_BYTES_WITHOUT_AUDIO and self.error is None:
            message = f"{self._without_audio} bytes of lines without audio (limit: {_MAX_BYTES_WITHOUT_AUDIO})"
            self.error = TTSNotAudioError(message, provider=self._provider, request_id=self._request_id)
        return chunks

    def _chunks(self, lines: Sequence[bytes | StreamedLine], rest: Sequence[bytes | StreamedLine]) -> Sequence[T]:
        """Return the chunks of lines, up to one that is wrong, before the `rest` of what has come."""
        ready: list[T] = []
        joined: list[TimedAudio] = []
        try:
            for line in lines:
                joined.append(timed := self._timed(line, () if self._timeline.begun else (*lines, *rest)))
                if timed.audio:
                    self._without_audio = 0
                if isinstance(line, StreamedLine):
                    ready.append(self._join(joined))
                    joined = []
                    ready += [self._make_chunk(piece, None, None) for piece in line.audio]
                    self._without_audio = 0 if line.audio else self._without_audio
        except TTSError as error:
            self.error = error
        return [*ready, self._join(joined)] if joined else ready

    def _timed(self, line: bytes | StreamedLine, seen: Sequence[bytes | StreamedLine]) -> TimedAudio:
        """Return the audio and times of a line. Where lines were `seen`, none with audio came before."""
        try:
            timed = parse_timed_audio(
                line.skeleton if isinstance(line, StreamedLine) else line,
                api_key=self._api_key,
                provider=self._provider,
            )
        except TTSError:
            if not seen:
                raise
            raise self._judge(seen) from None
        # The vendor leaves either alignment out of some lines. Most texts are spoken as they are written, so one can
        # stand for the other.
        alignment = self._timeline.placed(timed.alignment or timed.normalized)
        is_same = timed.normalized is timed.alignment or timed.normalized == timed.alignment
        return TimedAudio(timed.audio, alignment, None if is_same else self._normalized.placed(timed.normalized))

    def _join(self, pieces: Sequence[TimedAudio]) -> T:
        if len(pieces) == 1:
            return self._make_chunk(pieces[0].audio, pieces[0].alignment, pieces[0].normalized)
        alignments = [(0.0, piece.alignment) for piece in pieces if piece.alignment]
        normalized = [(0.0, piece.normalized) for piece in pieces if piece.normalized]
        return self._make_chunk(
            b"".join([piece.audio for piece in pieces]),
            Alignment.joined(alignments) if alignments else None,
            Alignment.joined(normalized) if normalized else None,
        )


class _UnusualLineError(Exception):
    """Raised for a line that is not as the vendor's nearly always are."""


_UNUSUAL = (ValueError, TypeError, IndexError, RecursionError, _UnusualLineError)
"""What lines raise that are not: msgspec's errors are ValueErrors."""


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
        "characters": alignment.characters,
        "character_start_times_seconds": alignment.starts,
        "character_end_times_seconds": alignment.ends,
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
