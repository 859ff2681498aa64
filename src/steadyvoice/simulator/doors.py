"""The vendors' doors: which path leads where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from steadyvoice.simulator import elevenlabs, openai
from steadyvoice.simulator.answer import Answer, json_answer
from steadyvoice.simulator.elevenlabs import unknown_voice
from steadyvoice.simulator.faults import Call
from steadyvoice.simulator.order import Order
from steadyvoice.simulator.refusal import Refusal, RefusedError
from steadyvoice.simulator.vendor import Vendor
from steadyvoice.simulator.visit import Visit
from steadyvoice.wire.elevenlabs import account as elevenlabs_account
from steadyvoice.wire.elevenlabs import catalog as elevenlabs_catalog
from steadyvoice.wire.elevenlabs import speech as elevenlabs_wire
from steadyvoice.wire.elevenlabs.dialogue import DIALOGUE_PATH
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint
from steadyvoice.wire.elevenlabs.websocket import SocketEndpoint
from steadyvoice.wire.openai import speech as openai_wire
from steadyvoice.wire.request_validation import RequestValidationError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Document = Callable[[web.Request], Any]

_SOCKETS = tuple(form.value for form in SocketEndpoint)
_LONGEST_ENDPOINT = 100  # characters of a path that is not ours, in the ledger


class Doors:
    """Answers for both vendors over HTTP."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor

    def routes(self) -> list[web.RouteDef]:
        """All there are."""
        speech = [
            web.post(f"{elevenlabs_wire.SPEECH_PATH}/{{voice}}{form.value}", partial(self._speak, form))
            for form in SpeechEndpoint
        ]
        dialogues = [
            web.post(f"{DIALOGUE_PATH}{form.value}", partial(self._speak_dialogue, form)) for form in SpeechEndpoint
        ]
        documents: dict[str, Document] = {
            elevenlabs_wire.VOICES_PATH: lambda _: elevenlabs_catalog.voices_body(self._voices),
            elevenlabs_wire.VOICES_V2_PATH: self._voices_found,
            f"{elevenlabs_wire.VOICES_PATH}/{{voice}}": self._voice,
            f"{elevenlabs_wire.VOICES_PATH}/{{voice}}/settings": self._voice_settings,
            elevenlabs_wire.DEFAULT_SETTINGS_PATH: lambda _: elevenlabs_catalog.voice_settings_body(),
            elevenlabs_wire.HISTORY_PATH: lambda _: elevenlabs_account.history_body(),
            elevenlabs_wire.USER_PATH: lambda _: elevenlabs_account.user_body("simulator", self._subscription),
            elevenlabs_wire.SUBSCRIPTION_PATH: lambda _: elevenlabs_account.subscription_body(self._subscription),
        }
        lists = [_get(path, partial(self._list, _endpoint(path), document)) for path, document in documents.items()]
        return [
            *speech,
            *dialogues,
            *lists,
            web.post(openai_wire.SPEECH_PATH, self._speak_openai),
            _get(elevenlabs_wire.MODELS_PATH, self._models),
            _get(f"{elevenlabs_wire.MODELS_PATH}/{{model}}", self._model),
            web.route("*", "/{path:.*}", self._nobody),
        ]

    async def _speak(self, form: SpeechEndpoint, request: web.Request) -> web.StreamResponse:
        voice, dialect = request.match_info["voice"], self._vendor.elevenlabs
        visit = Visit(self._vendor, request, dialect, elevenlabs.endpoint(form))
        return await visit.serve(self._spoken(lambda body: dialect.order(form, voice, request.query, body)))

    async def _speak_dialogue(self, form: SpeechEndpoint, request: web.Request) -> web.StreamResponse:
        dialect = self._vendor.elevenlabs
        visit = Visit(self._vendor, request, dialect, elevenlabs.dialogue_endpoint(form))
        return await visit.serve(self._spoken(lambda body: dialect.dialogue(form, request.query, body)))

    def _spoken(self, read: Callable[[bytes], Order]) -> Callable[[Visit], Awaitable[Answer]]:
        """Make the answer to an order of ElevenLabs', which `read` reads from the body."""

        async def answer(visit: Visit) -> Answer:
            dialect, credit, gate = self._vendor.elevenlabs, self._vendor.credit, self._vendor.gate
            order = read(visit.body)
            visit.note(order)
            visit.befall(_call(order))
            current = await visit.take_place()
            credit.charge(len(order.text))
            visit.accept(len(order.text))
            return await visit.spoken(order, dialect.headers(visit.request_id, len(order.text), current, gate.limit))

        return answer

    async def _speak_openai(self, request: web.Request) -> web.StreamResponse:
        async def answer(visit: Visit) -> Answer:
            order = self._vendor.openai.order(visit.body)
            visit.note(order)
            visit.befall(_call(order))
            visit.accept(len(order.text))
            return await visit.spoken(order, self._vendor.openai.headers(visit.request_id))

        return await Visit(self._vendor, request, self._vendor.openai, openai.ENDPOINT).serve(answer)

    async def _list(self, endpoint: str, document: Document, request: web.Request) -> web.StreamResponse:
        async def answer(visit: Visit) -> Answer:
            visit.befall(Call(endpoint, speech=False))
            return json_answer(document(request), headers=elevenlabs.every_answer(visit.request_id))

        return await Visit(self._vendor, request, self._vendor.elevenlabs, endpoint).serve(answer)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        """One path, two vendors: who comes with a Bearer token means OpenAI's."""
        if not _brings_bearer(request):
            return await self._list("models", self._elevenlabs_models, request)

        names = (*openai_wire.MODELS, *self._vendor.settings.models)
        return await self._told_by_openai(request, lambda: openai_wire.models_body(names))

    async def _model(self, request: web.Request) -> web.StreamResponse:
        """One model: OpenAI's only."""
        if not _brings_bearer(request):
            return await self._nobody(request)
        model = request.match_info["model"]

        def document() -> dict[str, Any]:
            self._vendor.openai.check_model(model)
            return openai_wire.model_body(model)

        return await self._told_by_openai(request, document)

    async def _told_by_openai(self, request: web.Request, document: Callable[[], Any]) -> web.StreamResponse:
        async def answer(visit: Visit) -> Answer:
            visit.befall(Call("models", speech=False))
            return json_answer(document(), headers=self._vendor.openai.headers(visit.request_id))

        return await Visit(self._vendor, request, self._vendor.openai, "models").serve(answer)

    async def _nobody(self, request: web.Request) -> web.StreamResponse:
        """Whose path it would be is told by what the client brings."""
        openais = _brings_bearer(request) or request.path.startswith("/v1/audio/")
        dialect = self._vendor.openai if openais else self._vendor.elevenlabs
        visit = Visit(self._vendor, request, dialect, request.path.removeprefix("/v1/")[:_LONGEST_ENDPOINT])
        return await visit.serve_nobody(await _methods_of(request) - {request.method})

    @property
    def _subscription(self) -> elevenlabs_account.Subscription:
        return self._vendor.credit.subscription

    @property
    def _voices(self) -> dict[str, str]:
        own = {f"Voice {number}": voice for number, voice in enumerate(self._vendor.settings.voices, start=1)}
        return {**elevenlabs_catalog.VOICES, **own}

    def _voices_found(self, request: web.Request) -> dict[str, Any]:
        try:
            wanted = elevenlabs_catalog.parse_voice_search(list(request.query.items()))
        except RequestValidationError as error:
            raise RefusedError(Refusal(status=422, issues=error.issues)) from error
        return elevenlabs_catalog.found_voices_body(wanted, self._voices)

    def _voice(self, request: web.Request) -> dict[str, Any]:
        wanted = request.match_info["voice"]
        for name, voice_id in (*self._voices.items(), *elevenlabs_catalog.FURTHER_VOICES.items()):
            if voice_id == wanted:
                return elevenlabs_catalog.voice_body(name, voice_id)
        raise RefusedError(unknown_voice(wanted))

    def _voice_settings(self, request: web.Request) -> dict[str, Any]:
        self._voice(request)
        return elevenlabs_catalog.voice_settings_body()

    def _elevenlabs_models(self, request: web.Request) -> list[dict[str, Any]]:
        own = [elevenlabs_catalog.get_model_info(model) for model in self._vendor.settings.models]
        return elevenlabs_catalog.models_body([*elevenlabs_catalog.MODELS.values(), *own])


def _endpoint(path: str) -> str:
    """The path without its version, and without a voice."""
    return path.split("/", 2)[2].replace("/{voice}", "")


def _get(path: str, handler: Handler) -> web.RouteDef:
    return web.get(path, handler, allow_head=False)


def _call(order: Order) -> Call:
    return Call(order.endpoint, order.voice, len(order.text))


def _brings_bearer(request: web.Request) -> bool:
    return request.headers.get("authorization", "").lower().startswith("bearer ")


async def _methods_of(request: web.Request) -> set[str]:
    """The methods with which the request's path would lead somewhere."""
    http = [each for each in request.app.router.resources() if not each.canonical.endswith(_SOCKETS)]
    found = [await resource.resolve(request) for resource in http]
    return {method for _, methods in found for method in methods} - {"*"}  # which is our own door for what is left
