"""One utterance, from its text to the last byte of its audio: who is asked, and what is delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from steadyvoice.service.attempt import Call
from steadyvoice.service.casting import Part, Speaker, cast, next_piece
from steadyvoice.service.classify import classified
from steadyvoice.service.errors import TTSCircuitOpenError
from steadyvoice.service.listener import DRIP, REAL_TIME
from steadyvoice.service.output import Output
from steadyvoice.service.pace import Pace
from steadyvoice.service.plan import GiveUp, Standing, Try, Wait, next_step
from steadyvoice.service.spoken import Attempt, Spoken
from steadyvoice.service.timeouts import Patience, TimeoutConfig
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import (
    TTSAllProvidersFailedError,
    TTSBadRequestError,
    TTSDeadlineError,
    TTSError,
    TTSHoldError,
    TTSRequestError,
    TTSStreamInterruptedError,
    TTSTotalTimeoutError,
)
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import OnMidstream, SpeechRequest, VoiceSubstitution


@dataclass(frozen=True, slots=True)
class Terms:
    """How an utterance may be spoken. `deadline` is the caller's own, in seconds; `hold` lets nothing be heard
    before its piece is whole, which costs nothing to who wants the whole anyway.
    """

    timeouts: TimeoutConfig
    muted: bool
    on_midstream: OnMidstream
    voice_substitution: VoiceSubstitution
    max_attempts: int
    deadline: float | None = None
    hold: bool = False


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
        self._request, self._terms, self._pace = request, terms, pace
        self._clock, self._wall, self._tell_muted = clock, wall, tell_muted
        self._parts, self._refusals = cast(request, speakers, terms.voice_substitution)
        self._output = Output(request.format)
        self._begin = 0  # of what is still to be said
        total = terms.timeouts.total_timeout
        self._own_deadline = terms.deadline is not None and terms.deadline < total
        self._patience = Patience(min(total, terms.deadline or total))
        first = self._parts[0]
        self._voice = f"{first.name}/{first.offer.voice}"
        self.spoken = Spoken(first.name)
        self.format = request.format

    @property
    def finished(self) -> bool:
        """Whether every character has been said."""
        return self._begin >= len(self._request.text)

    @property
    def delivered(self) -> float:
        """Seconds of audio that came so far."""
        return self._patience.delivered

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the audio. Raises TTSError when it cannot be had; never ends early without saying so."""
        while not self.finished:
            match self._next_step():
                case Try(index) as step:
                    async with aclosing(self._ask(self._parts[index], step)) as said:
                        async for data in said:
                            yield data
                case Wait(seconds):
                    self._patience.spent += seconds
                    await asyncio.sleep(seconds)
                case GiveUp():
                    self._check_may_mute()
                    self._tell_muted(True)
                    async for data in self._silence():
                        yield data
        if last := await self._output.run(self._output.finish):
            yield last

    def _next_step(self) -> Try | Wait | GiveUp:
        self._pass_over_the_refused()
        return next_step(
            [_standing(part) for part in self._parts],
            now=self._clock(),
            left=self._patience.left,
            max_attempts=self._terms.max_attempts,
        )

    def _pass_over_the_refused(self) -> None:
        """Let the circuits of those whose turn it would be say no, so that they count it and can be quoted."""
        for part in self._parts:
            if part.course.error is None:
                refusal = part.speaker.handler.refusal(part.offer)
                if refusal is None:
                    return
                part.course.failed(refusal)
                self._note(part, None, self._now(), refusal)

    async def _ask(self, part: Part, step: Try) -> AsyncGenerator[bytes, None]:
        """Ask one speaker for the next piece. Returns after a failure that somebody else may mend."""
        piece, offer = next_piece(part, self._request, self._begin)
        call = Call(
            part.speaker.provider,
            piece,
            offer,
            timeouts=self._terms.timeouts.hurried(step.first_audio),
            patience=Patience(step.allowance),
            whole=self._patience,
            own_deadline=self._own_deadline,
            pace=self._least_pace(step),
            clock=self._clock,
        )
        at = self._now()
        heard = False
        try:
            with part.speaker.handler.attempt(offer=offer, retry=part.course.tries > 0) as permit:
                async with aclosing(self._deliver(call)) as delivered:
                    async for data in delivered:
                        permit.pause()  # while the listener has it, nobody waits for the provider
                        if data:
                            heard = True
                            self._tell_muted(False)
                            yield data
                        permit.resume()
        except Exception as error:
            self._output.drop()
            part.course.failed(error)
            part.learn(call.first_audio, error, probed=step.first_audio is not None)
            self._note(part, call, at, classified(error, part.name))
            self._check_may_go_on(part, heard)
        else:
            part.learn(call.first_audio)
            self._note(part, call, at, None)
            self._said(part, call)

    def _least_pace(self, step: Try) -> float:
        """Who waits for the whole does not mind the pace, unless we are only curious and somebody else could speak."""
        if not self._terms.hold:
            return REAL_TIME
        return DRIP if step.first_audio is not None else 0.0

    async def _deliver(self, call: Call) -> AsyncGenerator[bytes, None]:
        """Turn what the provider sends into what the caller asked for; empty while something is held back."""
        pending = self._output.begin(call.offer.format, sole=call.request.text == self._request.text)
        held: list[bytes] = []
        async with aclosing(call.chunks()) as chunks:
            async for data in chunks:
                if self._terms.hold:
                    held.append(data)
                    yield b""
                else:
                    yield pending + await self._output.run(self._output.feed, data)
                    pending = b""
        for data in held:
            yield pending + await self._output.run(self._output.feed, data)
            pending = b""
        yield pending + await self._output.run(self._output.end)

    def _check_may_go_on(self, part: Part, heard: bool) -> None:
        """Raise when a failure is the end of the utterance."""
        error = part.course.error
        assert error is not None  # noqa: S101 - only called after a failure
        if heard and self._terms.on_midstream != "restart":
            # Where in its piece the voice broke off is not known, so going on would lose words or repeat them.
            raise TTSStreamInterruptedError([error], delivered=self._patience.delivered) from error
        # One vendor's own fields are no mistake to the others, who never see them.
        foreign_fields = isinstance(error, TTSBadRequestError) and self._request.options
        if not (error.meaning.fail_over or foreign_fields):
            raise error

    def _note(self, part: Part, call: Call | None, at: datetime, error: TTSError | None) -> None:
        request_id = call.accepted.request_id if call else None
        self.spoken.attempts.append(
            Attempt(
                provider=part.name,
                begin=self._begin,
                end=self._begin + len(call.request.text) if call else len(self._request.text),
                at=at,
                waited=call.waited if call else 0.0,
                first_audio=call.first_audio if call else None,
                audio=call.seconds if call else 0.0,
                error=error,
                refused=isinstance(error, TTSCircuitOpenError | TTSHoldError),
                request_id=request_id or (error.request_id if error else None),
                characters_billed=call.accepted.characters_billed if call else None,
            )
        )

    def _said(self, part: Part, call: Call) -> None:
        """A piece was said to its end: learn from it, and let the same voice say the next."""
        text, seconds = call.request.text, call.seconds
        self._pace.learn(f"{part.name}/{call.offer.voice}", text, seconds, speed=call.request.speed)
        self._add(part.name, text, seconds, call.alignment or Alignment.spread(text, seconds))
        self._parts.remove(part)
        self._parts.insert(0, part)
        for other in self._parts:
            other.course = other.course.anew()

    def _check_may_mute(self) -> None:
        """Raise unless silence is an answer: it is to an outage, not to a caller's mistake."""
        causes = [part.course.error or self._untried(part) for part in self._parts] + self._refusals
        if all(isinstance(cause, TTSRequestError) and not isinstance(cause, TTSDeadlineError) for cause in causes):
            raise causes[0]
        if self._terms.muted:
            return
        if self.spoken.spans and not self._terms.hold:
            raise TTSStreamInterruptedError(causes, delivered=self.spoken.duration)
        raise causes[0] if len(causes) == 1 else TTSAllProvidersFailedError(causes)

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
        seconds = self._pace.seconds(self._voice, text, speed=self._request.speed)
        missing = max(1, round(seconds * samples.sample_rate))
        self._add(None, text, missing / samples.sample_rate, Alignment.spread(text, missing / samples.sample_rate))
        pending = self._output.begin(samples, sole=False)
        while missing > 0:
            block = min(missing, samples.sample_rate)
            if data := pending + await self._output.run(self._output.feed, bytes(2 * block)):
                yield data
            pending = b""
            missing -= block
        if data := await self._output.run(self._output.end):
            yield data

    def _add(self, provider: str | None, text: str, seconds: float, alignment: Alignment) -> None:
        self.spoken.add(provider, self._begin, self._begin + len(text), seconds, alignment)
        self._begin += len(text)


def _standing(part: Part) -> Standing:
    handler = part.speaker.handler
    # A busy vendor's own hold is no refusal to who is waiting for it to end.
    refused = handler.circuit_refuses() if part.course.tries else handler.refuses(part.offer)
    return part.course.standing(refused=refused)
