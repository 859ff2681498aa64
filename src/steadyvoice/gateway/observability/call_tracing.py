"""Spans of the gateway's calls: the service's own, within the trace of the client, with what only the gateway knows."""

from __future__ import annotations

from functools import partial

from steadyvoice.gateway.context import GatewayContext, RequestObserver
from steadyvoice.gateway.observability.recent_calls import first_audio
from steadyvoice.gateway.request_context import RequestContext, client_outcome
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.service.telemetry import attributes as names
from steadyvoice.service.telemetry.spans import Value
from steadyvoice.service.telemetry.tracing import CallTrace, Tracing


class CallTracing(RequestObserver):
    """Observer that makes the spans of all calls, also of those in the fast lane, when they have ended.

    A client's `traceparent` and `tracestate` say which trace a call belongs to; its `baggage` is ignored.
    """

    def __init__(self, context: GatewayContext, tracing: Tracing) -> None:
        self._context, self._tracing = context, tracing
        self._spoken: dict[RequestContext, tuple[str, GatewaySpeechRequest, ReportedUtterance]] = {}
        tracing.is_deferred = True
        context.on_stopped.append(self._leave)

    def _leave(self) -> None:
        self._tracing.is_deferred = False

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
    ) -> None:
        """Make the spans of a finished turn; those of an utterance, when its response is sent as well."""
        if request.is_turn:
            self._export(request, api, order, utterance)
        else:
            self._spoken[request] = api, order, utterance

    def request_finished(self, request: RequestContext) -> None:
        """Make the spans of the utterance that a request was for."""
        if spoken := self._spoken.pop(request, None):
            self._export(request, *spoken)

    def _export(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
    ) -> None:
        context, tracing = self._context, self._tracing
        now = context.clock()
        end = context.wall_clock() - (now - (now if request.finished_at is None else request.finished_at))
        call = utterance.call if isinstance(utterance.call, CallTrace) else None
        export = partial(
            tracing.export,
            call,
            utterance.report,
            end - request.seconds_at(now),
            end,
            {**(call.facts if call else {}), **_facts(request, api, order, utterance)},
            kind="internal" if request.is_turn else "server",
            name=names.TURN if request.is_turn else names.UTTERANCE,
            context=tracing.remote_context(request.headers),
            text=order.text if tracing.texts else None,
        )
        # A turn that is cut off does not wait for a vendor that is slow to close: its last attempt is recorded later.
        if request.is_turn and call and call.is_running:
            call.on_finish = export
        else:
            export()


def _facts(
    request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
) -> dict[str, Value]:
    synthesis = order.options.request
    facts: dict[str, Value] = {
        names.API: api,
        names.REQUEST_ID: request.request_id,
        names.OUTCOME: client_outcome(request, utterance),
        names.FORMAT: order.format.name,
        names.CHARACTERS: len(order.text),
    }
    optional = {
        names.REQUEST_MODEL: synthesis.model,
        names.REQUEST_SEED: synthesis.seed,
        names.FIRST_AUDIO: first_audio(request),
    }
    if not request.is_turn:
        scope = request.scope
        optional |= {
            names.HTTP_METHOD: scope["method"],
            names.URL_PATH: scope["path"],
            names.HTTP_STATUS: request.status,
        }
    return facts | {name: value for name, value in optional.items() if value is not None}
