"""The vendors' doors at which nothing is spoken: voices, models, user, subscription, history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from steadyvoice.gateway.catalogue import Catalogue
from steadyvoice.gateway.error_dialect import refuse
from steadyvoice.gateway.exchange import exchange_of
from steadyvoice.gateway.guard import Denial
from steadyvoice.gateway.paths import Doors
from steadyvoice.gateway.reply import Receive, Reply, Scope, Send, json_reply, parameters_of
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.account import history_body, subscription_body, user_body
from steadyvoice.wire.elevenlabs.catalog import (
    found_voices_body,
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

Answer = Callable[[Catalogue, Scope], Awaitable[Reply]]


def list_doors(catalogue: Catalogue) -> dict[str, Doors]:
    """All of them."""
    answers: dict[str, Answer] = {
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
    return {path: {"GET": _Door(catalogue, answer)} for path, answer in answers.items()}


class _Door:
    """An ASGI application around one of the answers below."""

    def __init__(self, catalogue: Catalogue, answer: Answer) -> None:
        self._catalogue, self._answer = catalogue, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._answer(self._catalogue, scope)
        except RequestValidationError as error:
            reply = json_reply(validation_body(error.issues), status=422)
        exchange = exchange_of(scope)
        headers = {"request-id": own_request_id(exchange.request_id), **reply.headers}
        await replace(reply, headers=headers)(scope, receive, send)


async def _voices(catalogue: Catalogue, scope: Scope) -> Reply:
    told = await catalogue.asked(elevenlabs_speech.VOICES_PATH, parameters_of(scope["query_string"]))
    return json_reply(told or voices_body(catalogue.voices))


async def _voice(catalogue: Catalogue, scope: Scope) -> Reply:
    wanted: str = scope["path_params"]["voice_id"]
    for name, id in catalogue.voices.items():
        if wanted in (id, name):
            return json_reply(voice_body(name, id))
    told = await _asked_of_voice(catalogue, wanted)
    return json_reply(told) if told else _no_voice(scope, wanted)


async def _voice_settings(catalogue: Catalogue, scope: Scope) -> Reply:
    """Answer with what the vendor has set for a voice of the account; a stock voice has the usual settings."""
    wanted: str = scope["path_params"]["voice_id"]
    told = await _asked_of_voice(catalogue, wanted, "/settings")
    known = any(wanted in pair for pair in catalogue.voices.items())
    return json_reply(told or voice_settings_body()) if told or known else _no_voice(scope, wanted)


async def _default_settings(catalogue: Catalogue, scope: Scope) -> Reply:
    return json_reply(await catalogue.asked(elevenlabs_speech.DEFAULT_SETTINGS_PATH) or voice_settings_body())


async def _asked_of_voice(catalogue: Catalogue, voice: str, what: str = "") -> Any | None:
    """Ask the vendor about a voice of the account's own. A name that can be no id is not asked about."""
    if not elevenlabs_speech.is_voice_id(voice):
        return None
    return await catalogue.asked(f"{elevenlabs_speech.VOICES_PATH}/{quote(voice, safe='')}{what}")


def _no_voice(scope: Scope, wanted: str) -> Reply:
    told = f"A voice with voice_id {wanted[:100]} was not found."
    id = own_request_id(exchange_of(scope).request_id)
    return json_reply(error_body("voice_not_found", told, request_id=id, param="voice_id"), status=404)


async def _voices_found(catalogue: Catalogue, scope: Scope) -> Reply:
    query = parameters_of(scope["query_string"])
    wanted = parse_voice_search(query)
    told = await catalogue.asked(elevenlabs_speech.VOICES_V2_PATH, query)
    return json_reply(told or found_voices_body(wanted, catalogue.voices))


async def _models(catalogue: Catalogue, scope: Scope) -> Reply:
    """One path, two vendors: who comes with a Bearer token means OpenAI's."""
    if exchange_of(scope).brings_bearer:
        return json_reply(openai_speech.models_body(catalogue.openai_models))
    told = await catalogue.asked(elevenlabs_speech.MODELS_PATH)
    return json_reply(told or catalogue.elevenlabs_models)


async def _model(catalogue: Catalogue, scope: Scope) -> Reply:
    wanted = scope["path_params"]["model"]
    exchange = exchange_of(scope)
    if not exchange.brings_bearer:
        return refuse(Denial(404, "not_found", "Not Found"), exchange)
    if wanted in catalogue.openai_models:
        return json_reply(openai_speech.model_body(wanted))
    told = f"The model `{wanted}` does not exist or you do not have access to it."
    body = openai_error(told, type="invalid_request_error", code="model_not_found", param="model")
    return json_reply(body, status=404)


async def _user(catalogue: Catalogue, scope: Scope) -> Reply:
    """Nothing of whoever owns the account at the vendor: only what it may spend."""
    return json_reply(user_body("steadyvoice", await catalogue.subscription()))


async def _history(catalogue: Catalogue, scope: Scope) -> Reply:
    """Show no history: what callers have had spoken is nobody else's to read."""
    return json_reply(history_body())


async def _audio_voices(catalogue: Catalogue, scope: Scope) -> Reply:
    return json_reply(openai_speech.audio_voices_body(await catalogue.openai_voices()))


async def _audio_models(catalogue: Catalogue, scope: Scope) -> Reply:
    return json_reply(openai_speech.audio_models_body(catalogue.openai_models))


async def _subscription(catalogue: Catalogue, scope: Scope) -> Reply:
    return json_reply(subscription_body(await catalogue.subscription()))
