"""Length validation: answers too short for their text, where no timestamps tell whether they are complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from steadyvoice.service.options import UtterancePolicy
from steadyvoice.service.pipeline.candidates import Candidate
from steadyvoice.service.pipeline.provider_call import ProviderCall
from steadyvoice.service.pipeline.speech_rate import SpeechRates, SpeechStyle, much_longer, style_of
from steadyvoice.service.pipeline.timeouts import Deadline
from steadyvoice.service.resilience.failover import GiveUp, next_step
from steadyvoice.speech.duration_estimate import IMPOSSIBLE_SHARE, estimate_duration, is_surely_complete

_EARLY = 0.9  # of the usual length: an end in the middle of a sound is suspicious only before that
_AS_LONG = 0.1  # share of the length by which two answers of the same text may differ


@dataclass(frozen=True, slots=True)
class _RejectedLength:
    """Answer that was rejected for its length alone."""

    candidate: Candidate
    style: SpeechStyle
    text: str
    place: range  # of its text within the caller's
    seconds: float


class RejectedLengths:
    """Answers to one utterance that were rejected for their length alone, until more is known about them.

    `candidates` is the utterance's own list, which changes with it.
    """

    def __init__(
        self,
        rates: SpeechRates,
        candidates: Sequence[Candidate],
        policy: UtterancePolicy,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._rates, self._candidates, self._policy, self._clock = rates, candidates, policy, clock
        self.pending: list[_RejectedLength] = []

    def add(self, candidate: Candidate, validator: LengthValidator, call: ProviderCall) -> None:
        """Add a rejected answer."""
        self.pending.append(_RejectedLength(candidate, validator.style, validator.text, validator.place, call.seconds))

    def compare(self, style: SpeechStyle, place: range, seconds: float) -> None:
        """Compare the rejected answers with a complete one for the same part of the text.

        Those that it contradicts teach nothing; the others teach how short this voice's answers are.
        """
        for each in [each for each in self.pending if each.place == place]:
            self.pending.remove(each)
            if not much_longer(each.seconds, each.style.speed, seconds, style.speed):
                self._rates.record_rejected(each.style, each.text, each.seconds)

    def learn(self) -> None:
        """Learn from the answers about which nothing else is known: they may have been complete."""
        for each in self.pending:
            self._rates.record_rejected(each.style, each.text, each.seconds)
        self.pending.clear()

    def is_last_resort(self, candidate: Candidate, place: range, seconds: float, deadline: Deadline) -> bool:
        """Return whether an answer that seems too short is delivered all the same.

        It is when the same voice was as long before, which no accident is, and when no other attempt is possible: audio
        that may be cut is better than silence.
        """
        for each in self.pending:
            if (
                each.candidate is candidate
                and each.place == place
                and abs(each.seconds - seconds) <= _AS_LONG * seconds
            ):
                return True
        if candidate.history.tries + 1 < self._policy.max_attempts and candidate.guarded.handler.budget.affords_one:
            return False
        # The decision is the one that failover itself would make, so that no answer is rejected in favour of silence
        # (decision 28).
        others = [each.status(place.start, place.stop) for each in self._candidates if each is not candidate]
        step = next_step(
            others, now=self._clock(), remaining=deadline.remaining, max_attempts=self._policy.max_attempts
        )
        return isinstance(step, GiveUp)


class LengthValidator:
    """Validator of one call's answer by its length, compared with what is known of the voice.

    An answer that seems too short is delivered all the same if it is the last resort, by `rejected`. `place` is the
    range of its text within the utterance's, and `deadline` the utterance's.
    """

    def __init__(
        self,
        rates: SpeechRates,
        candidate: Candidate,
        call: ProviderCall,
        rejected: RejectedLengths,
        place: range,
        deadline: Deadline,
    ) -> None:
        self._rates, self._candidate, self._offer, self._request = rates, candidate, call.offer, call.request
        self._rejected, self.place, self._deadline = rejected, place, deadline
        self.doubtful = False
        """Whether the answer seemed too short, and was delivered for want of a better one."""

    @cached_property
    def style(self) -> SpeechStyle:
        """Style in which the answer is spoken."""
        return style_of(self._candidate.name, self._offer, self._request)

    @property
    def text(self) -> str:
        """Text that the answer should contain."""
        return self._request.text

    def rejects(self, seconds: float, *, lenient: bool) -> bool:
        """Return whether so many seconds cannot be all of the text; `lenient` while none of them was delivered."""
        if is_surely_complete(self._request.text, seconds):
            # Nearly always the case; what is known of the voice would change nothing.
            return False
        if self._rates.is_whole(self.style, self.text, seconds):
            return False
        return not (lenient and self.accepts_anyway(seconds))

    def accepts_anyway(self, seconds: float) -> bool:
        """Return whether an answer that seems too short is delivered all the same."""
        self.doubtful = self._rejected.is_last_resort(self._candidate, self.place, seconds, self._deadline)
        return self.doubtful

    def is_early(self, seconds: float) -> bool:
        """Return whether the answer is short enough for its end to be inspected."""
        rates, style = self._rates, self.style
        return rates.ends_quietly(style) and rates.is_early(style, self.text, seconds, _EARLY)

    def wants_ending(self) -> bool:
        """Return whether more endings of this style have to be learned."""
        return self._rates.wants_ending(self.style)

    def record_ending(self, *, quietly: bool) -> None:
        """Record how a complete answer ended."""
        self._rates.record_ending(self.style, quietly=quietly)

    def is_possible(self, seconds: float) -> bool:
        """Return whether any voice could speak the text in so many seconds."""
        return seconds * self.style.speed >= estimate_duration(self.text).at_least(IMPOSSIBLE_SHARE)

    @property
    def usual(self) -> float:
        """Seconds that the whole text is likely to take."""
        return self._rates.usual(self.style, self.text)

    def describe(self, seconds: float) -> str:
        """Return the message of an answer that is too short."""
        return (
            f"only {seconds:.1f} s of audio for {len(self.text)} characters, where about {self.usual:.1f} s are usual"
        )
