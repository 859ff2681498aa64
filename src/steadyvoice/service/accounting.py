"""Keeps the account of one utterance while it is spoken: how far it has come, who said what, what each attempt cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from steadyvoice.service.billing import FREE, Bill, calculate_bill
from steadyvoice.service.options import UtterancePolicy
from steadyvoice.service.pipeline.candidates import Candidate
from steadyvoice.service.pipeline.delivery import DeliveredSpeech, Delivery
from steadyvoice.service.pipeline.provider_call import ProviderCall
from steadyvoice.service.result import Attempt, UtteranceReport
from steadyvoice.speech.errors import TTSError


class UtteranceAccounting:
    """Of a text, its terms, and who may speak it. `wall_clock` is the time of day, in seconds since 1970."""

    def __init__(
        self, text: str, policy: UtterancePolicy, parts: Sequence[Candidate], *, wall_clock: Callable[[], float]
    ) -> None:
        self.report = UtteranceReport(parts[0].name)
        self.begin = 0  # of what is still to be said
        self.broken_starts = 0  # times that somebody was heard saying just this, and broke off
        self._parts = parts
        self._text, self._policy, self._wall_clock = text, policy, wall_clock
        self._ids: list[str] = []  # of the requests that said what comes just before, by the same provider

    @property
    def remaining_text(self) -> str:
        """What is still to be speech."""
        return self._text[self.begin :]

    @property
    def last_provider(self) -> str | None:
        """Who spoke last."""
        return self.report.spans[-1].provider if self.report.spans else None

    def stitching_ids(self, provider: str) -> Sequence[str]:
        """This provider's own, of the requests that said what comes just before."""
        return self._ids if self.last_provider == provider else ()

    def wall_time(self) -> datetime:
        """The time of day."""
        return datetime.fromtimestamp(self._wall_clock(), UTC)

    def record_refusal(self, part: Candidate, error: TTSError) -> None:
        """Nothing was sent to this one, because of its circuit or a hold."""
        voice = part.offer.voice
        attempt = Attempt(
            part.name, self.begin, len(self._text), self.wall_time(), error=error, refused=True, voice=voice
        )
        self._note(part, attempt)

    def record_attempt(
        self,
        part: Candidate,
        call: ProviderCall,
        delivery: Delivery,
        at: datetime,
        error: TTSError | None,
        *,
        hedge: bool = False,
        left: bool = False,
    ) -> None:
        """A call is over. `error` is what ended it early; `left` tells that its caller did."""
        attempt = Attempt(
            provider=part.name,
            begin=self.begin,
            end=self.begin + delivery.length,
            at=at,
            waited=call.waited,
            answered=call.answered,
            first_audio=call.first_audio,
            held_back=0.0 if self._policy.hold else delivery.held_back,
            audio=call.seconds,
            error=error,
            refused=not call.sent,
            request_id=call.accepted.request_id or (error.request_id if error else None),
            characters_billed=call.accepted.characters_billed,
            bill=self._bill(part, call, delivery, error, left=left),
            voice=call.offer.voice,
            hedge=hedge,
        )
        if error is None:
            part.guarded.handler.voice = call.offer.voice
        self._note(part, attempt)

    def record_speech(self, provider: str | None, speech: DeliveredSpeech) -> None:
        """So much was said by this one, or nobody, and lies behind us: nothing, if it has to be said again."""
        self.broken_starts = 0 if speech.characters else self.broken_starts + 1
        end = self.begin + speech.characters
        voice = next((part.offer.voice for part in self._parts if part.name == provider), None)
        self.report.add(
            provider, self.begin, end, speech.seconds, speech.alignment, speech.shift, voice, exact=speech.exact
        )
        self.begin = end

    def complete_piece(self, provider: str, speech: DeliveredSpeech, request_id: str | None) -> None:
        """A piece was said to its end."""
        if self.last_provider != provider:
            self._ids.clear()
        if request_id:
            self._ids.append(request_id)
        self.record_speech(provider, speech)

    def interrupt_piece(self, provider: str, speech: DeliveredSpeech) -> None:
        """Of a piece only so much was said, so that its request is no context for what follows."""
        self._ids.clear()
        self.record_speech(provider, speech)

    def _note(self, part: Candidate, attempt: Attempt) -> None:
        part.guarded.handler.bills.add(attempt.bill, attempt.error)
        self.report.attempts.append(attempt)

    def _bill(
        self, part: Candidate, call: ProviderCall, delivery: Delivery, error: TTSError | None, *, left: bool
    ) -> Bill:
        if part.guarded.provider.local or not call.sent:
            return FREE
        characters = len(call.request.text)
        heard = delivery.characters_delivered if error else characters
        if self._policy.on_midstream == "restart" and error and not left:
            heard = 0  # what was heard of it is said once more
        billed = call.accepted.characters_billed
        return calculate_bill(
            accepted=call.was_accepted, billed=billed, characters=characters, heard=heard, error=error
        )
