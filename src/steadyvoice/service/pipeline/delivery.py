"""How one call's audio is handed out: as it comes, word by word, or once it is whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from steadyvoice.audio.buffers import BufferLimitError
from steadyvoice.service.pipeline.audio_limits import is_padded
from steadyvoice.service.pipeline.audio_validation import MAX_LEADING_SILENCE
from steadyvoice.service.pipeline.length_validation import LengthValidator
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.provider_call import ProviderCall
from steadyvoice.speech.alignment import Alignment, EstimatedAlignment
from steadyvoice.speech.errors import (
    TTSError,
    TTSNotAudioError,
    TTSSilentAudioError,
    TTSTextTooLongError,
    TTSTooLongError,
    TTSTooShortError,
)
from steadyvoice.speech.markup import Rendering
from steadyvoice.speech.word_timing import WordBoundary, WordTiming, word_boundaries

MAX_AUDIO_WITHOUT_TIMES = 30.0
"""Seconds of audio without times, from a provider that promised them, before it is not believed any more."""

MAX_LEAD_OVER_TIMES = 2.0
"""Seconds of audio behind the last word that has a time, before its times are doubted, for true ones come with their
audio. No further word goes out until they catch up or all has come. In a long pause there is none anyway.
"""

_MAX_BATCH = 256 * 1024
"""Bytes that may wait for a thread together."""

_TIME_TOLERANCE = 0.02  # seconds by which times may be longer than the audio
_MAX_DRIFT = (
    0.025  # of the audio, by which they may as well if nothing sounds cut: some vendors' times drift by a percent
)
_MAX_LEAD_SHARE = 0.03  # of the audio, by which they may be ahead of it before they are doubted
_MIN_SILENT_LETTERS = 24  # letters in silence: some words, and not just two tags that ask for a pause
_MAX_SILENT_TAIL = 0.25  # of the audio: nobody is silent for so long at the end


class DeliveryMode(Enum):
    """When audio may go out."""

    AS_IT_COMES = "as it comes"
    BY_WORD = "by word"  # a word at a time, once it is wholly here: whatever happens, no half word is out
    WHOLE = "whole"  # nothing before all of it has come and is believed


@dataclass(frozen=True, slots=True)
class DeliveredSpeech:
    """What of a piece was said: so many characters in so many seconds, and when each is heard.

    The piece's own time begins `shift` seconds after the piece does.
    """

    characters: int
    seconds: float
    alignment: Alignment | EstimatedAlignment
    shift: float = 0.0
    exact: bool = True  # False: how many characters is a guess


class Delivery:
    """Hands out one call's audio: `begin`, `take` it, `end`; if that fails, ask `break_off()` what can be saved.

    `voice` names who speaks, for it to be as loud as whoever spoke before; None leaves it as it is. `sole` tells that
    the piece is the whole utterance, `breakable` that somebody may speak behind any part of it. `check` judges by its
    length whether the answer is whole, unless the vendor's own times tell. Where the text was `sent` in place of
    another, with less markup, what was said is told in characters of the other.
    """

    def __init__(
        self,
        call: ProviderCall,
        output: Output,
        manner: DeliveryMode,
        *,
        sole: bool,
        breakable: bool = False,
        voice: str | None = None,
        check: LengthValidator,
        sent: Rendering | None = None,
    ) -> None:
        self.length = sent.end - sent.begin if sent else len(call.request.text)
        """Characters of the caller's text that it speaks for."""
        self.manner = manner
        self.heard = False
        self.held_back = 0.0
        self.timestamps_missing = False
        """Whether the provider promised times, and sent none that lead anywhere."""
        self.rest = b""
        """What is ready when all has come and is believed: for whoever asks after the call is settled."""
        self.discarded = False
        """Whether nobody listens to what it hands out."""
        self._call, self._output = call, output
        self._sole, self._breakable, self._voice, self.check = sole, breakable, voice, check
        self._sent = sent
        self._pending = b""  # of the piece before
        self._waiting: list[bytes] = []  # for a thread, as it came
        self._taken = 0  # alignments
        self._vain = 0.0  # seconds that were heard, and have to be said again

    @property
    def call(self) -> ProviderCall:
        """Call whose audio it hands out."""
        return self._call

    @cached_property
    def _ledger(self) -> WordTiming:
        return WordTiming(self._call.request.text, self._sent)

    def begin(self) -> None:
        """Make ready for what comes."""
        self._pending = self._output.begin(
            self._call.offer.format,
            sole=self._sole,
            breakable=self._breakable,
            voice=self._voice,
            gain=self._call.offer.gain,
        )

    async def take(self, data: bytes) -> bytes:
        """Take what came, and give what may go out, perhaps nothing while it is held back. Raises TTSError."""
        output = self._output
        if output.light and not self._waiting:
            ready = self._take(data)
        elif self._may_wait(data):
            self._waiting.append(data)
            return b""
        else:
            ready = await output.run_in_thread(self._take, self._with_waiting(data))
        if self._pending:
            ready, self._pending = self._pending + ready, b""
        self._note_heard(ready)
        return ready

    async def end(self, believed: Callable[[], None]) -> None:
        """All has come: see whether it is all of it, tell so by `believed()`, and convert the rest. Raises TTSError."""
        await self._check_end()
        believed()
        if self.manner is DeliveryMode.WHOLE and self._call.misleads(sole=self._sole):
            self._output.read_anew()
        # One turn of a thread for all that is left: the listener waits for nothing else any more.
        run = self._output.run_in_thread if self._waiting else self._output.run
        self.rest = self._pending + await run(self._end, self._with_waiting())
        self._note_heard(self.rest)

    async def break_off(self) -> bytes:
        """After a failure: give the rest of the words that are wholly here, and forget what came behind them."""
        if self._output.starved:
            return b""
        waiting = b""
        if self._waiting and self.manner is DeliveryMode.BY_WORD:
            with suppress(TTSError):
                waiting = await self._output.run_in_thread(self._take, self._with_waiting())
                self._note_heard(waiting)
        if self._output.starved:
            return b""
        self._learn_times()
        mark = self._mark()
        if not mark.character or self.manner is not DeliveryMode.BY_WORD:
            self._vain = self._output.gone
            self._output.drop()
            return waiting
        data = await self._output.run_in_thread(self._output.break_off, mark)
        self._note_heard(data)
        return waiting + data

    @property
    def confirmed(self) -> DeliveredSpeech | None:
        """What was said before it broke off, if it was anything. What has to be said again are no characters."""
        mark = self._ledger.last_boundary(0.0)
        if not mark.character or self.manner is not DeliveryMode.BY_WORD:
            return DeliveredSpeech(0, self._vain, Alignment()) if self._vain else None
        times = self._ledger.times(mark.character)
        return DeliveredSpeech(self._original(mark.character), self._output.shift + mark.end, times, self._output.shift)

    @property
    def delivered_so_far(self) -> DeliveredSpeech | None:
        """What a listener had heard of it when nobody goes on; without times, the words that the audio has room for."""
        if self.manner is not DeliveryMode.AS_IT_COMES or not self.heard:
            return self.confirmed
        self._learn_times()
        text, seconds = self._call.request.text, self._call.seconds
        if told := self._ledger.last_boundary(seconds).character:
            return DeliveredSpeech(self._original(told), seconds, self._ledger.times(told))
        begins = [begin for begin in word_boundaries(text) if begin <= self.characters_delivered]
        guess = text[: begins[-1]] if begins else ""
        return DeliveredSpeech(self._original(len(guess)), seconds, self._spread(guess, seconds), exact=False)

    @property
    def times_so_far(self) -> tuple[float, Alignment]:
        """When each character is heard of those that are wholly out, and how much later the piece's own time begins."""
        match self.manner:
            case DeliveryMode.WHOLE:
                return 0.0, Alignment()
            case DeliveryMode.BY_WORD:
                mark = self._ledger.last_boundary(0.0)
            case DeliveryMode.AS_IT_COMES:
                self._learn_times()
                mark = self._ledger.last_boundary(self._call.seconds)
        return self._output.shift, self._ledger.times(mark.character)

    @property
    def characters_delivered(self) -> int:
        """How many characters were handed out when it ended early; without times, as many as the audio has room for."""
        if self.discarded:
            return 0
        match self.manner:
            case DeliveryMode.WHOLE:
                return 0
            case DeliveryMode.BY_WORD:
                return self._ledger.last_boundary(0.0).character
            case DeliveryMode.AS_IT_COMES:
                if not self.heard:
                    return 0
                count, usual = len(self._call.request.text), self.check.usual
                return min(count, round(count * self._call.seconds / usual)) if usual else count

    @property
    def said(self) -> DeliveredSpeech:
        """What was said when all went well."""
        self._learn_times()
        text, seconds = self._call.request.text, self._call.seconds
        lies = self._ledger.complete and seconds - self._ledger.timed > max(
            MAX_LEAD_OVER_TIMES, _MAX_SILENT_TAIL * seconds
        )
        times = self._spread(text, seconds) if lies else self._ledger.extrapolated(seconds)
        return DeliveredSpeech(self.length, self._output.shift + seconds, times, self._output.shift)

    def _original(self, characters: int) -> int:
        """How many of the caller's characters the first ones that were sent stand for."""
        return self._sent.original(characters) - self._sent.begin if self._sent else characters

    def _spread(self, text: str, seconds: float) -> Alignment:
        """Share the time evenly among the first characters that were sent."""
        if self._sent is None:
            return Alignment.spread(text, seconds)
        return Alignment.spread_over(self._sent, len(text), seconds)

    def _may_wait(self, data: bytes) -> bool:
        """Whether this may wait for what comes behind it: when the threads are behind, each turn of theirs is dear.

        A piece of 32 KiB holds a third of a second of samples: with one turn for each, audio came slower than it is
        played as soon as turns took longer than that.
        """
        if not self._output.behind or self.manner is DeliveryMode.AS_IT_COMES:
            return False
        if not self.heard and self.manner is DeliveryMode.BY_WORD:
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
            raise self._too_large(error) from None
        match self.manner:
            case DeliveryMode.AS_IT_COMES:
                return self._output.out()
            case DeliveryMode.WHOLE:
                return b""
            case DeliveryMode.BY_WORD:
                return self._words()

    def _words(self) -> bytes:
        """What belongs to words that are wholly here."""
        self._learn_times()
        self._refuse_hush(MAX_LEADING_SILENCE)
        if self._output.here - self._ledger.timed > MAX_AUDIO_WITHOUT_TIMES:
            self.timestamps_missing = True
            message = f"{MAX_AUDIO_WITHOUT_TIMES:g} s of audio came without the times that were asked for"
            raise TTSNotAudioError(message, provider=self._call.provider.name)
        return self._output.out(self._mark().end)

    def _mark(self) -> WordBoundary:
        """The last place between two words that surely are wholly here."""
        here, last_sound = self._output.here, self._call.last_sound
        doubted = here - self._ledger.timed > max(MAX_LEAD_OVER_TIMES, _MAX_LEAD_SHARE * here)
        return self._ledger.last_boundary(0.0 if doubted else min(here, last_sound))  # in silence no word is heard

    def _refuse_hush(self, longest: float) -> None:
        """Raise if words should be heard where there has been nothing but silence for so long."""
        since, now = self._call.last_sound, self._call.seconds
        if now - since >= longest and self._ledger.letters_between(since, now) >= _MIN_SILENT_LETTERS:
            told = f"silent since {since:.1f} s, where by its own times words are to be heard"
            raise TTSSilentAudioError(told, provider=self._call.provider.name)

    def _learn_times(self) -> None:
        for alignment in self._call.times(self._taken):
            self._ledger.take(alignment)
            self._taken += 1

    async def _check_end(self) -> None:
        """Raise if the audio ends before its words do, however properly it was ended."""
        if self._taken or self._call.times() or self._call.normalized:
            self._learn_times()
            if self._call.request.timestamps:  # else nobody has listened for the last sound
                self._refuse_hush(0.0)
            if await self._is_told_whole():
                return
        self._check_length()
        if self.manner is DeliveryMode.WHOLE:
            await self._check_last_sound()

    async def _is_told_whole(self) -> bool:
        """Whether the vendor's times tell that this is all of it; False if they tell nothing. Raises if it is not.

        Times that reach the end of the text outrank any estimate. They may be a little longer than the audio.
        """
        ledger, seconds, other = self._ledger, self._call.seconds, self._call.normalized
        if ledger.ends_within(seconds + _TIME_TOLERANCE):
            return True
        ends = [ledger.timed if ledger.complete else ledger.last_timestamp] if ledger.covers_text else []
        if other and ledger.text_is_covered_by(other):
            ends.append(other.end)
        if not ledger.trusted or other:
            ends = [end for end in ends if self.check.is_possible(end)]
        if ends:
            missing = min(ends) - seconds  # where two disagree, the one that fits is right
        elif ledger.timed and ledger.trusted:
            missing = ledger.shortfall(seconds, speed=self.check.style.speed)
        else:
            return False
        if missing <= _TIME_TOLERANCE or (
            _MAX_DRIFT * seconds < missing <= ledger.tolerated_shortfall and await self._ends_quietly()
        ):
            return True
        drifted = missing <= _MAX_DRIFT * seconds
        if drifted and (not await self._breaks_off() or self.check.forgives(seconds)):
            return True
        told = f"the audio ends {missing:.2f} s before its last word does"
        raise self._too_short(told, estimated=drifted)

    def _check_length(self) -> None:
        """Raise if it is so short that no voice like this one could have said all of it."""
        seconds = self._call.seconds
        if self.check.refuses(seconds, forgiving=not self.heard):
            raise self._too_short(self.check.told(seconds), estimated=True)

    async def _check_last_sound(self) -> None:
        """Raise if it ends early, and in the middle of a sound, though this voice usually ends in silence.

        What is out already would be heard twice by a mistake of ours, so that is looked at only while nothing is.
        """
        check, seconds = self.check, self._call.seconds
        if check.doubted:
            return
        if check.is_early(seconds):
            if await self._breaks_off() and not check.forgives(seconds):
                told = f"{check.told(seconds)}: it ends in the middle of a sound"
                raise self._too_short(told, estimated=True)
        elif check.wants_end():
            check.ended(quietly=not await self._breaks_off())

    async def _ends_quietly(self) -> bool:
        return await self._output.run_in_thread(self._output.ends_quietly)

    async def _breaks_off(self) -> bool:
        ready, breaks_off = await self._output.run_in_thread(self._listen_to_end, self._with_waiting())
        self._pending += ready
        return breaks_off

    def _listen_to_end(self, waiting: bytes) -> tuple[bytes, bool]:
        return self._take(waiting) if waiting else b"", self._output.breaks_off()

    def _too_large(self, error: BufferLimitError) -> TTSError:
        """Name whose fault it is that more audio came than may be held: the text may be long, or the voice lost."""
        call = self._call
        if is_padded(call.request.text, call.seconds, call.request.speed):
            told = f"{call.seconds:.0f} s of audio for {len(call.request.text)} characters: {error}, and no end"
            return TTSTooLongError(told, provider=call.provider.name, request_id=call.accepted.request_id)
        told = f"{error} would have to be held (max_audio_bytes): use stream(), a smaller format, or raise the limit"
        return TTSTextTooLongError(told)

    def _too_short(self, message: str, *, estimated: bool = False) -> TTSTooShortError:
        call = self._call
        error = TTSTooShortError(message, provider=call.provider.name, request_id=call.accepted.request_id)
        error.estimated = estimated
        return error

    def _note_heard(self, ready: bytes) -> None:
        if ready and not self.heard:
            self.heard = True
            self.held_back = self._call.waited - (self._call.first_audio or 0.0)
