"""ASGI application of the gateway: routes of all endpoints, with the credential that each needs (`all_routes`).

Health and readiness checks, `GET /healthz` and `GET /readyz`, are defined here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steadyvoice.gateway.access_control import RouteClass
from steadyvoice.gateway.admin.openapi import openapi_document
from steadyvoice.gateway.admin.overview import Overview
from steadyvoice.gateway.admin.routes import REQUEST_SCHEMAS, admin_routes
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.dashboard import dashboard_routes
from steadyvoice.gateway.dialects.catalog import Catalog, catalog_routes
from steadyvoice.gateway.dialects.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.dialects.openai import OpenAIDialect
from steadyvoice.gateway.dialogue_endpoint import DialogueHandler
from steadyvoice.gateway.http import Receive, Scope, Send, json_response
from steadyvoice.gateway.middleware import GatewayMiddleware
from steadyvoice.gateway.observability.access_log import AccessLog
from steadyvoice.gateway.observability.event_recorder import EventRecorder
from steadyvoice.gateway.observability.metrics import Metrics
from steadyvoice.gateway.reload import Reloader
from steadyvoice.gateway.router import Endpoints, RouteTable
from steadyvoice.gateway.speech_endpoint import SpeechHandler
from steadyvoice.gateway.websocket.endpoint import SocketHandler
from steadyvoice.gateway.workers.merging import merged_readiness
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.dialogue import DIALOGUE_PATH
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint
from steadyvoice.wire.elevenlabs.websocket import SocketEndpoint
from steadyvoice.wire.openai import speech as openai_speech


def build_application(context: GatewayContext, reloader: Reloader | None = None) -> GatewayMiddleware:
    """Return the gateway's ASGI application. The caller opens the service before and closes it after."""
    return GatewayMiddleware(context, RouteTable(all_routes(context, reloader or Reloader(context))))


def all_routes(context: GatewayContext, reloader: Reloader) -> dict[RouteClass, Mapping[str, Endpoints]]:
    """Return every endpoint by route class, path and method."""
    context.answers["readiness"] = lambda argument: readiness(context)
    metrics, recorder, access_log = Metrics(context), EventRecorder(context), AccessLog(context)
    context.observers += [metrics, recorder, access_log]
    report_calls(context)
    context.connection_rejected = access_log.connection_rejected
    return {
        # Speech comes first: paths with a parameter are tried in this order.
        RouteClass.SPEECH: {**_speech_routes(context), **catalog_routes(Catalog(context))},
        RouteClass.SOCKET: _socket_routes(context),
        RouteClass.ADMIN: admin_routes(context, recorder.calls, Overview(context, recorder.statistics), reloader),
        RouteClass.METRICS: {"/metrics": {"GET": metrics}},
        RouteClass.PUBLIC: {
            "/healthz": {"GET": Health()},
            "/readyz": {"GET": Readiness(context)},
            "/openapi.json": {"GET": json_response(openapi_document(REQUEST_SCHEMAS, context.service.circuits))},
        },
        RouteClass.PAGE: {path: {"GET": page} for path, page in dashboard_routes().items()},
    }


def report_calls(context: GatewayContext) -> None:
    """Report calls to OpenTelemetry, if the service does."""
    if tracing := context.service.tracing:
        # Imported here, because it needs an extra.
        from steadyvoice.gateway.observability.call_tracing import CallTracing

        context.observers.append(CallTracing(context, tracing))


def _speech_routes(context: GatewayContext) -> dict[str, Endpoints]:
    routes: dict[str, Endpoints] = {openai_speech.SPEECH_PATH: {"POST": SpeechHandler(context, OpenAIDialect())}}
    for form in SpeechEndpoint:
        path = f"{elevenlabs_speech.SPEECH_PATH}/{{voice_id}}{form.value}"
        routes[path] = {"POST": SpeechHandler(context, ElevenLabsDialect(form))}
    routes[f"{DIALOGUE_PATH}{SpeechEndpoint.STREAM.value}"] = {"POST": DialogueHandler(context)}
    return routes


def _socket_routes(context: GatewayContext) -> dict[str, Endpoints]:
    return {
        f"{path}{form.value}": {"GET": SocketHandler(context, form)}
        for path in (f"{elevenlabs_speech.SPEECH_PATH}/{{voice_id}}", DIALOGUE_PATH)
        for form in SocketEndpoint
    }


class Health:
    """Liveness check, `GET /healthz`: 200 as long as the process answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await json_response({"status": "ok"})(scope, receive, send)


class Readiness:
    """Readiness check, `GET /readyz`: 200 while a provider may be called, else 503 with the reasons."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        documents = await self._context.gather("readiness")
        document = documents[0]
        # One that is told to stop is not ready, whatever others are.
        if len(documents) > 1 and not self._context.closing:
            document = merged_readiness(documents)
        await json_response(document, status=200 if document["ready"] else 503)(scope, receive, send)


def readiness(context: GatewayContext) -> dict[str, Any]:
    """Return the readiness of the gateway and of each provider.

    Overload is reported, and does not make the gateway unready: a replica that is taken out of rotation leaves its
    load to the others.
    """
    overloaded = not context.service.admission.open
    if context.closing:
        return {"ready": False, "reasons": ["gateway is shutting down"], "overloaded": overloaded, "providers": {}}
    states = context.service.get_error_state()["providers"]
    providers = {name: _provider_readiness(state) for name, state in states.items()}
    reasons = [f"{name}: {each['reason']}" for name, each in providers.items() if each["reason"]]
    ready = any(each["ready"] for each in providers.values())
    return {"ready": ready, "reasons": reasons, "overloaded": overloaded, "providers": providers}


def _provider_readiness(state: Mapping[str, Any]) -> dict[str, Any]:
    if not state["is_muted"]:
        return {"ready": True, "circuit_state": state["circuit_state"], "reason": None}
    transition, holds = state["last_transition"], state["holds"]
    refusing = state["circuit_state"] in ("open", "forced_open")
    circuit_reason = f"circuit {state['circuit_state']}: {transition['reason']}" if refusing and transition else None
    reason = circuit_reason or (f"{holds[0]['kind']}: {holds[0]['reason']}" if holds else "refuses calls")
    return {"ready": False, "circuit_state": state["circuit_state"], "reason": reason}
