"""Delivery of one call's audio: at once, word by word so that another provider can resume, or once it is complete."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from steadyvoice.audio.buffers import BufferLimitError
from steadyvoice.service.pipeline.audio_limits import is_padded
from steadyvoice.service.pipeline.length_validation import LengthValidator
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.provider_call import ProviderCall
from steadyvoice.service.pipeline.word_delivery import TIME_TOLERANCE, WordProgress
from steadyvoice.speech.alignment import Alignment, EstimatedAlignment
from steadyvoice.speech.errors import (
    TTSError,
    TTSTextTooLongError,
    TTSTooLongError,
    TTSTooShortError,
)
from steadyvoice.speech.markup import Rendering
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.word_timing import word_boundaries

_MAX_BATCH = 256 * 1024
"""Most bytes that wait together for a thread."""

_MAX_DRIFT = 0.025
"""Share of the audio by which timestamps may exceed it, if nothing sounds cut: some vendors' drift by a percent."""


class DeliveryMode(Enum):
    """Moment at which audio may be delivered."""

    IMMEDIATE = "as it comes"
    BY_WORD = "by word"  # a word at a time, once it is complete: no half word is ever delivered
    WHOLE = "whole"  # nothing before the audio is complete and valid


@dataclass(frozen=True, slots=True)
class DeliveredSpeech:
    """Speech that was delivered of a piece: its characters, their duration, and when each is heard.

    The piece's own timestamps begin `shift` seconds after the piece does.
    """

    characters: int
    seconds: float
    alignment: Alignment | EstimatedAlignment
    shift: float = 0.0
    exact: bool = True  # False: the number of characters is an estimate


def buffer_limit_error(
    error: BufferLimitError, request: SpeechRequest, seconds: float, provider: str, request_id: str | None
) -> TTSError:
    """Return the error of an answer that exceeds the memory limit after so many seconds: the text may be too long, or
    the voice may not stop.
    """
    if is_padded(request.text, seconds, request.speed):
        message = f"{seconds:.0f} s of audio for {len(request.text)} characters: {error}, without an end"
        return TTSTooLongError(message, provider=provider, request_id=request_id)
    message = f"{error} would have to be held (max_audio_bytes): use stream(), a smaller format, or raise the limit"
    return TTSTextTooLongError(message)


class Delivery:
    """Delivery of one call's audio: `begin()`, `take()` what arrives, `end()`; after a failure `break_off()`.

    `voice` identifies the voice, so that it is made as loud as the one before; None leaves its level. `sole` tells that
    the piece is the whole utterance, `breakable` that another voice may follow any part of it. `validator` decides by
    its length whether the answer is complete, unless the vendor's timestamps do. If the text was `sent` in place of
    another, with less markup, positions refer to the other.
    """

    def __init__(
        self,
        call: ProviderCall,
        output: Output,
        mode: DeliveryMode,
        *,
        sole: bool,
        breakable: bool = False,
        voice: str | None = None,
        validator: LengthValidator,
        sent: Rendering | None = None,
    ) -> None:
        self.length = sent.end - sent.begin if sent else len(call.request.text)
        """Characters of the caller's text that this call speaks for."""
        self.mode = mode
        self.has_delivered = False
        self.held_back = 0.0
        self.words = WordProgress(call.request.text, sent, call.times, call.validator, call.provider.name)
        """Words of the text that the audio so far contains."""
        self.rest = b""
        """Audio that is ready at a valid end, to be delivered once the call is settled."""
        self.discarded = False
        """Whether the delivered audio reaches no listener."""
        self._call, self._output = call, output
        self._sole, self._breakable, self._voice, self.validator = sole, breakable, voice, validator
        self._sent = sent
        self._pending = b""  # of the previous piece
        self._waiting: list[bytes] = []  # chunks that wait for a thread, as they arrived
        self._repeated_seconds = 0.0  # seconds that were delivered and have to be spoken again
        self._complete = False  # whether the audio has ended and is whole

    @property
    def call(self) -> ProviderCall:
        """Call whose audio is delivered."""
        return self._call

    def begin(self) -> None:
        """Prepare the output for a piece of this format."""
        self._pending = self._output.begin(
            self._call.offer.format,
            sole=self._sole,
            breakable=self._breakable,
            voice=self._voice,
            gain=self._call.offer.gain,
        )

    async def take(self, data: bytes) -> bytes:
        """Take audio and return what may be delivered, possibly nothing while it is held back. Raises TTSError."""
        output = self._output
        if output.is_trivial and not self._waiting:
            ready = self._take(data)
        elif self._may_wait(data):
            self._waiting.append(data)
            return b""
        else:
            ready = await output.run_in_thread(self._take, self._with_waiting(data))
        if self._pending:
            ready, self._pending = self._pending + ready, b""
        if not self.has_delivered:
            self._note_delivered(ready)
        return ready

    def holds_at_once(self) -> bool:
        """Return whether audio that is held until it is complete needs no thread."""
        return self._output.is_trivial and not self._waiting

    def hold(self, data: bytes) -> None:
        """Take audio of which nothing may be delivered yet. Raises TTSError."""
        self._take(data)

    async def end(self, on_validated: Callable[[], None]) -> None:
        """Validate that the audio is complete, report it by `on_validated()`, and convert the rest. Raises TTSError."""
        await self._check_end()
        on_validated()
        if self.mode is DeliveryMode.WHOLE and self._call.misreports_length(sole=self._sole):
            self._output.rewrite()
        # One run of a thread for all that is left, because the listener waits for nothing else any more.
        run = self._output.run_in_thread if self._waiting else self._output.run
        self.rest = self._pending + await run(self._end, self._with_waiting())
        self._complete = True
        self._note_delivered(self.rest)

    async def break_off(self) -> bytes:
        """After a failure, return the rest of the complete words, and drop the audio behind them."""
        if self._output.starved:
            return b""
        waiting = b""
        if self._waiting and self.mode is DeliveryMode.BY_WORD:
            with suppress(TTSError):
                waiting = await self._output.run_in_thread(self._take, self._with_waiting())
                self._note_delivered(waiting)
        if self._output.starved:
            return b""
        self.words.read()
        boundary = self.words.last_complete(self._output.received(self._call.seconds))
        if not boundary.character or self.mode is not DeliveryMode.BY_WORD:
            self._repeated_seconds = self._output.shift + self._output.emitted_seconds
            self._output.drop()
            return waiting
        data = await self._output.run_in_thread(self._output.break_off, boundary)
        self._note_delivered(data)
        return waiting + data

    @property
    def confirmed(self) -> DeliveredSpeech | None:
        """Speech delivered before a failure, from which another voice can resume; None if there was none.

        Audio that has to be spoken again counts with its seconds, but without characters.
        """
        boundary = self.words.timing.last_boundary(0.0)
        if not boundary.character or self.mode is not DeliveryMode.BY_WORD:
            return DeliveredSpeech(0, self._repeated_seconds, Alignment()) if self._repeated_seconds else None
        times = self.words.timing.times(boundary.character)
        return DeliveredSpeech(
            self._original(boundary.character), self._output.shift + boundary.end, times, self._output.shift
        )

    @property
    def delivered_so_far(self) -> DeliveredSpeech | None:
        """Speech that a listener had heard when the stream ended for good.

        Without timestamps it ends with the last word that the audio has room for.
        """
        if self.mode is not DeliveryMode.IMMEDIATE or not self.has_delivered:
            return self.confirmed
        self.words.read()
        text, seconds, shift = self._call.request.text, self._call.seconds, self._output.shift
        if characters := self.words.timing.last_boundary(seconds).character:
            times = self.words.timing.times(characters)
            return DeliveredSpeech(self._original(characters), shift + seconds, times, shift)
        begins = [begin for begin in word_boundaries(text) if begin <= self.characters_delivered]
        guess = text[: begins[-1]] if begins else ""
        times = self.words.spread(guess, seconds)
        return DeliveredSpeech(self._original(len(guess)), shift + seconds, times, shift, exact=False)

    @property
    def times_so_far(self) -> tuple[float, Alignment]:
        """Shift of the piece, and an alignment of the characters that were delivered completely."""
        if self._complete:  # before the last audio is handed out, so that no time comes later than its word
            speech = self.completed
            times = speech.alignment
            return speech.shift, times.times if isinstance(times, EstimatedAlignment) else times
        match self.mode:
            case DeliveryMode.WHOLE:
                return 0.0, Alignment()
            case DeliveryMode.BY_WORD:
                boundary = self.words.timing.last_boundary(0.0)
            case DeliveryMode.IMMEDIATE:
                self.words.read()
                boundary = self.words.timing.last_boundary(self._call.seconds)
        return self._output.shift, self.words.timing.times(boundary.character)

    @property
    def characters_delivered(self) -> int:
        """Number of characters that were delivered before a failure; without timestamps, as many as the audio has room
        for.
        """
        if self.discarded:
            return 0
        match self.mode:
            case DeliveryMode.WHOLE:
                return 0
            case DeliveryMode.BY_WORD:
                return self.words.timing.last_boundary(0.0).character
            case DeliveryMode.IMMEDIATE:
                if not self.has_delivered:
                    return 0
                count, usual = len(self._call.request.text), self.validator.usual
                return min(count, round(count * self._call.seconds / usual)) if usual else count

    @property
    def completed(self) -> DeliveredSpeech:
        """Speech delivered by a successful call."""
        seconds, shift = self._call.seconds, self._output.shift
        return DeliveredSpeech(self.length, shift + seconds, self.words.complete_times(seconds), shift)

    def _original(self, characters: int) -> int:
        """Return how many of the caller's characters the first ones that were sent stand for."""
        return self._sent.original(characters) - self._sent.begin if self._sent else characters

    def _may_wait(self, data: bytes) -> bool:
        """Return whether this audio may wait for more: while the threads are busy, each run of one is expensive.

        A chunk of 32 KiB holds a third of a second of samples: with one run for each, audio came slower than it is
        played as soon as runs took longer than that.
        """
        if not self._output.threads_busy or self.mode is DeliveryMode.IMMEDIATE:
            return False
        if not self.has_delivered and self.mode is DeliveryMode.BY_WORD:
            return False
        return sum(map(len, self._waiting)) + len(data) < _MAX_BATCH

    def _end(self, waiting: bytes) -> bytes:
        return (self._take(waiting) if waiting else b"") + self._output.end(last=self._sole)

    def _with_waiting(self, data: bytes = b"") -> bytes:
        waiting, self._waiting = self._waiting, []
        return b"".join([*waiting, data]) if waiting else data

    def _take(self, data: bytes) -> bytes:
        try:
            self._output.feed(data)
        except BufferLimitError as error:
            call = self._call
            raise buffer_limit_error(
                error, call.request, call.seconds, call.provider.name, call.accepted.request_id
            ) from None
        match self.mode:
            case DeliveryMode.IMMEDIATE:
                return self._output.emit()
            case DeliveryMode.WHOLE:
                return b""
            case DeliveryMode.BY_WORD:
                boundary = self.words.advance(self._output.received(self._call.seconds))
                return self._output.emit(boundary.end) if boundary else b""

    async def _check_end(self) -> None:
        """Raise TTSError if the audio ends before its words do, even if it was closed properly."""
        times = self.words.times
        if times.alignments or times.normalized:
            self.words.read()
            if self._call.request.timestamps:  # otherwise the last sound is unknown
                self.words.raise_if_silent(0.0)
            if await self._is_complete_by_timestamps():
                return
        self._check_length()
        if self.mode is DeliveryMode.WHOLE:
            await self._check_last_sound()

    async def _is_complete_by_timestamps(self) -> bool:
        """Return whether the vendor's timestamps prove that the audio is complete; False if they prove nothing.

        Raises TTSTooShortError if they prove that it is not. Timestamps that reach the end of the text outrank any
        estimate. They may be a little longer than the audio.
        """
        timing, seconds, normalized = self.words.timing, self._call.seconds, self.words.times.normalized
        if self.words.ends_within(seconds):
            return True
        ends = [timing.timed if timing.complete else timing.last_timestamp] if timing.covers_text else []
        if normalized and timing.text_is_covered_by(normalized):
            ends.append(normalized.end)
        if not timing.trusted or normalized:
            ends = [end for end in ends if self.validator.is_possible(end)]
        if ends:
            missing = min(ends) - seconds  # where two alignments disagree, the one that fits is right
        elif timing.timed and timing.trusted:
            missing = timing.shortfall(seconds, speed=self.validator.style.speed)
        else:
            return False
        if missing <= TIME_TOLERANCE or (
            _MAX_DRIFT * seconds < missing <= timing.tolerated_shortfall and await self._ends_quietly()
        ):
            return True
        # A short word of which there is neither audio nor a time takes no longer than drift explains.
        drifted = missing <= _MAX_DRIFT * seconds and bool(ends or not timing.lacks_word)
        if drifted and (not await self._breaks_off() or self.validator.accepts_anyway(seconds)):
            return True
        raise self._too_short_error(f"the audio ends {missing:.2f} s before its last word does", estimated=drifted)

    def _check_length(self) -> None:
        """Raise TTSTooShortError if no voice like this one could have spoken the whole text in this time."""
        seconds = self._call.seconds
        if self.validator.rejects(seconds, lenient=not self.has_delivered):
            raise self._too_short_error(self.validator.describe(seconds), estimated=True)

    async def _check_last_sound(self) -> None:
        """Raise TTSTooShortError if the audio ends early and in the middle of a sound, though this voice ends in
        silence.

        Checked only while nothing was delivered: a wrong rejection would make the listener hear the text twice.
        """
        validator, seconds = self.validator, self._call.seconds
        if validator.doubtful:
            return
        if validator.is_early(seconds):
            if await self._breaks_off() and not validator.accepts_anyway(seconds):
                message = f"{validator.describe(seconds)}: it ends within a sound"
                raise self._too_short_error(message, estimated=True)
        elif validator.wants_ending():
            validator.record_ending(quietly=not await self._breaks_off())

    async def _ends_quietly(self) -> bool:
        return await self._output.run_in_thread(self._output.ends_quietly)

    async def _breaks_off(self) -> bool:
        ready, breaks_off = await self._output.run_in_thread(self._check_ending, self._with_waiting())
        self._pending += ready
        return breaks_off

    def _check_ending(self, waiting: bytes) -> tuple[bytes, bool]:
        return self._take(waiting) if waiting else b"", self._output.breaks_off()

    def _too_short_error(self, message: str, *, estimated: bool = False) -> TTSTooShortError:
        call = self._call
        error = TTSTooShortError(message, provider=call.provider.name, request_id=call.accepted.request_id)
        error.estimated = estimated
        return error

    def _note_delivered(self, ready: bytes) -> None:
        if ready and not self.has_delivered:
            self.has_delivered = True
            self.held_back = self._call.waited - (self._call.first_audio or 0.0)
