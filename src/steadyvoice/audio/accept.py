"""Is this audio at all, and can it be the whole text? Asked before anything is believed; no decoding."""

from __future__ import annotations

import re
from dataclasses import dataclass

from steadyvoice.audio.framing import framer_of
from steadyvoice.speech.duration_estimate import SHORT_SECONDS, estimate_duration, requested_pause
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.text import SECONDS_PER_CHARACTER


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

_WIDE, _SECONDS_PER_WIDE_CHARACTER = "\u2e80", 0.25  # Chinese, Japanese and Korean: nearly all from there on
_ENDLESS = 20.0  # times what is usual; sums and dates are long when read aloud
_PAUSES = 10.0  # seconds; a short text may be drawn out
_MARK = 12  # bytes: every container has shown its mark by then
_SEARCH = 4096  # bytes in which a stream that was joined in its middle must come to a frame
_LOOKED_AT = 16 * 1024  # bytes in which that frame must end, and the next one begin
_READ = 512  # bytes by which text is told from audio


def first_look(head: bytes, content_type: str | None, format: AudioFormat) -> Verdict:
    """Judge an answer by its content type and its first bytes."""
    return FirstLook(format, content_type).feed(head)


class FirstLook:
    """Judges an answer by its content type and its first bytes, which come split anywhere.

    Each byte is looked at once, and no more of them than it takes: at most 16 KiB.
    """

    def __init__(self, format: AudioFormat, content_type: str | None = None) -> None:
        self.verdict: Verdict = NeedMore()
        self._format = format
        self._media = (content_type or "").partition(";")[0].strip().lower()
        self._head = bytearray()  # the first that came
        self._read = 0  # bytes of these that were found to be readable
        self._framer = framer_of(format) if format.codec in _UNMARKED else None
        self._framed = False

    def feed(self, data: bytes) -> Verdict:
        """Take the next bytes and judge. Nothing is taken any more once the verdict is another than NeedMore."""
        if isinstance(self.verdict, NeedMore):
            self._head += data[: max(0, _SEARCH - len(self._head))]
            self.verdict = self._judged(data[:_LOOKED_AT])
        return self.verdict

    def _judged(self, new: bytes) -> Verdict:
        media, head = self._media, self._head
        if refused := _REFUSED_TYPES.get(media) or _REFUSED_TYPES.get(media.rpartition("+")[2]):
            return NotAudio(f"{refused} (content type {media})")
        if not head:
            return NeedMore()
        if head.startswith(_GZIP):
            return NotAudio("compressed data that does not say so")
        if self._format.codec in _BARE:
            return self._as_samples()
        return self._as_container(new)

    def _as_samples(self) -> Verdict:
        """Any bytes may be samples: only a container's mark is refused, and text under no audio content type."""
        head = self._head
        if _container(head) in (Codec.WAV, Codec.OPUS, Codec.FLAC):  # their marks are four letters
            return OtherAudio(f"{_NAMES[_MARKS[bytes(head[:4])]]}, where bare samples were promised")
        if self._media.startswith("audio/"):
            return Audio()
        return self._text_or(Audio())

    def _as_container(self, new: bytes) -> Verdict:
        head, format = self._head, self._format
        if found := _container(head):
            # AAC may begin with ID3, as MP3 does.
            expected = found is format.codec or (head.startswith(b"ID3") and format.codec is Codec.AAC)
            return Audio() if expected else OtherAudio(f"{_NAMES[found]}, where {format} was promised")
        if head.startswith((b"\x1aE\xdf\xa3", b"FORM", b"caff")) or head.startswith(b"ftyp", 4):
            return OtherAudio(f"another container, where {format} was promised")
        return self._text_or(self._as_frames(new))

    def _as_frames(self, new: bytes) -> Verdict:
        if self._framer and self._framer.feed(new):
            return Audio()
        if len(self._head) < (_SEARCH if self._framer else _MARK):
            return NeedMore()
        return NotAudio(f"no {self._format}: it begins {self._head[:8].hex(' ')}")

    def _text_or(self, otherwise: Verdict) -> Verdict:
        """Say what kind of text this is, if it is one."""
        head = self._head
        upto = min(len(head), _READ)
        while self._read < upto and head[self._read] in _PRINTABLE:
            self._read += 1
        if self._read < upto:
            return otherwise
        begin = bytes(head[:_READ]).lstrip(b"\xef\xbb\xbf \t\r\n")
        if begin[:1] == b"<":
            kind = "HTML"
        elif begin[:1] in (b"{", b"["):
            kind = "JSON"
        else:
            kind = "text"
        if len(head) < _MARK and (kind == "text" or isinstance(otherwise, Audio)):
            return NeedMore()
        return NotAudio(f"{kind}: {head[:40].decode('ascii', 'replace')!r}")


def plausible(text: str, seconds: float, *, speed: float = 1.0) -> bool:
    """Return whether so many seconds may be the whole text, by any voice. Short texts always pass.

    `speed` is how much faster than usual the voice was asked to talk. A slower one proves nothing: some vendors ignore
    it. What is known of a provider's voices is used by `service/pipeline/speech_rate.py`.
    """
    length = estimate_duration(text)
    return length.plain + length.digits < SHORT_SECONDS or seconds * max(speed, 1.0) >= length.least


def longest(text: str, *, speed: float = 1.0) -> float:
    """How many seconds of audio may be this text, with all its pauses. More is a voice that has lost its way."""
    wide = 0 if text.isascii() else sum(character >= _WIDE for character in text)
    usual = len(text) * SECONDS_PER_CHARACTER + wide * _SECONDS_PER_WIDE_CHARACTER
    pauses = _PAUSES + (requested_pause(text) if "<" in text else 0.0)
    return pauses + _ENDLESS * usual / speed


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

_UNMARKED = (Codec.MP3, Codec.AAC)  # whose frames may come without a container's mark
_BARE = (Codec.PCM, Codec.ULAW, Codec.ALAW)

_MARKS = {
    b"RIFF": Codec.WAV,
    b"RF64": Codec.WAV,  # with sizes of 64 bits: EBU Tech 3306, and its successor ITU-R BS.2088
    b"BW64": Codec.WAV,
    b"OggS": Codec.OPUS,
    b"fLaC": Codec.FLAC,
    b"ID3": Codec.MP3,
}
_NAMES = {Codec.WAV: "a WAV", Codec.OPUS: "Ogg", Codec.FLAC: "FLAC", Codec.MP3: "MP3", Codec.AAC: "AAC"}


def _container(head: bytearray) -> Codec | None:
    for mark, codec in _MARKS.items():
        if head.startswith(mark):
            return codec
    if len(head) < 2 or head[0] != 0xFF:
        return None
    if head[1] & 0xF6 == 0xF0:
        return Codec.AAC
    return Codec.MP3 if head[1] & 0xE0 == 0xE0 and head[1] & 6 == 2 else None


_PRINTABLE = frozenset(b"\t\r\n" + bytes(range(0x20, 0x7F)))
