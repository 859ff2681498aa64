"""Catalog endpoints: voices, models, user, subscription, history.

ElevenLabs is queried, which is free, while its circuit is closed, and its responses are cached for a minute. When it
does not answer, the response is built from the configuration: a client that lists voices before it speaks must not
fail on that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from steadyvoice.breaker import CircuitState
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.dialects.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.http import HTTPError, Receive, Response, Scope, Send, json_response, query_parameters
from steadyvoice.gateway.request_context import request_context
from steadyvoice.gateway.router import Endpoints
from steadyvoice.providers.base import Provider
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.providers.http.client import MAX_DOCUMENT, MAX_PARSED, FetchedDocument
from steadyvoice.providers.openai import OpenAICompatible
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.request import DEFAULT_VOICE
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.catalog import (
    MODELS,
    VOICES,
    Subscription,
    found_voices_body,
    get_model_info,
    history_body,
    models_body,
    parse_subscription,
    parse_voice_search,
    subscription_body,
    user_body,
    voice_body,
    voice_settings_body,
    voices_body,
)
from steadyvoice.wire.elevenlabs.errors import error_body, validation_body
from steadyvoice.wire.elevenlabs.request_stitching import own_request_id
from steadyvoice.wire.openai import speech as openai_speech
from steadyvoice.wire.openai.errors import error_body as openai_error
from steadyvoice.wire.request_validation import RequestValidationError

_CACHE_SECONDS = 60.0  # for which a vendor's response is reused
_QUERY_TIMEOUT = 3.0  # seconds; short, because the gateway has an answer of its own
_MAX_CACHED = 64
_MAX_CACHED_BYTES = 2 * MAX_DOCUMENT


@dataclass(frozen=True, slots=True)
class _CachedDocument:
    at: float
    document: FetchedDocument


class Queryable(Protocol):
    """Provider with free endpoints that can be queried."""

    async def fetch_document(self, target: str) -> FetchedDocument:
        """Return the response to a GET request. Raises TTSError."""
        ...


class Catalog:
    """Voices, models and subscription: from the vendors' APIs, cached, or else from the configuration."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._cache: OrderedDict[str, _CachedDocument] = OrderedDict()
        # After a reload, other accounts may be queried.
        context.on_settings.append(lambda _: self._cache.clear())

    async def query_elevenlabs(self, path: str, query: Sequence[tuple[str, str]] = ()) -> FetchedDocument | None:
        """Return ElevenLabs' response, up to a minute old or the last one it gave; None if there is none."""
        target = f"{path}?{urlencode(query)}" if query else path
        return await self._query([each for each in self._healthy if isinstance(each, ElevenLabs)], target)

    async def _query(self, providers: Sequence[Queryable], target: str) -> FetchedDocument | None:
        """Query the providers one after the other, unless a response is cached."""
        cached = self._cache.get(target)
        if cached and self._context.clock() - cached.at < _CACHE_SECONDS:
            return cached.document
        for provider in providers:
            with contextlib.suppress(TTSError, TimeoutError):
                async with asyncio.timeout(_QUERY_TIMEOUT):
                    document = await provider.fetch_document(target)
                self._store(target, document)
                return document
        return cached.document if cached else None

    async def subscription(self) -> Subscription:
        """Return the account's subscription; unlimited where no metered vendor is configured or answers."""
        document = await self.query_elevenlabs(elevenlabs_speech.SUBSCRIPTION_PATH)
        try:
            return parse_subscription((document and document.value) or {})
        except ValueError:
            return Subscription(0, 0, unlimited=True)

    @property
    def voices(self) -> dict[str, str]:
        """Ids by name of the configured voices, and of ElevenLabs' stock voices if it is configured."""
        elevenlabs = [each for each in self._providers if isinstance(each, ElevenLabs)]
        named = {name: voice.id for each in elevenlabs for name, voice in each.voices.items() if name != DEFAULT_VOICE}
        configured = {
            name: name for each in self._providers for name in getattr(each, "voices", {}) if each not in elevenlabs
        }
        stock = {name: id for name, id in VOICES.items() if elevenlabs and id not in named.values()}
        return {**configured, **stock, **named}

    @property
    def elevenlabs_models(self) -> list[dict[str, Any]]:
        """ElevenLabs' known models, the configured ones first."""
        configured = [each.model for each in self._providers if isinstance(each, ElevenLabs)]
        return models_body([get_model_info(name) for name in dict.fromkeys([*configured, *MODELS])])

    async def openai_voices(self) -> list[str]:
        """Return the voices for OpenAI's endpoint: the configured names, then those that a compatible server lists.

        OpenAI's own are added where OpenAI is configured, or where a configured server lists none.
        """
        named = [name for each in self._providers for name in getattr(each, "voices", {})]
        servers = [each for each in self._providers if isinstance(each, OpenAICompatible)]
        compatible = [each for each in self._healthy if isinstance(each, OpenAICompatible) and not each.is_openai]
        found = await self._query(compatible, "/audio/voices")
        server_voices = openai_speech.parse_audio_voices(found and found.value)
        stock = (
            openai_speech.VOICES if servers and (not server_voices or any(each.is_openai for each in servers)) else ()
        )
        return list(dict.fromkeys([*named, *server_voices, *stock])) or [DEFAULT_VOICE]

    @property
    def openai_models(self) -> list[str]:
        """Models for OpenAI's endpoint. Any other name is taken for the provider's own model."""
        configured = [each.model for each in self._providers if isinstance(each, OpenAICompatible)]
        return list(dict.fromkeys([*configured, *openai_speech.MODELS]))

    @property
    def _healthy(self) -> list[Provider]:
        """Providers whose circuit is closed: in an outage, queries would only add load and waiting."""
        circuits = self._context.service.circuits
        healthy = (CircuitState.CLOSED, CircuitState.MONITORING)
        return [each for each in self._providers if circuits[each.name].state in healthy]

    @property
    def _providers(self) -> list[Provider]:
        return self._context.service.providers

    def _store(self, target: str, document: FetchedDocument) -> None:
        self._cache[target] = _CachedDocument(self._context.clock(), document)
        self._cache.move_to_end(target)
        size = sum(len(each.document.body) for each in self._cache.values())
        while len(self._cache) > _MAX_CACHED or size > _MAX_CACHED_BYTES:
            size -= len(self._cache.popitem(last=False)[1].document.body)


CatalogHandler = Callable[[Catalog, Scope], Awaitable[Response]]


def catalog_routes(catalog: Catalog) -> dict[str, Endpoints]:
    """Return the catalog endpoints of both vendors, by path and method."""
    handlers: dict[str, CatalogHandler] = {
        elevenlabs_speech.VOICES_PATH: _voices,
        f"{elevenlabs_speech.VOICES_PATH}/{{voice_id}}": _voice,
        elevenlabs_speech.VOICES_V2_PATH: _voice_search,
        elevenlabs_speech.MODELS_PATH: _models,
        f"{openai_speech.MODELS_PATH}/{{model}}": _model,
        elevenlabs_speech.USER_PATH: _user,
        elevenlabs_speech.SUBSCRIPTION_PATH: _subscription,
        elevenlabs_speech.HISTORY_PATH: _history,
        elevenlabs_speech.DEFAULT_SETTINGS_PATH: _default_settings,
        f"{elevenlabs_speech.VOICES_PATH}/{{voice_id}}/settings": _voice_settings,
        openai_speech.AUDIO_VOICES_PATH: _audio_voices,
        openai_speech.AUDIO_MODELS_PATH: _audio_models,
    }
    return {path: {"GET": _CatalogEndpoint(catalog, handler)} for path, handler in handlers.items()}


class _CatalogEndpoint:
    """ASGI application around a handler below; adds the request id that ElevenLabs' clients read."""

    def __init__(self, catalog: Catalog, handler: CatalogHandler) -> None:
        self._catalog, self._handler = catalog, handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._handler(self._catalog, scope)
        except RequestValidationError as error:
            response = json_response(validation_body(error.issues), status=422)
        request = request_context(scope)
        headers = {"request-id": own_request_id(request.request_id), **response.headers}
        await replace(response, headers=headers)(scope, receive, send)


def _response(found: FetchedDocument | None, default: Callable[[], Any]) -> Response:
    """Return the vendor's document, as it is if it is too large to be parsed, or else the default one."""
    if found and len(found.body) > MAX_PARSED:
        return Response(body=found.body)
    return json_response((found and found.value) or default())


async def _voices(catalog: Catalog, scope: Scope) -> Response:
    found = await catalog.query_elevenlabs(elevenlabs_speech.VOICES_PATH, query_parameters(scope["query_string"]))
    return _response(found, lambda: voices_body(catalog.voices))


async def _voice(catalog: Catalog, scope: Scope) -> Response:
    requested: str = scope["path_params"]["voice_id"]
    for name, id in catalog.voices.items():
        if requested in (id, name):
            return json_response(voice_body(name, id))
    found = await _query_voice(catalog, requested)
    return _response(found, dict) if found else _voice_not_found(scope, requested)


async def _voice_settings(catalog: Catalog, scope: Scope) -> Response:
    """Return the vendor's settings for a voice of the account; stock voices have the default settings."""
    requested: str = scope["path_params"]["voice_id"]
    found = await _query_voice(catalog, requested, "/settings")
    known = any(requested in pair for pair in catalog.voices.items())
    return _response(found, voice_settings_body) if found or known else _voice_not_found(scope, requested)


async def _default_settings(catalog: Catalog, scope: Scope) -> Response:
    found = await catalog.query_elevenlabs(elevenlabs_speech.DEFAULT_SETTINGS_PATH)
    return _response(found, voice_settings_body)


async def _query_voice(catalog: Catalog, voice: str, suffix: str = "") -> FetchedDocument | None:
    """Query the vendor about a voice of the account; None for a name that cannot be an id."""
    if not elevenlabs_speech.is_voice_id(voice):
        return None
    return await catalog.query_elevenlabs(f"{elevenlabs_speech.VOICES_PATH}/{quote(voice, safe='')}{suffix}")


def _voice_not_found(scope: Scope, requested: str) -> Response:
    message = f"A voice with voice_id {requested[:100]} was not found."
    id = own_request_id(request_context(scope).request_id)
    return json_response(error_body("voice_not_found", message, request_id=id, param="voice_id"), status=404)


async def _voice_search(catalog: Catalog, scope: Scope) -> Response:
    query = query_parameters(scope["query_string"])
    search = parse_voice_search(query)
    found = await catalog.query_elevenlabs(elevenlabs_speech.VOICES_V2_PATH, query)
    return _response(found, lambda: found_voices_body(search, catalog.voices))


async def _models(catalog: Catalog, scope: Scope) -> Response:
    """Return the models; both vendors have this path, and a Bearer token marks OpenAI's clients."""
    if request_context(scope).has_bearer_token:
        return json_response(openai_speech.models_body(catalog.openai_models))
    found = await catalog.query_elevenlabs(elevenlabs_speech.MODELS_PATH)
    return _response(found, lambda: catalog.elevenlabs_models)


async def _model(catalog: Catalog, scope: Scope) -> Response:
    model = scope["path_params"]["model"]
    request = request_context(scope)
    if not request.has_bearer_token:
        return ElevenLabsDialect().error_response(HTTPError(404, "not_found", "Not Found"), request.request_id)
    if model in catalog.openai_models:
        return json_response(openai_speech.model_body(model))
    message = f"The model `{model}` does not exist or you do not have access to it."
    body = openai_error(message, type="invalid_request_error", code="model_not_found", param="model")
    return json_response(body, status=404)


async def _user(catalog: Catalog, scope: Scope) -> Response:
    """Return the subscription, and nothing else about the owner of the vendor's account."""
    return json_response(user_body("steadyvoice", await catalog.subscription()))


async def _history(catalog: Catalog, scope: Scope) -> Response:
    """Return an empty history: it would show callers each other's texts."""
    return json_response(history_body())


async def _audio_voices(catalog: Catalog, scope: Scope) -> Response:
    return json_response(openai_speech.audio_voices_body(await catalog.openai_voices()))


async def _audio_models(catalog: Catalog, scope: Scope) -> Response:
    return json_response(openai_speech.audio_models_body(catalog.openai_models))


async def _subscription(catalog: Catalog, scope: Scope) -> Response:
    return json_response(subscription_body(await catalog.subscription()))
