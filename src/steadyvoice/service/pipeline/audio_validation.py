"""Audio validation of one answer: policy by which its container, rate, length and silence are accepted or fail it.

`audio/validation.py` has the checks of the audio itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from steadyvoice.audio.frames import Coding
from steadyvoice.audio.framing import AudioMeter
from steadyvoice.audio.mpeg import Mp3Framer, begins_frame, count_frames
from steadyvoice.audio.validation import (
    MAX_PAUSES,
    MESSAGE_ENDS,
    FormatMatch,
    FormatMismatch,
    FormatSniffer,
    NeedMoreBytes,
    NotAudio,
    ends_with_message,
    is_audible,
    longest_plausible,
    surely_audible,
    trailing_silence,
)
from steadyvoice.speech.duration_estimate import estimate_duration, is_pronounceable, requested_pause
from steadyvoice.speech.errors import (
    TTSCutError,
    TTSEmptyAudioError,
    TTSError,
    TTSNotAudioError,
    TTSSilentAudioError,
    TTSTooLongError,
    TTSWrongFormatError,
)
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest

MAX_LEADING_SILENCE = 5.0
"""Seconds of silence at the beginning that are no dramatic pause.

Silence is held back until then, so that a provider that takes over begins before the listener has heard anything.
"""

MAX_UNVALIDATED_BYTES = 1024 * 1024
"""Bytes of an answer that are read before any of it is known to be audio, and bytes in a row without any audio.

More than twice MAX_LEADING_SILENCE in the largest format; a picture in a tag may be as large.
"""

_MAX_DECODED_SILENCE = 60.0  # seconds of silence that are decoded at most, where the bytes do not tell

_SPELLING_FACTOR = 1.5  # times the longest expected duration; a voice that takes longer is babbling

_LISTENING_BLOCK = 512  # bytes that are searched for a sound at once
_TAIL_BYTES = 512  # bytes at the end in which an error message is looked for

MakeError = Callable[[type[TTSError], str], TTSError]
"""Factory of errors by class and message, which name the provider and its request."""


class AudioValidator:
    """Validator of one answer: takes its bytes and returns them once they are known to be audible speech.

    Nearly all MP3 is a run of similar frames from its first byte to its last, which shows all that has to be known by
    their headers and a few bytes of sound. Such an answer is only counted; the meter, which cuts frames, and the format
    sniffer are made for the first bytes that are anything else.
    """

    __slots__ = (
        "_added_duration",
        "_audible",
        "_bytes_without_audio",
        "_coding",
        "_counts",
        "_first_look",
        "_first_text",
        "_format",
        "_frames",
        "_head",
        "_make_error",
        "_max_duration",
        "_meter",
        "_rest",
        "_samples",
        "_speed",
        "_tail",
        "_text",
        "_tracks_last_sound",
        "has_audio",
        "last_sound",
        "seconds",
    )  # fmt: skip

    def __init__(
        self, request: SpeechRequest, format: AudioFormat, make_error: MakeError, *, text: str | None = None
    ) -> None:
        """Validate the answer to a request, whose `text` may be another than it has."""
        self._text = self._first_text = request.text if text is None else text
        self._speed = request.speed
        self._format, self._make_error = format, make_error
        self._counts = format.codec is Codec.MP3  # until there is a meter
        self._rest = b""  # bytes behind the frames that were counted
        self._coding: Coding | None = None  # of the frames that were only counted
        self._samples = self._frames = 0  # of these
        self._meter: AudioMeter | None = None
        self._max_duration = MAX_PAUSES  # a lower bound, until an answer is longer
        self._added_duration = 0.0
        self._audible = False
        self._first_look: FormatSniffer | None = None
        self._head: bytes | bytearray | None = b""  # not validated yet; None once valid
        self._bytes_without_audio = 0  # bytes since the last that contained audio
        self._tail = b""
        self.has_audio = False
        self.seconds = 0.0
        """Seconds of audio so far, validated or not."""
        self.last_sound = 0.0  # seconds; known if timestamps were requested, which are compared with it
        self._tracks_last_sound = request.timestamps

    def add_text(self, text: str) -> None:
        """Note that the answer is to speak more text."""
        self._text += text
        self._added_duration += longest_plausible(text)

    def misreports_length(self, *, sole: bool) -> bool:
        """Return whether the audio's header states another length than it has. See AudioMeter.misreports_length."""
        return self._meter is not None and self._meter.misreports_length(sole=sole)

    @property
    def is_coded(self) -> bool:
        """True if the audio is known to be anything else than 16-bit mono samples."""
        return self._counts or (self._meter is not None and self._meter.is_coded)

    async def validate(self, data: bytes) -> bytes:
        """Take bytes and return those that are valid, possibly none yet. Raises TTSError.

        `has_audio` is set with the first audio that can be decoded.
        """
        valid = self.take(data)
        return await self.evaluate() if valid is None else valid

    def take(self, data: bytes) -> bytes | None:
        """Take bytes and return them without waiting; None if the audio so far has to be evaluated first."""
        before = self.seconds
        counted, to_sound = None, self._tracks_last_sound or not self._audible
        if self._counts:
            pending = self._rest + data if self._rest else data
            counted = count_frames(pending, self._coding, to_sound=to_sound)
        if counted is None:
            self._measure(data)
        else:
            samples, frames, coding, at = counted[:4]
            self._rest = pending[at:]
            if frames:
                self._samples += samples
                self._frames += frames
                self.seconds = self._samples / self._format.sample_rate
                if to_sound:
                    self.last_sound = self.seconds
                # The first frames begin with the first byte, and the last of them is no silence. They need no other
                # look, unless they are of another format: the meter words the error.
                if self._coding is None and coding:
                    self._coding = coding
                    if coding.rate != self._format.sample_rate or coding.channels != 1:
                        self._note_frames()
                    self._audible = True
                    self.has_audio = not self._head
        seconds = self.seconds
        self._bytes_without_audio = 0 if seconds > before else self._bytes_without_audio + len(data)
        self._tail = data[-_TAIL_BYTES:] if len(data) >= _TAIL_BYTES else (self._tail + data)[-_TAIL_BYTES:]
        if self._bytes_without_audio > MAX_UNVALIDATED_BYTES or seconds > self._max_duration:
            self._raise_if_endless()
        head = self._head
        if head is None:
            return data
        # The first chunk is nearly always enough, so it is not copied.
        if not head:
            if self.has_audio and self._audible:
                self._head = None
                return data
            self._head = data
        elif isinstance(head, bytearray):
            head += data
        else:
            self._head = bytearray(head) + data
        if not self.has_audio:
            self._sniffer.feed(data)
        return None

    async def evaluate(self) -> bytes:
        """Return the bytes so far if they are valid, or none yet. Raises TTSError."""
        head = self._head or b""
        self.has_audio = self.has_audio or self._is_audio()
        if self.has_audio and await self._is_audible(head):
            self._head = None
            return bytes(head)
        if len(head) > MAX_UNVALIDATED_BYTES:
            limit = f"(limit: {MAX_UNVALIDATED_BYTES})"
            message = f"answered with {len(head)} bytes that hold no audible {self._format} {limit}"
            raise self._make_error(TTSNotAudioError, message)
        return b""

    def evaluate_nowait(self, *, as_samples: bool = False) -> bytes:
        """Return the bytes so far if they are surely valid; none if more are needed, or if they must be decoded first.

        With `as_samples`, whatever is not 16-bit mono samples must be. Raises TTSError.
        """
        self.has_audio = self.has_audio or self._is_audio()
        if not (self.has_audio and self._audible) or (as_samples and self.is_coded):
            return b""
        head, self._head = self._head or b"", None
        return bytes(head)

    @property
    def ends_well(self) -> bool:
        """True if an answer that ends here is valid to its last byte, without a need to decode anything."""
        tail = self._tail
        if self._head is not None or (tail[-1:] in MESSAGE_ENDS and ends_with_message(tail)):
            return False
        return not (self._rest or self._meter) or not self._truncated

    async def end(self) -> bytes:
        """Validate the whole answer and return what was still held. Raises TTSError."""
        held = self._head or b""
        if held and not self.has_audio:
            if isinstance(self._sniffer.verdict, FormatMatch) and not is_pronounceable(self._text):
                return b""  # a header, and rightly no audio
            raise self._make_error(TTSNotAudioError, f"answered with {len(held)} bytes that hold no {self._format}")
        if not self.has_audio and is_pronounceable(self._text):
            raise self._make_error(TTSEmptyAudioError, "answered with success but no audio")
        if held:
            await self._raise_if_silent(held)
        if ends_with_message(self._tail):
            raise self._make_error(TTSNotAudioError, f"ended with a message instead of {self._format}")
        if self._truncated:
            raise self._make_error(TTSCutError, f"ended in the middle of a frame, after {self.seconds:.1f} s of audio")
        return bytes(held)

    @property
    def _sniffer(self) -> FormatSniffer:
        if self._first_look is None:
            self._first_look = FormatSniffer(self._format)
        return self._first_look

    @property
    def _whole_meter(self) -> AudioMeter:
        """Meter of all bytes so far, from which on it measures them."""
        if self._meter is None:
            framer = None
            if self._counts:
                framer = Mp3Framer()
                framer.resume(self._rest, has_audio=self._frames > 0)
            self._meter = AudioMeter(self._format, framer)
            if self._coding:
                self._meter.resume(self._coding, self._samples, self._frames)
            self._counts, self._rest = False, b""
        return self._meter

    @property
    def _truncated(self) -> bool:
        """True if the bytes so far end in the middle of a frame."""
        return begins_frame(self._rest) if self._counts else self._whole_meter.truncated

    def _measure(self, data: bytes) -> None:
        """Measure bytes: frame by frame until a sound is heard, then by counting where possible."""
        meter, rest = self._whole_meter, data
        if not self._audible:
            rest = self._measure_until_sound(meter, data)
        if rest:
            # Once a sound was heard, samples are only counted, and the last bytes looked at: cutting frames was half of
            # what reading a stream cost.
            seconds = meter.skim(rest, to_sound=self._tracks_last_sound)
            if meter.skimmed:
                if seconds > self.seconds:
                    self.last_sound = seconds
                self.seconds = seconds
            else:
                self._note_frames()

    def _measure_until_sound(self, meter: AudioMeter, data: bytes) -> bytes:
        """Measure bytes until there is a sound, and return the rest."""
        at = 0
        while at < len(data) and not self._audible:
            meter.feed(data[at : at + _LISTENING_BLOCK])
            self._audible = surely_audible(meter.frames)
            self._note_frames()
            at += _LISTENING_BLOCK
        return data[at:]

    def _note_frames(self) -> None:
        """Record where the frames that were just cut have their last sound. Raises TTSWrongFormatError."""
        meter = self._whole_meter
        self.seconds = meter.seconds
        if self._tracks_last_sound and (silence := trailing_silence(meter.frames)) is not None:
            self.last_sound = meter.seconds - silence
        if broken := meter.format_mismatch:
            raise self._make_error(TTSWrongFormatError, f"answered with {broken}")

    def _raise_if_endless(self) -> None:
        """Raise the error of audio that cannot end well: too many bytes without any, or too much for the text."""
        if self._bytes_without_audio > MAX_UNVALIDATED_BYTES:
            limit = f"(limit: {MAX_UNVALIDATED_BYTES})"
            message = (
                f"{self._bytes_without_audio} bytes in a row without audio, after {self.seconds:.1f} s of it {limit}"
            )
            raise self._make_error(TTSNotAudioError, message)
        self._max_duration = max(
            longest_plausible(self._first_text, speed=self._speed) + self._added_duration,
            # A slow voice may take as long that ignores its speed and spells the text.
            MAX_LEADING_SILENCE + _SPELLING_FACTOR * estimate_duration(self._text).longest,
        )
        if self.seconds > self._max_duration:
            message = f"{self.seconds:.0f} s of audio for {len(self._text)} characters, without an end"
            raise self._make_error(TTSTooLongError, message)

    def _is_audio(self) -> bool:
        match self._sniffer.verdict:
            case NotAudio(reason):
                raise self._make_error(TTSNotAudioError, f"answered with {reason} instead of {self._format}")
            case FormatMismatch(reason):
                raise self._make_error(TTSWrongFormatError, f"answered with {reason}")
            case NeedMoreBytes():
                return False
            case _:
                return self.seconds > 0

    async def _is_audible(self, head: bytes | bytearray) -> bool:
        if (
            not self._audible
            and self.seconds >= MAX_LEADING_SILENCE
            and self.seconds >= MAX_LEADING_SILENCE + requested_pause(self._text)
        ):
            await self._raise_if_silent(head)
        return self._audible

    async def _raise_if_silent(self, head: bytes | bytearray) -> None:
        """Raise TTSSilentAudioError if the audio is silent, decoding what its bytes leave open.

        Decoding runs in a thread, because the event loop is shared. A text without words, such as "...", may be
        silence.
        """
        if not is_pronounceable(self._text):
            self._audible = True
            return
        within = _MAX_DECODED_SILENCE + requested_pause(self._text)
        # A voice may be too faint for its bytes to show it, so the samples decide.
        if not await asyncio.to_thread(is_audible, bytes(head), self._format, within=within):
            raise self._make_error(TTSSilentAudioError, f"{self.seconds:.1f} s of silence instead of speech")
        self._audible = True
