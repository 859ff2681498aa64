"""Is this audio at all, and can it be the whole text? Asked before anything is believed; no decoding."""

from __future__ import annotations

import re
from dataclasses import dataclass

from steadyvoice.audio.framing import framer_of
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.text import SECONDS_PER_CHARACTER, speakable


@dataclass(frozen=True, slots=True)
class Audio:
    """It begins as the promised format does."""


@dataclass(frozen=True, slots=True)
class NotAudio:
    """It is something else; `reason` completes "the answer is ..."."""

    reason: str


@dataclass(frozen=True, slots=True)
class NeedMore:
    """The bytes so far do not tell."""


@dataclass(frozen=True, slots=True)
class OtherAudio:
    """It is audio, but not as promised; `reason` as above."""

    reason: str


Verdict = Audio | OtherAudio | NotAudio | NeedMore

_SHORT_TEXT = 40  # speakable characters
_SLACK = 0.5  # of what is usual; fast talkers and trimmed silences are no fault
_ENDLESS = 20.0  # times what is usual; sums and dates are long when read aloud
_PAUSES = 10.0  # seconds; a short text may be drawn out
_MARK = 12  # bytes: every container has shown its mark by then
_SEARCH = 4096  # bytes in which a stream that was joined in its middle must come to a frame


def first_look(head: bytes, content_type: str | None, format: AudioFormat) -> Verdict:
    """Judge an answer by its content type and its first bytes, all that have come so far.

    Ask again with more bytes as long as the verdict is NeedMore.
    """
    media = (content_type or "").partition(";")[0].strip().lower()
    if refused := _REFUSED_TYPES.get(media) or _REFUSED_TYPES.get(media.rpartition("+")[2]):
        return NotAudio(f"{refused} (content type {media})")
    if not head:
        return NeedMore()
    if head.startswith(_GZIP):
        return NotAudio("compressed data that does not say so")
    if format.codec in _BARE:
        return _look_at_samples(head, media)
    return _look_at_container(head, format)


def plausible(text: str, seconds: float, *, speed: float = 1.0) -> bool:
    """Whether so many seconds may be the whole text. Short texts always pass: a "hm" may be anything.

    `speed` is how much faster than usual the voice was asked to talk.
    """
    count = speakable(text)
    return count < _SHORT_TEXT or seconds >= _SLACK * count * SECONDS_PER_CHARACTER / speed


def longest(text: str, *, speed: float = 1.0) -> float:
    """How many seconds of audio may be this text, with all its pauses. More is a voice that has lost its way."""
    return _PAUSES + _ENDLESS * len(text) * SECONDS_PER_CHARACTER / speed


def ends_in_text(tail: bytes) -> bool:
    """Whether the last bytes of an answer are a message, such as an error where more audio should have come."""
    return tail[-1:] in _ENDS and _MESSAGE.search(tail) is not None


_ENDS = (b"}", b">", b"\r", b"\n")
_MESSAGE = re.compile(rb"[{<][\t\r\n -~]{20,}[}>][\r\n]*\Z")

_REFUSED_TYPES = {
    "application/json": "JSON",
    "application/problem+json": "JSON",
    "json": "JSON",  # the suffix of a media type, as the next
    "xml": "XML",
    "text/html": "HTML",
    "application/xhtml+xml": "HTML",
    "text/plain": "text",
    "text/event-stream": "server-sent events",
    "application/xml": "XML",
    "text/xml": "XML",
}

_GZIP = b"\x1f\x8b\x08"  # RFC 1952; as samples, these would be a loud noise out of nothing

_BARE = (Codec.PCM, Codec.ULAW, Codec.ALAW)

_MARKS = {
    b"RIFF": Codec.WAV,
    b"OggS": Codec.OPUS,
    b"fLaC": Codec.FLAC,
    b"ID3": Codec.MP3,
}
_NAMES = {Codec.WAV: "a WAV", Codec.OPUS: "Ogg", Codec.FLAC: "FLAC", Codec.MP3: "MP3", Codec.AAC: "AAC"}


def _look_at_samples(head: bytes, media: str) -> Verdict:
    """Any bytes may be samples: only a container's mark is refused, and readable text under no audio content type."""
    if _container(head) in (Codec.WAV, Codec.OPUS, Codec.FLAC):  # their marks are four letters
        return OtherAudio(f"{_NAMES[_MARKS[head[:4]]]}, where bare samples were promised")
    if media.startswith("audio/"):
        return Audio()
    return _text_or(Audio(), head)


def _look_at_container(head: bytes, format: AudioFormat) -> Verdict:
    if found := _container(head):
        # AAC may begin with ID3, as MP3 does.
        expected = found is format.codec or (head.startswith(b"ID3") and format.codec is Codec.AAC)
        return Audio() if expected else OtherAudio(f"{_NAMES[found]}, where {format} was promised")
    if head[:4] in (b"\x1aE\xdf\xa3", b"FORM", b"caff") or head[4:8] == b"ftyp":
        return OtherAudio(f"another container, where {format} was promised")
    return _text_or(_look_for_frames(head, format), head)


def _look_for_frames(head: bytes, format: AudioFormat) -> Verdict:
    unmarked = format.codec in (Codec.MP3, Codec.AAC)
    if unmarked and framer_of(format).feed(head):
        return Audio()
    if len(head) < (_SEARCH if unmarked else _MARK):
        return NeedMore()
    return NotAudio(f"no {format}: it begins {head[:8].hex(' ')}")


def _container(head: bytes) -> Codec | None:
    for mark, codec in _MARKS.items():
        if head.startswith(mark):
            return codec
    if len(head) < 2 or head[0] != 0xFF:
        return None
    if head[1] & 0xF6 == 0xF0:
        return Codec.AAC
    return Codec.MP3 if head[1] & 0xE0 == 0xE0 and head[1] & 6 == 2 else None


def _text_or(otherwise: Verdict, head: bytes) -> Verdict:
    """Say what kind of text this is, if it is one."""
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if begin[:1] == b"<":
        kind = "HTML"
    elif begin[:1] in (b"{", b"["):
        kind = "JSON"
    else:
        kind = "text"
    readable = all(byte in _PRINTABLE for byte in head[:512])
    if readable and len(head) < _MARK and (kind == "text" or isinstance(otherwise, Audio)):
        return NeedMore()
    return NotAudio(f"{kind}: {head[:40].decode('ascii', 'replace')!r}") if readable else otherwise


_PRINTABLE = frozenset(b"\t\r\n" + bytes(range(0x20, 0x7F)))
