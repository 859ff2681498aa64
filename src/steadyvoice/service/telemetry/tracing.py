"""Tracing of one service: gives OpenTelemetry the spans of calls and of circuits, and links what explains each other.

Needs the extra `steadyvoice[otel]`, of which only the API is used: what becomes of the spans is the application's
decision, or that of `steadyvoice serve`. Spans are made when a call has ended, of its report. Changes of circuits are
spans of their own, made at once: each outage is one trace, from the change that opened the circuit to the one that
closed it. An attempt that a circuit refused is linked to the change for which it was refused, and an attempt whose
result changed a circuit to that change.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitOpenError, CircuitState, Event, StateChanged
from steadyvoice.breaker.states import Cause
from steadyvoice.service.provider_set import ProviderSet
from steadyvoice.service.result import Attempt, UtteranceReport, current_call
from steadyvoice.service.telemetry import attributes as names
from steadyvoice.service.telemetry.config import TelemetryConfig
from steadyvoice.service.telemetry.spans import (
    AttemptSpan,
    Kind,
    SpanRecord,
    SpeakerFacts,
    Value,
    attempt_result,
    attempt_spans,
    utterance_span,
)
from steadyvoice.speech.errors import TTSHoldError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest

_KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT, "server": SpanKind.SERVER
}  # fmt: skip

_CHANGES_KEPT = 32  # of each circuit, for links from calls that ended later
_W3C = TraceContextTextMapPropagator()  # whatever OTEL_PROPAGATORS says: baggage could have secrets of other services


@dataclass(frozen=True, slots=True)
class CircuitTransition:
    """Change of a circuit: the time of day in seconds since 1970, the new state, and the span of it."""

    at: float
    state: CircuitState
    span: SpanContext


@dataclass(slots=True)
class _Outage:
    """Time for which a circuit is not closed; its root is the span of the first change."""

    root: Context
    began: float


class CallTrace:
    """Call whose spans will be made: the caller's context, and what its attempts changed."""

    __slots__ = ("_tracing", "began", "caused", "context", "facts", "on_finish", "text", "turn")

    def __init__(
        self, tracing: Tracing, context: Context, facts: Mapping[str, Value], text: str | None, *, turn: bool
    ) -> None:
        self._tracing: Tracing | None = tracing
        self.context, self.facts, self.text, self.turn = context, facts, text, turn
        self.began: float | None = None
        self.caused: list[tuple[str, CircuitTransition]] = []
        self.on_finish: Callable[[], object] | None = None
        """Function of a gateway, called when the report is complete."""

    @property
    def is_running(self) -> bool:
        """True from its beginning until its report is complete."""
        return self.began is not None and self._tracing is not None

    def start(self) -> None:
        """Note that the call begins; calling it again changes nothing."""
        if self.began is None and self._tracing:
            self.began = self._tracing.wall_clock()

    def finish(self, report: UtteranceReport, text: str | None = None) -> None:
        """Make the spans of the call, unless that is left to a gateway, or it was never begun."""
        tracing, self._tracing = self._tracing, None
        on_finish, self.on_finish = self.on_finish, None
        if on_finish:
            on_finish()
        if tracing is None or tracing.is_deferred or self.began is None:
            return
        if self.text is None and tracing.texts:
            self.text = text
        if text is not None:
            self.facts = {**self.facts, names.CHARACTERS: len(text)}
        tracing.export(self, report, self.began, tracing.wall_clock(), self.facts)


class Tracing:
    """Tracing of one service. With `is_deferred`, the gateway in front of it makes the spans of calls."""

    def __init__(self, config: TelemetryConfig, providers: ProviderSet, wall_clock: Callable[[], float]) -> None:
        self.texts, self.wall_clock, self.is_deferred = config.texts, wall_clock, False
        self._providers = ref(providers)  # the circuits refer to this
        provider = config.tracer_provider or trace.get_tracer_provider()
        self._tracer = provider.get_tracer("steadyvoice", __version__)
        self._lock = threading.Lock()  # a fleet changes circuits in a thread of its own
        self._changes: dict[str, deque[CircuitTransition]] = {}
        self._outages: dict[str, _Outage] = {}
        self._failures: dict[tuple[str, str], SpanContext] = {}  # latest attempt, by provider and kind of its failure
        providers.subscribe(self._circuit_event)

    def begin(
        self,
        form: AudioFormat,
        text: str | None,
        *,
        request: SpeechRequest | None = None,
        turn_id: str | None = None,
    ) -> CallTrace:
        """Return the trace of a call, in the context of its caller. The `text` is None if it is not known yet."""
        facts: dict[str, Value] = {names.FORMAT: form.name}
        if turn_id is not None:
            facts[names.TURN_ID] = turn_id
        if request and request.model:
            facts[names.REQUEST_MODEL] = request.model
        if request and request.seed is not None:
            facts[names.REQUEST_SEED] = request.seed
        if text is not None:
            facts[names.CHARACTERS] = len(text)
        return CallTrace(self, get_current(), facts, text if self.texts else None, turn=turn_id is not None)

    def remote_context(self, headers: Mapping[bytes, bytes]) -> Context:
        """Return the context of a caller in another process, by the headers `traceparent` and `tracestate`."""
        carrier = {
            name.decode(): headers[name].decode("latin-1")
            for name in (b"traceparent", b"tracestate")
            if name in headers
        }
        return _W3C.extract(carrier, Context()) if carrier else Context()

    # ---------------------------------------------------------------- calls

    def export(
        self,
        call: CallTrace | None,
        report: UtteranceReport,
        begin: float,
        end: float,
        facts: Mapping[str, Value],
        *,
        kind: Kind = "internal",
        name: str | None = None,
        context: Context | None = None,
        text: str | None = None,
    ) -> None:
        """Make the spans of a call that has ended, within the `context` or that of the call."""
        name = name or (names.TURN if call and call.turn else names.UTTERANCE)
        text = call.text if call and text is None else text
        record = utterance_span(report, begin, end, name=name, kind=kind, facts=facts, text=text)
        around = context if context is not None else call.context if call else Context()
        span = self._start(record, around)
        if span.is_recording():
            inside = trace.set_span_in_context(span, around)
            attempts = attempt_spans(report, begin, end, self._speakers(), texts=self.texts)
            changed = _changed_by(attempts, call.caused if call else ())
            for each in attempts:
                self._add_attempt(each, inside, changed.get(id(each.attempt), ()))
        _end(span, record)

    def _add_attempt(self, each: AttemptSpan, around: Context, changed: Sequence[CircuitTransition]) -> None:
        attempt, links = each.attempt, []
        if attempt.refused and (cause := self._refused_by(attempt)):
            links.append(Link(cause, {names.LINK: names.REFUSED_BY}))
        links += [Link(change.span, {names.LINK: names.CHANGED_CIRCUIT}) for change in changed]
        span = self._start(each.record, around, links)
        if attempt.error and not attempt.refused:
            self._failures[attempt.provider, attempt.error.kind.value] = span.get_span_context()
        _end(span, each.record)

    def _refused_by(self, attempt: Attempt) -> SpanContext | None:
        """Return the span of the change, or of the failure before a hold, for which an attempt was refused."""
        error = attempt.error
        if isinstance(error, CircuitOpenError):
            at = attempt.at.timestamp()
            with self._lock:
                changes = [*self._changes.get(attempt.provider, ())]
            before = [change for change in changes if change.at <= at and change.state is not CircuitState.CLOSED]
            return before[-1].span if before else None
        if isinstance(error, TTSHoldError) and error.code:
            return self._failures.get((attempt.provider, error.code))
        return None

    def _speakers(self) -> dict[str, SpeakerFacts]:
        providers = self._providers()
        known = providers.by_name.items() if providers else ()
        return {name: SpeakerFacts(_kind_of(guarded.provider), guarded.provider.local) for name, guarded in known}

    def _start(self, record: SpanRecord, around: Context, links: Sequence[Link] = ()) -> trace.Span:
        kind, begin = _KINDS[record.kind], _nanoseconds(record.begin)
        attributes: Any = record.attributes
        return self._tracer.start_span(record.name, around, kind, attributes, links, begin)

    # ---------------------------------------------------------------- circuits

    def _circuit_event(self, event: Event) -> None:
        if not isinstance(event, StateChanged):
            return
        at = event.wall_time.timestamp()
        caller = trace.get_current_span().get_span_context()
        links = [Link(caller, {names.LINK: names.CALLED_FROM})] if caller.is_valid else []
        with self._lock:
            outage = self._outages.get(event.name)
            attributes = self._change_attributes(event, at - outage.began if outage else None)
            record = SpanRecord(f"{names.CIRCUIT} {event.to_state.value}", "internal", at, at, attributes)
            span = self._start(record, outage.root if outage else Context(), links)
            change = CircuitTransition(at, event.to_state, span.get_span_context())
            self._changes.setdefault(event.name, deque(maxlen=_CHANGES_KEPT)).append(change)
            if event.to_state is CircuitState.CLOSED:
                self._outages.pop(event.name, None)
            elif outage is None:
                self._outages[event.name] = _Outage(trace.set_span_in_context(span, Context()), at)
        _end(span, record)
        call = current_call.get()
        if isinstance(call, CallTrace):
            call.caused.append((event.name, change))

    def _change_attributes(self, event: StateChanged, outage: float | None) -> dict[str, Value]:
        # The reason for which a probe failed has the vendor's message, which may quote the text.
        quotes = event.cause is Cause.PROBE_FAILED and not self.texts
        attributes: dict[str, Value] = {
            names.PROVIDER: event.name,
            names.FROM_STATE: event.from_state.value,
            names.TO_STATE: event.to_state.value,
            names.CAUSE: event.cause.value,
            names.REASON: event.reason.partition(":")[0] if quotes else event.reason,
            names.FAILURE_RATE: event.failure_rate,
            names.CALLS: event.calls,
            names.FAILURES: event.failures,
        }
        optional = {names.RETRY_AFTER: event.retry_after, names.OUTAGE: outage}
        return attributes | {name: value for name, value in optional.items() if value is not None}


def _changed_by(
    attempts: Sequence[AttemptSpan], caused: Sequence[tuple[str, CircuitTransition]]
) -> dict[int, list[CircuitTransition]]:
    """Return the changes that each attempt caused, by the identity of the attempt: the last one it can be."""
    changed: dict[int, list[CircuitTransition]] = {}
    for provider, change in caused:
        wanted = {"completed"} if change.state is CircuitState.CLOSED else {"failed", "cancelled"}
        if change.state is CircuitState.HALF_OPEN:
            wanted = {"completed", "failed", "cancelled"}
        for each in reversed(attempts):
            if each.attempt.provider == provider and attempt_result(each.attempt) in wanted:
                changed.setdefault(id(each.attempt), []).append(change)
                break
    return changed


def _kind_of(provider: object) -> str:
    """Return the kind of a provider: the module of a built-in one, whose names are kinds, or the class of a plugin."""
    package, _, module = type(provider).__module__.rpartition(".")
    return module if package == "steadyvoice.providers" else type(provider).__name__.lower()


def _end(span: trace.Span, record: SpanRecord) -> None:
    for event in record.events:
        attributes: Any = event.attributes
        span.add_event(event.name, attributes, _nanoseconds(event.at))
    if record.error:
        span.set_status(Status(StatusCode.ERROR, record.error))
    span.end(_nanoseconds(record.end))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
