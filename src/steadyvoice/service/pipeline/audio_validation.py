"""Hears one answer out. What is handed on is audio, as promised, with something to be heard in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from steadyvoice.audio.framing import AudioMeter
from steadyvoice.audio.validation import (
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
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest

MAX_LEADING_SILENCE = 5.0
"""Seconds of silence at the beginning that are nobody's dramatic pause. Until then it is held back: whoever takes over
then speaks to a listener who has heard nothing.
"""

MAX_UNVALIDATED_BYTES = 1024 * 1024
"""Bytes of an answer that are taken before any of it is believed to be audio, and bytes without audio that are taken
behind some. More than twice HUSH in the largest format; a picture in a tag may be as large.
"""

_MAX_DECODED_SILENCE = 60.0  # seconds of silence that are decoded at most, where bytes leave open whether it is any

_SPELLING_FACTOR = 1.5  # times the most that is expected; more is a voice that has lost its way

_LISTENING_BLOCK = 512  # bytes that are listened to at once, until there is a sound
_TAIL_BYTES = 512  # bytes, in which an error's message ends

MakeError = Callable[[type[TTSError], str], TTSError]
"""Makes the error of a class, with a message, that names the provider and its request."""


class AudioValidator:
    """Takes the bytes of one answer, and gives them back when they are to be believed."""

    def __init__(self, request: SpeechRequest, format: AudioFormat, complain: MakeError) -> None:
        self._text = request.text
        self._format, self._complain = format, complain
        self._meter = AudioMeter(format)
        self._longest = longest_plausible(request.text, speed=request.speed)
        self._audible = False
        self._look = FormatSniffer(format)
        self._head: bytes | bytearray | None = b""  # until it is believed
        self._barren = 0  # bytes since the last that brought audio
        self._tail = b""
        self.begun = False
        self.seconds = 0.0
        """Seconds of audio so far, whether believed or not."""
        self.last_sound = 0.0  # seconds; of interest where there are times to compare it with
        self._follows = request.timestamps

    def misleads(self, *, sole: bool) -> bool:
        """Whether what was heard tells players another length than it has. See AudioMeter.misreports_length."""
        return self._meter.misreports_length(sole=sole)

    async def hear(self, data: bytes) -> bytes:
        """Take what came, and give what may be handed on, perhaps nothing yet. Raises TTSError.

        `begun` is set with the first audio that can be decoded.
        """
        believed = self.take(data)
        return await self.judge() if believed is None else believed

    def take(self, data: bytes) -> bytes | None:
        """The same, without waiting: None when the audio so far has to be judged first."""
        self._measure(data)
        if self._head is None:
            return data
        if not self._head:
            self._head = data
        else:
            if isinstance(self._head, bytes):
                self._head = bytearray(self._head)
            self._head += data
        if not self.begun:
            self._look.feed(data)
        return None

    async def judge(self) -> bytes:
        """Give what came so far, if it is to be believed, or nothing yet. Raises TTSError."""
        head = self._head or b""
        self.begun = self.begun or self._is_audio()
        if self.begun and await self._is_audible(head):
            self._head = None
            return bytes(head)
        if len(head) > MAX_UNVALIDATED_BYTES:
            limit = f"(limit: {MAX_UNVALIDATED_BYTES})"
            told = f"answered with {len(head)} bytes that hold no {self._format} to be heard {limit}"
            raise self._complain(TTSNotAudioError, told)
        return b""

    async def end(self) -> bytes:
        """Nothing more comes: judge the whole, and give what was still held. Raises TTSError."""
        held = self._head or b""
        if held and not self.begun:
            if isinstance(self._look.verdict, FormatMatch) and not is_pronounceable(self._text):
                return b""  # a header, and rightly nothing behind it
            raise self._complain(TTSNotAudioError, f"answered with {len(held)} bytes that hold no {self._format}")
        if not self.begun and is_pronounceable(self._text):
            raise self._complain(TTSEmptyAudioError, "answered with success but no audio")
        if held:
            await self._refuse_silence(held)
        if ends_with_message(self._tail):
            raise self._complain(TTSNotAudioError, f"ended in a message instead of {self._format}")
        if self._meter.truncated:
            raise self._complain(TTSCutError, f"ended in the middle of a frame, after {self.seconds:.1f} s of audio")
        return bytes(held)

    def _measure(self, data: bytes) -> None:
        if self._follows:
            seconds = self._followed(data)
        else:
            seconds = self._meter.skim(data if self._audible else self._listened(data))
        self._barren = 0 if seconds > self.seconds else self._barren + len(data)
        self.seconds = seconds
        self._tail = data[-_TAIL_BYTES:] if len(data) >= _TAIL_BYTES else (self._tail + data)[-_TAIL_BYTES:]
        if broken := self._meter.format_mismatch:
            raise self._complain(TTSWrongFormatError, f"answered with {broken}")
        if self._barren > MAX_UNVALIDATED_BYTES:
            limit = f"(limit: {MAX_UNVALIDATED_BYTES})"
            told = f"{self._barren} bytes in a row without audio, after {seconds:.1f} s of it {limit}"
            raise self._complain(TTSNotAudioError, told)
        if seconds > self._longest and seconds > self._most():
            told = f"{self.seconds:.0f} s of audio for {len(self._text)} characters, and no end"
            raise self._complain(TTSTooLongError, told)

    def _most(self) -> float:
        """Seconds that this text may take, said by whoever ignores its speed, spells it, and takes its time."""
        self._longest = max(self._longest, MAX_LEADING_SILENCE + _SPELLING_FACTOR * estimate_duration(self._text).most)
        return self._longest

    def _followed(self, data: bytes) -> float:
        """Listen to all of it, for where the last sound is."""
        seconds = self._meter.feed(data)
        self._audible = self._audible or surely_audible(self._meter.frames)
        if (silence := trailing_silence(self._meter.frames)) is not None:
            self.last_sound = seconds - silence
        return seconds

    def _listened(self, data: bytes) -> bytes:
        """Listen for a sound, and give the rest when there was one."""
        at = 0
        while at < len(data) and not self._audible:
            self._meter.feed(data[at : at + _LISTENING_BLOCK])
            self._audible = surely_audible(self._meter.frames)
            at += _LISTENING_BLOCK
        return data[at:]

    def _is_audio(self) -> bool:
        match self._look.verdict:
            case NotAudio(reason):
                raise self._complain(TTSNotAudioError, f"answered with {reason} instead of {self._format}")
            case FormatMismatch(reason):
                raise self._complain(TTSWrongFormatError, f"answered with {reason}")
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
            await self._refuse_silence(head)
        return self._audible

    async def _refuse_silence(self, head: bytes | bytearray) -> None:
        """Decode what its bytes left open. In a thread, for others share the event loop.

        A text without words, such as "...", may be silence.
        """
        if not is_pronounceable(self._text):
            self._audible = True
            return
        within = _MAX_DECODED_SILENCE + requested_pause(self._text)
        if not await asyncio.to_thread(is_audible, bytes(head), self._format, within=within):
            raise self._complain(TTSSilentAudioError, f"{self.seconds:.1f} s of silence, where a text was to be heard")
        self._audible = True
