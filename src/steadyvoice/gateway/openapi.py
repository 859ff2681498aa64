"""`GET /openapi.json`: what the gateway's own doors take and answer, for tools that read such documents.

The vendors' doors are there by name only: what they take is described by whoever made them up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitBreakerConfig
from steadyvoice.gateway.ask import FAR
from steadyvoice.gateway.circuits import FIELDS
from steadyvoice.gateway.schemas import ANSWERS, ERROR, Schema
from steadyvoice.service.settings import PRESETS
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.openai import speech as openai_speech

ELEVENLABS_SAYS = "https://elevenlabs.io/docs/api-reference/text-to-speech/convert"
OPEN_WEBUI_SAYS = "https://docs.openwebui.com/features/audio/text-to-speech/openai-tts-integration"
OPENAI_SAYS = "https://platform.openai.com/docs/api-reference/audio/createSpeech"
_TEXT: Schema = {"type": "string"}
_SOUND: Schema = {}  # bytes, of which JSON Schema knows nothing


def document(bodies: Mapping[str, Schema], circuits: Iterable[str] = ()) -> dict[str, Any]:
    """Describe all doors. `bodies` are the schemas of what actions take, by their names; `circuits` are examples."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "steadyvoice",
            "version": __version__,
            "summary": "A voice that keeps speaking when its provider does not.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {**_open_doors(), **_admin_doors(), **_vendors_doors()},
        "components": {
            "schemas": {"Error": ERROR, "Change": _change(), **ANSWERS, **bodies},
            "responses": {"Refused": _answer("Why not, and which field was wrong", _named("Error"))},
            "parameters": {"name": _name(circuits)},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "xi-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "admin": {"type": "http", "scheme": "bearer", "description": "server.admin_token"},
            },
        },
    }


def _open_doors() -> dict[str, Any]:
    metrics = _get("Metrics for Prometheus", _TEXT, content_type="text/plain")
    ready = _answer("Whether anybody could be heard now, and if not, why not", _named("Readiness"))
    return {
        "/": {"get": _get("The dashboard", _TEXT, content_type="text/html")},
        "/healthz": {"get": _get("The process lives", _named("Health"))},
        "/readyz": {"get": {**_get("Whether anybody could be heard", _named("Readiness")), **_both(ready)}},
        "/metrics": {"get": {**metrics, "security": [{}, {"admin": []}]}},  # the token where server.metrics says so
        "/openapi.json": {"get": _get("This document", {"type": "object"})},
    }


def _admin_doors() -> dict[str, Any]:
    one = "/admin/circuits/{name}"
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 500}}
    since_step = {"name": "since", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": FAR}}
    since = {"name": "last_event_id", "in": "query", "schema": {"type": "string"}}
    seen = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    circuit, reasoned, lasting = _named("Circuit"), "Reasoned", "Lasting"
    doors: dict[str, dict[str, Any]] = {
        "/admin/state": {"get": _get("How everything is doing", _named("State"))},
        "/admin/board": {"get": _get("All that the dashboard shows", _named("Board"), parameters=[since_step])},
        "/admin/config": {"get": _get("The configuration in force, without secrets", _named("Config"))},
        "/admin/reload": {"post": _post("Read the configuration file again", "Nothing", _named("Changes"))},
        "/admin/calls": {"get": _get("Recent calls, newest first", _named("Calls"), parameters=[limit])},
        "/admin/events": {
            "get": _get(
                "Everything as it happens",
                {"type": "string"},
                parameters=[since, seen],
                content_type="text/event-stream",
            )
        },
        "/admin/say": {"post": _post("Speak, for whoever is on call", "Say", _SOUND, content_type="audio/*")},
        "/admin/circuits": {"get": _get("Every circuit", {"type": "object", "additionalProperties": circuit})},
        one: {
            "get": _get("Settings, numbers, and why it is in its state", circuit),
            "patch": {
                **_post("Change settings, all of them or none", "Change", _named("Changed")),
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


def _vendors_doors() -> dict[str, Any]:
    speech = f"{elevenlabs_speech.SPEECH_PATH}/{{voice_id}}"
    voice = [{"name": "voice_id", "in": "path", "required": True, "schema": {"type": "string"}}]
    model = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
    doors: dict[str, Any] = {
        f"{speech}{form.value}": {"parameters": voice, "post": _vendors("Speak", ELEVENLABS_SAYS)}
        for form in elevenlabs_speech.SpeechEndpoint
    }
    doors[openai_speech.SPEECH_PATH] = {"post": _vendors("Speak", OPENAI_SAYS)}
    doors[f"{elevenlabs_speech.VOICES_PATH}/{{voice_id}}"] = {
        "parameters": voice,
        "get": _vendors("A voice", ELEVENLABS_SAYS),
    }
    doors[f"{openai_speech.MODELS_PATH}/{{model}}"] = {"parameters": model, "get": _vendors("A model", OPENAI_SAYS)}
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
        "get": _vendors("The settings of a voice", ELEVENLABS_SAYS),
    }
    doors[openai_speech.AUDIO_VOICES_PATH] = {"get": _vendors("Voices, as Open WebUI asks for them", OPEN_WEBUI_SAYS)}
    doors[openai_speech.AUDIO_MODELS_PATH] = {"get": _vendors("Models, as Open WebUI asks for them", OPEN_WEBUI_SAYS)}
    return doors | {path: {"get": _vendors(told, ELEVENLABS_SAYS)} for path, told in lists.items()}


def _vendors(told: str, where: str) -> dict[str, Any]:
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
    taken = {"required": False, "content": {"application/json": {"schema": _named(body)}}}
    return {"summary": told, "requestBody": taken, "responses": _responses(told, schema, content_type)}


def _responses(told: str, schema: Schema, content_type: str) -> dict[str, Any]:
    return {"200": _answer(told, schema, content_type), "default": {"$ref": "#/components/responses/Refused"}}


def _both(ready: Schema) -> dict[str, Any]:
    return {"responses": {"200": ready, "503": ready, "default": {"$ref": "#/components/responses/Refused"}}}


def _answer(told: str, schema: Schema, content_type: str = "application/json") -> dict[str, Any]:
    return {"description": told, "content": {content_type: {"schema": schema}}}


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _name(circuits: Iterable[str]) -> dict[str, Any]:
    told = "The circuit's: that of its provider"
    schema = {"type": "string", "examples": list(circuits)}
    return {"name": "name", "in": "path", "required": True, "description": told, "schema": schema}


def _change() -> Schema:
    """The settings that there are, and their types. Which values go together is for the circuit to say."""
    found = {field.name: _TYPES[str(field.type)] for field in fields(CircuitBreakerConfig) if field.name in FIELDS}
    presets: Schema = {"enum": [*PRESETS, None]}
    return {"type": "object", "properties": {**found, "preset": presets}, "additionalProperties": False}


_ABSENT: Schema = {"const": False}  # as a configuration file says it, which has no null

_TYPES: Mapping[str, Schema] = {
    "int": {"type": "integer"},
    "int | None": {"anyOf": [{"type": ["integer", "null"]}, _ABSENT]},
    "float": {"type": "number"},
    "float | None": {"anyOf": [{"type": ["number", "null"]}, _ABSENT]},
    "Seconds": {"type": "number"},
    "OptionalSeconds": {"anyOf": [{"type": ["number", "null"]}, _ABSENT]},
    "Schedule": {"anyOf": [{"type": ["array", "null"], "items": {"type": "number"}}, _ABSENT]},
}
