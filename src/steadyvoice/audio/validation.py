"""Audio checks without policy: format sniffing of an answer's first bytes, plausible lengths, silence.

Frames are decoded only where their bytes leave open whether there is any sound in them.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steadyvoice.audio.conversion import Converter, convert
from steadyvoice.audio.frames import MAX_DISTINCT_BYTES_OF_SILENCE, Frame
from steadyvoice.audio.framing import framer_for
from steadyvoice.speech.duration_estimate import SHORT_SECONDS, estimate_duration, requested_pause
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.text import SECONDS_PER_CHARACTER


@dataclass(frozen=True, slots=True)
class FormatMatch:
    """Verdict: the audio begins as the expected format does."""


@dataclass(frozen=True, slots=True)
class NotAudio:
    """Verdict: the bytes are not audio. `reason` completes "answered with ..."."""

    reason: str


@dataclass(frozen=True, slots=True)
class NeedMoreBytes:
    """Verdict: the bytes so far are too few to decide."""


@dataclass(frozen=True, slots=True)
class FormatMismatch:
    """Verdict: audio of another format than expected. `reason` completes "answered with ..."."""

    reason: str


FormatVerdict = FormatMatch | FormatMismatch | NotAudio | NeedMoreBytes

_FIRST_WIDE_CHARACTER = "\u2e80"  # nearly all of Chinese, Japanese and Korean comes from here on
_SECONDS_PER_WIDE_CHARACTER = 0.25
_MAX_SLOWDOWN = 20.0  # times the usual length; sums and dates are long when read aloud
MAX_PAUSES = 10.0
"""Seconds that a text may be drawn out, however short: any text may take as long."""

_MAGIC_BYTES = 12  # bytes within which every container shows its magic number
_MAX_FRAME_OFFSET = 4096  # bytes in which a stream that is joined in its middle must come to a frame
_MAX_SNIFFED = 16 * 1024  # bytes in which that frame must end, and the next one begin
_MAX_TEXT_SNIFFED = 512  # bytes that are inspected to distinguish text from audio


class FormatSniffer:
    """Format sniffer of one answer, by its content type and its first bytes, which come split anywhere.

    Each byte is inspected once, and only as many as it takes: at most 16 KiB.
    """

    def __init__(self, format: AudioFormat, content_type: str | None = None) -> None:
        self.verdict: FormatVerdict = NeedMoreBytes()
        self._format = format
        self._media = (content_type or "").partition(";")[0].strip().lower()
        self._head = bytearray()  # the first bytes
        self._read = 0  # number of them that were found to be printable
        self._framer = framer_for(format) if format.codec in _FRAME_SYNCED else None
        self._framed = False

    def feed(self, data: bytes) -> FormatVerdict:
        """Add the next bytes and return the verdict. Once it is not NeedMoreBytes any more, it is final."""
        if isinstance(self.verdict, NeedMoreBytes):
            self._head += data[: max(0, _MAX_FRAME_OFFSET - len(self._head))]
            self.verdict = self._judge(data[:_MAX_SNIFFED])
        return self.verdict

    def _judge(self, new: bytes) -> FormatVerdict:
        media, head = self._media, self._head
        if refused := _NON_AUDIO_TYPES.get(media) or _NON_AUDIO_TYPES.get(media.rpartition("+")[2]):
            return NotAudio(f"{refused} (content type {media})")
        if not head:
            return NeedMoreBytes()
        if head.startswith(_GZIP_MAGIC):
            return NotAudio("gzip data without a Content-Encoding header")
        if self._format.codec in _HEADERLESS:
            return self._judge_samples()
        return self._judge_container(new)

    def _judge_samples(self) -> FormatVerdict:
        """Judge headerless samples: any bytes may be some.

        Only a container's magic number is refused, and text whose content type is not audio.
        """
        head = self._head
        if _sniff_container(head) in (Codec.WAV, Codec.OPUS, Codec.FLAC):  # their magic numbers are four letters
            return FormatMismatch(f"{_CONTAINER_NAMES[_MAGIC_NUMBERS[bytes(head[:4])]]}, expected bare samples")
        if self._media.startswith("audio/"):
            return FormatMatch()
        return self._judge_text(FormatMatch())

    def _judge_container(self, new: bytes) -> FormatVerdict:
        head, format = self._head, self._format
        if found := _sniff_container(head):
            # AAC may begin with an ID3 tag, as MP3 does.
            expected = found is format.codec or (head.startswith(b"ID3") and format.codec is Codec.AAC)
            return FormatMatch() if expected else FormatMismatch(f"{_CONTAINER_NAMES[found]}, expected {format}")
        if head.startswith((b"\x1aE\xdf\xa3", b"FORM", b"caff")) or head.startswith(b"ftyp", 4):
            return FormatMismatch(f"another container, expected {format}")
        return self._judge_text(self._judge_frames(new))

    def _judge_frames(self, new: bytes) -> FormatVerdict:
        if self._framer and self._framer.feed(new):
            return FormatMatch()
        if len(self._head) < (_MAX_FRAME_OFFSET if self._framer else _MAGIC_BYTES):
            return NeedMoreBytes()
        return NotAudio(f"something that is not {self._format}: it begins with {self._head[:8].hex(' ')}")

    def _judge_text(self, otherwise: FormatVerdict) -> FormatVerdict:
        """Return a verdict that names the kind of text, if the bytes are text, else `otherwise`."""
        head = self._head
        limit = min(len(head), _MAX_TEXT_SNIFFED)
        while self._read < limit and head[self._read] in _PRINTABLE:
            self._read += 1
        if self._read < limit:
            return otherwise
        begin = bytes(head[:_MAX_TEXT_SNIFFED]).lstrip(b"\xef\xbb\xbf \t\r\n")
        if begin[:1] == b"<":
            kind = "HTML"
        elif begin[:1] in (b"{", b"["):
            kind = "JSON"
        else:
            kind = "text"
        if len(head) < _MAGIC_BYTES and (kind == "text" or isinstance(otherwise, FormatMatch)):
            return NeedMoreBytes()
        return NotAudio(f"{kind}: {head[:40].decode('ascii', 'replace')!r}")


def is_long_enough(text: str, seconds: float, *, speed: float = 1.0) -> bool:
    """Return whether `seconds` of audio may hold the whole text, by any voice. Short texts always pass.

    `speed` is the factor by which the voice was asked to speak faster than usual. A factor below 1 proves nothing: some
    vendors ignore it. What is known of a provider's own voices is used by `service/pipeline/speech_rate.py`.
    """
    length = estimate_duration(text)
    return length.plain + length.digits < SHORT_SECONDS or seconds * max(speed, 1.0) >= length.shortest


def longest_plausible(text: str, *, speed: float = 1.0) -> float:
    """Return the seconds of audio that a text may take, all pauses included. More is a voice in a loop."""
    wide = 0 if text.isascii() else sum(character >= _FIRST_WIDE_CHARACTER for character in text)
    usual = len(text) * SECONDS_PER_CHARACTER + wide * _SECONDS_PER_WIDE_CHARACTER
    pauses = MAX_PAUSES + (requested_pause(text) if "<" in text else 0.0)
    return pauses + _MAX_SLOWDOWN * usual / speed


def ends_with_message(tail: bytes) -> bool:
    """Return whether an answer ends with a text message, such as an error in place of more audio."""
    return tail[-1:] in MESSAGE_ENDS and _MESSAGE.search(tail) is not None


MESSAGE_ENDS = (b"}", b">", b"\r", b"\n")
"""Last bytes of text messages."""

_MESSAGE = re.compile(rb"[{<][\t\r\n -~]{20,}[}>][\r\n]*\Z")

_NON_AUDIO_TYPES = {
    "application/json": "JSON",
    "application/problem+json": "JSON",
    "json": "JSON",  # this and the next are suffixes of media types
    "xml": "XML",
    "text/html": "HTML",
    "application/xhtml+xml": "HTML",
    "text/plain": "text",
    "text/event-stream": "server-sent events",
    "application/xml": "XML",
    "text/xml": "XML",
}

_GZIP_MAGIC = b"\x1f\x8b\x08"  # RFC 1952; as samples, this would be a loud click before any sound

_FRAME_SYNCED = (Codec.MP3, Codec.AAC)  # formats whose frames may come without a magic number
_HEADERLESS = (Codec.PCM, Codec.ULAW, Codec.ALAW)

_MAGIC_NUMBERS = {
    b"RIFF": Codec.WAV,
    b"RF64": Codec.WAV,  # with sizes of 64 bits: EBU Tech 3306, and its successor ITU-R BS.2088
    b"BW64": Codec.WAV,
    b"OggS": Codec.OPUS,
    b"fLaC": Codec.FLAC,
    b"ID3": Codec.MP3,
}
_CONTAINER_NAMES = {Codec.WAV: "a WAV", Codec.OPUS: "Ogg", Codec.FLAC: "FLAC", Codec.MP3: "MP3", Codec.AAC: "AAC"}


def _sniff_container(head: bytearray) -> Codec | None:
    for mark, codec in _MAGIC_NUMBERS.items():
        if head.startswith(mark):
            return codec
    if len(head) < 2 or head[0] != 0xFF:
        return None
    if head[1] & 0xF6 == 0xF0:
        return Codec.AAC
    return Codec.MP3 if head[1] & 0xE0 == 0xE0 and head[1] & 6 == 2 else None


_PRINTABLE = frozenset(b"\t\r\n" + bytes(range(0x20, 0x7F)))


SILENCE_PEAK = 32
"""Peak level up to which audio is silence, of 32768: -60 dB, well above the noise of A-law and MP3 themselves."""


def surely_audible(frames: Iterable[Frame]) -> bool:
    """Return whether there surely is sound in these frames. False without decoding: it has to be decoded to decide."""
    return any(_frame_audible(frame) for frame in frames)


def trailing_silence(frames: Sequence[Frame]) -> float | None:
    """Return the seconds of silence at the end, as far as it shows without decoding; None if all of it is silent."""
    seconds = 0.0
    for frame in reversed(frames):
        share = _share_before_silence(frame)
        seconds += (1 - share) * frame.samples / frame.coding.rate
        if share:
            return seconds
    return None


def _share_before_silence(frame: Frame) -> float:
    """Return the share of a frame up to its last sound. A codec's frame counts as a whole: 0 or 1."""
    if not frame.coding.quiet:
        return float(_frame_audible(frame))
    return len(frame.data.rstrip(frame.coding.quiet)) / max(1, len(frame.data))


def peak_level(audio: bytes, format: AudioFormat) -> int:
    """Decode a piece of audio and return its loudest sample, from 0 to 32768. Raises TTSNotAudioError."""
    return _peak(convert(audio, format, AudioFormat(Codec.PCM, format.sample_rate)))


def is_audible(audio: bytes, format: AudioFormat, *, within: float) -> bool:
    """Return whether there is sound in the first `within` seconds of a piece of audio. Raises TTSNotAudioError."""
    # A few bytes may decode to minutes of silence: they are decoded in small steps, and no samples are kept.

    samples = AudioFormat(Codec.PCM, format.sample_rate)
    converter = Converter(format, samples)
    left = 2 * round(within * format.sample_rate)
    for at in range(0, len(audio), _DECODE_STEP):
        pcm = converter.feed(audio[at : at + _DECODE_STEP])
        if _peak(pcm) > SILENCE_PEAK:
            return True
        left -= len(pcm)
        if left <= 0:
            return False
    return _peak(converter.finish()) > SILENCE_PEAK


_DECODE_STEP = 1024
"""Bytes that are decoded at once. Silence in FLAC or Opus may become a hundred seconds of them, some megabytes."""


def _frame_audible(frame: Frame) -> bool:
    if frame.coding.is_plain_pcm:
        return _peak(frame.data) > SILENCE_PEAK
    if frame.coding.quiet:
        return bool(frame.data.translate(None, frame.coding.quiet))
    return len(set(frame.data)) > MAX_DISTINCT_BYTES_OF_SILENCE


def _peak(samples: bytes) -> int:
    numbers = array("h", samples[: len(samples) // 2 * 2])
    return max(max(numbers, default=0), -min(numbers, default=0))
