"""Accounting of one utterance while it is spoken: progress in the text, spans, and the cost of each attempt."""

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
    """Accounting of one utterance, which fills its report. `wall_clock` returns seconds since 1970."""

    def __init__(
        self,
        text: str,
        policy: UtterancePolicy,
        parts: Sequence[Candidate],
        *,
        wall_clock: Callable[[], float],
        observers: Sequence[object] = (),
    ) -> None:
        self.report = UtteranceReport(parts[0].name)
        self.begin = 0  # characters spoken; the rest is still to be spoken
        self.broken_starts = 0  # interruptions since the last progress in the text
        self._parts = parts
        self._text, self._policy, self._wall_clock, self._observers = text, policy, wall_clock, observers
        self._ids: list[str] = []  # of the requests just before, by the same provider, for request stitching

    @property
    def remaining_text(self) -> str:
        """Text still to be spoken."""
        return self._text[self.begin :]

    @property
    def last_provider(self) -> str | None:
        """Name of the provider that spoke last; None for silence and at the start."""
        return self.report.spans[-1].provider if self.report.spans else None

    def stitching_ids(self, provider: str) -> Sequence[str]:
        """Return the provider's own ids of its requests for the text just before; empty if another one spoke it."""
        return self._ids if self.last_provider == provider else ()

    def wall_time(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.fromtimestamp(self._wall_clock(), UTC)

    def record_refusal(self, part: Candidate, error: TTSError) -> None:
        """Record that nothing was sent to a candidate, because of its circuit or a hold."""
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
        """Record a call that has ended: early by `error`, or by its caller if `left`."""
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
            left=left,
            timing=call.permit.timing if self._observers and call.permit else None,
        )
        if error is None:
            part.guarded.handler.voice = call.offer.voice
        self._note(part, attempt)

    def record_speech(self, provider: str | None, speech: DeliveredSpeech) -> None:
        """Record delivered speech, or silence without a provider. No progress if its words have to be spoken again."""
        self.broken_starts = 0 if speech.characters else self.broken_starts + 1
        end = self.begin + speech.characters
        voice = next((part.offer.voice for part in self._parts if part.name == provider), None)
        self.report.add(
            provider, self.begin, end, speech.seconds, speech.alignment, speech.shift, voice, exact=speech.exact
        )
        self.begin = end

    def complete_piece(self, provider: str, speech: DeliveredSpeech, request_id: str | None) -> None:
        """Record a piece that was spoken to its end; its request id may be used for stitching."""
        if self.last_provider != provider:
            self._ids.clear()
        if request_id:
            self._ids.append(request_id)
        self.record_speech(provider, speech)

    def interrupt_piece(self, provider: str, speech: DeliveredSpeech) -> None:
        """Record a piece that was interrupted, so that its request is no context for the next one."""
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
            heard = 0  # it is spoken once more from the start
        billed = call.accepted.characters_billed
        return calculate_bill(
            accepted=call.was_accepted, billed=billed, characters=characters, heard=heard, error=error
        )
