"""One speaker asked for the next piece: how much of the text, under which clocks, and when its audio may go out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import Self

from steadyvoice.audio.thread_pool import AudioThreadPool
from steadyvoice.breaker import Permit
from steadyvoice.service.accounting import UtteranceAccounting
from steadyvoice.service.options import UtterancePolicy
from steadyvoice.service.pipeline.attempt_timeouts import DRIP, REAL_TIME, AttemptTimeouts
from steadyvoice.service.pipeline.audio_limits import characters_that_fit
from steadyvoice.service.pipeline.candidates import Candidate
from steadyvoice.service.pipeline.delivery import Delivery, DeliveryMode
from steadyvoice.service.pipeline.failover import TryProvider
from steadyvoice.service.pipeline.length_validation import LengthValidator, RejectedLengths
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.passthrough import PassthroughCall, PassthroughDelivery, PassthroughSink
from steadyvoice.service.pipeline.provider_call import AudioSink, ProviderCall
from steadyvoice.service.pipeline.speech_rate import SpeechRates
from steadyvoice.service.pipeline.text_splitting import MAX_SENTENCE, TextPiece, next_piece
from steadyvoice.service.pipeline.timeouts import Deadline
from steadyvoice.service.resilience.concurrency import QueueSlot
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.speech.errors import TTSDeadlineError, TTSError
from steadyvoice.speech.markup import MarkedText
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.word_timing import longest_word_length

MAX_BROKEN_STARTS = 2
"""Beginnings that broke off, after which a listener is given nothing more that may: it is a bad day at everybody's, and
whoever speaks next is heard a sentence at a time, each when it is known to be whole.
"""


class ProviderAttempt:
    """A request that is ready to be made, and what becomes of its answer.

    Enter it once, and there ask for the `next()` until there is none; `open()` it before if others are asked meanwhile.
    `whole` is the utterance's time, with what is delivered here, `output` where the audio goes, `at` the time of day.
    """

    def __init__(
        self,
        part: Candidate,
        call: ProviderCall,
        turn: QueueSlot,
        delivery: Delivery,
        *,
        output: Output,
        whole: Deadline,
        at: datetime,
        probe: bool,
        hedge: bool,
    ) -> None:
        self.part, self.call, self.delivery, self.output = part, call, delivery, output
        self.whole, self.at, self.probe, self.hedge = whole, at, probe, hedge
        self._turn, self._handler = turn, part.speaker.handler
        self._permit: Permit | None = None
        self._withdrawn = self._lent = self._over = False
        self.left = False  # its caller went away
        self.abandoned: TTSError | None = None  # what that means for the provider, if it was overdue
        self.kept = False  # it is this one that is heard: its output is the utterance's
        self._head: bytes | None = None

    async def open(self) -> None:
        """Make it, and wait until there is something to hear, if only it were not held back. Raises TTSError."""
        await self.__aenter__()
        try:
            self._head = await self.next()
        except BaseException as error:
            await self._end(error)
            raise
        if self._over:
            await self._end(None)

    async def __aenter__(self) -> Self:
        """Have it in its turn, and under a permit."""
        if self._permit or self._over:
            return self
        await self._turn.__aenter__()
        try:
            retry = self.part.history.tries > 0
            permit = self._handler.admit(self.call.offer, len(self.call.request.text), retry=retry)
            self._permit = self.call.permit = permit
            self.delivery.begin()
            self.call.begin()
        except BaseException as error:
            await self._end(error)
            raise
        return self

    async def next(self, outlet: AudioSink | None = None) -> bytes | None:
        """What may be heard, empty while something is held back; None at the end. Raises TTSError.

        What comes meanwhile, and needs no looking at, may go to the `outlet` instead.
        """
        if self._head is not None:
            head, self._head = self._head, None
            return head
        if self._over:
            return None
        permit = self._permit
        assert permit is not None  # noqa: S101 - it has been entered
        if self._lent:
            self._lent = False
            permit.resume()
        if (data := await self.call.next(outlet and PassthroughSink(outlet, self.output, permit))) is None:
            self._over = True
            await self.call.hang_up()
            permit.pause()
            await self.delivery.end(self._spoke)
            return None
        # While it is converted here, or the listener has it, nobody waits for the provider: under load, a call that
        # waited for our own threads was taken for hanging.
        self._lent = True
        permit.pause()
        return await self.delivery.take(data)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(error)

    def withdraw(self) -> None:
        """Nobody waits for it any more: from here on it tells nothing of its provider. It has to be closed as well."""
        self._withdrawn = self.left = self.delivery.discarded = True
        if self._permit:
            self._leave(self._permit)

    async def aclose(self) -> None:
        """Hang up."""
        await self._end(asyncio.CancelledError())

    def _spoke(self) -> None:
        """Record the success of the provider, and give its place to the next, before its audio is converted.

        Under load that takes long. A failure is recorded at once, and would overtake the successes before it.
        """
        permit, self._permit = self._permit, None
        if permit:
            self.call.learn()
            self._handler.settle(permit, None, self.call.offer, len(self.call.request.text))
        self._turn.leave()

    async def _end(self, error: BaseException | None) -> None:
        """Let go of everything, once."""
        permit, self._permit, self._over = self._permit, None, True
        try:
            if permit:
                await self.call.hang_up()
        except Exception as broken:
            error = broken
            raise
        finally:
            self.left |= not isinstance(error, Exception | None)
            ours = self._withdrawn and isinstance(error, Exception)  # what breaks while we hang up is nobody's failure
            if permit:
                if isinstance(error, Exception | None) and not ours:
                    in_a_hurry = isinstance(error, TTSDeadlineError) and not error.starved
                    self.call.learn(given_up=in_a_hurry)
                    self._handler.settle(permit, error, self.call.offer, len(self.call.request.text))
                elif self._withdrawn:
                    permit.ignore()
                else:
                    self._leave(permit)
            self._turn.leave(error)
            if not self.kept and (self.hedge or self._withdrawn):
                self.output.close()
        if ours:
            raise asyncio.CancelledError from error

    def _leave(self, permit: Permit) -> None:
        """Settle it for a caller who left: only silence that is longer than usual says something of the provider."""
        call = self.call
        self.abandoned = call.abandoned()
        heard, characters = call.first_sound is not None and not self._withdrawn, len(call.request.text)
        self._handler.left(permit, call.offer, characters, heard=heard, failure=self.abandoned)


class AttemptFactory:
    """Prepares what one utterance asks of its speakers."""

    def __init__(
        self,
        request: SpeechRequest,
        terms: UtterancePolicy,
        books: UtteranceAccounting,
        *,
        rates: SpeechRates,
        workers: AudioThreadPool,
        clock: Callable[[], float],
        lag: LoopLag,
        refused: RejectedLengths,
        marked: MarkedText | None = None,
    ) -> None:
        self._request, self._terms, self._books, self.workers = request, terms, books, workers
        self._marked, self._refused = marked, refused
        self._rates, self._clock, self._lag = rates, clock, lag

    def asking(
        self, part: Candidate, step: TryProvider, output: Output, whole: Deadline, *, hedge: bool = False
    ) -> ProviderAttempt:
        """Prepare to ask this speaker for the next piece; for a `hedge` at once or not at all.

        `whole` is the utterance's time.
        """
        call, turn, piece = self._call(part, step, whole, queues=not hedge)
        return ProviderAttempt(
            part,
            call,
            turn,
            self._delivery(part, call, output, piece, whole),
            output=output,
            whole=whole,
            at=self._books.now(),
            probe=step.first_audio is not None,
            hedge=hedge,
        )

    def _call(
        self, part: Candidate, step: TryProvider, whole: Deadline, *, queues: bool
    ) -> tuple[ProviderCall, QueueSlot, TextPiece]:
        by_sentence = self._manner(part) is DeliveryMode.WHOLE and not self._terms.hold
        ids = self._books.ids(part.name)
        request, terms = self._request, self._terms
        most = characters_that_fit(request.format, request.speed, terms.most_bytes) if terms.hold else None
        begin, marked = self._books.begin, self._marked
        cut = next_piece(part, request, begin, marked=marked, by_sentence=by_sentence, ids=ids, most=most)
        piece, offer = cut.request, cut.offer
        speaker = part.speaker
        handler, timeouts = speaker.handler, speaker.timeouts
        patience = whole.share(min(step.allowance, speaker.most))
        if piece.options:
            piece = handler.allowance.request_ids.known_to(handler.allowance.account, piece)
        first_audio = timeouts.first_audio_while(others=step.others)
        if step.first_audio is not None:
            first_audio = min(first_audio, step.first_audio)
        extra = 0.0 if offer.streams else timeouts.character_timeout * len(piece.text)
        # Who is given all the time that is left is the last who can speak, and waits its turn however long it takes.
        last = step.allowance >= whole.left
        queue = step.allowance if last else min(step.allowance, first_audio)
        heard = self._books.begin > 0 and not self._terms.hold  # and whoever listens should not hear us wait
        limit = queue if queues else 0.0
        turn = handler.turn(limit, waits_anyway=last and queues, is_continuation=heard)
        pace = self._least_pace(part, step)
        clocks = AttemptTimeouts(
            timeouts,
            patience,
            whole,
            own_deadline=self._terms.own_deadline,
            pace=pace,
            usual=handler.overdue.of(offer),
            first_audio=first_audio,
            extra=extra,
        )
        call = (PassthroughCall if self._passes(part, piece) else ProviderCall)(
            part.speaker.provider,
            piece,
            offer,
            clocks,
            connecting=timeouts.connection_timeout,
            clock=self._clock,
            lag=self._lag,
            tell=lambda told: handler.accepted(turn, told, piece, offer),
        )
        if isinstance(call, PassthroughCall) and part.ready:
            call.ready = part.ready
        return call, turn, cut

    def _passes(self, part: Candidate, piece: SpeechRequest) -> bool:
        """Whether its bytes are just what the caller wants, and may go out as they come."""
        return part.ready is not None and piece is self._request and self._books.broken_starts < MAX_BROKEN_STARTS

    def _delivery(
        self, part: Candidate, call: ProviderCall, output: Output, cut: TextPiece, whole: Deadline
    ) -> Delivery:
        manner, begin = self._manner(part), self._books.begin
        place = range(begin, cut.sent.end if cut.sent else begin + len(call.request.text))
        return (PassthroughDelivery if isinstance(call, PassthroughCall) else Delivery)(
            call,
            output,
            manner,
            sole=cut.whole,
            breakable=self._terms.on_midstream != "error" and manner is not DeliveryMode.WHOLE,
            voice=part.voice if self._terms.resumes else None,
            check=LengthValidator(self._rates, part, call, self._refused, place, whole),
            sent=cut.sent,
        )

    def _manner(self, part: Candidate) -> DeliveryMode:
        """When this speaker's audio may go out: as late as is needed to go on if it breaks off, and no later."""
        if self._terms.hold:
            return DeliveryMode.WHOLE
        if not self._terms.resumes:
            return DeliveryMode.AS_IT_COMES if self._books.broken_starts < MAX_BROKEN_STARTS else DeliveryMode.WHOLE
        return DeliveryMode.BY_WORD if part.timed and self._short_words else DeliveryMode.WHOLE

    @cached_property
    def _short_words(self) -> bool:
        text = self._marked.words.text if self._marked else self._request.text
        return longest_word_length(text) <= MAX_SENTENCE  # what is longer would be held back for too long

    def _least_pace(self, part: Candidate, step: TryProvider) -> float:
        """Who waits for the whole does not mind the pace, unless we are only curious and somebody else could speak.

        A local voice has no pace but what this machine has to give: slowness is no failure of its own.
        """
        if part.speaker.provider.local:
            return 0.0
        if not self._terms.hold:
            return REAL_TIME
        return DRIP if step.first_audio is not None else 0.0
