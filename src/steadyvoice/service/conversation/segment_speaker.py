"""Speaker of a turn's segments: each is one utterance of the pipeline, all of them go through one output."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from steadyvoice.breaker import Permit
from steadyvoice.providers.base import SupportsTextStreaming, TextStream
from steadyvoice.service.conversation.events import Audio, Flushed, Switched, TurnEvent, Words
from steadyvoice.service.conversation.failure_memory import ProviderMemory, TurnAttemptHistory, TurnFailures
from steadyvoice.service.conversation.ledger import Passage, TurnLedger, WordCursor
from steadyvoice.service.conversation.segmentation import known_words
from steadyvoice.service.conversation.text_stream_call import TextStreamCall
from steadyvoice.service.conversation.text_stream_speaker import StreamContext, TextStreamSpeaker
from steadyvoice.service.conversation.word_estimate import PauseDetector
from steadyvoice.service.options import UtterancePolicy
from steadyvoice.service.pipeline.attempt_timeouts import REAL_TIME, AttemptTimeouts
from steadyvoice.service.pipeline.candidates import Candidate, Candidates, GuardedProvider, find_candidates
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.speech_rate import style_of
from steadyvoice.service.pipeline.text_splitting import MAX_SENTENCE
from steadyvoice.service.pipeline.timeouts import Deadline, Stopwatch
from steadyvoice.service.pipeline.utterance import SpeechResources, Utterance
from steadyvoice.service.resilience.failover import TryProvider, next_step
from steadyvoice.service.resilience.hedging import Hedging
from steadyvoice.service.result import Span, UtteranceReport
from steadyvoice.speech.alignment import Alignment, EstimatedAlignment
from steadyvoice.speech.duration_estimate import is_pronounceable
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.markup import parse_markup
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.text import clean_text

_CONTEXT_CHARACTERS = 500  # of the text before a segment, which are sent along for the prosody
_EXAMINED_CHARACTERS = 1000  # of the text that waits; what comes later is examined when it is sent


@dataclass(frozen=True)
class TurnResources:
    """Parts of a service that its turns share. `providers` returns those in force, in order."""

    speech: SpeechResources
    providers: Callable[[], list[GuardedProvider]]
    hedging: Hedging | None
    shared_causes: deque[object] = field(default_factory=lambda: deque(maxlen=64))
    """Causes of broken connections that were counted already."""


class SegmentSpeaker:
    """Speaker of one turn: speaks segments one after another, and yields the events of each.

    `request` has no text; its format is that of the whole turn. Everything that was opened is released by `close()`.
    """

    def __init__(
        self,
        ledger: TurnLedger,
        request: SpeechRequest,
        policy: UtterancePolicy,
        memory: ProviderMemory,
        resources: TurnResources,
        report: UtteranceReport,
        *,
        hedging: bool = True,
    ) -> None:
        self._ledger, self._policy, self._memory, self._resources = ledger, policy, memory, resources
        self.report, self._hedges = report, hedging
        target = request.format
        # Segments are put together as samples where the format cannot be concatenated.
        form = target if target.is_concatenable else AudioFormat(Codec.PCM, target.sample_rate)
        self._request = replace(request, format=form, timestamps=True)
        self._output = Output(target, resources.speech.workers, max_bytes=policy.max_audio_bytes)
        self._failures = TurnFailures(memory)
        self._voices: dict[str, Candidate] = {}  # as they spoke first, so that no voice changes within the turn
        self._heard_provider: str | None = None
        self._without_streams: set[str] = set()  # providers whose text streams are not used in this turn any more
        self._streams_text = any(isinstance(each.provider, SupportsTextStreaming) for each in resources.providers())
        self._has_begun = False

    @property
    def language(self) -> str | None:
        """Language of the text, if the caller named it."""
        return self._request.language

    async def speak(self, begin: int, end: int) -> AsyncGenerator[TurnEvent, None]:
        """Speak the text from `begin` to `end`, and yield events in playing order. Raises TTSError."""
        text = self._ledger.clean[begin:end]
        spoken = clean_text(text)
        if spoken and is_pronounceable(spoken):
            lead = len(text) - len(text.lstrip())
            utterance = self._utterance(spoken, begin)
            observer = _SegmentObserver(self, utterance, begin + lead, begin + lead + len(spoken))
            try:
                async with aclosing(utterance.chunks()) as chunks:
                    async for data in chunks:
                        for event in observer.events_before(data):
                            yield event
                    for event in observer.last_events():
                        yield event
            finally:
                observer.record()
                self._output = utterance.output
                if utterance.report.current_speaker.recorded:
                    # Once a turn is enough: the rest of an answer that nobody can speak is silence.
                    self._policy = replace(self._policy, recorded=None)
        for event in self.marks_reached(end):
            yield event

    def marks_reached(self, end: int) -> list[TurnEvent]:
        """Note that the text up to `end` was delivered, and return the events of the flushes before it."""
        return [Flushed(mark) for mark in self._ledger.delivered_to(end)]

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place of admission control. Raises TTSOverloadedError if there is none in time."""
        admission = self._resources.speech.admission
        if not admission.admit():
            await admission.wait(self._policy.total)
        try:
            yield
        finally:
            admission.leave()

    def open_stream(self, *, ahead: Callable[[], float], lead: float) -> TextStreamSpeaker | None:
        """Return a speaker of the text from `sent` on through a text stream.

        None if there is no complete word, or if the provider that comes next takes finished text only.
        """
        ledger = self._ledger
        begin = ledger.sent
        if not self._streams_text or not self._has_speakable_words(begin):
            return None
        text = ledger.clean[begin : begin + _EXAMINED_CHARACTERS]
        candidates, _ = self._find_candidates(self._request.with_text(text)).for_text(text)
        stopwatch = Stopwatch(self._resources.speech.clock)
        deadline = Deadline(self._policy.total, stopwatch)
        step = next_step(
            [candidate.status(0, len(text)) for candidate in candidates],
            now=self._resources.speech.clock(),
            remaining=deadline.remaining,
            max_attempts=self._policy.max_attempts,
        )
        if not isinstance(step, TryProvider):
            return None
        candidate = candidates[step.index]
        provider = candidate.guarded.provider
        is_usable = candidate.timed and candidate.name not in self._without_streams
        if not is_usable or not isinstance(provider, SupportsTextStreaming):
            return None
        previous = ledger.clean[max(0, begin - _CONTEXT_CHARACTERS) : begin].strip()
        request = replace(self._request.with_text(""), previous_text=previous or self._request.previous_text)
        timeout = candidate.guarded.timeouts.connection_timeout
        stream = provider.open_text_stream(request, candidate.offer, connection_timeout=timeout)
        if stream is None:
            self._without_streams.add(candidate.name)
            return None
        context = self._stream_context(candidate, ahead, lead)
        return self._stream_speaker(context, candidate, step, stream, request, deadline, stopwatch)

    def _has_speakable_words(self, begin: int) -> bool:
        """Return whether complete words wait that are no markup, and can be pronounced."""
        ledger = self._ledger
        text = ledger.clean[begin : begin + _EXAMINED_CHARACTERS]
        words = text[: max(ledger.final - begin, known_words(text))]
        return bool(words.strip()) and is_pronounceable(words) and not parse_markup(text)

    def _stream_context(self, candidate: Candidate, ahead: Callable[[], float], lead: float) -> StreamContext:
        resources, name, without = self._resources, candidate.name, self._without_streams
        handler, offer = candidate.guarded.handler, candidate.offer

        def record_end(permit: Permit, failure: TTSError | None, characters: int) -> None:
            cause = failure.shared_cause if failure else None
            if cause is not None and any(each is cause for each in resources.shared_causes):
                permit.ignore()  # the connection that broke was counted with the first of its streams
                return
            if cause is not None:
                resources.shared_causes.append(cause)
            handler.settle(permit, failure, offer, characters)

        return StreamContext(
            self._ledger,
            self._output,
            self.report,
            audio=self.audio,
            begin_passage=self._begin_stream_passage,
            marks_reached=self.marks_reached,
            ahead=ahead,
            lead=lead,
            record_end=record_end,
            give_up_streams=lambda: without.add(name),
            wall_time=lambda: datetime.fromtimestamp(resources.speech.wall_clock(), UTC),
            language=self.language,
            observers=resources.speech.observers,
        )

    def _begin_stream_passage(self, provider: str, begin: int) -> list[TurnEvent]:
        ledger = self._ledger
        repeats = self.repeats_from(begin)
        switched = self.switch_to(provider, begin, self.report, repeats=repeats)
        ledger.begin_passage(provider, begin, begin, ledger.seconds)
        self._resources.speech.on_muted(False)
        return [switched] if switched else []

    def repeats_from(self, begin: int) -> bool:
        """Return whether a passage from here on repeats words of one that broke off."""
        latest = self._ledger.passages[-1] if self._ledger.passages else None
        return latest is not None and not latest.complete and latest.stop > latest.start and latest.end > begin

    def _stream_speaker(
        self,
        context: StreamContext,
        candidate: Candidate,
        step: TryProvider,
        stream: TextStream,
        request: SpeechRequest,
        deadline: Deadline,
        stopwatch: Stopwatch,
    ) -> TextStreamSpeaker:
        guarded, resources = candidate.guarded, self._resources
        handler, timeouts, offer = guarded.handler, guarded.timeouts, candidate.offer
        first_audio = timeouts.first_audio_while(others=step.others)
        if step.first_audio is not None:
            first_audio = min(first_audio, step.first_audio)
        last = step.time_limit >= deadline.remaining
        slot = handler.queue_slot(
            step.time_limit if last else min(step.time_limit, first_audio),
            waits_anyway=last,
            is_continuation=self._ledger.sent > 0,
        )
        attempt_timeouts = AttemptTimeouts(
            timeouts,
            deadline.share(min(step.time_limit, guarded.max_seconds)),
            deadline,
            own_deadline=self._policy.own_deadline,
            min_rate=REAL_TIME,
            usual=handler.silence_limits.for_offer(offer),
            first_audio=first_audio,
            extra=0.0,
        )
        call = TextStreamCall(
            guarded.provider,
            request,
            offer,
            attempt_timeouts,
            stream,
            stopwatch,
            connection_timeout=timeouts.connection_timeout,
            clock=resources.speech.clock,
            lag=resources.speech.lag,
            on_accepted=slot.accepted,
        )
        return TextStreamSpeaker(context, candidate, step, call, slot, stopwatch, self._ledger.sent)

    async def finish(self) -> AsyncGenerator[TurnEvent, None]:
        """Yield what the encoder still holds, at the end of the turn."""
        if self._output.has_output and (data := await self._output.run(self._output.finish)):
            yield self.audio(data)

    def close(self) -> None:
        """Release the encoder and what is kept for resuming."""
        self._output.close()

    def audio(self, data: bytes, output: Output | None = None) -> Audio:
        """Return the event of audio that was just emitted."""
        at, total = self._ledger.seconds, (output or self._output).total_seconds
        self._ledger.seconds = max(at, total)
        return Audio(data, at, self._ledger.seconds - at)

    def switch_to(self, provider: str | None, begin: int, report: UtteranceReport, *, repeats: bool) -> Switched | None:
        """Return the event of a change to this provider, if it is one that a listener notices."""
        before, had_begun = self._heard_provider, self._has_begun
        self._heard_provider, self._has_begun = provider, True
        if not had_begun or (provider == before and not repeats):
            return None
        return Switched(self._ledger.seconds, before, provider, self._reason(before, report), begin, repeats)

    def _reason(self, before: str | None, report: UtteranceReport) -> str:
        for attempt in reversed(report.attempts):
            if attempt.error and attempt.provider == before:
                return attempt.error.kind.value
        known = self._failures.by_provider.get(before or "")
        return known.kind.value if known else "recovered" if before is None else "unavailable"

    # ---------------------------------------------------------------- candidates

    def _utterance(self, text: str, begin: int) -> Utterance:
        resources = self._resources
        previous = self._ledger.clean[max(0, begin - _CONTEXT_CHARACTERS) : begin].strip()
        request = self._request.with_text(text)
        if previous:
            request = replace(request, previous_text=previous)
        marked = parse_markup(request.text)
        candidates = self._find_candidates(request.with_text(marked.words.text) if marked else request)
        return Utterance(
            request,
            candidates,
            self._policy,
            resources.speech,
            hedging=resources.hedging if self._hedges else None,
            marked=marked,
            output=self._output,
        )

    def _find_candidates(self, request: SpeechRequest) -> Candidates:
        """Return the candidates: first the voice that spoke last, then the others in order of preference."""
        found = find_candidates(request, self._resources.providers(), self._policy.voice_substitution)
        candidates = list(found.candidates)
        if self.report.first_choice is None:
            self.report.first_choice = candidates[0].name
        probed = None
        if (speaker := self._heard_provider) is not None:
            candidates.sort(key=lambda candidate: candidate.name != speaker)
        elif not self._has_begun:
            candidates.sort(key=lambda candidate: self._memory.avoids(candidate.guarded.handler))
            probed = candidates[0].name if self._memory.probes(candidates[0].guarded.handler) else None
        for candidate in candidates:
            candidate.history = TurnAttemptHistory(
                candidate.guarded.handler,
                self._failures,
                local=candidate.guarded.provider.local,
                probes=candidate.name == probed,
            )
            voice = self._voices.setdefault(candidate.name, candidate).offer
            candidate.offer = replace(
                candidate.offer, voice=voice.voice, speed=voice.speed, gain=voice.gain, timbre=voice.timbre
            )
        return Candidates(candidates, found.refusals, found.read_latin)

    def usual_seconds(self, provider: str, text: str) -> float:
        """Return how long a provider usually speaks for a text."""
        return self._resources.speech.rates.usual(style_of(provider, self._voices[provider].offer, self._request), text)

    def is_timed(self, provider: str, text: str) -> bool:
        """Return whether a provider's timestamps are expected with its audio."""
        return self._voices[provider].timed and len(max(text.split(), key=len, default="")) <= MAX_SENTENCE


class _SegmentObserver:
    """Observer of one segment's utterance: makes events of its audio and its report."""

    def __init__(self, speaker: SegmentSpeaker, utterance: Utterance, begin: int, end: int) -> None:
        self._speaker, self._utterance, self._ledger = speaker, utterance, speaker._ledger
        self._begin, self._end, self._start = begin, end, self._ledger.seconds
        self._spans = 0
        self._passage: Passage | None = None
        self._cursor: WordCursor | None = None

    @property
    def _report(self) -> UtteranceReport:
        return self._utterance.report

    def events_before(self, data: bytes) -> list[TurnEvent]:
        """Return the events of audio, the audio itself last."""
        events = self._finished_spans()
        report = self._report
        provider = None if report.current_speaker.silent else report.current_speaker.provider
        begin = self._begin + (report.spans[-1].end if report.spans else 0)
        if self._passage is None:
            events += self._begin_passage(provider, begin, data)
        elif self._passage.pauses:
            self._passage.pauses.take(data)
        events += self._new_words(report.current)
        events.append(self._speaker.audio(data, self._utterance.output))
        return events

    def last_events(self) -> list[TurnEvent]:
        """Return the events that are known at the end of the segment only."""
        return self._finished_spans()

    def record(self) -> None:
        """Add the segment's report to that of the turn, however the segment has ended."""
        self._finished_spans()
        if self._passage:
            self._ledger.finish_passage(self._passage, self._passage.end, self._ledger.seconds, complete=False)
        _merge_report(self._speaker.report, self._report, self._begin)

    def _begin_passage(self, provider: str | None, begin: int, data: bytes) -> list[TurnEvent]:
        speaker, ledger = self._speaker, self._ledger
        repeats = speaker.repeats_from(begin)
        switched = speaker.switch_to(provider, begin, self._report, repeats=repeats)
        events: list[TurnEvent] = [switched] if switched else []
        passage = self._passage = ledger.begin_passage(provider, begin, self._end, ledger.seconds)
        self._cursor = WordCursor(ledger.clean, begin, self._end)
        text = ledger.clean[begin : self._end]
        if provider and not speaker.is_timed(provider, text):
            pauses = PauseDetector(self._utterance.output.target)
            pauses.take(data)
            events.append(Words(ledger.estimate(passage, speaker.usual_seconds(provider, text), pauses)))
        return events

    def _new_words(self, current: tuple[float, Alignment] | None) -> list[TurnEvent]:
        passage, cursor = self._passage, self._cursor
        if not (passage and cursor and current) or not passage.exact or passage.provider is None:
            return []
        offset, times = current
        words = cursor.take(times, self._start + offset)
        passage.words += words
        return [Words(words)] if words else []

    def _finished_spans(self) -> list[TurnEvent]:
        """Close the passages whose spans were recorded, and return words that only became known with them."""
        events: list[TurnEvent] = []
        report = self._report
        while self._spans < len(report.spans):
            span, (offset, times) = report.spans[self._spans], report.times[self._spans]
            self._spans += 1
            passage = self._passage
            if passage is None:
                continue
            if passage.exact:
                alignment = times.times if isinstance(times, EstimatedAlignment) else times
                events += self._new_words((offset, alignment))
            self._close_passage(passage, span)
        return events

    def _close_passage(self, passage: Passage, span: Span) -> None:
        ledger = self._ledger
        # What was interrupted without timestamps has an estimated end.
        end, is_whole = self._begin + span.end, span.exact and span.end > span.begin
        ledger.finish_passage(
            passage, end if is_whole else passage.end, max(passage.start, ledger.seconds), complete=is_whole
        )
        if is_whole:
            ledger.delivered = max(ledger.delivered, end)
        self._passage = self._cursor = None


def _merge_report(turn: UtteranceReport, segment: UtteranceReport, begin: int) -> None:
    """Add the report of a segment, which begins at this character of the turn."""
    turn.began = segment.began if turn.began is None else turn.began
    turn.facts = turn.facts or segment.facts
    turn.attempts += [replace(each, begin=each.begin + begin, end=each.end + begin) for each in segment.attempts]
    start = turn.duration
    for span, (offset, times) in zip(segment.spans, segment.times, strict=True):
        turn.times.append((start + offset, times))
        turn.spans.append(
            replace(
                span, begin=span.begin + begin, end=span.end + begin, start=span.start + start, stop=span.stop + start
            )
        )
    current = turn.current_speaker
    current.provider = segment.current_speaker.provider or current.provider
    current.silent |= segment.current_speaker.silent
    current.recorded |= segment.current_speaker.recorded
