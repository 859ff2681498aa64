"""HTTP routes of all vendors, and of the simulator's own control endpoints, under `/sim`."""

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
from steadyvoice.simulator.fault_injection.syntax import FAULT_HEADER, fault_from_header, fault_to_table, parse_faults
from steadyvoice.simulator.http.fault_responses import send_response
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
from steadyvoice.simulator.vendor_dialect import DocumentRoute, SpeechRoute, VendorDialect
from steadyvoice.wire.elevenlabs import catalog as elevenlabs_catalog
from steadyvoice.wire.elevenlabs import speech as elevenlabs_wire
from steadyvoice.wire.elevenlabs.dialogue import DIALOGUE_PATH
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint
from steadyvoice.wire.elevenlabs.websocket import SocketEndpoint
from steadyvoice.wire.openai import speech as openai_wire
from steadyvoice.wire.request_validation import RequestValidationError


class SimulatorDialect(Protocol):
    """Rules of one vendor: its authentication, and the form of its errors."""

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Check the API key. Raises RequestRejectedError."""

    def error_response(self, rejection: Rejection, request_id: str) -> SimulatedResponse:
        """Return a rejection in the vendor's form."""
        ...

    def not_found(self, method: str, path: str, allowed: Collection[str], request_id: str) -> SimulatedResponse:
        """Return the error for an unknown path or, if some methods are `allowed` there, for the wrong method."""
        ...

    def error_line(self, code: str) -> bytes:
        """Return an error as it appears in the middle of a body."""
        ...


class RequestHandler:
    """Handler of one request, from its ledger entry to its end. `body` holds the bytes that the client sent."""

    def __init__(self, vendor: SimulatedVendor, request: web.Request, dialect: SimulatorDialect, endpoint: str) -> None:
        self.request = request
        self.body = b""
        self.request_id = vendor.new_request_id()
        self._vendor = vendor
        self._dialect = dialect
        self._entry: LedgerEntry = vendor.ledger.open(endpoint)
        self._entry.request_id = self.request_id
        self._writer = ResponseWriter(request, self._entry, vendor.ledger, vendor.settings.real_time_factor)
        self._action: FaultAction | None = None
        self._stack = AsyncExitStack()

    async def serve(self, make: Callable[[RequestHandler], Awaitable[SimulatedResponse]]) -> web.StreamResponse:
        """Send the response that `make` returns, with the fault applied, and record its end in the ledger."""
        with self._vendor.ledger.track(self._entry):
            # The stack closes the synthesis and gives the slot back, also when the client leaves and cancels this.
            async with self._stack:
                ending = await self._respond(make)
                self._vendor.ledger.end(self._entry, ending)
        return self._writer.response

    async def serve_not_found(self, allowed: Collection[str]) -> web.StreamResponse:
        """Send the error for an unknown path. It takes no key, and no fault applies to it."""
        request = self.request
        response = self._dialect.not_found(request.method, request.path, allowed, self.request_id)
        # ElevenLabs rejects websockets on unknown paths with 403 instead of 404.
        if request.headers.get("upgrade", "").lower() == "websocket":
            response = replace(response, status=403)
        with self._vendor.ledger.track(self._entry):
            self._vendor.ledger.end(self._entry, await self._reject(response))
        return self._writer.response

    def apply_fault(self, call: FaultCall) -> None:
        """Select the fault of this call, if any. Raises RequestRejectedError if the fault is a refusal."""
        fault = fault_from_header(self.request.headers, call) or self._vendor.faults.select(call)
        if fault is None:
            return
        self._entry.fault = fault.name
        if isinstance(fault.action, Refuse):
            raise RequestRejectedError(Rejection.from_action(fault.action))
        self._action = fault.action

    def record_order(self, order: SynthesisOrder) -> None:
        """Record voice, model and length of the request in the ledger."""
        entry = self._entry
        entry.voice, entry.model, entry.characters = order.voice, order.model, len(order.text)

    def charge(self, characters: int) -> None:
        """Charge for a text. Vendors charge when they accept it, whether or not it is heard."""
        self._vendor.ledger.charge(self._entry, characters)

    async def acquire_slot(self) -> int:
        """Wait for one of the concurrent requests, and hold it to the end of this one. Raises RequestRejectedError."""
        return await self._stack.enter_async_context(self._vendor.request_limit.slot())

    async def synthesize(self, order: SynthesisOrder, headers: Mapping[str, str]) -> SimulatedResponse:
        """Return the response with the audio of an order, with faults of the audio applied."""
        pieces = self._vendor.voice.speak(order, self._action)
        self._stack.push_async_callback(pieces.aclose)
        response = await build_response(pieces, order)
        return replace(response, headers={**headers, **response.headers})

    async def _respond(self, make: Callable[[RequestHandler], Awaitable[SimulatedResponse]]) -> Ending:
        try:
            self.body = await self._read()
            self._dialect.check_key(self.request.headers)
            response = await make(self)
        except RequestRejectedError as error:
            return await self._reject(self._dialect.error_response(error.rejection, self.request_id))
        except FaultError as error:
            return await self._reject(json_response({"error": f"{FAULT_HEADER}: {error}"}, status=400))
        return await send_response(self._writer, response, self._action, self._dialect.error_line)

    async def _read(self) -> bytes:
        try:
            return await self.request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise RequestRejectedError(Rejection(status=413, message=error.text)) from error

    async def _reject(self, response: SimulatedResponse) -> Ending:
        await send_response(self._writer, response, None, self._dialect.error_line)
        return Ending.REFUSED


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Document = Callable[[web.Request], Any]

_WEBSOCKET_SUFFIXES = tuple(form.value for form in SocketEndpoint)
_MAX_ENDPOINT = 100  # characters of an unknown path, in the ledger


class HTTPRoutes:
    """HTTP routes of all vendors."""

    def __init__(self, vendor: SimulatedVendor) -> None:
        self._vendor = vendor

    def routes(self) -> list[web.RouteDef]:
        """Return all routes."""
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
            elevenlabs_wire.HISTORY_PATH: lambda _: elevenlabs_catalog.history_body(),
            elevenlabs_wire.USER_PATH: lambda _: elevenlabs_catalog.user_body("simulator", self._subscription),
            elevenlabs_wire.SUBSCRIPTION_PATH: lambda _: elevenlabs_catalog.subscription_body(self._subscription),
        }
        lists = [_get(path, partial(self._document, _endpoint(path), document)) for path, document in documents.items()]
        return [
            *speech,
            *dialogues,
            *lists,
            web.post(openai_wire.SPEECH_PATH, self._speak_openai),
            *(
                self._speech_route(dialect, route)
                for dialect in self._vendor.further
                for route in dialect.speech_routes()
            ),
            *(
                _get(route.path, partial(self._vendor_document, dialect, route))
                for dialect, route in self._further_documents
                if route.path not in (*documents, elevenlabs_wire.MODELS_PATH)
            ),
            _get(elevenlabs_wire.MODELS_PATH, self._models),
            _get(f"{elevenlabs_wire.MODELS_PATH}/{{model}}", self._model),
            web.route("*", "/{path:.*}", self._not_found),
        ]

    async def _speak(self, form: SpeechEndpoint, request: web.Request) -> web.StreamResponse:
        voice, dialect = request.match_info["voice"], self._vendor.elevenlabs
        handler = RequestHandler(self._vendor, request, dialect, elevenlabs.endpoint(form))
        return await handler.serve(
            self._elevenlabs_speech(lambda body: dialect.parse_speech(form, voice, request.query, body))
        )

    async def _speak_dialogue(self, form: SpeechEndpoint, request: web.Request) -> web.StreamResponse:
        dialect = self._vendor.elevenlabs
        handler = RequestHandler(self._vendor, request, dialect, elevenlabs.dialogue_endpoint(form))
        return await handler.serve(
            self._elevenlabs_speech(lambda body: dialect.parse_dialogue(form, request.query, body))
        )

    def _elevenlabs_speech(
        self, read: Callable[[bytes], SynthesisOrder]
    ) -> Callable[[RequestHandler], Awaitable[SimulatedResponse]]:
        """Return the function that responds to a request for speech, which `read` parses from the body."""

        async def respond(handler: RequestHandler) -> SimulatedResponse:
            dialect, credit, limit = self._vendor.elevenlabs, self._vendor.credit, self._vendor.request_limit
            order = read(handler.body)
            handler.record_order(order)
            handler.apply_fault(_fault_call(order))
            current = await handler.acquire_slot()
            credit.charge(len(order.text))
            handler.charge(len(order.text))
            return await handler.synthesize(
                order, dialect.headers(handler.request_id, len(order.text), current, limit.limit)
            )

        return respond

    async def _speak_openai(self, request: web.Request) -> web.StreamResponse:
        async def respond(handler: RequestHandler) -> SimulatedResponse:
            order = self._vendor.openai.parse_speech(handler.body)
            handler.record_order(order)
            handler.apply_fault(_fault_call(order))
            handler.charge(len(order.text))
            return await handler.synthesize(order, self._vendor.openai.headers(handler.request_id))

        return await RequestHandler(self._vendor, request, self._vendor.openai, openai.ENDPOINT).serve(respond)

    def _speech_route(self, dialect: VendorDialect, route: SpeechRoute) -> web.RouteDef:
        return web.route(route.method, route.path, partial(self._speak_further, dialect, route))

    async def _speak_further(
        self, dialect: VendorDialect, route: SpeechRoute, request: web.Request
    ) -> web.StreamResponse:
        async def respond(handler: RequestHandler) -> SimulatedResponse:
            order = route.parse(request, handler.body)
            handler.record_order(order)
            handler.apply_fault(_fault_call(order))
            handler.charge(len(order.text))
            return await handler.synthesize(order, dialect.headers(handler.request_id, order))

        return await RequestHandler(self._vendor, request, dialect, route.endpoint).serve(respond)

    async def _vendor_document(
        self, dialect: VendorDialect, route: DocumentRoute, request: web.Request
    ) -> web.StreamResponse:
        async def respond(handler: RequestHandler) -> SimulatedResponse:
            handler.apply_fault(FaultCall(route.endpoint, speech=False))
            return json_response(route.document(request), headers=dialect.headers(handler.request_id))

        return await RequestHandler(self._vendor, request, dialect, route.endpoint).serve(respond)

    @property
    def _further_documents(self) -> list[tuple[VendorDialect, DocumentRoute]]:
        return [(dialect, route) for dialect in self._vendor.further for route in dialect.document_routes()]

    async def _document(self, endpoint: str, document: Document, request: web.Request) -> web.StreamResponse:
        """Return a document of ElevenLabs, or another vendor's at the same path: its kind of key selects it."""
        if further := self._further_document(request):
            return await self._vendor_document(*further, request)
        return await self._elevenlabs_document(endpoint, document, request)

    def _further_document(self, request: web.Request) -> tuple[VendorDialect, DocumentRoute] | None:
        for dialect, route in self._further_documents:
            if route.path == request.path and dialect.key_of(request.headers) and not _is_elevenlabs(request):
                return dialect, route
        return None

    async def _elevenlabs_document(self, endpoint: str, document: Document, request: web.Request) -> web.StreamResponse:
        async def respond(handler: RequestHandler) -> SimulatedResponse:
            handler.apply_fault(FaultCall(endpoint, speech=False))
            return json_response(document(request), headers=elevenlabs.common_headers(handler.request_id))

        return await RequestHandler(self._vendor, request, self._vendor.elevenlabs, endpoint).serve(respond)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        """Return the models. Three vendors have this path: a Bearer token selects OpenAI's list."""
        if further := self._further_document(request):
            return await self._vendor_document(*further, request)
        if not _has_bearer_token(request):
            return await self._elevenlabs_document("models", self._elevenlabs_models, request)

        names = (*openai_wire.MODELS, *self._vendor.settings.models)
        return await self._openai_document(request, lambda: openai_wire.models_body(names))

    async def _model(self, request: web.Request) -> web.StreamResponse:
        """Return one model, which only OpenAI has."""
        if not _has_bearer_token(request):
            return await self._not_found(request)
        model = request.match_info["model"]

        def document() -> dict[str, Any]:
            self._vendor.openai.check_model(model)
            return openai_wire.model_body(model)

        return await self._openai_document(request, document)

    async def _openai_document(self, request: web.Request, document: Callable[[], Any]) -> web.StreamResponse:
        async def respond(handler: RequestHandler) -> SimulatedResponse:
            handler.apply_fault(FaultCall("models", speech=False))
            return json_response(document(), headers=self._vendor.openai.headers(handler.request_id))

        return await RequestHandler(self._vendor, request, self._vendor.openai, "models").serve(respond)

    async def _not_found(self, request: web.Request) -> web.StreamResponse:
        """Return the error for an unknown path, in the form of the vendor that the request was meant for."""
        openais = _has_bearer_token(request) or request.path.startswith("/v1/audio/")
        dialect = self._vendor.openai if openais else self._vendor.elevenlabs
        handler = RequestHandler(self._vendor, request, dialect, request.path.removeprefix("/v1/")[:_MAX_ENDPOINT])
        return await handler.serve_not_found(await _allowed_methods(request) - {request.method})

    @property
    def _subscription(self) -> elevenlabs_catalog.Subscription:
        return self._vendor.credit.subscription

    @property
    def _voices(self) -> dict[str, str]:
        configured = {f"Voice {number}": voice for number, voice in enumerate(self._vendor.settings.voices, start=1)}
        return {**elevenlabs_catalog.VOICES, **configured}

    def _voices_found(self, request: web.Request) -> dict[str, Any]:
        try:
            search = elevenlabs_catalog.parse_voice_search(list(request.query.items()))
        except RequestValidationError as error:
            raise RequestRejectedError(Rejection(status=422, issues=error.issues)) from error
        return elevenlabs_catalog.found_voices_body(search, self._voices)

    def _voice(self, request: web.Request) -> dict[str, Any]:
        requested = request.match_info["voice"]
        for name, voice_id in (*self._voices.items(), *elevenlabs_catalog.FURTHER_VOICES.items()):
            if voice_id == requested:
                return elevenlabs_catalog.voice_body(name, voice_id)
        raise RequestRejectedError(unknown_voice(requested))

    def _voice_settings(self, request: web.Request) -> dict[str, Any]:
        self._voice(request)
        return elevenlabs_catalog.voice_settings_body()

    def _elevenlabs_models(self, request: web.Request) -> list[dict[str, Any]]:
        configured = [elevenlabs_catalog.get_model_info(model) for model in self._vendor.settings.models]
        return elevenlabs_catalog.models_body([*elevenlabs_catalog.MODELS.values(), *configured])


def _endpoint(path: str) -> str:
    """Return a path without its version and voice, as faults and the ledger name it."""
    return path.split("/", 2)[2].replace("/{voice}", "")


def _get(path: str, handler: Handler) -> web.RouteDef:
    return web.get(path, handler, allow_head=False)


def _fault_call(order: SynthesisOrder) -> FaultCall:
    return FaultCall(order.endpoint, order.voice, len(order.text))


def _is_elevenlabs(request: web.Request) -> bool:
    """Return whether a request has ElevenLabs' key, in its own header or as a Bearer token, which it accepts, too."""
    return "xi-api-key" in request.headers or _has_bearer_token(request)


def _has_bearer_token(request: web.Request) -> bool:
    return request.headers.get("authorization", "").lower().startswith("bearer ")


async def _allowed_methods(request: web.Request) -> set[str]:
    """Return the methods that have a route for the request's path."""
    http = [each for each in request.app.router.resources() if not each.canonical.endswith(_WEBSOCKET_SUFFIXES)]
    found = [await resource.resolve(request) for resource in http]
    return {method for _, methods in found for method in methods} - {"*"}  # the route for unknown paths


LEDGER_PATH = "/sim/ledger"
FAULTS_PATH = "/sim/faults"


class ControlRoutes:
    """Routes of the control endpoints: GET the ledger; GET, POST (add), PUT (replace) and DELETE faults."""

    def __init__(self, vendor: SimulatedVendor) -> None:
        self._vendor = vendor

    def routes(self) -> list[web.RouteDef]:
        """Return all control routes."""
        return [
            web.get(LEDGER_PATH, self._ledger, allow_head=False),
            web.get(FAULTS_PATH, self._list, allow_head=False),
            web.post(FAULTS_PATH, self._add),
            web.put(FAULTS_PATH, self._set),
            web.delete(FAULTS_PATH, self._clear),
            # The vendors' routes come later and would answer in a vendor's form.
            web.route("*", "/sim{path:(/.*)?}", _not_found),
        ]

    async def _ledger(self, request: web.Request) -> web.Response:
        return web.json_response(self._vendor.ledger.as_dict())

    async def _list(self, request: web.Request) -> web.Response:
        return self._fault_list()

    async def _add(self, request: web.Request) -> web.Response:
        return await self._change(request, self._vendor.faults.add)

    async def _set(self, request: web.Request) -> web.Response:
        return await self._change(request, self._vendor.faults.set)

    async def _clear(self, request: web.Request) -> web.Response:
        self._vendor.faults.clear()
        return self._fault_list()

    async def _change(self, request: web.Request, change: Callable[..., None]) -> web.Response:
        try:
            change(*parse_faults((await request.read()).decode("utf-8", "replace")))
        except FaultError as error:
            return web.json_response({"error": str(error)}, status=422)
        return self._fault_list()

    def _fault_list(self) -> web.Response:
        return web.json_response({"faults": [fault_to_table(fault) for fault in self._vendor.faults]})


async def _not_found(request: web.Request) -> web.Response:
    routes = f"GET {LEDGER_PATH}, and GET, POST, PUT and DELETE {FAULTS_PATH}"
    message = f"no route for {request.method} {request.path}; available: {routes}"
    return web.json_response({"error": message}, status=404)
