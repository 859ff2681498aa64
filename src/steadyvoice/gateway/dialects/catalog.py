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
from steadyvoice.gateway.access_control import Denial
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.dialects.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.http import Receive, Response, Scope, Send, json_response, query_parameters
from steadyvoice.gateway.request_context import request_context
from steadyvoice.gateway.router import Endpoints
from steadyvoice.providers.base import Provider
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.providers.openai import OpenAICompatible
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.request import DEFAULT_VOICE
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.account import (
    Subscription,
    history_body,
    parse_subscription,
    subscription_body,
    user_body,
)
from steadyvoice.wire.elevenlabs.catalog import (
    MODELS,
    VOICES,
    found_voices_body,
    get_model_info,
    models_body,
    parse_voice_search,
    voice_body,
    voice_settings_body,
    voices_body,
)
from steadyvoice.wire.elevenlabs.errors import error_body, validation_body
from steadyvoice.wire.elevenlabs.request_stitching import own_request_id
from steadyvoice.wire.openai import speech as openai_speech
from steadyvoice.wire.openai.errors import error_body as openai_error
from steadyvoice.wire.request_validation import RequestValidationError

_CACHE_SECONDS = 60.0  # seconds for which an answer of the vendor's is as good as a new one
_QUERY_TIMEOUT = 3.0  # seconds that a vendor is waited for, when there is an answer of our own
_MAX_CACHED = 64


@dataclass(frozen=True, slots=True)
class _CachedDocument:
    at: float
    document: Any


class Queryable(Protocol):
    """A provider that answers questions that are free."""

    async def fetch_json(self, target: str) -> Any:
        """Ask. Raises TTSError."""
        ...


class Catalog:
    """Answers of the vendor's, kept; and our own in its stead."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._told: OrderedDict[str, _CachedDocument] = OrderedDict()
        context.on_settings.append(lambda _: self._told.clear())  # others may be asked from now on

    async def asked(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any | None:
        """What ElevenLabs says to this, now or lately; None when it does not."""
        target = f"{path}?{urlencode(query)}" if query else path
        return await self._told_by([each for each in self._healthy if isinstance(each, ElevenLabs)], target)

    async def _told_by(self, providers: Sequence[Queryable], target: str) -> Any | None:
        """Ask them one after the other, unless what one of them has said is fresh."""
        kept = self._told.get(target)
        if kept and self._context.clock() - kept.at < _CACHE_SECONDS:
            return kept.document
        for provider in providers:
            with contextlib.suppress(TTSError, TimeoutError):
                async with asyncio.timeout(_QUERY_TIMEOUT):
                    document = await provider.fetch_json(target)
                self._keep(target, document)
                return document
        return kept.document if kept else None

    async def subscription(self) -> Subscription:
        """The account's. Who has none with a vendor that meters is not limited."""
        document = await self.asked(elevenlabs_speech.SUBSCRIPTION_PATH)
        try:
            return parse_subscription(document or {})
        except ValueError:
            return Subscription(0, 0, unlimited=True)

    @property
    def voices(self) -> dict[str, str]:
        """Names and ids that are known here: the configured ones, and the vendor's stock if it is configured."""
        eleven = [each for each in self._providers if isinstance(each, ElevenLabs)]
        named = {name: voice.id for each in eleven for name, voice in each.voices.items() if name != DEFAULT_VOICE}
        own = {name: name for each in self._providers for name in getattr(each, "voices", {}) if each not in eleven}
        stock = {name: id for name, id in VOICES.items() if eleven and id not in named.values()}
        return {**own, **stock, **named}

    @property
    def elevenlabs_models(self) -> list[dict[str, Any]]:
        """The models that are known here, the configured ones first."""
        ours = [each.model for each in self._providers if isinstance(each, ElevenLabs)]
        return models_body([get_model_info(name) for name in dict.fromkeys([*ours, *MODELS])])

    async def openai_voices(self) -> list[str]:
        """Return the voices that can be asked for at OpenAI's door.

        They are the configured names and, where such a server is configured, its own; OpenAI's if it does not tell.
        """
        named = [name for each in self._providers for name in getattr(each, "voices", {})]
        servers = [each for each in self._providers if isinstance(each, OpenAICompatible)]
        asked = [each for each in self._healthy if isinstance(each, OpenAICompatible) and not each.is_openai]
        told = openai_speech.parse_audio_voices(await self._told_by(asked, "/audio/voices"))
        stock = openai_speech.VOICES if servers and (not told or any(each.is_openai for each in servers)) else ()
        return list(dict.fromkeys([*named, *told, *stock])) or [DEFAULT_VOICE]  # which every provider has

    @property
    def openai_models(self) -> list[str]:
        """The models that can be asked for at OpenAI's door. Any other name is taken for the provider's own."""
        ours = [each.model for each in self._providers if isinstance(each, OpenAICompatible)]
        return list(dict.fromkeys([*ours, *openai_speech.MODELS]))

    @property
    def _healthy(self) -> list[Provider]:
        """Those whose circuit is closed: nobody is asked out of curiosity while it is in trouble."""
        circuits = self._context.service.circuits
        calm = (CircuitState.CLOSED, CircuitState.MONITORING)
        return [each for each in self._providers if circuits[each.name].state in calm]

    @property
    def _providers(self) -> list[Provider]:
        return self._context.service.providers

    def _keep(self, target: str, document: Any) -> None:
        self._told[target] = _CachedDocument(self._context.clock(), document)
        self._told.move_to_end(target)
        while len(self._told) > _MAX_CACHED:
            self._told.popitem(last=False)


CatalogHandler = Callable[[Catalog, Scope], Awaitable[Response]]


def catalog_routes(catalogue: Catalog) -> dict[str, Endpoints]:
    """All of them."""
    answers: dict[str, CatalogHandler] = {
        elevenlabs_speech.VOICES_PATH: _voices,
        f"{elevenlabs_speech.VOICES_PATH}/{{voice_id}}": _voice,
        elevenlabs_speech.VOICES_V2_PATH: _voices_found,
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
    return {path: {"GET": _CatalogEndpoint(catalogue, answer)} for path, answer in answers.items()}


class _CatalogEndpoint:
    """An ASGI application around one of the answers below."""

    def __init__(self, catalogue: Catalog, answer: CatalogHandler) -> None:
        self._catalogue, self._answer = catalogue, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._answer(self._catalogue, scope)
        except RequestValidationError as error:
            reply = json_response(validation_body(error.issues), status=422)
        request = request_context(scope)
        headers = {"request-id": own_request_id(request.request_id), **reply.headers}
        await replace(reply, headers=headers)(scope, receive, send)


async def _voices(catalogue: Catalog, scope: Scope) -> Response:
    told = await catalogue.asked(elevenlabs_speech.VOICES_PATH, query_parameters(scope["query_string"]))
    return json_response(told or voices_body(catalogue.voices))


async def _voice(catalogue: Catalog, scope: Scope) -> Response:
    wanted: str = scope["path_params"]["voice_id"]
    for name, id in catalogue.voices.items():
        if wanted in (id, name):
            return json_response(voice_body(name, id))
    told = await _asked_of_voice(catalogue, wanted)
    return json_response(told) if told else _no_voice(scope, wanted)


async def _voice_settings(catalogue: Catalog, scope: Scope) -> Response:
    """Answer with what the vendor has set for a voice of the account; a stock voice has the usual settings."""
    wanted: str = scope["path_params"]["voice_id"]
    told = await _asked_of_voice(catalogue, wanted, "/settings")
    known = any(wanted in pair for pair in catalogue.voices.items())
    return json_response(told or voice_settings_body()) if told or known else _no_voice(scope, wanted)


async def _default_settings(catalogue: Catalog, scope: Scope) -> Response:
    return json_response(await catalogue.asked(elevenlabs_speech.DEFAULT_SETTINGS_PATH) or voice_settings_body())


async def _asked_of_voice(catalogue: Catalog, voice: str, what: str = "") -> Any | None:
    """Ask the vendor about a voice of the account's own. A name that can be no id is not asked about."""
    if not elevenlabs_speech.is_voice_id(voice):
        return None
    return await catalogue.asked(f"{elevenlabs_speech.VOICES_PATH}/{quote(voice, safe='')}{what}")


def _no_voice(scope: Scope, wanted: str) -> Response:
    told = f"A voice with voice_id {wanted[:100]} was not found."
    id = own_request_id(request_context(scope).request_id)
    return json_response(error_body("voice_not_found", told, request_id=id, param="voice_id"), status=404)


async def _voices_found(catalogue: Catalog, scope: Scope) -> Response:
    query = query_parameters(scope["query_string"])
    wanted = parse_voice_search(query)
    told = await catalogue.asked(elevenlabs_speech.VOICES_V2_PATH, query)
    return json_response(told or found_voices_body(wanted, catalogue.voices))


async def _models(catalogue: Catalog, scope: Scope) -> Response:
    """One path, two vendors: who comes with a Bearer token means OpenAI's."""
    if request_context(scope).has_bearer_token:
        return json_response(openai_speech.models_body(catalogue.openai_models))
    told = await catalogue.asked(elevenlabs_speech.MODELS_PATH)
    return json_response(told or catalogue.elevenlabs_models)


async def _model(catalogue: Catalog, scope: Scope) -> Response:
    wanted = scope["path_params"]["model"]
    request = request_context(scope)
    if not request.has_bearer_token:
        return ElevenLabsDialect().denied(Denial(404, "not_found", "Not Found"), request.request_id)
    if wanted in catalogue.openai_models:
        return json_response(openai_speech.model_body(wanted))
    told = f"The model `{wanted}` does not exist or you do not have access to it."
    body = openai_error(told, type="invalid_request_error", code="model_not_found", param="model")
    return json_response(body, status=404)


async def _user(catalogue: Catalog, scope: Scope) -> Response:
    """Nothing of whoever owns the account at the vendor: only what it may spend."""
    return json_response(user_body("steadyvoice", await catalogue.subscription()))


async def _history(catalogue: Catalog, scope: Scope) -> Response:
    """Show no history: what callers have had spoken is nobody else's to read."""
    return json_response(history_body())


async def _audio_voices(catalogue: Catalog, scope: Scope) -> Response:
    return json_response(openai_speech.audio_voices_body(await catalogue.openai_voices()))


async def _audio_models(catalogue: Catalog, scope: Scope) -> Response:
    return json_response(openai_speech.audio_models_body(catalogue.openai_models))


async def _subscription(catalogue: Catalog, scope: Scope) -> Response:
    return json_response(subscription_body(await catalogue.subscription()))
