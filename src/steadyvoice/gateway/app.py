"""ASGI application of the gateway: `all_routes` lists every path with its endpoint and the credential it needs."""

from __future__ import annotations

from collections.abc import Mapping

from steadyvoice.gateway.access_control import RouteClass
from steadyvoice.gateway.admin.openapi import openapi_document
from steadyvoice.gateway.admin.overview import Overview
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
    """Return the gateway's ASGI application. The caller opens the service before and closes it after."""
    return GatewayMiddleware(context, RouteTable(all_routes(context, reloader or Reloader(context))))


def all_routes(context: GatewayContext, reloader: Reloader) -> dict[RouteClass, Mapping[str, Endpoints]]:
    """Return every endpoint by route class, path and method."""
    metrics, recorder, access_log = Metrics(context), EventRecorder(context), AccessLog(context)
    context.observers += [metrics, recorder, access_log]
    context.connection_rejected = access_log.connection_rejected
    return {
        # Speech comes first: paths with a parameter are tried in this order.
        RouteClass.SPEECH: {**_speech_routes(context), **catalog_routes(Catalog(context))},
        RouteClass.ADMIN: admin_routes(context, recorder.calls, Overview(context, recorder.statistics), reloader),
        RouteClass.METRICS: {"/metrics": {"GET": metrics}},
        RouteClass.PUBLIC: {
            "/healthz": {"GET": Health()},
            "/readyz": {"GET": Readiness(context)},
            "/openapi.json": {"GET": json_response(openapi_document(REQUEST_SCHEMAS, context.service.circuits))},
        },
        RouteClass.PAGE: {path: {"GET": page} for path, page in dashboard_routes().items()},
    }


def _speech_routes(context: GatewayContext) -> dict[str, Endpoints]:
    routes: dict[str, Endpoints] = {openai_speech.SPEECH_PATH: {"POST": SpeechHandler(context, OpenAIDialect())}}
    for form in SpeechEndpoint:
        path = f"{elevenlabs_speech.SPEECH_PATH}/{{voice_id}}{form.value}"
        routes[path] = {"POST": SpeechHandler(context, ElevenLabsDialect(form))}
    return routes
