"""Plan of relayed requests: what is the same for all texts with the same options, and the check of each text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat

from steadyvoice.breaker import CircuitState
from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.providers.http.client import PreparedHTTPRequest
from steadyvoice.service.options import UtteranceTemplate
from steadyvoice.service.pipeline.candidates import Candidate, Candidates
from steadyvoice.service.pipeline.response_call import is_as_asked, is_rewritten
from steadyvoice.service.pipeline.speech_rate import SpeechStyle, style_of
from steadyvoice.service.pipeline.text_splitting import MAX_SENTENCE
from steadyvoice.service.resilience.error_handler import TTSErrorHandler
from steadyvoice.service.resilience.failover import CandidateStatus, TryProvider, next_step
from steadyvoice.speech.format import Codec
from steadyvoice.speech.markup import parse_markup
from steadyvoice.speech.word_timing import longest_word_length
from steadyvoice.speech.writing_systems import is_latin

_refuses = TTSErrorHandler.refuses


@dataclass(slots=True)
class Choice:
    """Candidate that is asked, by this `step`, while the ones before it refuse."""

    step: TryProvider
    candidate: Candidate
    prepared: PreparedHTTPRequest
    style: SpeechStyle
    seconds: float
    """Seconds for the attempt, and for the whole utterance as `total`."""
    total: float
    own_deadline: bool
    first_audio: float
    extra: float
    """Seconds for the first audio for each character of the text."""
    rewritten: bool
    """Whether audio that is passed through has to be unpacked, or written behind a header."""


@dataclass(slots=True)
class RelayPlan:
    """Plan for one template of utterances: its candidates, and the choice among them by which of them refuse."""

    template: UtteranceTemplate
    found: Candidates
    candidates: Sequence[Candidate]
    holds: bool
    """Whether no audio is delivered before all of it has come."""
    resumes: bool
    """Whether audio is delivered by the word, so that another provider can go on with the next one."""
    handlers: Sequence[TTSErrorHandler]  # of the candidates
    offers: Sequence[SynthesisOffer]
    _choices: dict[tuple[bool, ...], Choice | None] = field(default_factory=dict)

    @classmethod
    def of(cls, template: UtteranceTemplate) -> RelayPlan | None:
        """Return the plan for a template; None if its requests are not relayed."""
        found, policy = template.candidates or template.latin_candidates, template.policy
        if found is None or not found.is_current:
            return None
        if not policy.hold and policy.on_midstream not in ("error", "resume"):
            return None
        handlers, offers = (
            [each.guarded.handler for each in found.candidates],
            [each.offer for each in found.candidates],
        )
        return cls(template, found, found.candidates, policy.hold, policy.resumes and not policy.hold, handlers, offers)

    def reads(self, text: str) -> bool:
        """Return whether a text is usual, whatever the state of the providers: all of them read it as it is."""
        if self.template.candidates is None and not is_latin(text):
            return False
        # The conditions in front are what the calls begin with. They spare the calls for nearly all texts.
        if ("<" in text or "[" in text or "&" in text) and parse_markup(text) is not None:
            return False
        if not (self.found.read_latin and text.isascii()) and not self.found.all_read(text):
            return False
        return not self.resumes or len(text) <= MAX_SENTENCE or longest_word_length(text) <= MAX_SENTENCE

    def choose(self, text: str) -> Choice | None:
        """Return the choice for a text; None if the text or the state of a provider is unusual."""
        if not self.reads(text):
            return None
        length = len(text)
        refusing = tuple(map(_refuses, self.handlers, self.offers, repeat(length)))
        if refusing not in self._choices:
            self._choices[refusing] = self._choose(refusing)
        choice = self._choices[refusing]
        if choice is None:
            return None
        candidate, handler = choice.candidate, choice.candidate.guarded.handler
        limit = candidate.max_characters if handler.text_limits.learned else candidate.offer.max_characters
        is_closed = handler.circuit.state is CircuitState.CLOSED
        return choice if is_closed and (limit is None or length <= limit) else None

    def _choose(self, refusing: tuple[bool, ...]) -> Choice | None:
        policy = self.template.policy
        statuses = [
            CandidateStatus(refused=refused, local=candidate.guarded.provider.local)
            for refused, candidate in zip(refusing, self.candidates, strict=True)
        ]
        step = next_step(statuses, now=0.0, remaining=policy.total, max_attempts=policy.max_attempts)
        if not isinstance(step, TryProvider):
            return None
        candidate, request = self.candidates[step.index], self.template.request
        handler, prepared = candidate.guarded.handler, candidate.prepared
        limits = handler.account_limits
        if candidate.guarded.provider.local or not isinstance(prepared, PreparedHTTPRequest):
            return None
        if not is_as_asked(candidate.offer, request.format):
            return None
        cuts = self.resumes or self.holds
        if cuts and not (prepared.is_packed and _can_be_cut(candidate.offer)):
            return None
        # Ids of other accounts' requests are removed by the pipeline, and which are foreign changes.
        if request.options and limits.request_ids.without_foreign_ids(limits.account, request) is not request:
            return None
        extra = 0.0 if candidate.offer.streams else candidate.guarded.timeouts.character_timeout
        return Choice(
            step,
            candidate,
            prepared,
            style_of(candidate.name, candidate.offer, request),
            min(step.time_limit, candidate.guarded.max_seconds),
            policy.total,
            policy.own_deadline,
            candidate.guarded.timeouts.first_audio_while(others=step.others),
            extra,
            rewritten=not cuts and (prepared.is_packed or is_rewritten(request.format)),
        )


def _can_be_cut(offer: SynthesisOffer) -> bool:
    """Return whether words can be cut out of the bytes that come, which are delivered as they are."""
    return offer.timed and offer.format.codec in _CUT_AS_BYTES


_CUT_AS_BYTES = (Codec.MP3, Codec.PCM, Codec.ULAW, Codec.ALAW)
