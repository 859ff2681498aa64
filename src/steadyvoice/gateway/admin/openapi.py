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
    door=_TEXT,
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

RESPONSE_SCHEMAS: Mapping[str, Schema] = {
    "Health": _object(status=_TEXT),
    "Readiness": _object(ready=_YES_OR_NO, reasons=_list(_TEXT), overloaded=_YES_OR_NO, providers=_map(_READINESS)),
    "State": {"allOf": [_PROVIDER, _object(overload=_OVERLOAD, providers=_map(_PROVIDER))]},
    "Board": _object(
        at=_TEXT, edition=_TEXT, is_muted=_YES_OR_NO, overload=_OVERLOAD, step=_NUMBER, providers=_map(_ANYTHING)
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
    "Changes": _object(before=_ANYTHING, after=_ANYTHING, needs_restart=_list(_TEXT)),
    "Calls": _object(calls=_list(_CALL)),
}


ELEVENLABS_DOCS = "https://elevenlabs.io/docs/api-reference/text-to-speech/convert"
OPEN_WEBUI_DOCS = "https://docs.openwebui.com/features/audio/text-to-speech/openai-tts-integration"
OPENAI_DOCS = "https://platform.openai.com/docs/api-reference/audio/createSpeech"
_PLAIN_TEXT: Schema = {"type": "string"}
_AUDIO: Schema = {}  # bytes, of which JSON Schema knows nothing


def openapi_document(bodies: Mapping[str, Schema], circuits: Iterable[str] = ()) -> dict[str, Any]:
    """Describe all doors. `bodies` are the schemas of what actions take, by their names; `circuits` are examples."""
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
            "responses": {"Refused": _response("Why not, and which field was wrong", _schema_ref("Error"))},
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
    ready = _response("Whether anybody could be heard now, and if not, why not", _schema_ref("Readiness"))
    return {
        "/": {"get": _get("The dashboard", _PLAIN_TEXT, content_type="text/html")},
        "/healthz": {"get": _get("The process lives", _schema_ref("Health"))},
        "/readyz": {
            "get": {**_get("Whether anybody could be heard", _schema_ref("Readiness")), **_ready_responses(ready)}
        },
        "/metrics": {"get": {**metrics, "security": [{}, {"admin": []}]}},  # the token where server.metrics says so
        "/openapi.json": {"get": _get("This document", {"type": "object"})},
    }


def _admin_paths() -> dict[str, Any]:
    one = "/admin/circuits/{name}"
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 500}}
    since_step = {"name": "since", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": MAX_STEP}}
    since = {"name": "last_event_id", "in": "query", "schema": {"type": "string"}}
    seen = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    circuit, reasoned, lasting = _schema_ref("Circuit"), "Reasoned", "Lasting"
    doors: dict[str, dict[str, Any]] = {
        "/admin/state": {"get": _get("How everything is doing", _schema_ref("State"))},
        "/admin/board": {"get": _get("All that the dashboard shows", _schema_ref("Board"), parameters=[since_step])},
        "/admin/config": {"get": _get("The configuration in force, without secrets", _schema_ref("Config"))},
        "/admin/reload": {"post": _post("Read the configuration file again", "Nothing", _schema_ref("Changes"))},
        "/admin/calls": {"get": _get("Recent calls, newest first", _schema_ref("Calls"), parameters=[limit])},
        "/admin/events": {
            "get": _get(
                "Everything as it happens",
                {"type": "string"},
                parameters=[since, seen],
                content_type="text/event-stream",
            )
        },
        "/admin/say": {"post": _post("Speak, for whoever is on call", "Say", _AUDIO, content_type="audio/*")},
        "/admin/circuits": {"get": _get("Every circuit", {"type": "object", "additionalProperties": circuit})},
        one: {
            "get": _get("Settings, numbers, and why it is in its state", circuit),
            "patch": {
                **_post("Change settings, all of them or none", "Change", _schema_ref("Changed")),
                "parameters": [{"name": "dry_run", "in": "query", "schema": {"enum": ["yes", "no"]}}],
            },
        },
        f"{one}/open": {"post": _post("Refuse every call", lasting, circuit)},
        f"{one}/disable": {"post": _post("Admit every call and record nothing", lasting, circuit)},
        f"{one}/monitor": {"post": _post("Record every call and refuse none", lasting, circuit)},
        f"{one}/close": {"post": _post("Close from any state", reasoned, circuit)},
        f"{one}/reset": {"post": _post("Close, as if new, with nothing on hold", reasoned, circuit)},
    }
    for path, door in doors.items():
        if path.startswith(one):
            door["parameters"] = [{"$ref": "#/components/parameters/name"}]
        for operation in (door[method] for method in ("get", "post", "patch") if method in door):
            operation["security"] = [{}, {"admin": []}]  # without an admin token, this machine needs none
    return doors


def _vendor_paths() -> dict[str, Any]:
    speech = f"{elevenlabs_speech.SPEECH_PATH}/{{voice_id}}"
    voice = [{"name": "voice_id", "in": "path", "required": True, "schema": {"type": "string"}}]
    model = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
    doors: dict[str, Any] = {
        f"{speech}{form.value}": {"parameters": voice, "post": _vendor_operation("Speak", ELEVENLABS_DOCS)}
        for form in elevenlabs_speech.SpeechEndpoint
    }
    doors[openai_speech.SPEECH_PATH] = {"post": _vendor_operation("Speak", OPENAI_DOCS)}
    doors[f"{elevenlabs_speech.VOICES_PATH}/{{voice_id}}"] = {
        "parameters": voice,
        "get": _vendor_operation("A voice", ELEVENLABS_DOCS),
    }
    doors[f"{openai_speech.MODELS_PATH}/{{model}}"] = {
        "parameters": model,
        "get": _vendor_operation("A model", OPENAI_DOCS),
    }
    lists = {
        elevenlabs_speech.VOICES_PATH: "Voices",
        elevenlabs_speech.VOICES_V2_PATH: "Voices, searched",
        elevenlabs_speech.MODELS_PATH: "Models: OpenAI's for who brings a bearer token",
        elevenlabs_speech.USER_PATH: "User",
        elevenlabs_speech.SUBSCRIPTION_PATH: "What the account may still spend",
        elevenlabs_speech.HISTORY_PATH: "History, which is empty",
        elevenlabs_speech.DEFAULT_SETTINGS_PATH: "The usual settings of a voice",
    }
    doors[f"{elevenlabs_speech.VOICES_PATH}/{{voice_id}}/settings"] = {
        "parameters": voice,
        "get": _vendor_operation("The settings of a voice", ELEVENLABS_DOCS),
    }
    doors[openai_speech.AUDIO_VOICES_PATH] = {
        "get": _vendor_operation("Voices, as Open WebUI asks for them", OPEN_WEBUI_DOCS)
    }
    doors[openai_speech.AUDIO_MODELS_PATH] = {
        "get": _vendor_operation("Models, as Open WebUI asks for them", OPEN_WEBUI_DOCS)
    }
    return doors | {path: {"get": _vendor_operation(told, ELEVENLABS_DOCS)} for path, told in lists.items()}


def _vendor_operation(told: str, where: str) -> dict[str, Any]:
    return {
        "summary": told,
        "tags": ["vendors"],
        "externalDocs": {"url": where},
        "security": [{}, {"key": []}, {"bearer": []}],
        "responses": {"default": {"description": "As the vendor answers"}},
    }


def _get(
    told: str, schema: Schema, *, parameters: list[Schema] | None = None, content_type: str = "application/json"
) -> dict[str, Any]:
    found = {"summary": told, "responses": _responses(told, schema, content_type)}
    return found | ({"parameters": parameters} if parameters else {})


def _post(told: str, body: str, schema: Schema, *, content_type: str = "application/json") -> dict[str, Any]:
    taken = {"required": False, "content": {"application/json": {"schema": _schema_ref(body)}}}
    return {"summary": told, "requestBody": taken, "responses": _responses(told, schema, content_type)}


def _responses(told: str, schema: Schema, content_type: str) -> dict[str, Any]:
    return {"200": _response(told, schema, content_type), "default": {"$ref": "#/components/responses/Refused"}}


def _ready_responses(ready: Schema) -> dict[str, Any]:
    return {"responses": {"200": ready, "503": ready, "default": {"$ref": "#/components/responses/Refused"}}}


def _response(told: str, schema: Schema, content_type: str = "application/json") -> dict[str, Any]:
    return {"description": told, "content": {content_type: {"schema": schema}}}


def _schema_ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _name_parameter(circuits: Iterable[str]) -> dict[str, Any]:
    told = "The circuit's: that of its provider"
    schema = {"type": "string", "examples": list(circuits)}
    return {"name": "name", "in": "path", "required": True, "description": told, "schema": schema}


def _settings_schema() -> Schema:
    """The settings that there are, and their types. Which values go together is for the circuit to say."""
    found = {
        field.name: _TYPES[str(field.type)] for field in fields(CircuitBreakerConfig) if field.name in CHANGEABLE_FIELDS
    }
    presets: Schema = {"enum": [*PRESETS, None]}
    return {"type": "object", "properties": {**found, "preset": presets}, "additionalProperties": False}


_FALSE: Schema = {"const": False}  # as a configuration file says it, which has no null

_TYPES: Mapping[str, Schema] = {
    "int": {"type": "integer"},
    "int | None": {"anyOf": [{"type": ["integer", "null"]}, _FALSE]},
    "float": {"type": "number"},
    "float | None": {"anyOf": [{"type": ["number", "null"]}, _FALSE]},
    "Seconds": {"type": "number"},
    "OptionalSeconds": {"anyOf": [{"type": ["number", "null"]}, _FALSE]},
    "Schedule": {"anyOf": [{"type": ["array", "null"], "items": {"type": "number"}}, _FALSE]},
}
