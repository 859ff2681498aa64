"""The gateway put together: routes, rooms, and the front door around them. An ASGI application."""

from __future__ import annotations

from collections.abc import Mapping

from steadyvoice.gateway.access_control import RouteClass
from steadyvoice.gateway.admin.openapi import openapi_document
from steadyvoice.gateway.admin.routes import REQUEST_SCHEMAS, admin_routes
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.dashboard import dashboard_routes
from steadyvoice.gateway.dialects.catalog import Catalog, catalog_routes
from steadyvoice.gateway.dialects.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.dialects.openai import OpenAIDialect
from steadyvoice.gateway.health import Health, Readiness
from steadyvoice.gateway.http import json_response
from steadyvoice.gateway.middleware import GatewayMiddleware
from steadyvoice.gateway.observability.access_log import AccessLog
from steadyvoice.gateway.observability.event_recorder import EventRecorder
from steadyvoice.gateway.observability.metrics import Metrics
from steadyvoice.gateway.reload import Reloader
from steadyvoice.gateway.router import Endpoints, RouteTable
from steadyvoice.gateway.speech_endpoint import SpeechHandler
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint
from steadyvoice.wire.openai import speech as openai_speech


def build_application(context: GatewayContext, reloader: Reloader | None = None) -> GatewayMiddleware:
    """Build the gateway. Whoever builds it opens the service before and closes it after."""
    return GatewayMiddleware(context, RouteTable(all_routes(context, reloader or Reloader(context))))


def all_routes(context: GatewayContext, reloader: Reloader) -> dict[RouteClass, Mapping[str, Endpoints]]:
    """Return every endpoint by its path and method, in the room whose credential it needs."""
    metrics, reporter, access = Metrics(context), EventRecorder(context), AccessLog(context)
    context.observers += [metrics, reporter, access]
    context.connection_rejected = access.connection_rejected
    return {
        RouteClass.SPEECH: {**_speech_routes(context), **catalog_routes(Catalog(context))},
        RouteClass.ADMIN: admin_routes(context, reporter.calls, reporter.board, reloader),
        RouteClass.METRICS: {"/metrics": {"GET": metrics}},
        RouteClass.PUBLIC: {
            "/healthz": {"GET": Health()},
            "/readyz": {"GET": Readiness(context)},
            "/openapi.json": {"GET": json_response(openapi_document(REQUEST_SCHEMAS, context.service.circuits))},
        },
        RouteClass.PAGE: {path: {"GET": page} for path, page in dashboard_routes().items()},
    }


def _speech_routes(context: GatewayContext) -> dict[str, Endpoints]:
    doors: dict[str, Endpoints] = {openai_speech.SPEECH_PATH: {"POST": SpeechHandler(context, OpenAIDialect())}}
    for form in SpeechEndpoint:
        path = f"{elevenlabs_speech.SPEECH_PATH}/{{voice_id}}{form.value}"
        doors[path] = {"POST": SpeechHandler(context, ElevenLabsDialect(form))}
    return doors
