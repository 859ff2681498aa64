"""Utterance: synthesis of one text, from provider selection to the last byte of its audio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

from steadyvoice.audio.thread_pool import AudioThreadPool
from steadyvoice.providers.base import Provider, SynthesisOffer
from steadyvoice.service.accounting import UtteranceAccounting
from steadyvoice.service.observers import UtteranceObserver
from steadyvoice.service.options import UtterancePolicy
from steadyvoice.service.pipeline.attempt import AttemptFactory, ProviderAttempt
from steadyvoice.service.pipeline.candidates import Candidate, Candidates
from steadyvoice.service.pipeline.delivery import DeliveredSpeech, Delivery, DeliveryMode
from steadyvoice.service.pipeline.fallback_audio import choose_recording, play_recording, round_to_samples, silent_audio
from steadyvoice.service.pipeline.hedge_race import HedgePlan, HedgeRace, HedgeScheduler, cancelled_by_caller
from steadyvoice.service.pipeline.length_validation import LengthValidator, RejectedLengths
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.prefetch import PrefetchBuffer
from steadyvoice.service.pipeline.provider_call import AudioSink, ProviderCall
from steadyvoice.service.pipeline.response_call import InFlightRequest
from steadyvoice.service.pipeline.speech_rate import SpeechRates, style_of
from steadyvoice.service.pipeline.text_splitting import has_no_words
from steadyvoice.service.pipeline.timeouts import Deadline, Stopwatch
from steadyvoice.service.resilience.admission_control import AdmissionControl
from steadyvoice.service.resilience.error_classification import classify
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.service.resilience.failover import LOCAL_GRACE, GiveUp, TryProvider, WaitForProvider, next_step
from steadyvoice.service.resilience.hedging import Hedging
from steadyvoice.service.resilience.holds import caller_error_behind
from steadyvoice.service.resilience.retry import RetryLoop
from steadyvoice.service.result import Recording, UtteranceFacts, UtteranceReport
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import (
    TTSAllProvidersFailedError,
    TTSBadRequestError,
    TTSDeadlineError,
    TTSError,
    TTSOverloadedError,
    TTSRequestError,
    TTSStreamInterruptedError,
    TTSTooShortError,
    TTSTotalTimeoutError,
    drop_tracebacks,
)
from steadyvoice.speech.markup import MarkedText, Markup
from steadyvoice.speech.request import SpeechRequest

_LATE = 2.5
"""Seconds before the deadline within which an overloaded process begins no stream, because its audio would come too
slowly.
"""

_LATE_SHARE = 0.35  # of the time given, likewise, for short deadlines


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechResources:
    """Parts of a service that all its utterances share."""

    rates: SpeechRates
    workers: AudioThreadPool
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    lag: LoopLag
    admission: AdmissionControl
    on_muted: Callable[[bool], None]
    """Called with True when an utterance falls silent, and with False when audio is delivered."""
    observers: list[UtteranceObserver]
    """Observers of ended utterances: see service/observers.py."""


class Utterance:
    """Synthesis of one request by the first candidate that can speak it, with failover to the next.

    `marked` is its text, if there is markup in it. All positions are positions in the caller's text. `in_flight` is a
    request that was sent already, to be continued. The `output` of a turn is given to each of its segments, and stays
    open behind them. A given `report` is the one that is filled, and a given `prefetch` buffer the one that its owner
    fetches the `audio()` into.

    Construction sends nothing. Raises TTSUnsupportedScriptError when no candidate can read the text.
    """

    def __init__(
        self,
        request: SpeechRequest,
        candidates: Candidates,
        policy: UtterancePolicy,
        resources: SpeechResources,
        *,
        hedging: Hedging | None = None,
        marked: MarkedText | None = None,
        output: Output | None = None,
        in_flight: InFlightRequest | None = None,
        report: UtteranceReport | None = None,
        prefetch: PrefetchBuffer | None = None,
    ) -> None:
        rates, workers, clock = resources.rates, resources.workers, resources.clock
        self._request, self._policy, self._rates = request, policy, rates
        self._clock, self._admission, self._on_muted = clock, resources.admission, resources.on_muted
        self._marked, self._in_flight = marked, in_flight
        self._spoken_text = marked.words.text if marked else request.text
        self._candidates, self._refusals = candidates.for_text(self._spoken_text)
        self.stopwatch = in_flight.stopwatch if in_flight else Stopwatch(clock)
        """Runs while the consumer waits for audio."""
        if in_flight:
            deadline = in_flight.deadline
        else:
            # A complete answer that arrives faster than it is played is healthy, however long; a caller's own deadline
            # is absolute.
            self.stopwatch.extends = policy.hold and not policy.own_deadline
            deadline = Deadline(policy.total, self.stopwatch)
        self._deadline = deadline
        max_bytes = policy.max_audio_bytes
        self._output = output or Output(
            request.format, workers, remembers=request.timestamps, max_bytes=max_bytes, deadline=deadline
        )
        first = self._candidates[0]
        self._first = first
        self._accounting = UtteranceAccounting(
            request.text,
            policy,
            self._candidates,
            wall_clock=resources.wall_clock,
            observers=resources.observers,
        )
        if report:
            self._accounting.report = report
        if resources.observers:
            names = [candidate.name for candidate in self._candidates]
            self.report.facts = UtteranceFacts(names, len(request.text), policy.total, policy.hold)
        self._rejected = RejectedLengths(rates, self._candidates, policy, clock=clock)
        self._factory = AttemptFactory(
            request,
            policy,
            self._accounting,
            rates=rates,
            workers=workers,
            clock=clock,
            lag=resources.lag,
            rejected=self._rejected,
            marked=marked,
        )
        self._hedges = (
            HedgeScheduler(hedging, self._factory, self._candidates, request, policy, clock=clock) if hedging else None
        )
        self._prefetch = prefetch
        if prefetch is None and self._takes_several_requests(first):
            self._prefetch = PrefetchBuffer(request.format)
        self.format = request.format
        self._sink: AudioSink | None = None
        self.recordings: Mapping[str, Recording] = {}
        """Recordings of exactly this text, by provider: better than another voice, or silence."""

    @property
    def report(self) -> UtteranceReport:
        """Report of the utterance so far."""
        return self._accounting.report

    @property
    def offers(self) -> list[tuple[Provider, SynthesisOffer]]:
        """Candidates in order of preference, each with its offer."""
        return [(candidate.guarded.provider, candidate.offer) for candidate in self._candidates]

    @property
    def output(self) -> Output:
        """Output that the audio has gone through: another one than was given if a hedge has won."""
        return self._output

    def is_cacheable(self, name: str, seconds: float) -> bool:
        """Return whether so many seconds by this provider are certainly the whole text."""
        candidate = next(candidate for candidate in self._candidates if candidate.name == name)
        return self._rates.is_cacheable(style_of(name, candidate.offer, self._request), self._spoken_text, seconds)

    @property
    def finished(self) -> bool:
        """True if every character was spoken, and its audio delivered."""
        return not self._accounting.remaining_text and (self._prefetch is None or self._prefetch.empty)

    @property
    def delivered(self) -> float:
        """Seconds of audio delivered so far."""
        return self._deadline.delivered

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Return the audio, once. Raises TTSError when there is none, and never ends early without an error."""
        return self._prefetch.chunks(self.audio()) if self._prefetch else self.audio()

    def close(self) -> None:
        """Release everything, however the utterance has ended: its encoder, and what it kept for resuming."""
        self.report.current_speaker.times = None
        in_flight, self._in_flight = self._in_flight, None
        if in_flight:  # it was closed before it was begun
            in_flight.abandon()
            self._admission.leave()
        if not self._policy.segment:
            self._output.close()

    def attach_sink(self, sink: AudioSink) -> None:
        """Let passthrough audio go to the sink from now on. All other audio is yielded as before, in order."""
        if self._policy.on_midstream == "error":  # otherwise audio is never passed through
            self._sink = sink

    def _takes_several_requests(self, first: Candidate) -> bool:
        """Return whether several requests are likely, so that the next can be sent while the audio plays."""
        if self._policy.hold or self._policy.segment:  # a turn has a buffer of its own
            return False
        return self._policy.resumes or len(self._request.text) > (first.max_characters or len(self._request.text))

    async def audio(self) -> AsyncGenerator[bytes, None]:
        """Yield the audio as it is made, once: see `chunks()`, which fetches the next pieces meanwhile."""
        self.stopwatch.start()
        self.report.began = self.stopwatch.since
        in_flight, self._in_flight = self._in_flight, None
        admitted = in_flight is not None
        steps = RetryLoop(self._next_step)
        try:
            if in_flight:
                async with aclosing(self._continue(in_flight)) as chunks:
                    async for data in chunks:
                        yield data
            while self._accounting.remaining_text:
                step = await steps.next()
                if not self._accounting.begin and (
                    recording := choose_recording(step, self._candidates, self.recordings)
                ):
                    async for data in self.play(*recording):
                        yield data
                    return
                if not admitted and not (admitted := self._admission.admit()):
                    overloaded = await self._wait_for_admission()
                    if overloaded and not (name := self._recorded_provider()):
                        raise overloaded
                    if overloaded:
                        async for data in self.play(name, self.recordings[name]):
                            yield data
                        return
                    admitted = True
                    continue  # a recording or another provider may be better by now
                match step:
                    case TryProvider(index) if self._is_silent_for(self._candidates[index]):
                        async for data in self._pause(self._candidates[index].name):
                            yield data
                    case TryProvider(index):
                        async with aclosing(self._attempt(self._candidates[index], step)) as chunks:
                            async for data in chunks:
                                yield data
                    case WaitForProvider():
                        pass  # the retry loop has waited; the next iteration decides again
                    case GiveUp() if silent := self._silent_candidate():
                        async for data in self._pause(silent):
                            yield data
                    case GiveUp():
                        refusal = self._error_instead_of_silence()
                        if refusal and self._output.has_output and (last := await self._finish()):
                            yield last
                        if refusal:
                            raise refusal
                        self._on_muted(True)
                        self.report.current_speaker.silent = True
                        async for data in self._speak_recorded() if self._policy.recorded else self._speak_silence():
                            yield data
            if last := await self._finish():
                yield last
        finally:
            if admitted:
                self._admission.leave()
            if self._rejected.pending:
                self._rejected.learn()
            self.close()

    def _continue(self, request: InFlightRequest) -> AsyncGenerator[bytes, None]:
        """Yield the rest of the answer to a request that was sent already."""
        for candidate, refusal in zip(self._candidates, request.refusals, strict=False):
            if refusal is not None:
                candidate.history.failed(refusal)
                self._accounting.record_refusal(candidate, refusal)
        candidate = self._candidates[request.step.index]
        if request.delivered:
            candidate.offer, self._output = request.delivered.offer, request.delivered.output
        attempt = self._factory.create(candidate, request.step, self._output, self._deadline, slot=request.slot)
        attempt.adopt(request)
        if request.has_delivered:
            self._record_delivery(candidate, attempt.call, attempt.delivery)
        if request.first_sound is not None and not request.delivered:
            # Only whether the bytes end within a sample matters: one byte stands for any odd number of them.
            self._output.note_passthrough(b"-" if request.odd_bytes else b"")
        return self._deliver(attempt)

    async def _finish(self) -> bytes:
        """Return what the encoder still holds."""
        if self._output.starved or self._policy.segment:
            return b""
        try:
            return await self._output.run(self._output.finish)
        except TTSTotalTimeoutError as starved:
            raise self._overloaded([starved]) from None

    async def _wait_for_admission(self) -> TTSOverloadedError | None:
        """Wait in the admission queue. Return the refusal if admission does not come in time."""
        try:
            await self._admission.wait(self._deadline.remaining)
        except TTSOverloadedError as refusal:
            return refusal
        return None

    def _recorded_provider(self) -> str:
        """Return the name of the first provider with a recording, however old; empty if there is none."""
        return next((candidate.name for candidate in self._candidates if candidate.name in self.recordings), "")

    async def play(self, name: str, recording: Recording) -> AsyncGenerator[bytes, None]:
        """Yield a recording of the whole text from its start."""
        self._on_muted(False)
        self.report.cached = True
        self.report.current_speaker.start(name)
        async for data in play_recording(self._output, recording.audio):
            yield data
        self._deadline.delivered += recording.seconds
        length, shift = len(self._request.text), self._output.shift
        self._accounting.record_speech(
            name, DeliveredSpeech(length, shift + recording.seconds, recording.alignment, shift)
        )

    def _next_step(self) -> TryProvider | WaitForProvider | GiveUp:
        self._record_refusals()
        step = next_step(
            [candidate.status(self._accounting.begin, len(self._request.text)) for candidate in self._candidates],
            now=self._clock(),
            remaining=self._deadline.remaining,
            max_attempts=self._policy.max_attempts,
            # While this process is behind, callers that it cannot serve in time are refused in time.
            grace=0.0 if self._admission.is_behind else LOCAL_GRACE,
        )
        if (
            isinstance(step, TryProvider)
            and step.first_audio is None
            and self._candidates[step.index].name in self.recordings
        ):
            # A recording is ready, like another provider behind a probe, so a newer one is not waited for much longer.
            return replace(step, first_audio=self._candidates[step.index].guarded.handler.probe_timeout.seconds)
        return step

    def _record_refusals(self) -> None:
        """Record refusals of the candidates that would be tried next, so that their circuits count them and errors name
        them.
        """
        for candidate in self._candidates:
            if candidate.history.error is None:
                refusal = candidate.guarded.handler.refusal(candidate.offer, len(self._accounting.remaining_text))
                if refusal is None:
                    return
                candidate.history.failed(refusal)
                self._accounting.record_refusal(candidate, refusal)

    def _attempt(self, candidate: Candidate, step: TryProvider) -> AsyncGenerator[bytes, None]:
        """Yield the next piece by one candidate. Returns after a failure that another attempt may recover from."""
        attempt = self._factory.create(candidate, step, self._output, self._deadline)
        begin, has_output = self._accounting.begin, self._output.has_output
        plan = self._hedges.plan(attempt, begin=begin, has_output=has_output) if self._hedges else None
        return self._race(attempt, plan) if plan else self._deliver(attempt)

    async def _race(self, attempt: ProviderAttempt, plan: HedgePlan) -> AsyncGenerator[bytes, None]:
        """Yield the piece from this attempt, or from a hedge if the attempt is late."""
        async with HedgeRace(
            attempt, plan, on_failure=self._record_failure_unheard, on_cancelled=self._record_end
        ) as race:
            if winner := await race.winner():
                async with aclosing(self._deliver(winner)) as chunks:
                    async for data in chunks:
                        yield data

    async def _deliver(self, attempt: ProviderAttempt) -> AsyncGenerator[bytes, None]:
        """Yield the audio of an attempt, and learn from how it ends."""
        attempt.selected = True
        self._output, self._deadline = attempt.output, attempt.deadline
        if self._hedges:
            self._hedges.record_selected(attempt)
        candidate, call, delivery = attempt.candidate, attempt.call, attempt.delivery
        self.report.current_speaker.times = lambda: delivery.times_so_far
        delivering = delivery.has_delivered
        too_late: TTSError | None = None
        try:
            try:
                async with attempt:
                    while (data := await attempt.next(self._sink)) is not None:
                        if not data:
                            continue
                        if not delivering and self._begins_too_late:
                            too_late = self._admission.refusal("starved")
                            await attempt.aclose()
                            break
                        if not delivering:
                            self._record_delivery(candidate, call, delivery)
                            delivering = True
                        self.stopwatch.stop()  # while the consumer has the audio
                        yield data
                        self.stopwatch.start()
            except Exception as error:
                failure: TTSError | None = classify(error, candidate.name)
                drop_tracebacks(error)
                rest = await delivery.break_off()
            else:
                failure, rest = None, delivery.rest
        except BaseException:  # costs and delivered audio are recorded all the same
            self._record_end(attempt, cancelled_by_caller(attempt))
            if delivered_part := delivery.delivered_so_far:
                self._accounting.interrupt_piece(candidate.name, delivered_part)
            raise
        if too_late:
            self._record_end(attempt, cancelled_by_caller(attempt))
            raise too_late
        self._record_end(attempt, failure)
        if rest:
            self._record_delivery(candidate, call, delivery)
            self.stopwatch.stop()
            yield rest
            self.stopwatch.start()
        candidate.learn(call, failure, probed=attempt.probe)
        if failure is None:
            self._learn_rate(delivery.validator, call.seconds)
            self._record_piece(candidate, call, delivery.completed)
        elif not candidate.learn_text_limit(call, failure) and (
            fatal := self._record_failure(candidate, failure, delivery)
        ):
            raise fatal

    @property
    def _begins_too_late(self) -> bool:
        """True if a stream that began now would break off soon, because this process is behind.

        A stream with less time left than its audio takes to arrive is cut in mid-word, and a caller that has heard
        something cannot be told to retry. Measured at twice the capacity: with a deadline of 5 s, all streams
        that broke off had begun in its last 1.7 s.
        """
        if not self._admission.is_behind or self._policy.hold or self.report.spans:
            return False
        return self._deadline.remaining < min(_LATE_SHARE * self._deadline.seconds, _LATE)

    def _record_delivery(self, candidate: Candidate, call: ProviderCall, delivery: Delivery) -> None:
        """Record that audio is delivered. From the first audio on, delivered audio extends the deadline."""
        self._on_muted(False)
        self.stopwatch.extends |= not self._policy.hold
        self.report.current_speaker.start(candidate.name, call.accepted, delivery.length)

    def _record_end(self, attempt: ProviderAttempt, error: TTSError | None) -> None:
        """Record the end of an attempt, its costs, and what its account may charge for the text."""
        candidate, call = attempt.candidate, attempt.call
        self._accounting.record_attempt(
            candidate, call, attempt.delivery, attempt.at, error, hedge=attempt.hedge, left=attempt.caller_left
        )
        if self._hedges:
            self._hedges.record_end(attempt, error)
        if error and call.sent:
            self._record_possible_charge(candidate, call, error, attempt.delivery.length)

    def _record_failure_unheard(self, attempt: ProviderAttempt, failure: Exception) -> None:
        """Record an attempt that failed before its audio was delivered. Raises TTSError when no other attempt may
        follow.
        """
        self._deadline = attempt.deadline
        error = classify(failure, attempt.candidate.name)
        drop_tracebacks(error)
        self._record_end(attempt, error)
        attempt.candidate.learn(attempt.call, error)
        if attempt.candidate.learn_text_limit(attempt.call, error):
            return
        fatal = self._record_failure(attempt.candidate, error, attempt.delivery)
        # An error of the hedge alone is no reason for the first attempt not to speak.
        if fatal and not attempt.hedge:
            raise fatal

    def _record_possible_charge(
        self, candidate: Candidate, call: ProviderCall, error: TTSError, characters: int
    ) -> None:
        """Record a possible charge with all providers of the account, which would be charged for the same text once
        more.
        """
        end = self._accounting.begin + characters
        for each in self._candidates:
            if each.guarded.handler.account_limits is candidate.guarded.handler.account_limits:
                each.record_possible_charge(end, error, was_accepted=call.was_accepted)

    def _record_failure(self, candidate: Candidate, failure: TTSError, delivery: Delivery) -> TTSError | None:
        """Record what was delivered before a failure. Return the error to raise, or None if another attempt may
        follow.
        """
        if delivery.words.missing:
            candidate.trusted = False
        # The position where the voice broke off is not known for certain, so resuming would lose words or repeat them.
        lost = (
            self._policy.on_midstream == "error" and delivery.has_delivered and delivery.mode is DeliveryMode.IMMEDIATE
        )
        if delivered_speech := delivery.delivered_so_far if lost else delivery.confirmed:
            self._accounting.interrupt_piece(candidate.name, delivered_speech)
            if delivered_speech.characters:
                self._clear_attempts()
        if isinstance(failure, TTSTooShortError) and failure.estimated:
            self._rejected.add(candidate, delivery.validator, delivery.call)
        candidate.history.failed(failure)
        error = candidate.history.error
        assert error is not None  # noqa: S101 - it has just failed
        if lost:
            interrupted = TTSStreamInterruptedError([error], delivered=self._deadline.delivered)
            interrupted.__cause__ = error
            return interrupted
        # A vendor's own fields are no mistake to the other vendors, which never see them.
        has_vendor_fields = isinstance(error, TTSBadRequestError) and self._request.options
        return None if error.meaning.fail_over or has_vendor_fields else error

    def _learn_rate(self, validator: LengthValidator, seconds: float) -> None:
        """Learn the speech rate of a complete answer, and whether rejected answers for the same text were complete."""
        if validator.doubtful:
            self._rates.record_rejected(validator.style, validator.text, seconds)
            return
        self._rates.learn(validator.style, validator.text, seconds)
        if self._rejected.pending:
            self._rejected.compare(validator.style, validator.place, seconds)

    def _record_piece(self, candidate: Candidate, call: ProviderCall, delivered_speech: DeliveredSpeech) -> None:
        """Record a piece that was spoken to its end, and prefer the same voice for the next."""
        self._accounting.complete_piece(candidate.name, delivered_speech, call.accepted.request_id)
        # The voice that was just heard continues, so that the listener does not hear it change with each piece.
        self._candidates.remove(candidate)
        self._candidates.insert(0, candidate)
        self._clear_attempts()

    def _clear_attempts(self) -> None:
        """Clear the attempts of all candidates, because the remaining text has changed."""
        for candidate in self._candidates:
            candidate.history = candidate.history.fresh_copy()

    def _error_instead_of_silence(self) -> TTSError | None:
        """Return the error to raise instead of silence, or None: silence answers an outage, not a caller's mistake."""
        causes = [
            caller_error_behind(candidate.history.error or self._untried(candidate)) for candidate in self._candidates
        ] + self._refusals
        if all(isinstance(cause, TTSRequestError) and not isinstance(cause, TTSDeadlineError) for cause in causes):
            return causes[0]
        too_late = self._admission.is_behind and self._deadline.remaining <= 0
        if too_late or any(cause.starved for cause in causes):
            return self._overloaded(causes)
        must_not_be_silent = self._policy.announced and self._output.has_output and not self._policy.hold
        # A provider may have spoken the whole text and been rejected: an error tells more than silence.
        doubtful = any(each.place.start >= self._accounting.begin for each in self._rejected.pending)
        if self._policy.muted and not must_not_be_silent and not doubtful:
            return None
        if self.report.spans and not self._policy.hold:
            return TTSStreamInterruptedError(causes, delivered=self.report.duration)
        return causes[0] if len(causes) == 1 else TTSAllProvidersFailedError(causes)

    def _overloaded(self, causes: list[TTSError]) -> TTSError:
        """Return the overload error for text that was not spoken, perhaps through no provider's fault."""
        error = self._admission.refusal("starved")
        error.__cause__ = next((cause for cause in causes if cause.starved), causes[0])
        if self.report.spans and not self._policy.hold:
            return TTSStreamInterruptedError([error], delivered=self.report.duration)
        return error

    def _untried(self, candidate: Candidate) -> TTSError:
        """Return the error of a candidate that was not tried for want of time."""
        kind = TTSDeadlineError if self._policy.own_deadline else TTSTotalTimeoutError
        return kind(f"no time left for an attempt (total: {self._deadline.seconds:g} s)", provider=candidate.name)

    async def _speak_recorded(self) -> AsyncGenerator[bytes, None]:
        """Yield the recorded message in place of the rest of the text, without times: it is not the text."""
        message = self._policy.recorded
        assert message is not None  # noqa: S101 - its caller has looked
        self.report.current_speaker.recorded = True
        async for data in message.play(self._output):
            yield data
        shift = self._output.shift
        length = len(self._accounting.remaining_text)
        self._accounting.record_speech(None, DeliveredSpeech(length, shift + message.seconds, Alignment(), shift))

    async def _speak_silence(self) -> AsyncGenerator[bytes, None]:
        """Yield silence for as long as speaking the rest would have taken."""
        text = self._marked.words_from(self._accounting.begin) if self._marked else self._accounting.remaining_text
        first = self._first
        seconds = self._rates.usual(style_of(first.name, first.offer, self._request), text)
        async for data in self._pause(None, seconds):
            yield data

    def _is_silent_for(self, candidate: Candidate) -> bool:
        """Return whether only markup is left that this candidate does not perform."""
        return self._marked is not None and has_no_words(self._marked, self._accounting.begin, candidate.offer.markup)

    def _silent_candidate(self) -> str | None:
        """Return the name of a candidate that can end the text without a request, whatever the state of its circuit."""
        return next((candidate.name for candidate in self._candidates if self._is_silent_for(candidate)), None)

    async def _pause(self, name: str | None, seconds: float = 0.0) -> AsyncGenerator[bytes, None]:
        """Yield silence for the rest of the text: so many seconds, and the pauses of its markup."""
        begin, rest, marked = self._accounting.begin, self._accounting.remaining_text, self._marked
        seconds += marked.pause_between(begin, len(marked.text)) if marked else 0.0
        if name:
            self._on_muted(False)
            self.report.current_speaker.start(name)
        if seconds or not name:
            seconds = round_to_samples(seconds, self._request.format.sample_rate)
            async for data in silent_audio(self._output, seconds):
                yield data
        sent = marked.rendered(begin, len(marked.text), Markup.NONE) if marked else None
        if sent and sent.text:
            times = Alignment.spread_over(sent, len(sent.text), seconds)
        else:
            times = Alignment.spread(rest, seconds, exact=name is not None)
        shift = self._output.shift
        self._accounting.record_speech(name, DeliveredSpeech(len(rest), shift + seconds, times, shift))
