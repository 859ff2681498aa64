"""Spans of a call, as plain values: made of its report, after it has ended.

Everything is known from the report, so nothing is done for a span while speech is made, and calls of the fast lane have
the same spans as all others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from steadyvoice.breaker import CircuitOpenError
from steadyvoice.service.billing import Charge
from steadyvoice.service.result import Attempt, UtteranceReport
from steadyvoice.service.telemetry import attributes as names
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import FailureKind

Value = str | bool | int | float
Kind = Literal["internal", "client", "server"]
Role = Literal["first", "continuation", "retry", "failover", "resume", "hedge"]
Result = Literal["completed", "failed", "refused", "cancelled"]

MAX_ATTEMPTS = 100
"""Attempts of one call that have spans; others are only counted in its costs."""

_MAX_TEXT = 20_000  # characters
_MAX_NAME = 200
_CANCELLED = frozenset({FailureKind.HEDGED, FailureKind.CANCELLED})
_BAD_OUTCOMES = frozenset({"recorded", "muted"})


class SpeakerFacts(NamedTuple):
    """Facts about a provider that no report has: its kind, and whether it speaks in this machine."""

    kind: str
    local: bool


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Event of a span. `at` is the time of day in seconds since 1970."""

    name: str
    at: float
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """Span to be exported. `begin` and `end` are times of day in seconds since 1970; `error` is None if it is none."""

    name: str
    kind: Kind
    begin: float
    end: float
    attributes: Mapping[str, Value]
    events: Sequence[SpanEvent] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptSpan:
    """Span of an attempt, beside the attempt."""

    attempt: Attempt
    record: SpanRecord


def utterance_span(
    report: UtteranceReport,
    begin: float,
    end: float,
    *,
    name: str = names.UTTERANCE,
    kind: Kind = "internal",
    facts: Mapping[str, Value] | None = None,
    text: str | None = None,
) -> SpanRecord:
    """Return the span of a call with this report. `facts` are further attributes; the `text` is None unless wanted."""
    attributes: dict[str, Value] = {
        names.OPERATION_NAME: names.GENERATE_CONTENT,
        names.OUTPUT_TYPE: names.SPEECH,
        names.OUTCOME: report.outcome,
        names.PROVIDER: report.provider or "none",
        names.AUDIO: report.duration,
        **_costs(report.attempts),
        **(facts or {}),
    }
    if report.first_choice:
        attributes[names.FIRST_CHOICE] = report.first_choice
    if voice := report.voice:
        attributes[names.VOICE] = voice[:_MAX_NAME]
    if text is not None:
        parts = [{"type": "text", "content": text[:_MAX_TEXT]}]
        attributes[names.INPUT_MESSAGES] = json.dumps([{"role": "user", "parts": parts}], ensure_ascii=False)
    error = _utterance_error(report, str(attributes[names.OUTCOME]))
    if error:
        attributes[names.ERROR_TYPE] = error
    # https://opentelemetry.io/docs/specs/semconv/http/http-spans/: a mistake of the client is no error of the server.
    if error and kind == "server" and 400 <= int(attributes.get(names.HTTP_STATUS, 0)) < 500:
        error = None
    return SpanRecord(name, kind, begin, max(begin, end), attributes, _switches(report, begin, end), error)


def _utterance_error(report: UtteranceReport, outcome: str) -> str | None:
    """Return why nobody heard the text; None if it was spoken, or its caller left."""
    if outcome in _BAD_OUTCOMES:
        return outcome
    if outcome != "failed" or report.error is None:
        return None
    return report.error.kind.value if isinstance(report.error, TTSError) else type(report.error).__name__


def _costs(attempts: Sequence[Attempt]) -> dict[str, Value]:
    billed = unknown = wasted = 0.0
    for attempt in attempts:
        bill = attempt.bill
        wasted += bill.wasted
        if bill.charge is Charge.BILLED:
            billed += bill.characters
        elif bill.charge is Charge.UNKNOWN:
            unknown += bill.characters
    return {names.BILLED: billed, names.UNKNOWN: unknown, names.WASTED: wasted}


def _switches(report: UtteranceReport, begin: float, end: float) -> list[SpanEvent]:
    """Return an event for each change of the speaker within the audio."""
    events = []
    for before, after in zip(report.spans, report.spans[1:], strict=False):
        if before.provider != after.provider:
            at = next(
                (
                    attempt.at.timestamp() + (attempt.first_audio or 0.0)
                    for attempt in report.attempts
                    if attempt.provider == after.provider and attempt.begin >= before.end and not attempt.refused
                ),
                end,
            )
            attributes: dict[str, Value] = {
                names.SWITCHED_FROM: before.provider or "none",
                names.SWITCHED_TO: after.provider or "none",
                names.SWITCHED_AT: after.start,
                names.SWITCHED_CHARACTER: after.begin,
            }
            events.append(SpanEvent(names.SWITCHED_EVENT, min(max(at, begin), end), attributes))
    return events


def attempt_spans(
    report: UtteranceReport, begin: float, end: float, speakers: Mapping[str, SpeakerFacts], *, texts: bool = False
) -> list[AttemptSpan]:
    """Return the spans of a call's attempts, in the order in which they began.

    An attempt lasts as long as its provider was waited for: the time that the caller took is no part of it. Messages of
    errors are included with `texts` only.
    """
    attempts = sorted(report.attempts[:MAX_ATTEMPTS], key=lambda attempt: attempt.at)
    spans = []
    for attempt, role in zip(attempts, attempt_roles(attempts), strict=True):
        started = min(max(begin, attempt.at.timestamp()), end)
        ended = min(started + attempt.waited, end)
        speaker = speakers.get(attempt.provider)
        result = attempt_result(attempt)
        attributes = _attempt_attributes(attempt, role, result, speaker, texts=texts)
        reached = [(names.ACCEPTED_EVENT, attempt.answered), (names.FIRST_AUDIO_EVENT, attempt.first_audio)]
        events = [SpanEvent(event, min(started + after, ended)) for event, after in reached if after is not None]
        error = attempt.error.kind.value if attempt.error and result in ("failed", "refused") else None
        record = SpanRecord(
            f"{names.GENERATE_CONTENT} {attempt.provider}",
            "internal" if speaker and speaker.local else "client",
            started,
            ended,
            attributes,
            events,
            error,
        )
        spans.append(AttemptSpan(attempt, record))
    return spans


def attempt_roles(attempts: Sequence[Attempt]) -> list[Role]:
    """Return why each attempt was made, in the order in which they began.

    `first` for the text; `continuation` with the next piece, after one that was spoken to its end; after a failure
    `resume`, when words had been delivered, else `retry` by the same provider or `failover` to another one; `hedge`
    beside one that is late.
    """
    roles: list[Role] = []
    previous: Attempt | None = None
    for attempt in attempts:
        roles.append("hedge" if attempt.hedge else _role_after(previous, attempt))
        is_lost_race = attempt.error is not None and attempt.error.kind is FailureKind.HEDGED
        if not is_lost_race:
            previous = attempt
    return roles


def _role_after(previous: Attempt | None, attempt: Attempt) -> Role:
    if previous is None:
        return "first"
    if previous.error is None:
        return "continuation"
    if attempt.begin > previous.begin:
        return "resume"
    return "retry" if attempt.provider == previous.provider else "failover"


def attempt_result(attempt: Attempt) -> Result:
    """Return how an attempt ended: `refused` ones sent nothing, `cancelled` ones are no failure of the provider."""
    if attempt.error is None:
        return "completed"
    if attempt.refused:
        return "refused"
    return "cancelled" if attempt.error.kind in _CANCELLED else "failed"


def _attempt_attributes(
    attempt: Attempt, role: Role, result: Result, speaker: SpeakerFacts | None, *, texts: bool
) -> dict[str, Value]:
    attributes: dict[str, Value] = {
        names.OPERATION_NAME: names.GENERATE_CONTENT,
        names.OUTPUT_TYPE: names.SPEECH,
        names.PROVIDER_KIND: speaker.kind if speaker else attempt.provider,
        names.PROVIDER: attempt.provider,
        names.ROLE: role,
        names.RESULT: result,
        names.BEGIN: attempt.begin,
        names.END: attempt.end,
        names.CHARGE: attempt.bill.charge.value.replace(" ", "_"),
    }
    optional = {
        names.VOICE: attempt.voice and attempt.voice[:_MAX_NAME],
        names.RESPONSE_ID: attempt.request_id,
        names.TIME_TO_FIRST_CHUNK: attempt.first_audio,
        names.HEDGE: attempt.hedge,
    }
    attributes |= {name: value for name, value in optional.items() if value}
    if not attempt.refused:
        costs = _costs([attempt])
        attributes |= {names.WAITED: attempt.waited, names.HELD_BACK: attempt.held_back, names.AUDIO: attempt.audio}
        attributes |= {name: value for name, value in costs.items() if value}
    if attempt.error:
        attributes |= _failure_attributes(attempt.error, texts=texts)
    return attributes


def _failure_attributes(error: TTSError, *, texts: bool) -> dict[str, Value]:
    optional = {
        names.STATUS: error.status,
        names.RETRY_AFTER: error.retry_after,
        names.MESSAGE: error.message if texts else None,
        names.CIRCUIT_STATE: error.state.value if isinstance(error, CircuitOpenError) else None,
    }
    return {
        names.ERROR_TYPE: error.kind.value,
        names.BLAME: error.meaning.blame.value,
        **{name: value for name, value in optional.items() if value is not None},
    }
