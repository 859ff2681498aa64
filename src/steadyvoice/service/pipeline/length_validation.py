"""Judgement of one answer by its length, where no times of the vendor's tell whether it is whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from steadyvoice.service.options import UtterancePolicy
from steadyvoice.service.pipeline.candidates import Candidate
from steadyvoice.service.pipeline.failover import GiveUp, next_step
from steadyvoice.service.pipeline.provider_call import ProviderCall
from steadyvoice.service.pipeline.speech_rate import SpeechRates, SpeechStyle, much_longer, style_of
from steadyvoice.service.pipeline.timeouts import Deadline
from steadyvoice.speech.duration_estimate import IMPOSSIBLE_SHARE, estimate_duration, is_surely_complete

_EARLY = 0.9  # of the usual length: an end in the middle of a sound is no end before that
_AS_LONG = 0.1  # of the length, by which two answers of the same text may differ


@dataclass(frozen=True, slots=True)
class _RejectedLength:
    """One answer that was refused for its length alone."""

    part: Candidate
    style: SpeechStyle
    text: str
    place: range  # of what it should say, in the caller's text
    seconds: float


class RejectedLengths:
    """Answers to one utterance that were refused for their length alone, until more is known of them.

    `parts` are those who may speak it, as the utterance changes them.
    """

    def __init__(
        self, rates: SpeechRates, parts: Sequence[Candidate], terms: UtterancePolicy, *, clock: Callable[[], float]
    ) -> None:
        self._rates, self._parts, self._terms, self._clock = rates, parts, terms, clock
        self.pending: list[_RejectedLength] = []

    def add(self, part: Candidate, check: LengthValidator, call: ProviderCall) -> None:
        """Note one."""
        self.pending.append(_RejectedLength(part, check.style, check.text, check.place, call.seconds))

    def compare(self, style: SpeechStyle, place: range, seconds: float) -> None:
        """Compare them with a whole answer for the same part of the text. Those that it contradicts teach nothing."""
        for each in [each for each in self.pending if each.place == place]:
            self.pending.remove(each)
            if not much_longer(each.seconds, each.style.speed, seconds, style.speed):
                self._rates.refused(each.style, each.text, each.seconds)

    def learn(self) -> None:
        """Learn from those of which nothing else is known: they may have been whole."""
        for each in self.pending:
            self._rates.refused(each.style, each.text, each.seconds)
        self.pending.clear()

    def is_last_resort(self, part: Candidate, place: range, seconds: float, whole: Deadline) -> bool:
        """Whether an answer that seems too short is to be given to the caller all the same.

        It is when the same voice was as long before, which no accident is, and when nobody else is left to ask:
        something that may be cut is better than silence.
        """
        for each in self.pending:
            if each.part is part and each.place == place and abs(each.seconds - seconds) <= _AS_LONG * seconds:
                return True
        if part.history.tries + 1 < self._terms.max_attempts and part.speaker.handler.budget.affords_one:
            return False
        others = [each.status(place.start, place.stop) for each in self._parts if each is not part]
        step = next_step(others, now=self._clock(), left=whole.left, max_attempts=self._terms.max_attempts)
        return isinstance(step, GiveUp)


class LengthValidator:
    """Compares the answer to one call with what is known of the voice that gave it.

    An answer that seems too short is given to the caller all the same if it is the last resort, by `refused`. Its
    `place` is that of its words in the text of the utterance, which has so much time for the `whole`.
    """

    def __init__(
        self,
        rates: SpeechRates,
        part: Candidate,
        call: ProviderCall,
        refused: RejectedLengths,
        place: range,
        whole: Deadline,
    ) -> None:
        self._rates, self._part, self._offer, self._request = rates, part, call.offer, call.request
        self._refused, self.place, self._whole = refused, place, whole
        self.doubted = False
        """Whether it seemed too short, and was given to the caller for want of a better one."""

    @cached_property
    def style(self) -> SpeechStyle:
        """Style in which it is spoken."""
        return style_of(self._part.name, self._offer, self._request)

    @property
    def text(self) -> str:
        """Text that it should say."""
        return self._request.text

    def refuses(self, seconds: float, *, forgiving: bool) -> bool:
        """Whether so much audio cannot be the whole; `forgiving` while nobody has heard any of it."""
        if is_surely_complete(self._request.text, seconds):
            return False  # as nearly always; what is known of the voice would change nothing
        if self._rates.is_whole(self.style, self.text, seconds):
            return False
        return not (forgiving and self.forgives(seconds))

    def forgives(self, seconds: float) -> bool:
        """Whether what seems too short is to be given to the caller all the same."""
        self.doubted = self._refused.is_last_resort(self._part, self.place, seconds, self._whole)
        return self.doubted

    def is_early(self, seconds: float) -> bool:
        """Whether it is short enough for its end to be looked at."""
        rates, style = self._rates, self.style
        return rates.ends_quietly(style) and rates.is_early(style, self.text, seconds, _EARLY)

    def wants_end(self) -> bool:
        """Whether it is still to be learned how the answers of this style end."""
        return self._rates.wants_end(self.style)

    def ended(self, *, quietly: bool) -> None:
        """Remember how a whole answer ended."""
        self._rates.ended(self.style, quietly=quietly)

    def is_possible(self, seconds: float) -> bool:
        """Whether any voice could say the text in so many seconds."""
        return seconds * self.style.speed >= estimate_duration(self.text).at_least(IMPOSSIBLE_SHARE)

    @property
    def usual(self) -> float:
        """Seconds that all of the text is likely to take."""
        return self._rates.usual(self.style, self.text)

    def told(self, seconds: float) -> str:
        """Say why it is refused."""
        return (
            f"only {seconds:.1f} s of audio for {len(self.text)} characters, where about {self.usual:.1f} s are usual"
        )
