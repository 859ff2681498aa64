"""One speaker asked for the next piece: how much of the text, under which clocks, and when its audio may go out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from steadyvoice.service.attempt import Call
from steadyvoice.service.books import Books
from steadyvoice.service.casting import BREATH, Part, next_piece
from steadyvoice.service.delivery import Delivery, Manner
from steadyvoice.service.listener import DRIP, REAL_TIME
from steadyvoice.service.output import Output
from steadyvoice.service.pace import Pace
from steadyvoice.service.plan import Try
from steadyvoice.service.terms import Terms
from steadyvoice.service.timeouts import Patience
from steadyvoice.service.turnstile import Turn
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.words import longest_word


@dataclass(frozen=True, slots=True)
class Asking:
    """A request that is ready to be made, and what becomes of its answer."""

    part: Part
    call: Call
    turn: Turn
    delivery: Delivery

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Make it in its turn, under a permit, and yield what may be heard. Raises TTSError."""
        handler, characters, retry = self.part.speaker.handler, len(self.call.request.text), self.part.course.tries > 0
        async with self.turn:
            with handler.attempt(offer=self.call.offer, characters=characters, retry=retry) as permit:
                async with aclosing(self.delivery.chunks()) as delivered:
                    async for data in delivered:
                        permit.pause()  # while the listener has it, nobody waits for the provider
                        if data:
                            yield data
                        permit.resume()


class Asker:
    """Prepares what one utterance asks of its speakers."""

    def __init__(
        self,
        request: SpeechRequest,
        terms: Terms,
        books: Books,
        output: Output,
        patience: Patience,
        *,
        pace: Pace,
        clock: Callable[[], float],
    ) -> None:
        self._request, self._terms, self._books, self._output = request, terms, books, output
        self._patience, self._pace, self._clock = patience, pace, clock
        self._short_words = longest_word(request.text) <= BREATH  # what is longer would be held back for too long

    def asking(self, part: Part, step: Try) -> Asking:
        """Prepare to ask this speaker for the next piece."""
        call, turn = self._call(part, step)
        return Asking(part, call, turn, self._delivery(part, call))

    def _call(self, part: Part, step: Try) -> tuple[Call, Turn]:
        by_sentence = self._manner(part) is Manner.WHOLE and not self._terms.hold
        ids = self._books.ids(part.name)
        piece, offer = next_piece(part, self._request, self._books.begin, by_sentence=by_sentence, ids=ids)
        handler, patience = part.speaker.handler, Patience(step.allowance)
        timeouts = self._terms.timeouts.hurried(step.first_audio)
        # Who is given all the time that is left is the last who can speak, and waits its turn however long it takes.
        last = step.allowance >= self._patience.left
        queue = step.allowance if last else min(step.allowance, timeouts.first_audio)
        heard = self._books.begin > 0 and not self._terms.hold  # and whoever listens should not hear us wait
        turn = handler.turn(queue, patience, self._patience, hopeful=last, goes_on=heard)
        call = Call(
            part.speaker.provider,
            piece,
            offer,
            timeouts=timeouts,
            patience=patience,
            whole=self._patience,
            own_deadline=self._terms.own_deadline,
            pace=self._least_pace(step),
            clock=self._clock,
            tell=lambda told: handler.accepted(turn, told, piece, offer),
        )
        return call, turn

    def _delivery(self, part: Part, call: Call) -> Delivery:
        manner, piece = self._manner(part), call.request
        return Delivery(
            call,
            self._output,
            manner,
            sole=piece.text == self._request.text,
            breakable=self._terms.on_midstream != "error" and manner is not Manner.WHOLE,
            voice=part.voice if self._terms.resumes else None,
            usual=self._pace.seconds(part.voice, piece.text, speed=piece.speed) if piece.times else None,
        )

    def _manner(self, part: Part) -> Manner:
        """When this speaker's audio may go out: as late as is needed to go on if it breaks off, and no later."""
        if self._terms.hold:
            return Manner.WHOLE
        if not self._terms.resumes:
            return Manner.AS_IT_COMES
        return Manner.BY_WORD if part.timed and self._short_words else Manner.WHOLE

    def _least_pace(self, step: Try) -> float:
        """Who waits for the whole does not mind the pace, unless we are only curious and somebody else could speak."""
        if not self._terms.hold:
            return REAL_TIME
        return DRIP if step.first_audio is not None else 0.0
