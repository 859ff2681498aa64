"""One utterance, from its text to the last byte of its audio: who is asked, and what is delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

from steadyvoice.providers.provider import Offer, Provider
from steadyvoice.service.ahead import Ahead
from steadyvoice.service.attempt import Call
from steadyvoice.service.bills import FREE, Bill, bill_of
from steadyvoice.service.cache import Recording
from steadyvoice.service.casting import BREATH, Part, Speaker, cast, next_piece
from steadyvoice.service.classify import classified
from steadyvoice.service.delivery import Delivery, Manner, Said
from steadyvoice.service.listener import DRIP, REAL_TIME
from steadyvoice.service.output import Output
from steadyvoice.service.pace import Pace
from steadyvoice.service.plan import GiveUp, Standing, Try, Wait, next_step
from steadyvoice.service.spoken import Attempt, Spoken
from steadyvoice.service.terms import Terms
from steadyvoice.service.timeouts import Patience
from steadyvoice.service.turnstile import Turn
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import (
    TTSAllProvidersFailedError,
    TTSBadRequestError,
    TTSCancelledError,
    TTSDeadlineError,
    TTSError,
    TTSRequestError,
    TTSStreamInterruptedError,
    TTSTotalTimeoutError,
)
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.words import longest_word

_SLICE = 65_536  # bytes of a recording that are handed out at once


class Utterance:
    """Speaks one request through the first speaker that can, and the next when it cannot.

    Construction checks the request and spends nothing: it raises TTSRequestError when nobody could ever speak it.
    """

    def __init__(
        self,
        request: SpeechRequest,
        speakers: Sequence[Speaker],
        terms: Terms,
        *,
        pace: Pace,
        clock: Callable[[], float],
        wall: Callable[[], float],
        tell_muted: Callable[[bool], None],
    ) -> None:
        self._resumes = terms.on_midstream == "resume"
        # Times tell where to go on, and at the end that this was all of it.
        request = replace(request, times=terms.on_midstream != "error")
        self._request, self._terms, self._pace = request, terms, pace
        self._clock, self._wall, self._tell_muted = clock, wall, tell_muted
        self._parts, self._refusals = cast(request, speakers, terms.voice_substitution)
        self._short_words = longest_word(request.text) <= BREATH  # what is longer would be held back for too long
        self._output = Output(request.format)
        self._begin = 0  # of what is still to be said
        self._ids: list[str] = []  # of the requests that said what comes just before, by the same provider
        total = terms.timeouts.total_timeout
        self._own_deadline = terms.deadline is not None and terms.deadline < total
        self._patience = Patience(min(total, terms.deadline or total))
        first = self._parts[0]
        self._voice = first.voice
        self._ahead = Ahead(self._speak(), request.format) if self._in_pieces(first) else None
        self.spoken = Spoken(first.name)
        self.format = request.format
        self.recordings: Mapping[str, Recording] = {}
        """What each speaker has said of exactly this before, by its name: better than another's voice, or silence."""

    @property
    def offers(self) -> list[tuple[Provider, Offer]]:
        """Who may speak, in order of preference, and as what."""
        return [(part.speaker.provider, part.offer) for part in self._parts]

    def usual(self, name: str) -> float:
        """Seconds that this speaker would take for all of it, as far as is known."""
        voice = next(part.voice for part in self._parts if part.name == name)
        return self._pace.seconds(voice, self._request.text, speed=self._request.speed)

    @property
    def finished(self) -> bool:
        """Whether every character has been said, and handed out."""
        return self._begin >= len(self._request.text) and (self._ahead is None or self._ahead.empty)

    @property
    def delivered(self) -> float:
        """Seconds of audio that came so far."""
        return self._patience.delivered

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the audio, once. It raises TTSError when it cannot be had, and never ends early without saying so."""
        return self._ahead.chunks() if self._ahead else self._speak()

    def _in_pieces(self, first: Part) -> bool:
        """Whether it is likely to take several requests, of which the next can be made while this one plays."""
        if self._terms.hold:
            return False
        return self._resumes or len(self._request.text) > (first.offer.max_characters or len(self._request.text))

    async def _speak(self) -> AsyncGenerator[bytes, None]:
        while self._begin < len(self._request.text):
            step = self._next_step()
            if remembered := self._remembered(step):
                async for data in self.play(*remembered):
                    yield data
                return
            match step:
                case Try(index):
                    async with aclosing(self._ask(self._parts[index], step)) as said:
                        async for data in said:
                            yield data
                case Wait(seconds):
                    self._patience.spent += seconds
                    await asyncio.sleep(seconds)
                case GiveUp():
                    refusal = self._why_not_muted()
                    if refusal and self._output.anything and (last := await self._output.run(self._output.finish)):
                        yield last
                    if refusal:
                        raise refusal
                    self._tell_muted(True)
                    async for data in self._silence():
                        yield data
        if last := await self._output.run(self._output.finish):
            yield last

    async def play(self, name: str, recording: Recording) -> AsyncGenerator[bytes, None]:
        """Give out what this speaker has said of the whole before: from the start, whoever has begun and broken off."""
        self._tell_muted(False)
        self.spoken.cached = True
        audio = recording.audio
        if self._output.anything:
            audio = await self._output.run(self._appended, audio)
        for begin in range(0, len(audio), _SLICE):
            yield audio[begin : begin + _SLICE]
        self._patience.delivered += recording.seconds
        self._said(name, Said(len(self._request.text), recording.seconds, recording.alignment))

    def _appended(self, audio: bytes) -> bytes:
        """The same, as the rest of a stream that has begun."""
        pending = self._output.begin(self._request.format)
        self._output.feed(audio)
        return pending + self._output.end() + self._output.finish()

    def _remembered(self, step: Try | Wait | GiveUp) -> tuple[str, Recording] | None:
        """A recording that is better than what comes next: a fresh one of whoever would be asked, or one of any age
        of a voice that comes before and cannot speak. Before silence, anybody's.
        """
        if self._begin:
            return None
        match step:
            case Try(index):
                reached = self._parts[: index + 1]
            case Wait():
                reached = self._parts[:1]
            case GiveUp():
                reached = self._parts
        for part in reached:
            recording = self.recordings.get(part.name)
            if recording and (recording.fresh or part.course.error or isinstance(step, GiveUp)):
                return part.name, recording
        return None

    def _next_step(self) -> Try | Wait | GiveUp:
        self._pass_over_the_refused()
        step = next_step(
            [_standing(part, self._begin, len(self._request.text)) for part in self._parts],
            now=self._clock(),
            left=self._patience.left,
            max_attempts=self._terms.max_attempts,
        )
        if isinstance(step, Try) and step.first_audio is None and self._parts[step.index].name in self.recordings:
            # A recording stands ready, as another provider does behind a probe: nobody waits long for a newer one.
            return replace(step, first_audio=self._parts[step.index].speaker.handler.promptness.allowance)
        return step

    def _pass_over_the_refused(self) -> None:
        """Let the circuits of those whose turn it would be say no, so that they count it and can be quoted."""
        for part in self._parts:
            if part.course.error is None:
                refusal = part.speaker.handler.refusal(part.offer, len(self._request.text) - self._begin)
                if refusal is None:
                    return
                part.course.failed(refusal)
                self._note(part, None, self._now(), refusal)

    async def _ask(self, part: Part, step: Try) -> AsyncGenerator[bytes, None]:
        """Ask one speaker for the next piece. Returns after a failure that somebody else may mend."""
        manner = self._manner(part)
        by_sentence = manner is Manner.WHOLE and not self._terms.hold
        ids = self._ids if self.spoken.spans and self.spoken.spans[-1].provider == part.name else ()
        piece, offer = next_piece(part, self._request, self._begin, by_sentence=by_sentence, ids=ids)
        handler, patience = part.speaker.handler, Patience(step.allowance)
        timeouts = self._terms.timeouts.hurried(step.first_audio)
        # Who is given all the time that is left is the last who can speak, and waits its turn however long it takes.
        last = step.allowance >= self._patience.left
        queue = step.allowance if last else min(step.allowance, timeouts.first_audio)
        turn = handler.turn(queue, patience, self._patience, hopeful=last)
        call = Call(
            part.speaker.provider,
            piece,
            offer,
            timeouts=timeouts,
            patience=patience,
            whole=self._patience,
            own_deadline=self._own_deadline,
            pace=self._least_pace(step),
            clock=self._clock,
            tell=lambda told: handler.accepted(turn, told, piece, offer),
        )
        sole, voice = piece.text == self._request.text, part.voice if self._resumes else None
        usual = self._pace.seconds(part.voice, piece.text, speed=piece.speed) if piece.times else None
        breakable = self._terms.on_midstream != "error" and manner is not Manner.WHOLE
        delivery = Delivery(call, self._output, manner, sole=sole, breakable=breakable, voice=voice, usual=usual)
        at = self._now()
        try:
            try:
                async with aclosing(self._heard(part, turn, call, delivery)) as heard:
                    async for data in heard:
                        yield data
            except Exception as error:
                failure: Exception | None = error
                rest = await delivery.break_off()
            else:
                failure, rest = None, delivery.rest
        except BaseException:  # what it cost is on the books all the same
            self._note(part, call, at, TTSCancelledError("nobody listens any more", provider=part.name), delivery)
            raise
        told = classified(failure, part.name) if failure else None
        self._note(part, call, at, told, delivery)
        if rest:
            self._tell_muted(False)
            yield rest
        part.learn(call.first_audio, failure, probed=step.first_audio is not None)
        if failure and told:
            for each in self._parts:  # an account that two providers share would be charged once more by the other
                if each.speaker.handler.allowance is handler.allowance:
                    each.owe(self._begin + len(piece.text), told, taken=call.taken)
            self._failed(part, failure, delivery)
        else:
            self._spoke(part, call, delivery.said)

    async def _heard(self, part: Part, turn: Turn, call: Call, delivery: Delivery) -> AsyncGenerator[bytes, None]:
        """Let a call be heard in its turn, under a permit."""
        characters, retry = len(call.request.text), part.course.tries > 0
        async with turn:
            with part.speaker.handler.attempt(offer=call.offer, characters=characters, retry=retry) as permit:
                async with aclosing(delivery.chunks()) as delivered:
                    async for data in delivered:
                        permit.pause()  # while the listener has it, nobody waits for the provider
                        if data:
                            self._tell_muted(False)
                            yield data
                        permit.resume()

    def _manner(self, part: Part) -> Manner:
        """When this speaker's audio may go out: as late as is needed to go on if it breaks off, and no later."""
        if self._terms.hold:
            return Manner.WHOLE
        if not self._resumes:
            return Manner.AS_IT_COMES
        return Manner.BY_WORD if part.timed and self._short_words else Manner.WHOLE

    def _least_pace(self, step: Try) -> float:
        """Who waits for the whole does not mind the pace, unless we are only curious and somebody else could speak."""
        if not self._terms.hold:
            return REAL_TIME
        return DRIP if step.first_audio is not None else 0.0

    def _failed(self, part: Part, failure: Exception, delivery: Delivery) -> None:
        """Keep what was said, and see who may go on. Raises TTSError when nobody may."""
        if delivery.disappointed:
            part.believed = False
        if saved := delivery.saved:
            self._said(part.name, saved)
            self._ids.clear()
            if saved.characters:
                self._begin_anew()
        part.course.failed(failure)
        error = part.course.error
        assert error is not None  # noqa: S101 - it has just failed
        lost = delivery.heard and delivery.manner is Manner.AS_IT_COMES
        if lost and self._terms.on_midstream == "error":
            # Where the voice broke off is not known, so going on would lose words or repeat them.
            raise TTSStreamInterruptedError([error], delivered=self._patience.delivered) from error
        # One vendor's own fields are no mistake to the others, who never see them.
        foreign_fields = isinstance(error, TTSBadRequestError) and self._request.options
        if not (error.meaning.fail_over or foreign_fields):
            raise error

    def _note(
        self, part: Part, call: Call | None, at: datetime, error: TTSError | None, delivery: Delivery | None = None
    ) -> None:
        request_id = call.accepted.request_id if call else None
        bill = self._bill(part, call, error, delivery) if call and delivery else FREE
        part.speaker.handler.bills.add(bill, error)
        self.spoken.attempts.append(
            Attempt(
                provider=part.name,
                begin=self._begin,
                end=self._begin + len(call.request.text) if call else len(self._request.text),
                at=at,
                waited=call.waited if call else 0.0,
                first_audio=call.first_audio if call else None,
                held_back=delivery.held_back if delivery and not self._terms.hold else 0.0,
                audio=call.seconds if call else 0.0,
                error=error,
                refused=not (call and call.sent),
                request_id=request_id or (error.request_id if error else None),
                characters_billed=call.accepted.characters_billed if call else None,
                bill=bill,
            )
        )

    def _bill(self, part: Part, call: Call, error: TTSError | None, delivery: Delivery) -> Bill:
        if part.speaker.provider.local or not call.sent:
            return FREE
        heard = delivery.characters_heard if error else len(call.request.text)
        if self._terms.on_midstream == "restart" and not isinstance(error, TTSCancelledError | None):
            heard = 0  # what was heard of it is said once more
        billed = call.accepted.characters_billed
        characters = len(call.request.text)
        return bill_of(accepted=call.taken, billed=billed, characters=characters, heard=heard, error=error)

    def _spoke(self, part: Part, call: Call, said: Said) -> None:
        """A piece was said to its end: learn from it, and let the same voice say the next."""
        self._pace.learn(part.voice, call.request.text, call.seconds, speed=call.request.speed)
        if self.spoken.spans and self.spoken.spans[-1].provider != part.name:
            self._ids.clear()
        if call.accepted.request_id:
            self._ids.append(call.accepted.request_id)
        self._said(part.name, said)
        self._parts.remove(part)
        self._parts.insert(0, part)
        self._begin_anew()

    def _said(self, provider: str | None, said: Said) -> None:
        end = self._begin + said.characters
        self.spoken.add(provider, self._begin, end, said.seconds, said.alignment, said.shift)
        self._begin = end

    def _begin_anew(self) -> None:
        """The words are other ones now: everybody may try them."""
        for part in self._parts:
            part.course = part.course.anew()

    def _why_not_muted(self) -> TTSError | None:
        """Why silence is no answer: it is to an outage, not to a caller's mistake."""
        causes = [part.course.error or self._untried(part) for part in self._parts] + self._refusals
        if all(isinstance(cause, TTSRequestError) and not isinstance(cause, TTSDeadlineError) for cause in causes):
            return causes[0]
        if self._terms.muted:
            return None
        if self.spoken.spans and not self._terms.hold:
            return TTSStreamInterruptedError(causes, delivered=self.spoken.duration)
        return causes[0] if len(causes) == 1 else TTSAllProvidersFailedError(causes)

    def _untried(self, part: Part) -> TTSError:
        """Why nobody asked this one: there was no time."""
        kind = TTSDeadlineError if self._own_deadline else TTSTotalTimeoutError
        return kind(f"no time was left to ask ({self._patience.given:g} s in all)", provider=part.name)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)

    async def _silence(self) -> AsyncGenerator[bytes, None]:
        """Say nothing, for as long as saying it would have taken."""
        text = self._request.text[self._begin :]
        samples = AudioFormat(Codec.PCM, self._request.format.sample_rate)
        wanted = self._pace.seconds(self._voice, text, speed=self._request.speed)
        missing = max(1, round(wanted * samples.sample_rate))
        seconds = missing / samples.sample_rate
        pending = self._output.begin(samples)
        while missing > 0:
            block = min(missing, samples.sample_rate)
            self._output.feed(bytes(2 * block))
            if data := pending + await self._output.run(self._output.out):
                yield data
            pending = b""
            missing -= block
        if data := await self._output.run(self._output.end):
            yield data
        shift = self._output.shift
        self._said(None, Said(len(text), shift + seconds, Alignment.spread(text, seconds), shift))


def _standing(part: Part, begin: int, end: int) -> Standing:
    handler = part.speaker.handler
    # A busy vendor's own hold is no refusal to who is waiting for it to end.
    refused = handler.circuit_refuses() if part.course.tries else handler.refuses(part.offer, end - begin)
    return part.course.standing(refused=refused, billed=part.paid_to > begin)
