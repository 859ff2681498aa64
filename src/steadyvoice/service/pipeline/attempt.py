"""Attempt: one candidate asked for the next piece of the text, under timeouts and a permit of its circuit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from types import TracebackType
from typing import Self

from steadyvoice.audio.thread_pool import AudioThreadPool
from steadyvoice.breaker import Permit
from steadyvoice.providers.base import PreparedRequest, SynthesisOffer
from steadyvoice.service.accounting import UtteranceAccounting
from steadyvoice.service.options import UtterancePolicy
from steadyvoice.service.pipeline.attempt_timeouts import DRIP, REAL_TIME, AttemptTimeouts
from steadyvoice.service.pipeline.audio_limits import characters_that_fit
from steadyvoice.service.pipeline.candidates import Candidate
from steadyvoice.service.pipeline.delivery import Delivery, DeliveryMode
from steadyvoice.service.pipeline.length_validation import LengthValidator, RejectedLengths
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.passthrough import PassthroughCall, PassthroughDelivery, PassthroughSink
from steadyvoice.service.pipeline.provider_call import AudioSink, ProviderCall
from steadyvoice.service.pipeline.response_call import (
    HeldSink,
    InFlightRequest,
    PackedCall,
    ResponseCall,
    is_rewritten,
    prepare_request,
)
from steadyvoice.service.pipeline.speech_rate import SpeechRates
from steadyvoice.service.pipeline.text_splitting import MAX_SENTENCE, TextPiece, next_piece
from steadyvoice.service.pipeline.timeouts import Deadline, TimeoutConfig
from steadyvoice.service.resilience.concurrency import QueueSlot
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.service.resilience.failover import TryProvider
from steadyvoice.speech.errors import TTSDeadlineError, TTSError
from steadyvoice.speech.markup import MarkedText
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.word_timing import longest_word_length

MAX_BROKEN_STARTS = 2
"""Number of broken streams after which nothing is delivered before it is complete.

Several providers fail at once then; the next one is heard a sentence at a time, each when it is known to be whole.
"""


def first_audio_limit(
    timeouts: TimeoutConfig, step: TryProvider, offer: SynthesisOffer, characters: int
) -> tuple[float, float]:
    """Return the seconds in which the first audio has to come, and those added for the length of the text."""
    limit = timeouts.first_audio_while(others=step.others)
    if step.first_audio is not None:
        limit = min(limit, step.first_audio)
    return limit, 0.0 if offer.streams else timeouts.character_timeout * characters


class ProviderAttempt:
    """Prepared request to one candidate, and the handling of its answer.

    Enter it once and read with `next()` until it returns None; `open()` it before that if another attempt runs
    meanwhile. `deadline` is the utterance's, which audio delivered here extends; `output` joins the audio to that of
    other attempts; `at` is the time of day. With `probe`, another provider can take its place if it is late.
    """

    def __init__(
        self,
        candidate: Candidate,
        call: ProviderCall,
        slot: QueueSlot,
        delivery: Delivery,
        *,
        output: Output,
        deadline: Deadline,
        at: datetime,
        probe: bool,
        hedge: bool,
    ) -> None:
        self.candidate, self.call, self.delivery, self.output = candidate, call, delivery, output
        self.deadline, self.at, self.probe, self.hedge = deadline, at, probe, hedge
        self._slot, self._handler = slot, candidate.guarded.handler
        self._permit: Permit | None = None
        self._cancelled = self._paused = self._ended = False
        self.caller_left = False  # the caller hung up
        self.abandonment: TTSError | None = None  # error that counts against the provider then, if it was overdue
        self.selected = False  # this attempt is heard: its output is the utterance's
        self._first: bytes | None = None

    def adopt(self, request: InFlightRequest) -> None:
        """Go on with a request that was sent already, under its permit; its queue slot is this attempt's."""
        assert isinstance(self.call, ResponseCall)  # noqa: S101 - no other is in flight before its utterance
        self._permit = self.call.permit = request.permit
        self.at = datetime.fromtimestamp(request.at, UTC)
        self.call.adopt(request)
        self.delivery.has_delivered = request.has_delivered
        if request.delivered:
            self.delivery.words, self.delivery.held_back = request.delivered.words, request.delivered.held_back

    async def open(self) -> None:
        """Send the request and wait for the first audio, even if that is held back. Raises TTSError."""
        await self.__aenter__()
        try:
            self._first = await self.next()
        except BaseException as error:
            await self._end(error)
            raise
        if self._ended:
            await self._end(None)

    async def __aenter__(self) -> Self:
        """Wait in the queue, acquire a permit and send the request."""
        if self._permit or self._ended:
            return self
        # The permit is acquired once the request can be sent: time in the queue is none of the provider's.
        await self._slot.__aenter__()
        try:
            retry = self.candidate.history.tries > 0
            permit = self._handler.admit(self.call.offer, len(self.call.request.text), retry=retry)
            self._permit = self.call.permit = permit
            self.delivery.begin()
            self.call.begin()
        except BaseException as error:
            await self._end(error)
            raise
        return self

    async def next(self, sink: AudioSink | None = None) -> bytes | None:
        """Return audio that may be heard, empty while some is held back; None at the end. Raises TTSError.

        What arrives meanwhile, and needs no inspection, may go to the `sink` instead.
        """
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._ended:
            return None
        permit = self._permit
        assert permit is not None  # noqa: S101 - it has been entered
        if self._paused:
            self._paused = False
            permit.resume()
        passed: AudioSink | None = None
        if isinstance(self.delivery, PassthroughDelivery):
            passed = sink and PassthroughSink(sink, self.output, permit)
        elif isinstance(self.call, PackedCall) and self.delivery.mode is DeliveryMode.WHOLE:
            passed = HeldSink(self.delivery, permit)
        if (data := await self.call.next(passed)) is None:
            self._ended = True
            await self.call.aclose()
            permit.pause()
            await self.delivery.end(self._record_success)
            return None
        # While audio is converted here, or the consumer has it, nothing waits for the provider: under load, a call that
        # waited for this process's own threads was taken for hanging.
        self._paused = True
        permit.pause()
        return await self.delivery.take(data)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(error)

    def cancel(self) -> None:
        """Cancel the attempt without any effect on the provider's record. It has to be closed as well."""
        self._cancelled = self.caller_left = self.delivery.discarded = True
        if self._permit:
            self._settle_abandoned(self._permit)

    async def aclose(self) -> None:
        """Close the request."""
        await self._end(asyncio.CancelledError())

    def _record_success(self) -> None:
        """Record the success and release the queue slot, before the audio is converted.

        Conversion takes long under load. A failure is recorded at once, and would overtake the successes before it.
        """
        permit, self._permit = self._permit, None
        if permit:
            self.call.learn()
            self._handler.settle(permit, None, self.call.offer, len(self.call.request.text))
        self._slot.release()

    async def _end(self, error: BaseException | None) -> None:
        """Release everything, once."""
        permit, self._permit, self._ended = self._permit, None, True
        try:
            if permit:
                await self.call.aclose()
        except Exception as error_in_cleanup:
            error = error_in_cleanup
            raise
        finally:
            self.caller_left |= not isinstance(error, Exception | None)
            # Errors while closing are no failure of the provider's.
            own_cleanup = self._cancelled and isinstance(error, Exception)
            if permit:
                if isinstance(error, Exception | None) and not own_cleanup:
                    given_up = isinstance(error, TTSDeadlineError) and not error.starved
                    self.call.learn(given_up=given_up)
                    self._handler.settle(permit, error, self.call.offer, len(self.call.request.text))
                elif self._cancelled:
                    permit.ignore()
                else:
                    self._settle_abandoned(permit)
            self._slot.release(error)
            if not self.selected and (self.hedge or self._cancelled):
                self.output.close()
        if own_cleanup:
            raise asyncio.CancelledError from error

    def _settle_abandoned(self, permit: Permit) -> None:
        """Settle the permit after the caller left: only silence that is longer than usual says something about the
        provider.
        """
        call = self.call
        self.abandonment = call.abandonment_error()
        was_heard, characters = call.first_sound is not None and not self._cancelled, len(call.request.text)
        self._handler.left(permit, call.offer, characters, heard=was_heard, failure=self.abandonment)


class AttemptFactory:
    """Factory of the attempts of one utterance."""

    def __init__(
        self,
        request: SpeechRequest,
        policy: UtterancePolicy,
        accounting: UtteranceAccounting,
        *,
        rates: SpeechRates,
        workers: AudioThreadPool,
        clock: Callable[[], float],
        lag: LoopLag,
        rejected: RejectedLengths,
        marked: MarkedText | None = None,
    ) -> None:
        self._request, self._policy, self._accounting, self.workers = request, policy, accounting, workers
        self._marked, self._rejected = marked, rejected
        self._rates, self._clock, self._lag = rates, clock, lag

    def create(
        self,
        candidate: Candidate,
        step: TryProvider,
        output: Output,
        deadline: Deadline,
        *,
        hedge: bool = False,
        slot: QueueSlot | None = None,
    ) -> ProviderAttempt:
        """Return an attempt at the next piece by this candidate; a `hedge` does not wait in the queue.

        `deadline` is the utterance's; `slot` is given if it was acquired already.
        """
        call, slot, piece = self._call(candidate, step, deadline, queues=not hedge, acquired=slot)
        return ProviderAttempt(
            candidate,
            call,
            slot,
            self._delivery(candidate, call, output, piece, deadline),
            output=output,
            deadline=deadline,
            at=self._accounting.wall_time(),
            probe=step.first_audio is not None,
            hedge=hedge,
        )

    def _call(
        self, candidate: Candidate, step: TryProvider, deadline: Deadline, *, queues: bool, acquired: QueueSlot | None
    ) -> tuple[ProviderCall, QueueSlot, TextPiece]:
        text_piece = self._next_piece(candidate)
        piece, offer = text_piece.request, text_piece.offer
        guarded = candidate.guarded
        handler, timeouts = guarded.handler, guarded.timeouts
        # While another provider is left, this is at most 80 % of the time that remains, so that one can still be heard
        # (decision 4).
        attempt_deadline = deadline.share(min(step.time_limit, guarded.max_seconds))
        if piece.options:
            piece = handler.account_limits.request_ids.without_foreign_ids(handler.account_limits.account, piece)
        first_audio, extra = first_audio_limit(timeouts, step, offer, len(piece.text))
        slot = acquired or self._queue_slot(candidate, step, deadline, first_audio, queues=queues)
        attempt_timeouts = AttemptTimeouts(
            timeouts,
            attempt_deadline,
            deadline,
            own_deadline=self._policy.own_deadline,
            min_rate=self._min_rate(candidate, step),
            usual=handler.silence_limits.for_offer(offer),
            first_audio=first_audio,
            extra=extra,
        )
        prepared = self._prepared(candidate, piece, offer)
        call = self._kind_of_call(prepared, offer)(
            candidate.guarded.provider,
            piece,
            offer,
            attempt_timeouts,
            connection_timeout=timeouts.connection_timeout,
            clock=self._clock,
            lag=self._lag,
            on_accepted=lambda accepted: handler.accepted(slot, accepted, piece, offer),
        )
        if isinstance(call, ResponseCall):
            call.prepared = prepared
        return call, slot, text_piece

    def _next_piece(self, candidate: Candidate) -> TextPiece:
        """Return the text of the next request to this candidate."""
        request, policy = self._request, self._policy
        max_bytes = policy.max_audio_bytes
        return next_piece(
            candidate,
            request,
            self._accounting.begin,
            marked=self._marked,
            by_sentence=self._mode(candidate) is DeliveryMode.WHOLE and not policy.hold,
            ids=self._accounting.stitching_ids(candidate.name),
            max_characters=characters_that_fit(request.format, request.speed, max_bytes) if policy.hold else None,
        )

    def _queue_slot(
        self, candidate: Candidate, step: TryProvider, deadline: Deadline, first_audio: float, *, queues: bool
    ) -> QueueSlot:
        """Return a slot of the concurrency limit; its attempt waits in the queue only if it `queues`."""
        # A candidate that is given all the remaining time is the last that can speak: it may wait in the queue until
        # the end.
        last = step.time_limit >= deadline.remaining
        limit = step.time_limit if last else min(step.time_limit, first_audio)
        # A listener in the middle of an utterance should not hear a wait.
        is_continuation = self._accounting.begin > 0 and not self._policy.hold
        return candidate.guarded.handler.queue_slot(
            limit if queues else 0.0, waits_anyway=last and queues, is_continuation=is_continuation
        )

    def _prepared(self, candidate: Candidate, piece: SpeechRequest, offer: SynthesisOffer) -> PreparedRequest | None:
        """Return the prepared request for a piece, if its response can be read directly."""
        if piece is self._request:
            return candidate.prepared
        return prepare_request(candidate.guarded.provider, piece, offer) if offer.timed else None

    def _kind_of_call(self, prepared: PreparedRequest | None, offer: SynthesisOffer) -> type[ProviderCall]:
        if prepared is None:
            return ProviderCall
        # Prepared requests of other packages may lack the property, which is newer than they are.
        if getattr(prepared, "is_packed", offer.timed):
            return PackedCall
        # The answer's bytes are those that the caller wants, perhaps but for a header.
        return PassthroughCall if self._accounting.broken_starts < MAX_BROKEN_STARTS else ProviderCall

    def _delivery(
        self, candidate: Candidate, call: ProviderCall, output: Output, text_piece: TextPiece, deadline: Deadline
    ) -> Delivery:
        # Nothing is estimated after a failure: audio is released only up to places known to lie between two words, so
        # that the next word is the right one whatever happens (decision 5).
        mode, begin = self._mode(candidate), self._accounting.begin
        place = range(begin, text_piece.sent.end if text_piece.sent else begin + len(call.request.text))
        is_unchanged = isinstance(call, PassthroughCall) and not is_rewritten(call.request.format)
        return (PassthroughDelivery if is_unchanged else Delivery)(
            call,
            output,
            mode,
            sole=text_piece.whole and not self._policy.segment,
            breakable=self._policy.on_midstream != "error" and mode is not DeliveryMode.WHOLE,
            voice=candidate.voice if self._policy.resumes else None,
            validator=LengthValidator(self._rates, candidate, call, self._rejected, place, deadline),
            sent=text_piece.sent,
        )

    def _mode(self, candidate: Candidate) -> DeliveryMode:
        """Return when this candidate's audio may be delivered: as late as resuming after a failure requires, and no
        later.
        """
        if self._policy.hold:
            return DeliveryMode.WHOLE
        if not self._policy.resumes:
            return DeliveryMode.IMMEDIATE if self._accounting.broken_starts < MAX_BROKEN_STARTS else DeliveryMode.WHOLE
        if candidate.timed and self._short_words:
            return DeliveryMode.BY_WORD
        # A listener in a conversation waits for nothing that may never be needed, unless that is wished: a sentence
        # without timestamps that breaks off is spoken again.
        at_once = self._policy.segment and not self._policy.hold_back
        at_once = at_once and self._accounting.broken_starts < MAX_BROKEN_STARTS
        return DeliveryMode.IMMEDIATE if at_once else DeliveryMode.WHOLE

    @cached_property
    def _short_words(self) -> bool:
        text = self._marked.words.text if self._marked else self._request.text
        return longest_word_length(text) <= MAX_SENTENCE  # longer ones would be held back for too long

    def _min_rate(self, candidate: Candidate, step: TryProvider) -> float:
        """Return the least acceptable rate, in seconds of audio per second.

        A call for the whole answer needs none, unless this is a probe and another provider could speak. A local
        voice has no rate but what this machine allows: slowness is no failure of its own.
        """
        if candidate.guarded.provider.local:
            return 0.0
        if not self._policy.hold:
            return REAL_TIME
        return DRIP if step.first_audio is not None else 0.0
