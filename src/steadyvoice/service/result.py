"""Result of an utterance: its audio, the report of attempts, spans, outcome and costs, and stored recordings."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Protocol

import msgspec

from steadyvoice.breaker.in_flight_calls import CallTiming
from steadyvoice.providers.base import Accepted
from steadyvoice.service.billing import FREE, Bill, Charge, delivered_bill
from steadyvoice.service.resilience.error_classification import ProviderRefusal
from steadyvoice.speech.alignment import Alignment, EstimatedAlignment
from steadyvoice.speech.captions import captions
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.format import AudioFormat

Outcome = Literal["spoken", "substituted", "resumed", "cached", "recorded", "muted", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Request to one provider for one piece of the text, from character `begin` to `end`. Durations are in seconds."""

    provider: str  # name of the provider
    begin: int
    end: int
    at: datetime  # UTC
    waited: float = 0.0  # seconds spent waiting for the provider, without the time spent by the consumer
    answered: float | None = None  # seconds until the provider accepted the request, connecting included
    first_audio: float | None = None  # seconds from the request to the first decodable audio
    held_back: float = 0.0  # part of that wait in which the first words had begun to arrive but were not complete
    audio: float = 0.0  # seconds of the audio received, whether or not it was used
    error: TTSError | None = None  # None if the piece was completed
    refused: bool = False  # by the circuit or a hold: nothing was sent
    request_id: str | None = None  # the vendor's id of the request
    characters_billed: float | None = None  # characters, as the vendor stated them; None if it did not
    bill: Bill = FREE  # characters that were or may have been charged
    voice: str | None = None  # the provider's own id of the voice
    hedge: bool = False  # second attempt because the first was late; the one that loses ends with TTSHedgedError
    left: bool = False  # its caller left before its end
    timing: CallTiming | None = field(default=None, repr=False, compare=False)  # while utterances are observed


@dataclass(frozen=True, slots=True)
class Span:
    """Part of the audio, from second `start` to `stop`, with its characters and provider (None for silence).

    `voice` is the provider's own id. Where `begin` equals `end`, the provider failed and its words were spoken again
    from the start.
    """

    provider: str | None  # name of the provider, None for silence
    begin: int
    end: int
    start: float
    stop: float
    voice: str | None = None
    exact: bool = True  # False: interrupted without timestamps, so that `end` is an estimate


@dataclass(slots=True)
class CurrentSpeaker:
    """Provider whose audio is being delivered, from the first byte on, before its span is recorded."""

    provider: str | None = None
    first: Accepted | None = None  # vendor's response headers for the request that was delivered first
    characters: int = 0  # of that request
    silent: bool = False  # no provider is left, so that silence or the recorded message is delivered
    recorded: bool = False  # it is, or was, the recorded message
    times: Callable[[], tuple[float, Alignment]] | None = None  # offset in seconds and times of the current piece

    def start(self, provider: str, accepted: Accepted | None = None, characters: int = 0) -> None:
        """Note that audio of this provider is being delivered; `accepted` and `characters` are those of its request."""
        if self.provider is None:
            self.first, self.characters = accepted, characters
        self.provider = provider


class UtteranceFacts(NamedTuple):
    """Order of an utterance, kept while utterances are observed: see `AsyncTTSService.observe`."""

    candidates: Sequence[str]
    """Names of the providers that could speak it, in order of preference."""
    characters: int
    deadline: float
    """Seconds for the whole of it."""
    holds: bool
    """Whether nothing is delivered before all of it is complete."""


@dataclass(slots=True)
class UtteranceReport:
    """Report of one utterance: attempts, spans, times, outcome and costs. It grows while the audio is delivered."""

    first_choice: str | None
    attempts: list[Attempt] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    times: list[tuple[float, Alignment | EstimatedAlignment]] = field(default_factory=list)
    # A copy without traceback of the error that ended it: the frames of a traceback would keep the encoder, the stream
    # and the task alive (decision 27).
    error: Exception | None = None
    interrupted: bool = False  # closed or cancelled by its caller before the end
    current_speaker: CurrentSpeaker = field(default_factory=lambda: CurrentSpeaker())
    cached: bool = False  # played from the cache, or shared with another caller of the same text
    began: float | None = None  # reading of the service's clock, if utterances are observed
    facts: UtteranceFacts | None = None  # likewise

    @property
    def duration(self) -> float:
        """Seconds of audio delivered, up to the end of the last complete piece or word."""
        return self.spans[-1].stop if self.spans else 0.0

    @property
    def provider(self) -> str | None:
        """Name of the provider that is heard first; None before any audio, and for silence."""
        for span in self.spans:
            if span.provider:
                return span.provider
        return self.current_speaker.provider

    @property
    def voice(self) -> str | None:
        """Voice that is heard first, by its provider's own id."""
        return next((span.voice for span in self.spans if span.provider), None)

    @property
    def outcome(self) -> Outcome:
        """Outcome so far; the least favourable one if several apply.

        `interrupted`: the caller closed the stream, cancelled a read, or closed the service. `muted`: some part is
        silence. `recorded`: the recorded message was played in place of some part. `resumed`: the provider changed
        within the utterance. `substituted`: another provider than the first choice, live or from the cache. `cached`:
        the first choice, from the cache.
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
            return "recorded" if self.current_speaker.recorded else "muted"
        if len(speakers) > 1:
            return "resumed"
        if not speakers <= {self.first_choice}:
            return "substituted"
        return self._as_one_speaks

    @property
    def sole_speaker(self) -> bool:
        """True if all audio so far is of one provider, without silence or another voice."""
        if self.current_speaker.silent or not self.spans:
            return not self.current_speaker.silent
        return all(span.provider == self.current_speaker.provider for span in self.spans)

    @property
    def _as_one_speaks(self) -> Outcome:
        return "cached" if self.cached else "spoken"

    @property
    def _only_speaker(self) -> str | None:
        """Provider of the only piece, if there is just one; None otherwise."""
        # The usual case. It spares the outcome, which is read for every utterance, the sets below.
        now, spans = self.current_speaker, self.spans
        return now.provider if len(spans) == 1 and spans[0].provider == now.provider and not now.silent else None

    @property
    def alignments(self) -> list[tuple[float, Alignment]]:
        """Times of each piece, with the second at which the piece begins."""
        return [(start, each.times if isinstance(each, EstimatedAlignment) else each) for start, each in self.times]

    @property
    def alignment(self) -> Alignment:
        """Start and end of each character, in seconds from the start of the audio."""
        return Alignment.joined(self.alignments)

    @property
    def current(self) -> tuple[float, Alignment] | None:
        """Times of the current piece, as far as it was delivered, with the second at which it begins."""
        if self.current_speaker.times is None:
            return None
        shift, times = self.current_speaker.times()
        return self.duration + shift, times

    @property
    def billed(self) -> float:
        """Characters that the vendors stated as charged."""
        return sum(attempt.bill.characters for attempt in self.attempts if attempt.bill.charge is Charge.BILLED)

    @property
    def wasted(self) -> float:
        """Characters charged, or possibly charged, whose audio was not delivered."""
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
        """Record `seconds` of speech, or of silence without a provider. Its times begin `shift` seconds after it."""
        start, self.current_speaker.times = self.duration, None
        self.times.append((start + shift, times))
        self.spans.append(Span(provider, begin, end, start, start + seconds, voice, exact))

    def share_from(self, other: UtteranceReport) -> None:
        """Share what is delivered with another report, whose caller made the attempts and is billed for them."""
        self.spans, self.times, self.current_speaker, self.cached = (
            other.spans,
            other.times,
            other.current_speaker,
            True,
        )


class RelayedSpeech(msgspec.Struct, frozen=True):
    """Utterance that one request has spoken: what its report is made of once it is read, but for its text.

    A structure and no dataclass, and one for all of it: it is made for nearly every utterance, without a Python call.
    Durations are in seconds; `sent_at` is the time of day, since 1970. See Attempt for the others.
    """

    first_choice: str
    outcome: Outcome
    provider: str
    voice: str
    characters: int
    audio: float
    sent_at: float
    waited: float
    answered: float | None
    first_audio: float | None
    held_back: float
    accepted: Accepted
    refusals: Sequence[ProviderRefusal] = ()
    """Refusals of the providers before it."""
    facts: UtteranceFacts | None = None
    timing: CallTiming | None = None

    @property
    def attempts(self) -> list[Attempt]:
        """All attempts."""
        billed, at = self.accepted.characters_billed, datetime.fromtimestamp(self.sent_at, UTC)
        attempt = Attempt(
            self.provider,
            0,
            self.characters,
            at,
            self.waited,
            self.answered,
            self.first_audio,
            self.held_back,
            self.audio,
            request_id=self.accepted.request_id,
            characters_billed=billed,
            bill=delivered_bill(billed, self.characters),
            voice=self.voice,
            timing=self.timing,
        )
        refused = (
            Attempt(each.provider, 0, self.characters, at, error=each.error, refused=True, voice=each.voice)
            for each in self.refusals
        )
        return [*refused, attempt]

    @property
    def spans(self) -> list[Span]:
        """The whole audio, as one span."""
        return [Span(self.provider, 0, self.characters, 0.0, self.audio, self.voice)]

    def report(self, text: str, alignment: Alignment | None) -> UtteranceReport:
        """Return the report of the utterance, by its text and the times of that; without, they are estimated."""
        report = UtteranceReport(self.first_choice)
        report.current_speaker.start(self.provider, self.accepted, self.characters)
        self.complete(report, text, alignment)
        return report

    def complete(self, report: UtteranceReport, text: str, alignment: Alignment | None) -> None:
        """Add it to a report that has nothing but the speaker yet."""
        report.attempts += self.attempts
        report.facts = self.facts
        times = alignment or EstimatedAlignment(text, self.audio)
        report.add(self.provider, 0, self.characters, self.audio, times, voice=self.voice)


class ObservedCall(Protocol):
    """Call that an observer of its service follows, from its first read or its first text to its report."""

    def start(self) -> None:
        """Note that the call begins; calling it again changes nothing."""
        ...

    def finish(self, report: UtteranceReport, text: str | None = None) -> None:
        """Take the complete report of the call, and its text if it was not known before."""
        ...


current_call: ContextVar[ObservedCall | None] = ContextVar("steadyvoice_call", default=None)
"""Call that is made in this context, if it is observed."""


class ReportedUtterance:
    """Read access to the report of an utterance, for streams and finished speech."""

    report: UtteranceReport
    call: ObservedCall | None = None

    @property
    def outcome(self) -> Outcome:
        """Outcome so far: see `UtteranceReport.outcome`."""
        return self.report.outcome

    @property
    def provider(self) -> str | None:
        """Name of the provider that is heard first; None before any audio, and for silence."""
        return self.report.provider

    @property
    def voice(self) -> str | None:
        """Voice that is heard first, by its provider's own id; `report.spans` has the voice of each part."""
        return self.report.voice

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Attempts made so far, refused ones included."""
        return self.report.attempts

    @property
    def duration(self) -> float:
        """Seconds of audio in the pieces delivered so far."""
        return self.report.duration

    @property
    def alignment(self) -> Alignment:
        """Times of each character in the pieces delivered so far."""
        return self.report.alignment

    @property
    def billed(self) -> float:
        """Characters that the vendors stated as charged, so far."""
        return self.report.billed

    @property
    def wasted(self) -> float:
        """Characters charged, or possibly charged, whose audio was not delivered, so far."""
        return self.report.wasted

    def captions(self, form: Literal["vtt", "srt"] = "vtt") -> str:
        """Return captions in WebVTT or SubRip format.

        - `form`: "vtt" for WebVTT, "srt" for SubRip.
        """
        return captions(self.alignment, form)


@dataclass(frozen=True)
class Speech(ReportedUtterance):
    """Finished utterance: its audio, the format of it, and its report.

    - `audio`: bytes in the format.
    - `format`: format of the audio.
    - `report`: attempts, spans, times and costs.
    """

    audio: bytes
    format: AudioFormat
    report: UtteranceReport


@dataclass(frozen=True, slots=True)
class Recording:
    """Whole utterance by one voice: audio in the requested format, length in seconds, and times of its characters.

    A fresh one may be played without a request to the provider.
    """

    audio: bytes
    seconds: float
    alignment: Alignment
    fresh: bool = True

    def packed(self) -> bytes:
        """Return all but the audio as bytes: a line of JSON, then the times as doubles in native byte order."""
        times = self.alignment
        account = {"seconds": self.seconds, "exact": times.exact, "characters": times.characters}
        return json.dumps(account).encode() + b"\n" + array("d", times.starts + times.ends).tobytes()

    @classmethod
    def unpacked(cls, audio: bytes, account: bytes, *, fresh: bool) -> Recording:
        """Return the recording that was packed. Raises ValueError, KeyError or TypeError."""
        line, _, numbers = account.partition(b"\n")
        read, times = json.loads(line), array("d", numbers)
        count = len(read["characters"])
        starts, ends = tuple(times[:count]), tuple(times[count:])
        alignment = Alignment(tuple(read["characters"]), starts, ends, exact=read["exact"])
        return cls(audio, read["seconds"], alignment, fresh)
