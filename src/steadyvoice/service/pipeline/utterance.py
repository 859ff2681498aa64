"""One utterance, from its text to the last byte of its audio: who is asked, and what is delivered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace

from steadyvoice.audio.thread_pool import AudioThreadPool
from steadyvoice.providers.base import Provider, SynthesisOffer
from steadyvoice.service.accounting import UtteranceAccounting
from steadyvoice.service.cache.keys import Recording
from steadyvoice.service.options import UtterancePolicy
from steadyvoice.service.pipeline.attempt import AttemptFactory, ProviderAttempt
from steadyvoice.service.pipeline.candidates import Candidate, Candidates
from steadyvoice.service.pipeline.delivery import DeliveredSpeech, Delivery, DeliveryMode
from steadyvoice.service.pipeline.failover import GiveUp, TryProvider, WaitForProvider, next_step
from steadyvoice.service.pipeline.fallback_audio import choose_recording, play_recording, round_to_samples, silent_audio
from steadyvoice.service.pipeline.length_validation import LengthValidator, RejectedLengths
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.prefetch import PrefetchBuffer
from steadyvoice.service.pipeline.provider_call import AudioSink, ProviderCall
from steadyvoice.service.pipeline.speech_rate import SpeechRates, style_of
from steadyvoice.service.pipeline.text_splitting import has_no_words
from steadyvoice.service.pipeline.timeouts import LOCAL_GRACE, Deadline, Stopwatch
from steadyvoice.service.resilience.admission_control import AdmissionControl
from steadyvoice.service.resilience.error_classification import classify
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.service.resilience.hedge_race import HedgePlan, HedgeRace, HedgeScheduler, cancelled_by_caller
from steadyvoice.service.resilience.hedging import Hedging
from steadyvoice.service.resilience.holds import caller_error_behind
from steadyvoice.service.resilience.retry import RetryLoop
from steadyvoice.service.result import UtteranceReport
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import (
    TTSAllProvidersFailedError,
    TTSBadRequestError,
    TTSDeadlineError,
    TTSError,
    TTSOverloadedError,
    TTSRequestError,
    TTSStreamInterruptedError,
    TTSTextTooLongError,
    TTSTooShortError,
    TTSTotalTimeoutError,
    drop_tracebacks,
)
from steadyvoice.speech.markup import MarkedText, Markup
from steadyvoice.speech.request import SpeechRequest

_LATE = 2.0
"""Seconds before the deadline within which a process under pressure begins no stream: audio would come too slowly."""

_LATE_SHARE = 0.2  # of the time given, likewise, for short deadlines


class Utterance:
    """Speaks one request through the first speaker of a cast that can, and the next when it cannot.

    `marked` is its text, if there is markup in it. All places in a text are places in the caller's own.

    Construction spends nothing: it raises TTSUnsupportedScriptError when nobody could ever speak it.
    """

    def __init__(
        self,
        request: SpeechRequest,
        cast: Candidates,
        terms: UtterancePolicy,
        *,
        rates: SpeechRates,
        workers: AudioThreadPool,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        lag: LoopLag,
        admission: AdmissionControl,
        tell_muted: Callable[[bool], None],
        hedging: Hedging | None = None,
        marked: MarkedText | None = None,
    ) -> None:
        self._request, self._terms, self._rates = request, terms, rates
        self._clock, self._admission, self._tell_muted = clock, admission, tell_muted
        self._marked = marked
        self._words = marked.words.text if marked else request.text
        self._parts, self._refusals = cast.for_text(self._words)
        self.stopwatch = Stopwatch(clock)
        """Runs while somebody waits for audio of this."""
        # A whole answer that comes faster than it is played is healthy, however long; but a deadline is a deadline.
        self.stopwatch.extends = terms.hold and not terms.own_deadline
        self._patience = patience = Deadline(terms.total, self.stopwatch)
        most = terms.most_bytes
        self._output = Output(request.format, workers, remembers=request.timestamps, most=most, patience=patience)
        first = self._parts[0]
        self._first = first
        self._books = UtteranceAccounting(request.text, terms, self._parts, wall_clock=wall_clock)
        self._refused = RejectedLengths(rates, self._parts, terms, clock=clock)
        self._asker = AttemptFactory(
            request,
            terms,
            self._books,
            rates=rates,
            workers=workers,
            clock=clock,
            lag=lag,
            refused=self._refused,
            marked=marked,
        )
        self._hedger = (
            HedgeScheduler(hedging, self._asker, self._parts, request, terms, clock=clock) if hedging else None
        )
        self._ahead = PrefetchBuffer(request.format) if self._in_pieces(first) else None
        self.format = request.format
        self._outlet: AudioSink | None = None
        self.recordings: Mapping[str, Recording] = {}
        """What each speaker has said of exactly this before, by its name: better than another's voice, or silence."""

    @property
    def spoken(self) -> UtteranceReport:
        """The account of it, so far."""
        return self._books.spoken

    @property
    def offers(self) -> list[tuple[Provider, SynthesisOffer]]:
        """Who may speak, in order of preference, and as what."""
        return [(part.speaker.provider, part.offer) for part in self._parts]

    def is_cacheable(self, name: str, seconds: float) -> bool:
        """Whether so much audio is surely all of it, said by this speaker."""
        part = next(part for part in self._parts if part.name == name)
        return self._rates.is_cacheable(style_of(name, part.offer, self._request), self._words, seconds)

    @property
    def finished(self) -> bool:
        """Whether every character has been said, and handed out."""
        return not self._books.rest and (self._ahead is None or self._ahead.empty)

    @property
    def delivered(self) -> float:
        """Seconds of audio that came so far."""
        return self._patience.delivered

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the audio, once. It raises TTSError when it cannot be had, and never ends early without saying so."""
        return self._ahead.chunks(self._speak()) if self._ahead else self._speak()

    def close(self) -> None:
        """Let go of what it holds, whichever way it has ended: its encoder, and what it would have gone on with."""
        self.spoken.now.times = None
        self._output.close()

    def attach_sink(self, outlet: AudioSink) -> None:
        """From here on, what goes out as it comes may go there; all else comes as before, and neither overtakes."""
        if self._terms.on_midstream == "error":  # nothing else passes
            self._outlet = outlet

    def _in_pieces(self, first: Candidate) -> bool:
        """Whether it is likely to take several requests, of which the next can be made while this one plays."""
        if self._terms.hold:
            return False
        return self._terms.resumes or len(self._request.text) > (first.max_characters or len(self._request.text))

    async def _speak(self) -> AsyncGenerator[bytes, None]:
        self.stopwatch.start()
        admitted = False
        steps = RetryLoop(self._next_step)
        try:
            while self._books.rest:
                step = await steps.next()
                if not self._books.begin and (recalled := choose_recording(step, self._parts, self.recordings)):
                    async for data in self.play(*recalled):
                        yield data
                    return
                if not admitted and not (admitted := self._admission.admit()):
                    overloaded = await self._refused_admission()
                    if overloaded and not (name := self._recorded_by()):
                        raise overloaded
                    if overloaded:
                        async for data in self.play(name, self.recordings[name]):
                            yield data
                        return
                    admitted = True
                    continue  # who may speak now?
                match step:
                    case TryProvider(index) if self._nothing_for(self._parts[index]):
                        async for data in self._pause(self._parts[index].name):
                            yield data
                    case TryProvider(index):
                        async with aclosing(self._ask(self._parts[index], step)) as said:
                            async for data in said:
                                yield data
                    case WaitForProvider():
                        pass  # slept through by the loop, which decides again
                    case GiveUp() if silent := self._silent_voice():
                        async for data in self._pause(silent):
                            yield data
                    case GiveUp():
                        refusal = self._why_not_muted()
                        if refusal and self._output.anything and (last := await self._finish()):
                            yield last
                        if refusal:
                            raise refusal
                        self._tell_muted(True)
                        self.spoken.now.silent = True
                        async for data in self._keep_silent():
                            yield data
            if last := await self._finish():
                yield last
        finally:
            if admitted:
                self._admission.leave()
            if self._refused.pending:
                self._refused.learn()
            self.close()

    async def _finish(self) -> bytes:
        """Give what the encoder still holds."""
        if self._output.starved:
            return b""
        try:
            return await self._output.run(self._output.finish)
        except TTSTotalTimeoutError as starved:
            raise self._overloaded([starved]) from None

    async def _refused_admission(self) -> TTSOverloadedError | None:
        """Queue for admission. Gives the refusal, if it is not had in time."""
        try:
            await self._admission.wait(self._patience.left)
        except TTSOverloadedError as refusal:
            return refusal
        return None

    def _recorded_by(self) -> str:
        """Name of the first provider of which a recording stands ready, however old; empty if there is none."""
        return next((part.name for part in self._parts if part.name in self.recordings), "")

    async def play(self, name: str, recording: Recording) -> AsyncGenerator[bytes, None]:
        """Give out what this speaker has said of the whole before, from the start."""
        self._tell_muted(False)
        self.spoken.cached = True
        self.spoken.now.heard(name)
        async for data in play_recording(self._output, recording.audio):
            yield data
        self._patience.delivered += recording.seconds
        self._books.said(name, DeliveredSpeech(len(self._request.text), recording.seconds, recording.alignment))

    def _next_step(self) -> TryProvider | WaitForProvider | GiveUp:
        self._pass_over_the_refused()
        step = next_step(
            [part.status(self._books.begin, len(self._request.text)) for part in self._parts],
            now=self._clock(),
            left=self._patience.left,
            max_attempts=self._terms.max_attempts,
            # While this process is behind, whoever it cannot serve in time is refused in time.
            grace=0.0 if self._admission.is_behind else LOCAL_GRACE,
        )
        if (
            isinstance(step, TryProvider)
            and step.first_audio is None
            and self._parts[step.index].name in self.recordings
        ):
            # A recording stands ready, as another provider does behind a probe: nobody waits long for a newer one.
            return replace(step, first_audio=self._parts[step.index].speaker.handler.promptness.allowance)
        return step

    def _pass_over_the_refused(self) -> None:
        """Let the circuits of those whose turn it would be say no, so that they count it and can be quoted."""
        for part in self._parts:
            if part.history.error is None:
                refusal = part.speaker.handler.refusal(part.offer, len(self._books.rest))
                if refusal is None:
                    return
                part.history.failed(refusal)
                self._books.refused(part, refusal)

    def _ask(self, part: Candidate, step: TryProvider) -> AsyncGenerator[bytes, None]:
        """Ask one speaker for the next piece. Returns after a failure that somebody else may mend."""
        asking = self._asker.asking(part, step, self._output, self._patience)
        begin, anything = self._books.begin, self._output.anything
        rival = self._hedger.rival(asking, begin=begin, anything=anything) if self._hedger else None
        return self._raced(asking, rival) if rival else self._hear(asking)

    async def _raced(self, asking: ProviderAttempt, rival: HedgePlan) -> AsyncGenerator[bytes, None]:
        """Ask somebody else as well when it is late."""
        async with HedgeRace(asking, rival, failed=self._failed_unheard, withdrawn=self._note) as race:
            if winner := await race.winner():
                async with aclosing(self._hear(winner)) as heard:
                    async for data in heard:
                        yield data

    async def _hear(self, asking: ProviderAttempt) -> AsyncGenerator[bytes, None]:
        """Hand out what comes, and see what is to be learnt from how it ends."""
        asking.kept = True
        self._output, self._patience = asking.output, asking.whole
        if self._hedger:
            self._hedger.heard(asking)
        part, call, delivery = asking.part, asking.call, asking.delivery
        self.spoken.now.times = lambda: delivery.times_so_far
        begun = False
        too_late: TTSError | None = None
        try:
            try:
                async with asking:
                    while (data := await asking.next(self._outlet)) is not None:
                        if not data:
                            continue
                        if not begun and self._begins_too_late:
                            too_late = self._admission.refusal("starved")
                            await asking.aclose()
                            break
                        if not begun:
                            self._heard(part, call, delivery)
                            begun = True
                        self.stopwatch.stop()  # while the consumer has it
                        yield data
                        self.stopwatch.start()
            except Exception as error:
                failure: TTSError | None = classify(error, part.name)
                drop_tracebacks(error)
                rest = await delivery.break_off()
            else:
                failure, rest = None, delivery.rest
        except BaseException:  # what it cost is on the books all the same, and what was heard
            self._note(asking, cancelled_by_caller(asking))
            if heard := delivery.delivered_so_far:
                self._books.broke_off(part.name, heard)
            raise
        if too_late:
            self._note(asking, cancelled_by_caller(asking))
            raise too_late
        self._note(asking, failure)
        if rest:
            self._heard(part, call, delivery)
            self.stopwatch.stop()
            yield rest
            self.stopwatch.start()
        part.learn(call, failure, probed=asking.probe)
        if failure is None:
            self._learn(delivery.check, call.seconds)
            self._spoke(part, call, delivery.said)
        elif not self._cut_smaller(part, call, failure) and (fatal := self._failed(part, failure, delivery)):
            raise fatal

    @property
    def _begins_too_late(self) -> bool:
        """Whether a stream that began now would break off soon, because this process is behind.

        A stream in which less time is left than its audio takes to come is cut in mid-word, and a caller who has heard
        something cannot be told to come again. Measured at twice the capacity: with a deadline of 5 s, nearly all
        streams that broke off had begun in the last second of it.
        """
        if not self._admission.is_behind or self._terms.hold or self.spoken.spans:
            return False
        return self._patience.left < min(_LATE_SHARE * self._patience.given, _LATE)

    def _heard(self, part: Candidate, call: ProviderCall, delivery: Delivery) -> None:
        """Somebody is heard, from now on if not before. A stream that has begun has as much more time as audio."""
        self._tell_muted(False)
        self.stopwatch.extends |= not self._terms.hold
        self.spoken.now.heard(part.name, call.accepted, delivery.length)

    def _note(self, asking: ProviderAttempt, error: TTSError | None) -> None:
        """It is over. What it cost is on the books, and on its account until the words are said."""
        part, call = asking.part, asking.call
        self._books.asked(part, call, asking.delivery, asking.at, error, hedge=asking.hedge, left=asking.left)
        if self._hedger:
            self._hedger.over(asking, error)
        if error and call.sent:
            self._owe(part, call, error, asking.delivery.length)

    def _failed_unheard(self, asking: ProviderAttempt, failure: Exception) -> None:
        """It failed while others were asked as well, or could have been. Raises TTSError when nobody else may go on."""
        self._patience = asking.whole
        error = classify(failure, asking.part.name)
        drop_tracebacks(error)
        self._note(asking, error)
        asking.part.learn(asking.call, error)
        if self._cut_smaller(asking.part, asking.call, error):
            return
        fatal = self._failed(asking.part, error, asking.delivery)
        if fatal and not asking.hedge:  # what is wrong with a hedge is no reason for the first not to speak
            raise fatal

    def _owe(self, part: Candidate, call: ProviderCall, error: TTSError, characters: int) -> None:
        """An account that two providers share would be charged for the same words once more by the other."""
        end = self._books.begin + characters
        for each in self._parts:
            if each.speaker.handler.allowance is part.speaker.handler.allowance:
                each.owe(end, error, taken=call.taken)

    def _cut_smaller(self, part: Candidate, call: ProviderCall, failure: TTSError) -> bool:
        """Whether the vendor had no room for the text, and the same speaker is asked for less of it instead."""
        if not isinstance(failure, TTSTextTooLongError) or not call.sent or call.seconds:
            return False  # with audio, it is our own memory that has no room
        return part.speaker.handler.text_limits.learn(part.offer.model, len(call.request.text), failure)

    def _failed(self, part: Candidate, failure: TTSError, delivery: Delivery) -> TTSError | None:
        """Keep what was said, and see who may go on. Return what to raise when nobody may."""
        if delivery.timestamps_missing:
            part.trusted = False
        # Where the voice broke off is not known for sure, so going on would lose words or repeat them.
        lost = self._terms.on_midstream == "error" and delivery.heard and delivery.manner is DeliveryMode.AS_IT_COMES
        if saved := delivery.delivered_so_far if lost else delivery.confirmed:
            self._books.broke_off(part.name, saved)
            if saved.characters:
                self._begin_anew()
        if isinstance(failure, TTSTooShortError) and failure.estimated:
            self._refused.add(part, delivery.check, delivery.call)
        part.history.failed(failure)
        error = part.history.error
        assert error is not None  # noqa: S101 - it has just failed
        if lost:
            broken = TTSStreamInterruptedError([error], delivered=self._patience.delivered)
            broken.__cause__ = error
            return broken
        # One vendor's own fields are no mistake to the others, who never see them.
        foreign_fields = isinstance(error, TTSBadRequestError) and self._request.options
        return None if error.meaning.fail_over or foreign_fields else error

    def _learn(self, check: LengthValidator, seconds: float) -> None:
        """Learn from a whole answer how fast its voice is, and whether others for the same words were whole."""
        if check.doubted:
            self._rates.refused(check.style, check.text, seconds)
            return
        self._rates.learn(check.style, check.text, seconds)
        if self._refused.pending:
            self._refused.compare(check.style, check.place, seconds)

    def _spoke(self, part: Candidate, call: ProviderCall, said: DeliveredSpeech) -> None:
        """A piece was said to its end: let the same voice say the next."""
        self._books.spoke(part.name, said, call.accepted.request_id)
        self._parts.remove(part)
        self._parts.insert(0, part)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """The words are other ones now: everybody may try them."""
        for part in self._parts:
            part.history = part.history.fresh_copy()

    def _why_not_muted(self) -> TTSError | None:
        """Why silence is no answer: it is to an outage, not to a caller's mistake."""
        causes = [
            caller_error_behind(part.history.error or self._untried(part)) for part in self._parts
        ] + self._refusals
        if all(isinstance(cause, TTSRequestError) and not isinstance(cause, TTSDeadlineError) for cause in causes):
            return causes[0]
        too_late = self._admission.is_behind and self._patience.left <= 0
        if too_late or any(cause.starved for cause in causes):
            return self._overloaded(causes)
        spoken_for = self._terms.announced and self._output.anything and not self._terms.hold
        # Somebody may have spoken all of it, and was not believed: an error tells more than silence.
        doubtful = any(each.place.start >= self._books.begin for each in self._refused.pending)
        if self._terms.muted and not spoken_for and not doubtful:
            return None
        if self.spoken.spans and not self._terms.hold:
            return TTSStreamInterruptedError(causes, delivered=self.spoken.duration)
        return causes[0] if len(causes) == 1 else TTSAllProvidersFailedError(causes)

    def _overloaded(self, causes: list[TTSError]) -> TTSError:
        """Why it was not spoken, though perhaps nothing is wrong with any provider. Silence would be no answer."""
        error = self._admission.refusal("starved")
        error.__cause__ = next((cause for cause in causes if cause.starved), causes[0])
        if self.spoken.spans and not self._terms.hold:
            return TTSStreamInterruptedError([error], delivered=self.spoken.duration)
        return error

    def _untried(self, part: Candidate) -> TTSError:
        """Why nobody asked this one: there was no time."""
        kind = TTSDeadlineError if self._terms.own_deadline else TTSTotalTimeoutError
        return kind(f"no time was left to ask ({self._patience.given:g} s in all)", provider=part.name)

    async def _keep_silent(self) -> AsyncGenerator[bytes, None]:
        """Say nothing, for as long as saying it would have taken."""
        text = self._marked.words_from(self._books.begin) if self._marked else self._books.rest
        first = self._first
        wanted = self._rates.usual(style_of(first.name, first.offer, self._request), text)
        async for data in self._pause(None, wanted):
            yield data

    def _nothing_for(self, part: Candidate) -> bool:
        """Whether only markup is left, and none that this one would make heard."""
        return self._marked is not None and has_no_words(self._marked, self._books.begin, part.offer.markup)

    def _silent_voice(self) -> str | None:
        """Who can end the text whatever its circuit says, for nothing is left of it to be spoken."""
        return next((part.name for part in self._parts if self._nothing_for(part)), None)

    async def _pause(self, name: str | None, seconds: float = 0.0) -> AsyncGenerator[bytes, None]:
        """Stay silent over the rest of the text for so long, and as long as its markup asks for."""
        begin, rest, marked = self._books.begin, self._books.rest, self._marked
        seconds += marked.pause_between(begin, len(marked.text)) if marked else 0.0
        if name:
            self._tell_muted(False)
            self.spoken.now.heard(name)
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
        self._books.said(name, DeliveredSpeech(len(rest), shift + seconds, times, shift))
