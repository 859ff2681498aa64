"""Candidates of an utterance: providers that can speak it, in order of preference, determined before anything
is sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from steadyvoice.providers.base import OfferBasis, PreparedRequest, Provider, SynthesisOffer
from steadyvoice.service.pipeline.provider_call import ProviderCall
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.error_handler import AttemptHistory, TTSErrorHandler
from steadyvoice.service.resilience.failover import CandidateStatus
from steadyvoice.speech.errors import (
    TTSConfigurationError,
    TTSError,
    TTSReadTimeoutError,
    TTSRequestError,
    TTSTextTooLongError,
    TTSUnsupportedScriptError,
    TTSVoiceUnknownError,
)
from steadyvoice.speech.failure_kinds import Billed
from steadyvoice.speech.request import SpeechRequest, VoiceSubstitution
from steadyvoice.speech.voice import Voice
from steadyvoice.speech.writing_systems import LATIN, count_scripts, unsupported_script

_IS_VALID = attrgetter("valid")  # no Python call: it is read for each text


@dataclass(frozen=True, slots=True)
class GuardedProvider:
    """Provider, its error handler and its timeouts; `max_seconds` bounds one attempt."""

    provider: Provider
    handler: TTSErrorHandler
    timeouts: TimeoutConfig = field(default_factory=TimeoutConfig)
    max_seconds: float = math.inf


@dataclass(slots=True, eq=False)
class Candidate:
    """Provider as a candidate for one utterance: what it offers, and its attempts so far."""

    guarded: GuardedProvider
    offer: SynthesisOffer
    history: AttemptHistory
    like: Voice | None = None  # voice that it has to resemble
    prepared: PreparedRequest | None = None  # prepared request for the whole text, if it was prepared
    trusted: bool = True  # False: it promised timestamps and sent none
    billed_until: int = 0  # the characters before this may have been billed, whichever provider speaks them in the end

    @property
    def name(self) -> str:
        return self.guarded.provider.name

    @property
    def voice(self) -> str:
        """Identity of the voice: provider and voice id."""
        return f"{self.name}/{self.offer.voice}"

    @property
    def script_source(self) -> str:
        """Model or voice that determines which scripts are read."""
        return self.offer.model or self.offer.voice

    @property
    def max_characters(self) -> int | None:
        """Most characters that one request may have: the stated limit, or a lower one learned from refusals."""
        return self.guarded.handler.text_limits.max_characters(self.offer.model, self.offer.max_characters)

    @property
    def timed(self) -> bool:
        """True if timestamps come with the audio."""
        return self.offer.timed and self.trusted

    def fresh_copy(self) -> Candidate:
        """Return the same candidate without any attempts."""
        return Candidate(self.guarded, self.offer, self.history.fresh_copy(), self.like, self.prepared)

    def status(self, begin: int, end: int) -> CandidateStatus:
        """Return the status for the text from `begin` to `end`, in characters."""
        if self.history.refused:
            return CandidateStatus(refused=True)
        handler = self.guarded.handler
        # A hold that the vendor's own rate limit placed is no refusal of the caller that waits for its end.
        refused = handler.circuit_refuses() if self.history.tries else handler.refuses(self.offer, end - begin)
        return self.history.status(refused=refused, billed=self.billed_until > begin)

    def record_possible_charge(self, end: int, error: TTSError, *, was_accepted: bool) -> None:
        """Record that a failed piece up to `end` may be billed all the same.

        An error in the middle of an answer has its usual meaning, but the vendor had accepted the request by then
        (`was_accepted`).
        """
        if not self.guarded.provider.local and (was_accepted or error.meaning.billed is not Billed.NO):
            self.billed_until = max(self.billed_until, end)

    def learn_text_limit(self, call: ProviderCall, failure: TTSError) -> bool:
        """Return whether the vendor refused the text for its length, so that it is asked for less of it."""
        if not isinstance(failure, TTSTextTooLongError) or not call.sent or call.seconds:
            return False  # with audio, it is this process's memory limit that was exceeded
        return self.guarded.handler.text_limits.learn(self.offer.model, len(call.request.text), failure)

    def learn(self, call: ProviderCall, error: Exception | None = None, *, probed: bool = False) -> None:
        """Record the latency of the first audio, or that a probe timed out."""
        if call.timing_unreliable:
            return
        probe_timeout = self.guarded.handler.probe_timeout
        if call.first_audio is not None:
            probe_timeout.record(call.first_audio)
        elif probed and isinstance(error, TTSReadTimeoutError):
            probe_timeout.record_missed()


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates for a request, whatever its text, with those that know its voice first; and why other providers
    cannot.
    """

    candidates: Sequence[Candidate]
    refusals: Sequence[TTSError] = ()
    read_latin: bool = False  # all of them read Latin script, or speak no words at all
    bases: Sequence[OfferBasis] = ()  # of their offers

    @property
    def is_current(self) -> bool:
        """True if no provider has learned since that its offer does not hold."""
        return all(map(_IS_VALID, self.bases))

    @property
    def for_any_text(self) -> bool:
        """True if the candidates are the same for every text."""
        return not self.refusals and all(candidate.offer.for_any_text for candidate in self.candidates)

    @property
    def for_latin_text(self) -> bool:
        """True if they are the same for every text in ASCII that has letters, if they were found for such a text."""
        offers = [candidate.offer for candidate in self.candidates]
        return not self.refusals and all(offer.for_any_text or offer.for_latin_text for offer in offers)

    def all_read(self, text: str) -> bool:
        """Return whether every candidate reads this text."""
        if self.read_latin and text.isascii():
            return True
        found = count_scripts(text)
        return not any(unsupported_script(found, each.offer.scripts) for each in self.candidates if each.offer.scripts)

    def for_text(self, text: str) -> tuple[list[Candidate], list[TTSError]]:
        """Return the candidates that read this text, without attempts, and the refusals of all others.

        Raises TTSUnsupportedScriptError when no candidate reads it.
        """
        unreadable = {} if self.read_latin and text.isascii() else _unreadable_by(text, self.candidates)
        candidates = [candidate.fresh_copy() for candidate in self.candidates if candidate.name not in unreadable]
        return candidates, [*self.refusals, *unreadable.values()]


def find_candidates(
    request: SpeechRequest, providers: Sequence[GuardedProvider], substitution: VoiceSubstitution
) -> Candidates:
    """Return the candidates for the request, in order of preference.

    At a vendor's endpoint every client names one of that vendor's voices. If no provider has a voice of that name, the
    order of the providers decides; but where no other voice is allowed, a provider that takes the vendor's own name
    comes first.

    Raises TTSConfigurationError without any provider, TTSVoiceUnknownError when no provider knows the voice, and the
    first provider's own TTSRequestError when none of them can speak it at all.
    """
    if not providers:
        raise TTSConfigurationError("providers: at least one is needed; Tone() always works")
    candidates: list[Candidate] = []
    refusals: list[TTSError] = []
    for guarded in providers:
        try:
            offer = guarded.provider.offer(request)
        except TTSRequestError as error:
            refusals.append(error)
        else:
            course = AttemptHistory(guarded.handler, local=guarded.provider.local)
            candidates.append(Candidate(guarded, offer, course))
    if not candidates:
        raise refusals[0]
    at_endpoint = request.dialect is not None and request.unknown_voice == "passthrough"
    if not at_endpoint and not any(candidate.offer.knows_voice for candidate in candidates):
        names = ", ".join(candidate.name for candidate in candidates)
        raise TTSVoiceUnknownError(f"no provider knows the voice {request.voice[:100]!r} (providers: {names})")
    # Stable sorting keeps the operator's order within both groups.
    candidates.sort(key=lambda candidate: not candidate.offer.knows_voice)
    if substitution == "never":
        candidates.sort(
            key=lambda candidate: not (candidate.offer.knows_voice or candidate.offer.voice == request.voice)
        )
    _match_voices(candidates, request)
    if substitution == "never":
        candidates = [candidate for candidate in candidates if _same_voice(candidate, candidates[0])]
    return Candidates(
        candidates,
        refusals,
        all(not candidate.offer.scripts or candidate.offer.scripts >= LATIN for candidate in candidates),
        [candidate.offer.basis for candidate in candidates if candidate.offer.basis],
    )


def _unreadable_by(text: str, candidates: Sequence[Candidate]) -> dict[str, TTSError]:
    """Return errors of the candidates that cannot read the text, by name.

    Raises TTSUnsupportedScriptError when none of them can. Candidates that speak no words at all stand in for failed
    ones, but not for their reading.
    """
    found = count_scripts(text)
    readers = [candidate for candidate in candidates if candidate.offer.scripts != frozenset()]
    lacking = {
        candidate: script for candidate in readers if (script := unsupported_script(found, candidate.offer.scripts))
    }
    if readers and len(lacking) == len(readers):
        names = ", ".join(f"{candidate.name} ({candidate.script_source})" for candidate in readers)
        raise TTSUnsupportedScriptError(f"the text is in {lacking[readers[0]]}, and no provider reads it: {names}")
    return {candidate.name: _cannot_read(candidate, script) for candidate, script in lacking.items()}


def _cannot_read(candidate: Candidate, script: str) -> TTSError:
    message = f"{candidate.script_source} cannot read the {script} script of the text"
    return TTSUnsupportedScriptError(message, provider=candidate.name)


def _match_voices(candidates: Sequence[Candidate], request: SpeechRequest) -> None:
    """Request offers of the later candidates once more: for a voice like the first one's, as fast and as loud."""
    like = candidates[0].offer.declared
    if like is None:
        return
    for candidate in candidates[1:]:
        if like.has_traits or not candidate.offer.knows_voice:
            candidate.like = like
            candidate.offer = candidate.guarded.provider.offer(replace(request, like=like))


def _same_voice(first: Candidate, second: Candidate) -> bool:
    """Return whether a listener could not tell two candidates apart.

    Two accounts of one vendor have the same voices; a name that the operator gave to voices of two vendors does not.
    """
    # The vendor's ids decide: the operator's names map voices for failover, they do not make two voices one (decision
    # 21).
    if type(first.guarded.provider) is not type(second.guarded.provider):
        return False
    return (first.offer.voice, first.offer.timbre) == (second.offer.voice, second.offer.timbre)
