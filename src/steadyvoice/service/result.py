"""What became of an utterance: who was asked, who spoke, what was heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from steadyvoice.providers.base import Accepted
from steadyvoice.service.billing import FREE, Bill, Charge
from steadyvoice.speech.alignment import Alignment, EstimatedAlignment
from steadyvoice.speech.captions import captions
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.format import AudioFormat

Outcome = Literal["spoken", "substituted", "resumed", "cached", "muted", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider asked to say one piece of the text (`begin` to `end`, in characters). Times in seconds."""

    provider: str
    begin: int
    end: int
    at: datetime  # UTC
    waited: float = 0.0  # for the provider, the listener's own time not included
    answered: float | None = None  # until the provider took the request: connecting, and its yes
    first_audio: float | None = None  # from the request to the first decodable audio
    held_back: float = 0.0  # of the wait: for its first words to be whole, when they had begun to come
    audio: float = 0.0  # that came, whether or not it was used
    error: TTSError | None = None  # None: it spoke the piece to its end
    refused: bool = False  # by its circuit or a hold: nothing was sent
    request_id: str | None = None
    characters_billed: float | None = None
    bill: Bill = FREE  # what that, or an answer that never came, means for the purse
    voice: str | None = None  # the provider's own id for it
    hedge: bool = False  # it was asked as well, for another was late: whoever lost has a TTSHedgedError


@dataclass(frozen=True, slots=True)
class Span:
    """Who said which characters, in which voice (the provider's own id), and where that lies in the audio (seconds).
    No provider: silence.

    Where `begin` is `end`, a voice broke off, and what it had said was said again from the start.
    """

    provider: str | None
    begin: int
    end: int
    start: float
    stop: float
    voice: str | None = None
    exact: bool = True  # False: it was left before its end, without times, so that `end` is a guess


@dataclass(slots=True)
class CurrentSpeaker:
    """Who is heard at this moment, from the first byte on, when no span tells yet."""

    provider: str | None = None
    first: Accepted | None = None  # what the vendor told of the request that was heard first
    characters: int = 0  # of that request
    silent: bool = False  # nobody, since nobody could
    times: Callable[[], tuple[float, Alignment]] | None = None  # of the piece at hand, and how much later they begin

    def start(self, provider: str, accepted: Accepted | None = None, characters: int = 0) -> None:
        """Some of this speaker's audio goes out."""
        if self.provider is None:
            self.first, self.characters = accepted, characters
        self.provider = provider


@dataclass(slots=True)
class UtteranceReport:
    """The account of one utterance, kept while it is spoken."""

    first_choice: str | None
    attempts: list[Attempt] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    times: list[tuple[float, Alignment | EstimatedAlignment]] = field(default_factory=list)
    error: Exception | None = None  # a copy, without its traceback, of what ended it
    interrupted: bool = False  # its caller closed it, or gave it up, before its end
    current_speaker: CurrentSpeaker = field(default_factory=lambda: CurrentSpeaker())
    cached: bool = False  # nobody was asked on this caller's behalf: it was kept, or is being said to somebody else

    @property
    def duration(self) -> float:
        """Seconds of audio that were spoken, to the end of a piece or of the last word before it broke off."""
        return self.spans[-1].stop if self.spans else 0.0

    @property
    def provider(self) -> str | None:
        """Who spoke, or spoke first."""
        for span in self.spans:
            if span.provider:
                return span.provider
        return self.current_speaker.provider

    @property
    def voice(self) -> str | None:
        """The voice that spoke, or spoke first, by its provider's own id."""
        return next((span.voice for span in self.spans if span.provider), None)

    @property
    def outcome(self) -> Outcome:
        """The most honest word for the whole: a part in silence is muted, a change of provider resumed.

        `interrupted` when the caller ended it early: by closing it, by cancelling a read, or with its service.

        Another voice than the first choice's is substituted, whether it was kept or is speaking now.
        """
        if self.interrupted:
            return "interrupted"
        if self.error:
            return "failed"
        if only := self._only_speaker:
            return self._as_one_speaks if only == self.first_choice else "substituted"
        speakers = {span.provider for span in self.spans}
        if self.current_speaker.provider:
            speakers.add(self.current_speaker.provider)
        if self.current_speaker.silent or None in speakers:
            return "muted"
        if len(speakers) > 1:
            return "resumed"
        if not speakers <= {self.first_choice}:
            return "substituted"
        return self._as_one_speaks

    @property
    def sole_speaker(self) -> bool:
        """Whether one provider is heard so far, and nothing else: no silence, no other voice."""
        if self.current_speaker.silent or not self.spans:
            return not self.current_speaker.silent
        return all(span.provider == self.current_speaker.provider for span in self.spans)

    @property
    def _as_one_speaks(self) -> Outcome:
        return "cached" if self.cached else "spoken"

    @property
    def _only_speaker(self) -> str | None:
        """Who has said all of it in one piece, as is usual."""
        now, spans = self.current_speaker, self.spans
        return now.provider if len(spans) == 1 and spans[0].provider == now.provider and not now.silent else None

    @property
    def alignments(self) -> list[tuple[float, Alignment]]:
        """The times in each piece, and the second at which it begins."""
        return [(start, each.times if isinstance(each, EstimatedAlignment) else each) for start, each in self.times]

    @property
    def alignment(self) -> Alignment:
        """When each character is heard."""
        return Alignment.joined(self.alignments)

    @property
    def current(self) -> tuple[float, Alignment] | None:
        """The same of the piece at hand, as far as it was handed out, and the second at which it begins."""
        if self.current_speaker.times is None:
            return None
        shift, times = self.current_speaker.times()
        return self.duration + shift, times

    @property
    def billed(self) -> float:
        """Characters that the vendors said they charge."""
        return sum(attempt.bill.characters for attempt in self.attempts if attempt.bill.charge is Charge.BILLED)

    @property
    def wasted(self) -> float:
        """Characters that were charged, or may have been, and that nobody heard."""
        return sum(attempt.bill.wasted for attempt in self.attempts)

    def add(
        self,
        provider: str | None,
        begin: int,
        end: int,
        seconds: float,
        times: Alignment | EstimatedAlignment,
        shift: float = 0.0,
        voice: str | None = None,
        *,
        exact: bool = True,
    ) -> None:
        """Something was spoken, or kept silent over. Its times begin `shift` seconds after it does."""
        start, self.current_speaker.times = self.duration, None
        self.times.append((start + shift, times))
        self.spans.append(Span(provider, begin, end, start, start + seconds, voice, exact))

    def share_from(self, other: UtteranceReport) -> None:
        """Keep the same account from here on, but of what was heard only: the asking was the other's."""
        self.spans, self.times, self.current_speaker, self.cached = (
            other.spans,
            other.times,
            other.current_speaker,
            True,
        )


class ReportedUtterance:
    """The account of an utterance, as anybody who holds its audio sees it."""

    report: UtteranceReport

    @property
    def outcome(self) -> Outcome:
        """How it was spoken, so far."""
        return self.report.outcome

    @property
    def provider(self) -> str | None:
        """Who spoke first. None before the first piece is over, and for silence."""
        return self.report.provider

    @property
    def voice(self) -> str | None:
        """In which voice, by that provider's own id. The `spans` of `spoken` tell it of each piece."""
        return self.report.voice

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Who was asked, so far."""
        return self.report.attempts

    @property
    def duration(self) -> float:
        """Seconds of audio in the pieces that are over."""
        return self.report.duration

    @property
    def alignment(self) -> Alignment:
        """When each character is heard, of the pieces that are over."""
        return self.report.alignment

    @property
    def billed(self) -> float:
        """Characters that vendors said they charge for it, so far."""
        return self.report.billed

    @property
    def wasted(self) -> float:
        """Characters that were charged, or may have been, and that nobody heard, so far."""
        return self.report.wasted

    def captions(self, form: Literal["vtt", "srt"] = "vtt") -> str:
        """Write the words with their times, as WebVTT or SubRip."""
        return captions(self.alignment, form)


@dataclass(frozen=True)
class Speech(ReportedUtterance):
    """A finished utterance: its audio and the account of it."""

    audio: bytes
    format: AudioFormat
    report: UtteranceReport
