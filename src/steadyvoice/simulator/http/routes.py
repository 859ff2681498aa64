"""HTTP routes of both vendors, and the handling of one request from its arrival to its ledger entry's end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from aiohttp import web

from steadyvoice.simulator import elevenlabs, openai
from steadyvoice.simulator.elevenlabs import unknown_voice
from steadyvoice.simulator.fault_injection.actions import FaultAction, FaultError, Refuse
from steadyvoice.simulator.fault_injection.matching import FaultCall
from steadyvoice.simulator.fault_injection.responses import send_response
from steadyvoice.simulator.fault_injection.syntax import FAULT_HEADER, fault_from_header
from steadyvoice.simulator.http.response import (
    Rejection,
    RequestRejectedError,
    ResponseWriter,
    SimulatedResponse,
    json_response,
)
from steadyvoice.simulator.ledger import Ending, LedgerEntry
from steadyvoice.simulator.synthesis import SynthesisOrder, build_response
from steadyvoice.simulator.vendor import SimulatedVendor
from steadyvoice.wire.elevenlabs import account as elevenlabs_account
from steadyvoice.wire.elevenlabs import catalog as elevenlabs_catalog
from steadyvoice.wire.elevenlabs import speech as elevenlabs_wire
from steadyvoice.wire.elevenlabs.dialogue import DIALOGUE_PATH
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint
from steadyvoice.wire.elevenlabs.websocket import SocketEndpoint
from steadyvoice.wire.openai import speech as openai_wire
from steadyvoice.wire.request_validation import RequestValidationError


class SimulatorDialect(Protocol):
    """One vendor's manners."""

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Raise RefusedError for a key that is not good."""

    def refusal(self, refusal: Rejection, request_id: str) -> SimulatedResponse:
        """Put a refusal in the vendor's words."""
        ...

    def nobody(self, method: str, path: str, allowed: Collection[str], request_id: str) -> SimulatedResponse:
        """Say that nobody keeps this path; if some methods are `allowed` there, that this one is not."""
        ...

    def error_line(self, code: str) -> bytes:
        """Write an error that comes in the middle of a body."""
        ...


class RequestHandler:
    """Holds what belongs to one request; `body` is what the client sent."""

    def __init__(self, vendor: SimulatedVendor, request: web.Request, dialect: SimulatorDialect, endpoint: str) -> None:
        self.request = request
        self.body = b""
        self.request_id = vendor.new_request_id()
        self._vendor = vendor
        self._dialect = dialect
        self._entry: LedgerEntry = vendor.ledger.open(endpoint)
        self._entry.request_id = self.request_id
        self._line = ResponseWriter(request, self._entry, vendor.ledger, vendor.settings.real_time_factor)
        self._action: FaultAction | None = None
        self._stack = AsyncExitStack()

    async def serve(self, make: Callable[[RequestHandler], Awaitable[SimulatedResponse]]) -> web.StreamResponse:
        """Answer, or misbehave, and see to it that the ledger knows the end of it."""
        with self._vendor.ledger.witnessed(self._entry):
            async with self._stack:
                ending = await self._answered(make)
                self._vendor.ledger.end(self._entry, ending)
        return self._line.response

    async def serve_nobody(self, allowed: Collection[str]) -> web.StreamResponse:
        """Say that nobody is here. That takes no key, and no fault befalls it."""
        request = self.request
        answer = self._dialect.nobody(request.method, request.path, allowed, self.request_id)
        if request.headers.get("upgrade", "").lower() == "websocket":  # ElevenLabs lets nobody in with a 403
            answer = replace(answer, status=403)
        with self._vendor.ledger.witnessed(self._entry):
            self._vendor.ledger.end(self._entry, await self._refused(answer))
        return self._line.response

    def befall(self, call: FaultCall) -> None:
        """Let the fault happen that this call is due, if any. Raises RefusedError when it is a refusal."""
        fault = fault_from_header(self.request.headers, call) or self._vendor.faults.select(call)
        if fault is None:
            return
        self._entry.fault = fault.name
        if isinstance(fault.action, Refuse):
            raise RequestRejectedError(Rejection.ordered(fault.action))
        self._action = fault.action

    def note(self, order: SynthesisOrder) -> None:
        """Write in the ledger what is asked for."""
        entry = self._entry
        entry.voice, entry.model, entry.characters = order.voice, order.model, len(order.text)

    def accept(self, characters: int) -> None:
        """From here on it costs, whatever becomes of it."""
        self._vendor.ledger.charge(self._entry, characters)

    async def take_place(self) -> int:
        """Wait for a place at the gate, and hold it until the end. Raises RefusedError."""
        return await self._stack.enter_async_context(self._vendor.request_limit.place())

    async def spoken(self, order: SynthesisOrder, headers: Mapping[str, str]) -> SimulatedResponse:
        """Speak, with the fault in the sound if that is where it is."""
        pieces = self._vendor.voice.speak(order, self._action)
        self._stack.push_async_callback(pieces.aclose)
        answer = await build_response(pieces, order)
        return replace(answer, headers={**headers, **answer.headers})

    async def _answered(self, make: Callable[[RequestHandler], Awaitable[SimulatedResponse]]) -> Ending:
        try:
            self.body = await self._read()
            self._dialect.check_key(self.request.headers)
            answer = await make(self)
        except RequestRejectedError as error:
            return await self._refused(self._dialect.refusal(error.refusal, self.request_id))
        except FaultError as error:
            return await self._refused(json_response({"error": f"{FAULT_HEADER}: {error}"}, status=400))
        return await send_response(self._line, answer, self._action, self._dialect.error_line)

    async def _read(self) -> bytes:
        try:
            return await self.request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise RequestRejectedError(Rejection(status=413, message=error.text)) from error

    async def _refused(self, answer: SimulatedResponse) -> Ending:
        await send_response(self._line, answer, None, self._dialect.error_line)
        return Ending.REFUSED


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Document = Callable[[web.Request], Any]

_WEBSOCKET_SUFFIXES = tuple(form.value for form in SocketEndpoint)
_MAX_ENDPOINT = 100  # characters of a path that is not ours, in the ledger


class HTTPRoutes:
    """Answers for both vendors over HTTP."""

    def __init__(self, vendor: SimulatedVendor) -> None:
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
        visit = RequestHandler(self._vendor, request, dialect, elevenlabs.endpoint(form))
        return await visit.serve(self._spoken(lambda body: dialect.order(form, voice, request.query, body)))

    async def _speak_dialogue(self, form: SpeechEndpoint, request: web.Request) -> web.StreamResponse:
        dialect = self._vendor.elevenlabs
        visit = RequestHandler(self._vendor, request, dialect, elevenlabs.dialogue_endpoint(form))
        return await visit.serve(self._spoken(lambda body: dialect.dialogue(form, request.query, body)))

    def _spoken(
        self, read: Callable[[bytes], SynthesisOrder]
    ) -> Callable[[RequestHandler], Awaitable[SimulatedResponse]]:
        """Make the answer to an order of ElevenLabs', which `read` reads from the body."""

        async def answer(visit: RequestHandler) -> SimulatedResponse:
            dialect, credit, gate = self._vendor.elevenlabs, self._vendor.credit, self._vendor.request_limit
            order = read(visit.body)
            visit.note(order)
            visit.befall(_fault_call(order))
            current = await visit.take_place()
            credit.charge(len(order.text))
            visit.accept(len(order.text))
            return await visit.spoken(order, dialect.headers(visit.request_id, len(order.text), current, gate.limit))

        return answer

    async def _speak_openai(self, request: web.Request) -> web.StreamResponse:
        async def answer(visit: RequestHandler) -> SimulatedResponse:
            order = self._vendor.openai.order(visit.body)
            visit.note(order)
            visit.befall(_fault_call(order))
            visit.accept(len(order.text))
            return await visit.spoken(order, self._vendor.openai.headers(visit.request_id))

        return await RequestHandler(self._vendor, request, self._vendor.openai, openai.ENDPOINT).serve(answer)

    async def _list(self, endpoint: str, document: Document, request: web.Request) -> web.StreamResponse:
        async def answer(visit: RequestHandler) -> SimulatedResponse:
            visit.befall(FaultCall(endpoint, speech=False))
            return json_response(document(request), headers=elevenlabs.common_headers(visit.request_id))

        return await RequestHandler(self._vendor, request, self._vendor.elevenlabs, endpoint).serve(answer)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        """One path, two vendors: who comes with a Bearer token means OpenAI's."""
        if not _has_bearer_token(request):
            return await self._list("models", self._elevenlabs_models, request)

        names = (*openai_wire.MODELS, *self._vendor.settings.models)
        return await self._told_by_openai(request, lambda: openai_wire.models_body(names))

    async def _model(self, request: web.Request) -> web.StreamResponse:
        """One model: OpenAI's only."""
        if not _has_bearer_token(request):
            return await self._nobody(request)
        model = request.match_info["model"]

        def document() -> dict[str, Any]:
            self._vendor.openai.check_model(model)
            return openai_wire.model_body(model)

        return await self._told_by_openai(request, document)

    async def _told_by_openai(self, request: web.Request, document: Callable[[], Any]) -> web.StreamResponse:
        async def answer(visit: RequestHandler) -> SimulatedResponse:
            visit.befall(FaultCall("models", speech=False))
            return json_response(document(), headers=self._vendor.openai.headers(visit.request_id))

        return await RequestHandler(self._vendor, request, self._vendor.openai, "models").serve(answer)

    async def _nobody(self, request: web.Request) -> web.StreamResponse:
        """Whose path it would be is told by what the client brings."""
        openais = _has_bearer_token(request) or request.path.startswith("/v1/audio/")
        dialect = self._vendor.openai if openais else self._vendor.elevenlabs
        visit = RequestHandler(self._vendor, request, dialect, request.path.removeprefix("/v1/")[:_MAX_ENDPOINT])
        return await visit.serve_nobody(await _allowed_methods(request) - {request.method})

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
            raise RequestRejectedError(Rejection(status=422, issues=error.issues)) from error
        return elevenlabs_catalog.found_voices_body(wanted, self._voices)

    def _voice(self, request: web.Request) -> dict[str, Any]:
        wanted = request.match_info["voice"]
        for name, voice_id in (*self._voices.items(), *elevenlabs_catalog.FURTHER_VOICES.items()):
            if voice_id == wanted:
                return elevenlabs_catalog.voice_body(name, voice_id)
        raise RequestRejectedError(unknown_voice(wanted))

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


def _fault_call(order: SynthesisOrder) -> FaultCall:
    return FaultCall(order.endpoint, order.voice, len(order.text))


def _has_bearer_token(request: web.Request) -> bool:
    return request.headers.get("authorization", "").lower().startswith("bearer ")


async def _allowed_methods(request: web.Request) -> set[str]:
    """The methods with which the request's path would lead somewhere."""
    http = [each for each in request.app.router.resources() if not each.canonical.endswith(_WEBSOCKET_SUFFIXES)]
    found = [await resource.resolve(request) for resource in http]
    return {method for _, methods in found for method in methods} - {"*"}  # which is our own door for what is left
