"""Who may speak an utterance, in what order, and as what: settled from offers, before anything is spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from steadyvoice.providers.base import PreparedRequest, Provider, SynthesisOffer
from steadyvoice.service.pipeline.failover import CandidateStatus
from steadyvoice.service.pipeline.provider_call import ProviderCall
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.error_handler import AttemptHistory, TTSErrorHandler
from steadyvoice.speech.errors import (
    TTSConfigurationError,
    TTSError,
    TTSReadTimeoutError,
    TTSRequestError,
    TTSUnsupportedScriptError,
    TTSVoiceUnknownError,
)
from steadyvoice.speech.failure_kinds import Billed
from steadyvoice.speech.request import SpeechRequest, VoiceSubstitution
from steadyvoice.speech.voice import Voice
from steadyvoice.speech.writing_systems import LATIN, count_scripts, unsupported_script


@dataclass(frozen=True, slots=True)
class GuardedProvider:
    """A provider, its guard, and how long it may take; `most` seconds for one attempt."""

    provider: Provider
    handler: TTSErrorHandler
    timeouts: TimeoutConfig = field(default_factory=TimeoutConfig)
    most: float = math.inf


@dataclass(slots=True, eq=False)
class Candidate:
    """A speaker in one utterance: what it offers, and how it has fared so far."""

    speaker: GuardedProvider
    offer: SynthesisOffer
    history: AttemptHistory
    like: Voice | None = None  # whom it is made to sound like
    ready: PreparedRequest | None = None  # for the whole text, if its answer can be passed on as it comes
    trusted: bool = True  # False: it promised times and sent none
    billed_until: int = 0  # the characters before this may be on its bill, whoever says them in the end

    @property
    def name(self) -> str:
        return self.speaker.provider.name

    @property
    def voice(self) -> str:
        """Whose voice this is, by provider."""
        return f"{self.name}/{self.offer.voice}"

    @property
    def reader(self) -> str:
        """What decides which letters it reads: its model, or else its voice."""
        return self.offer.model or self.offer.voice

    @property
    def max_characters(self) -> int | None:
        """How many characters one request may have: what it says, or less where the vendor has refused so many."""
        return self.speaker.handler.text_limits.most(self.offer.model, self.offer.max_characters)

    @property
    def timed(self) -> bool:
        """Whether it tells when each word is heard."""
        return self.offer.timed and self.trusted

    def fresh_copy(self) -> Candidate:
        """The same speaker, who has not been asked yet."""
        return Candidate(self.speaker, self.offer, self.history.fresh_copy(), self.like, self.ready)

    def status(self, begin: int, end: int) -> CandidateStatus:
        """How it stands for the words from `begin` to `end`, in characters."""
        if self.history.refused:
            return CandidateStatus(refused=True)
        handler = self.speaker.handler
        # A busy vendor's own hold is no refusal to who is waiting for it to end.
        refused = handler.circuit_refuses() if self.history.tries else handler.refuses(self.offer, end - begin)
        return self.history.status(refused=refused, billed=self.billed_until > begin)

    def owe(self, end: int, error: TTSError, *, taken: bool) -> None:
        """Remember that it failed a piece that ends there, and may charge for it all the same.

        An error in the middle of an answer has its usual meaning, but the request was `taken` by then.
        """
        if not self.speaker.provider.local and (taken or error.meaning.billed is not Billed.NO):
            self.billed_until = max(self.billed_until, end)

    def learn(self, call: ProviderCall, error: Exception | None = None, *, probed: bool = False) -> None:
        """Remember how soon its first audio came, or that a probe was given up waiting for it."""
        if call.timing_unreliable:
            return
        promptness = self.speaker.handler.promptness
        if call.first_audio is not None:
            promptness.spoke(call.first_audio)
        elif probed and isinstance(error, TTSReadTimeoutError):
            promptness.missed()


@dataclass(frozen=True, slots=True)
class Candidates:
    """Those who could speak a request, who knows its voice first, and why the others cannot; the text aside."""

    candidates: Sequence[Candidate]
    refusals: Sequence[TTSError] = ()
    read_latin: bool = False  # all of them do, or say no words at all

    @property
    def for_any_text(self) -> bool:
        """Whether it is the same for every text."""
        return not self.refusals and all(part.offer.for_any_text for part in self.candidates)

    def for_text(self, text: str) -> tuple[list[Candidate], list[TTSError]]:
        """Give those who can read this text, none of whom has been asked yet, and why the others cannot.

        Raises TTSUnsupportedScriptError when nobody can.
        """
        strangers = {} if self.read_latin and text.isascii() else _unreadable_by(text, self.candidates)
        parts = [part.fresh_copy() for part in self.candidates if part.name not in strangers]
        return parts, [*self.refusals, *strangers.values()]


def find_candidates(
    request: SpeechRequest, speakers: Sequence[GuardedProvider], substitution: VoiceSubstitution
) -> Candidates:
    """Find those who can speak the request, and in which order they should be asked.

    At a vendor's door every client names one of that vendor's voices. Who speaks when nobody here has such a name is up
    to the order of the providers; but where no other voice is wanted, who takes the vendor's own name comes first.

    Raises TTSConfigurationError without any provider, TTSVoiceUnknownError when nobody knows the voice, and the first
    provider's own TTSRequestError when none of them can speak it at all.
    """
    if not speakers:
        raise TTSConfigurationError("providers: at least one is needed; Tone() always works")
    parts: list[Candidate] = []
    refusals: list[TTSError] = []
    for speaker in speakers:
        try:
            offer = speaker.provider.offer(request)
        except TTSRequestError as error:
            refusals.append(error)
        else:
            course = AttemptHistory(speaker.handler, local=speaker.provider.local)
            parts.append(Candidate(speaker, offer, course))
    if not parts:
        raise refusals[0]
    at_a_door = request.dialect is not None and request.unknown_voice == "passthrough"
    if not at_a_door and not any(part.offer.knows_voice for part in parts):
        names = ", ".join(part.name for part in parts)
        raise TTSVoiceUnknownError(f"no provider knows the voice {request.voice[:100]!r} (asked: {names})")
    parts.sort(key=lambda part: not part.offer.knows_voice)
    if substitution == "never":
        parts.sort(key=lambda part: not (part.offer.knows_voice or part.offer.voice == request.voice))
    _match_voices(parts, request)
    if substitution == "never":
        parts = [part for part in parts if _same_voice(part, parts[0])]
    return Candidates(parts, refusals, all(not part.offer.scripts or part.offer.scripts >= LATIN for part in parts))


def _unreadable_by(text: str, parts: Sequence[Candidate]) -> dict[str, TTSError]:
    """Who cannot read the text, by name, and why. Raises TTSUnsupportedScriptError when that is everybody.

    Whoever says no words at all stands in for those who do when they fail; not for their reading.
    """
    found = count_scripts(text)
    readers = [part for part in parts if part.offer.scripts != frozenset()]
    lacking = {part: script for part in readers if (script := unsupported_script(found, part.offer.scripts))}
    if readers and len(lacking) == len(readers):
        told = ", ".join(f"{part.name} ({part.reader})" for part in readers)
        raise TTSUnsupportedScriptError(f"the text is in {lacking[readers[0]]}, and none of these reads it: {told}")
    return {part.name: _cannot_read(part, script) for part, script in lacking.items()}


def _cannot_read(part: Candidate, script: str) -> TTSError:
    told = f"{part.reader} does not read {script}, in which the text is"
    return TTSUnsupportedScriptError(told, provider=part.name)


def _match_voices(parts: Sequence[Candidate], request: SpeechRequest) -> None:
    """Have those who come later asked once more: for a voice like the first one's, as fast and as loud."""
    like = parts[0].offer.declared
    if like is None:
        return
    for part in parts[1:]:
        if like.has_traits or not part.offer.knows_voice:
            part.like = like
            part.offer = part.speaker.provider.offer(replace(request, like=like))


def _same_voice(one: Candidate, other: Candidate) -> bool:
    """Whether nobody could tell them apart. Two accounts of one vendor have the same voices; a name that the operator
    gave to the voices of two vendors does not make one of them.
    """
    if type(one.speaker.provider) is not type(other.speaker.provider):
        return False
    return (one.offer.voice, one.offer.timbre) == (other.offer.voice, other.offer.timbre)
