"""OpenAPI document (`GET /openapi.json`): routes and JSON Schemas of the gateway's own endpoints.

The vendors' endpoints are listed with links to the vendors' own documentation. Schemas name what clients may rely on;
responses may contain more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitBreakerConfig
from steadyvoice.gateway.admin.request import MAX_STEP
from steadyvoice.gateway.admin.views import CHANGEABLE_FIELDS
from steadyvoice.service.config_file import PRESETS
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.dialogue import DIALOGUE_PATH
from steadyvoice.wire.elevenlabs.websocket import SocketEndpoint
from steadyvoice.wire.openai import speech as openai_speech

Schema = Mapping[str, Any]


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _map(of: Schema) -> Schema:
    return {"type": "object", "additionalProperties": of}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _or_null(kind: str) -> Schema:
    return {"type": [kind, "null"]}


_TEXT, _NUMBER, _COUNT, _YES_OR_NO = ({"type": kind} for kind in ("string", "number", "integer", "boolean"))
_MAYBE_TEXT, _MAYBE_NUMBER, _ANYTHING = _or_null("string"), _or_null("number"), {"type": "object"}
_STATE = {"enum": ["closed", "open", "half_open", "forced_open", "disabled", "monitoring"]}

ERROR_SCHEMA: Schema = _object(error=_object(code=_TEXT, message=_TEXT, field=_MAYBE_TEXT))

_PROVIDER: Schema = _object(
    circuit_state=_STATE,
    circuit_opened_at=_MAYBE_TEXT,
    failure_rate=_NUMBER,
    window=_object(size=_or_null("integer"), calls=_COUNT, failures=_NUMBER),
    retry_after=_MAYBE_NUMBER,
    consecutive_failures=_COUNT,
    last_error=_or_null("object"),
    last_transition=_or_null("object"),
    is_muted=_YES_OR_NO,
    totals=_object(calls=_COUNT, successes=_COUNT, failures=_COUNT, refused=_COUNT, ignored=_COUNT),
    recoveries=_object(count=_COUNT, last_seconds=_MAYBE_NUMBER, mean_seconds=_MAYBE_NUMBER),
    holds=_list(_object(key=_TEXT, kind=_TEXT, until=_TEXT)),
)
_CALL: Schema = _object(
    number=_COUNT,
    at=_TEXT,
    request_id=_TEXT,
    api=_TEXT,
    outcome=_TEXT,
    provider=_MAYBE_TEXT,
    format=_TEXT,
    characters=_COUNT,
    bytes_sent=_COUNT,
    seconds=_NUMBER,
    first_audio=_MAYBE_NUMBER,
    audio_seconds=_NUMBER,
    attempts=_list(_object(provider=_TEXT, began=_NUMBER, waited=_NUMBER, refused=_YES_OR_NO, bill=_ANYTHING)),
    spans=_list(_object(provider=_MAYBE_TEXT, begin=_COUNT, end=_COUNT, start=_NUMBER, stop=_NUMBER)),
    error=_or_null("object"),
)
_READINESS: Schema = _object(ready=_YES_OR_NO, circuit_state=_STATE, reason=_MAYBE_TEXT)

_OVERLOAD: Schema = _object(
    overloaded=_YES_OR_NO,
    active=_COUNT,
    queued=_COUNT,
    max_active=_COUNT,
    max_queued=_COUNT,
    queue_timeout=_NUMBER,
    refused=_map(_COUNT),
    loop_lag=_NUMBER,
    loop_lost=_NUMBER,
    waits=_map(_NUMBER),
)

_REPLAYED: Schema = _object(
    callers=_COUNT,
    outcomes=_map(_COUNT),
    failed=_COUNT,
    refused=_COUNT,
    another_voice=_COUNT,
    waited=_COUNT,
    slow=_NUMBER,
    first_audio=_or_null("object"),
    attempts=_COUNT,
    refusals=_COUNT,
    openings=_COUNT,
    seconds_open=_NUMBER,
    billed=_NUMBER,
    wasted=_NUMBER,
)

RESPONSE_SCHEMAS: Mapping[str, Schema] = {
    "Health": _object(status=_TEXT),
    "Readiness": _object(ready=_YES_OR_NO, reasons=_list(_TEXT), overloaded=_YES_OR_NO, providers=_map(_READINESS)),
    "State": {"allOf": [_PROVIDER, _object(overload=_OVERLOAD, fleet=_or_null("object"), providers=_map(_PROVIDER))]},
    "Overview": _object(
        at=_TEXT,
        edition=_TEXT,
        is_muted=_YES_OR_NO,
        overload=_OVERLOAD,
        fleet=_or_null("object"),
        workers=_or_null("object"),
        step=_NUMBER,
        providers=_map(_ANYTHING),
    ),
    "Config": _object(server=_ANYTHING, timeouts=_ANYTHING, providers=_list(_ANYTHING), circuits=_map(_ANYTHING)),
    "Circuit": _object(
        name=_TEXT,
        state=_STATE,
        preset=_MAYBE_TEXT,
        config=_ANYTHING,
        snapshot=_ANYTHING,
        explanation=_object(text=_TEXT, reason=_TEXT, next=_TEXT, changes_in=_MAYBE_NUMBER),
    ),
    "Changed": _object(name=_TEXT, changed=_list(_TEXT), preset=_MAYBE_TEXT, before=_ANYTHING, after=_ANYTHING),
    "Preview": _object(
        journal=_map(_COUNT), fidelity=_map(_COUNT), happened=_REPLAYED, before=_REPLAYED, after=_REPLAYED
    ),
    "Changes": _object(before=_ANYTHING, after=_ANYTHING, needs_restart=_list(_TEXT)),
    "Calls": _object(calls=_list(_CALL)),
}


ELEVENLABS_DOCS = "https://elevenlabs.io/docs/api-reference/text-to-speech/convert"
DIALOGUE_DOCS = "https://elevenlabs.io/docs/api-reference/text-to-dialogue/stream"
WEBSOCKET_DOCS = "https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-stream-input"
OPEN_WEBUI_DOCS = "https://docs.openwebui.com/features/audio/text-to-speech/openai-tts-integration"
OPENAI_DOCS = "https://platform.openai.com/docs/api-reference/audio/createSpeech"
_PLAIN_TEXT: Schema = {"type": "string"}
_AUDIO: Schema = {}  # JSON Schema does not describe bytes


def openapi_document(bodies: Mapping[str, Schema], circuits: Iterable[str] = ()) -> dict[str, Any]:
    """Return the OpenAPI document. `bodies` are the schemas of request bodies by name; `circuits` are example names."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "steadyvoice",
            "version": __version__,
            "summary": "A voice that keeps speaking when its provider does not.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {**_public_paths(), **_admin_paths(), **_vendor_paths()},
        "components": {
            "schemas": {"Error": ERROR_SCHEMA, "Change": _settings_schema(), **RESPONSE_SCHEMAS, **bodies},
            "responses": {"Error": _response("The error, and the field that was wrong", _schema_ref("Error"))},
            "parameters": {"name": _name_parameter(circuits)},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "xi-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "admin": {"type": "http", "scheme": "bearer", "description": "server.admin_token"},
            },
        },
    }


def _public_paths() -> dict[str, Any]:
    metrics = _get("Metrics for Prometheus", _PLAIN_TEXT, content_type="text/plain")
    ready = _response("Readiness of the gateway, and the reasons if it is not ready", _schema_ref("Readiness"))
    return {
        "/": {"get": _get("Dashboard", _PLAIN_TEXT, content_type="text/html")},
        "/healthz": {"get": _get("Liveness check", _schema_ref("Health"))},
        "/readyz": {"get": {**_get("Readiness check", _schema_ref("Readiness")), **_ready_responses(ready)}},
        "/metrics": {"get": {**metrics, "security": [{}, {"admin": []}]}},  # the token with metrics = "admin"
        "/openapi.json": {"get": _get("OpenAPI document", {"type": "object"})},
    }


def _admin_paths() -> dict[str, Any]:
    one = "/admin/circuits/{name}"
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 500}}
    since_step = {"name": "since", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": MAX_STEP}}
    since = {"name": "last_event_id", "in": "query", "schema": {"type": "string"}}
    last_event_id = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    circuit, action, timed = _schema_ref("Circuit"), "ActionBody", "TimedActionBody"
    paths: dict[str, dict[str, Any]] = {
        "/admin/state": {"get": _get("Error state of the library", _schema_ref("State"))},
        "/admin/overview": {
            "get": _get("Everything that the dashboard shows", _schema_ref("Overview"), parameters=[since_step])
        },
        "/admin/config": {"get": _get("Configuration in force, without secrets", _schema_ref("Config"))},
        "/admin/reload": {"post": _post("Reload the configuration file", "EmptyBody", _schema_ref("Changes"))},
        "/admin/calls": {"get": _get("Recent calls, newest first", _schema_ref("Calls"), parameters=[limit])},
        "/admin/events": {
            "get": _get(
                "Event log as server-sent events",
                {"type": "string"},
                parameters=[since, last_event_id],
                content_type="text/event-stream",
            )
        },
        "/admin/say": {"post": _post("Test synthesis", "SayBody", _AUDIO, content_type="audio/*")},
        "/admin/circuits": {"get": _get("All circuits", {"type": "object", "additionalProperties": circuit})},
        one: {
            "get": _get("Settings, counts, and the explanation of the state", circuit),
            "patch": {
                **_post("Change settings, all of them or none", "Change", _schema_ref("Changed")),
                "parameters": [
                    {"name": flag, "in": "query", "schema": {"enum": ["yes", "no"]}}
                    for flag in ("dry_run", "everywhere")
                ],
            },
        },
        f"{one}/preview": {
            "post": _post("Replay the recent journal under changed settings", "Change", _schema_ref("Preview"))
        },
        f"{one}/open": {"post": _post("Refuse every call", "OpenBody", circuit)},
        f"{one}/disable": {"post": _post("Admit every call and record nothing", timed, circuit)},
        f"{one}/monitor": {"post": _post("Record every call and refuse none", timed, circuit)},
        f"{one}/close": {"post": _post("Close from any state", action, circuit)},
        f"{one}/reset": {"post": _post("Close with an empty window, and release all holds", "ResetBody", circuit)},
    }
    for path, path_item in paths.items():
        if path.startswith(one):
            path_item["parameters"] = [{"$ref": "#/components/parameters/name"}]
        for operation in (path_item[method] for method in ("get", "post", "patch") if method in path_item):
            operation["security"] = [
                {},
                {"admin": []},
            ]  # without server.admin_token, requests from this machine need none
    return paths


def _vendor_paths() -> dict[str, Any]:
    speech = f"{elevenlabs_speech.SPEECH_PATH}/{{voice_id}}"
    voice = [{"name": "voice_id", "in": "path", "required": True, "schema": {"type": "string"}}]
    model = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
    paths: dict[str, Any] = {
        f"{speech}{form.value}": {"parameters": voice, "post": _vendor_operation("Speech synthesis", ELEVENLABS_DOCS)}
        for form in elevenlabs_speech.SpeechEndpoint
    }
    paths |= {
        f"{speech}{form.value}": {"parameters": voice, "get": _vendor_operation("Websocket", WEBSOCKET_DOCS)}
        for form in SocketEndpoint
    }
    paths |= {
        f"{DIALOGUE_PATH}{form.value}": {"get": _vendor_operation("Websocket of dialogues", DIALOGUE_DOCS)}
        for form in SocketEndpoint
    }
    paths[f"{DIALOGUE_PATH}{elevenlabs_speech.SpeechEndpoint.STREAM.value}"] = {
        "post": _vendor_operation("Dialogue of several voices", DIALOGUE_DOCS)
    }
    paths[openai_speech.SPEECH_PATH] = {"post": _vendor_operation("Speech synthesis", OPENAI_DOCS)}
    paths[f"{elevenlabs_speech.VOICES_PATH}/{{voice_id}}"] = {
        "parameters": voice,
        "get": _vendor_operation("Voice", ELEVENLABS_DOCS),
    }
    paths[f"{openai_speech.MODELS_PATH}/{{model}}"] = {
        "parameters": model,
        "get": _vendor_operation("Model", OPENAI_DOCS),
    }
    lists = {
        elevenlabs_speech.VOICES_PATH: "Voices",
        elevenlabs_speech.VOICES_V2_PATH: "Voices, searched",
        elevenlabs_speech.MODELS_PATH: "Models; with a Bearer token, in OpenAI's format",
        elevenlabs_speech.USER_PATH: "User",
        elevenlabs_speech.SUBSCRIPTION_PATH: "Subscription and remaining quota",
        elevenlabs_speech.HISTORY_PATH: "History; always empty",
        elevenlabs_speech.DEFAULT_SETTINGS_PATH: "Default settings of voices",
    }
    paths[f"{elevenlabs_speech.VOICES_PATH}/{{voice_id}}/settings"] = {
        "parameters": voice,
        "get": _vendor_operation("Settings of a voice", ELEVENLABS_DOCS),
    }
    paths[openai_speech.AUDIO_VOICES_PATH] = {
        "get": _vendor_operation("Voices, in Open WebUI's format", OPEN_WEBUI_DOCS)
    }
    paths[openai_speech.AUDIO_MODELS_PATH] = {
        "get": _vendor_operation("Models, in Open WebUI's format", OPEN_WEBUI_DOCS)
    }
    return paths | {path: {"get": _vendor_operation(summary, ELEVENLABS_DOCS)} for path, summary in lists.items()}


def _vendor_operation(summary: str, where: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "tags": ["vendors"],
        "externalDocs": {"url": where},
        "security": [{}, {"key": []}, {"bearer": []}],
        "responses": {"default": {"description": "Response in the vendor's format"}},
    }


def _get(
    summary: str, schema: Schema, *, parameters: list[Schema] | None = None, content_type: str = "application/json"
) -> dict[str, Any]:
    found = {"summary": summary, "responses": _responses(summary, schema, content_type)}
    return found | ({"parameters": parameters} if parameters else {})


def _post(summary: str, body: str, schema: Schema, *, content_type: str = "application/json") -> dict[str, Any]:
    taken = {"required": False, "content": {"application/json": {"schema": _schema_ref(body)}}}
    return {"summary": summary, "requestBody": taken, "responses": _responses(summary, schema, content_type)}


def _responses(summary: str, schema: Schema, content_type: str) -> dict[str, Any]:
    return {"200": _response(summary, schema, content_type), "default": {"$ref": "#/components/responses/Error"}}


def _ready_responses(ready: Schema) -> dict[str, Any]:
    return {"responses": {"200": ready, "503": ready, "default": {"$ref": "#/components/responses/Error"}}}


def _response(summary: str, schema: Schema, content_type: str = "application/json") -> dict[str, Any]:
    return {"description": summary, "content": {content_type: {"schema": schema}}}


def _schema_ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _name_parameter(circuits: Iterable[str]) -> dict[str, Any]:
    description = "Name of the circuit, which is its provider's"
    schema = {"type": "string", "examples": list(circuits)}
    return {"name": "name", "in": "path", "required": True, "description": description, "schema": schema}


def _settings_schema() -> Schema:
    """Return the schema of changeable settings. Combinations of values are checked by the circuit only."""
    found = {
        field.name: _TYPES[str(field.type)] for field in fields(CircuitBreakerConfig) if field.name in CHANGEABLE_FIELDS
    }
    presets: Schema = {"enum": [*PRESETS, None]}
    return {"type": "object", "properties": {**found, "preset": presets}, "additionalProperties": False}


_FALSE: Schema = {"const": False}  # removes a setting; TOML has no null

_TYPES: Mapping[str, Schema] = {
    "int": {"type": "integer"},
    "int | None": {"anyOf": [{"type": ["integer", "null"]}, _FALSE]},
    "float": {"type": "number"},
    "float | None": {"anyOf": [{"type": ["number", "null"]}, _FALSE]},
    "Seconds": {"type": "number"},
    "OptionalSeconds": {"anyOf": [{"type": ["number", "null"]}, _FALSE]},
    "Schedule": {"anyOf": [{"type": ["array", "null"], "items": {"type": "number"}}, _FALSE]},
}
