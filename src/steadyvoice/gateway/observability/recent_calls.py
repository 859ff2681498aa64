"""Recent calls with their attempts, timings and bills. Texts are kept only with `log_texts`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from steadyvoice.gateway.context import FinishedCall
from steadyvoice.gateway.http import to_json
from steadyvoice.gateway.request_context import RequestContext, client_outcome
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.service.error_state import to_iso8601
from steadyvoice.service.result import Attempt, Outcome, RelayedSpeech, ReportedUtterance, Span
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import field_copier

CALLS_KEPT = 500
_MAX_PARTS = 50  # attempts, and spans, of one call
_MAX_TEXT = 2_000  # characters
_MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class CallError:
    """Error without its traceback, which would keep every object alive that it refers to."""

    kind: str
    message: str


@dataclass(slots=True)
class RecentCall:
    """Finished call. Times are in seconds; texts of callers are truncated."""

    number: int
    at: datetime  # of the request
    request_id: str
    api: str
    outcome: Outcome
    provider: str | None
    voice: str | None
    model: str | None
    format: str
    characters: int
    bytes_sent: int
    seconds: float
    first_audio: float | None
    audio_seconds: float
    attempts: Sequence[tuple[Attempt, CallError | None]]
    spans: Sequence[Span]
    left_out: int  # attempts and spans beyond the limit
    error: CallError | None
    text: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the call as JSON values."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _CALL_FIELDS}
        fields["at"] = to_iso8601(self.at)
        fields["attempts"] = [self._attempt(attempt, error) for attempt, error in self.attempts]
        fields |= {"spans": self.spans, "error": self.error}
        if self.text is not None:
            fields["text"] = self.text
        values: dict[str, Any] = to_json(fields)
        return values

    def _attempt(self, attempt: Attempt, error: CallError | None) -> dict[str, Any]:
        fields = {name: getattr(attempt, name) for name in _ATTEMPT_FIELDS}
        # Both are times of day: if the clock is set back in between, the attempt must not precede its call.
        began = max(0.0, (attempt.at - self.at).total_seconds())
        return {**fields, "at": to_iso8601(attempt.at), "began": began, "error": error}


_CALL_FIELDS = (
    "number", "request_id", "api", "outcome", "provider", "voice", "model", "format", "characters", "bytes_sent",
    "seconds", "first_audio", "audio_seconds", "left_out",
)  # fmt: skip
_ATTEMPT_FIELDS = (
    "provider", "begin", "end", "waited", "answered", "first_audio", "held_back", "audio", "refused", "request_id",
    "bill", "hedge",
)  # fmt: skip


class UsualCall(NamedTuple):
    """Finished call that was spoken by one provider: what has to be kept of it, described when it is read.

    Neither its report is kept, whose times have the text, nor its options, which refer to providers.
    """

    number: int
    ended: float  # time of day, in seconds since 1970
    seconds: float
    first_audio: float
    request_id: str
    api: str
    outcome: Outcome
    provider: str
    voice: str | None
    model: str | None
    format: AudioFormat
    characters: int
    bytes_sent: int
    speech: RelayedSpeech
    text: str | None

    def described(self) -> RecentCall:
        """Return the call with all that is shown of it."""
        attempts = [*map(_without_traceback, self.speech.attempts)]
        return RecentCall(
            number=self.number,
            at=datetime.fromtimestamp(self.ended - self.seconds, UTC),
            request_id=self.request_id,
            api=self.api,
            outcome=self.outcome,
            provider=self.provider,
            voice=_truncated(self.voice),
            model=_truncated(self.model),
            format=self.format.name,
            characters=self.characters,
            bytes_sent=self.bytes_sent,
            seconds=self.seconds,
            first_audio=self.first_audio,
            audio_seconds=self.speech.audio,
            attempts=attempts[:_MAX_PARTS],
            spans=self.speech.spans,
            left_out=max(0, len(attempts) - _MAX_PARTS),
            error=None,
            text=self.text,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the call as JSON values."""
        return self.described().as_dict()


_usual_call = partial(tuple.__new__, UsualCall)  # a Python call less than the class


class RecentCalls:
    """The last finished calls, a bounded number of them."""

    def __init__(self) -> None:
        self._calls: deque[RecentCall | UsualCall] = deque(maxlen=CALLS_KEPT)
        self._number = 0

    def add(
        self,
        request: RequestContext,
        api: str,
        order: GatewaySpeechRequest,
        utterance: ReportedUtterance,
        *,
        now: float,
        wall_time: float,
        text: bool,
    ) -> RecentCall:
        """Add a call that has just finished. `now` is the gateway's clock, `wall_time` the time of day, in seconds."""
        self._number += 1
        report, synthesis, seconds = utterance.report, order.options.request, request.seconds_at(now)
        too_many = max(0, len(report.attempts) - _MAX_PARTS) + max(0, len(report.spans) - _MAX_PARTS)
        call = RecentCall(
            number=self._number,
            at=datetime.fromtimestamp(wall_time - seconds, UTC),
            request_id=request.request_id,
            api=api,
            outcome=client_outcome(request, utterance),
            provider=utterance.provider,
            voice=_truncated(synthesis.voice),
            model=_truncated(synthesis.model),
            format=order.format.name,
            characters=len(order.text),
            bytes_sent=request.bytes_sent,
            seconds=seconds,
            first_audio=first_audio(request),
            audio_seconds=report.duration,
            attempts=[_without_traceback(attempt) for attempt in report.attempts[:_MAX_PARTS]],
            spans=report.spans[:_MAX_PARTS],
            left_out=too_many,
            error=_call_error(report.error),
            text=order.text[:_MAX_TEXT] if text else None,
        )
        self._calls.append(call)
        return call

    def add_usual_calls(
        self, calls: Sequence[FinishedCall], *, now: float, wall_time: float, text: bool
    ) -> list[UsualCall]:
        """Add calls that were spoken by one provider and sent to their end."""
        added: list[UsualCall] = []
        for request, api, order, _, speech in calls:
            self._number += 1
            synthesis = order.options.request
            finished, received = request.finished_at or now, request.received_at
            fields = (
                self._number, wall_time - (now - finished), finished - received,
                (request.response_started_at or received) - received, request.request_id, api, speech.outcome,
                speech.provider, synthesis.voice, synthesis.model, synthesis.format, len(order.text),
                request.bytes_sent, speech, order.text[:_MAX_TEXT] if text else None,
            )  # fmt: skip
            added.append(_usual_call(fields))
        self._calls += added
        return added

    def newest(self, limit: int) -> list[RecentCall | UsualCall]:
        """Return the last calls, newest first."""
        return list(reversed(self._calls))[:limit]


def first_audio(request: RequestContext) -> float | None:
    """Return the seconds from a request to the first audio of its response; None without audio."""
    if request.response_started_at is None or request.status != 200:
        return None
    return request.response_started_at - request.received_at


def _without_traceback(attempt: Attempt) -> tuple[Attempt, CallError | None]:
    if attempt.error is None:
        return attempt, None
    return _without_error(attempt, None), _call_error(attempt.error)


_without_error = field_copier(Attempt, "error")


def _call_error(error: Exception | None) -> CallError | None:
    if error is None:
        return None
    # An unexpected error is described in the log only.
    if not isinstance(error, TTSError):
        return CallError("unexpected", type(error).__name__)
    return CallError(error.kind.value, error.message)


def _truncated(name: str | None) -> str | None:
    return name[:_MAX_NAME] if name else name
