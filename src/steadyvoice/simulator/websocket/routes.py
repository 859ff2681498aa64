"""WebSocket routes: upgrade, authentication and ledger entry of each connection."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from steadyvoice.simulator.fault_injection.actions import (
    FaultAction,
    FaultError,
    FaultTarget,
    HalfOpen,
    Hang,
    Refuse,
    Reset,
)
from steadyvoice.simulator.fault_injection.matching import FaultCall
from steadyvoice.simulator.fault_injection.responses import send_response
from steadyvoice.simulator.fault_injection.syntax import FAULT_HEADER, fault_from_header
from steadyvoice.simulator.http.response import (
    Rejection,
    RequestRejectedError,
    ResponseWriter,
    SimulatedResponse,
    json_response,
    sleep_or_hang,
)
from steadyvoice.simulator.ledger import Ending, LedgerEntry
from steadyvoice.simulator.vendor import SimulatedVendor
from steadyvoice.simulator.websocket.connection import WebSocketConnection
from steadyvoice.simulator.websocket.session import WebSocketSession
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.websocket import SocketEndpoint, SocketParameters
from steadyvoice.wire.error_response import get_header

_CLOSE_TIMEOUT = 2.0  # seconds a client has to answer a close


class WebSocketRoutes:
    """ElevenLabs' `stream-input` and `multi-stream-input`."""

    def __init__(self, vendor: SimulatedVendor) -> None:
        self._vendor = vendor

    def routes(self) -> list[web.RouteDef]:
        """All there are."""
        path = f"{elevenlabs_speech.SPEECH_PATH}/{{voice}}"
        return [
            web.get(f"{path}{form.value}", partial(self._visited, form), allow_head=False) for form in SocketEndpoint
        ]

    async def _visited(self, form: SocketEndpoint, request: web.Request) -> web.StreamResponse:
        ledger = self._vendor.ledger
        entry = ledger.open(endpoint(form))
        entry.request_id = self._vendor.new_request_id()
        with ledger.witnessed(entry):
            return await self._received(form, request, entry)
        return web.Response()  # the client has left, and sees nothing of it

    async def _received(self, form: SocketEndpoint, request: web.Request, entry: LedgerEntry) -> web.StreamResponse:
        entry.voice = request.match_info["voice"]
        # It is for us to close, once the ledger knows; and no compression, so that a big frame is one.
        socket = web.WebSocketResponse(compress=False, autoclose=False, timeout=_CLOSE_TIMEOUT)
        socket.headers["request-id"] = entry.request_id or ""
        if not socket.can_prepare(request):
            answer = self._vendor.elevenlabs.nobody(request.method, request.path, (), entry.request_id or "")
            return await self._turned_away(request, entry, answer)
        try:
            act = self._action(request, entry)
        except FaultError as error:
            answer = json_response({"error": f"{FAULT_HEADER}: {error}"}, status=400)
            return await self._turned_away(request, entry, answer)
        match act:
            case Hang():
                await sleep_or_hang(None)
            case Reset(None):
                ResponseWriter(request, entry, self._vendor.ledger).reset()
                self._vendor.ledger.end(entry, Ending.CUT)
                return web.Response()
            case Refuse(None):
                answer = self._vendor.elevenlabs.refusal(Rejection.ordered(act), entry.request_id or "")
                return await self._turned_away(request, entry, answer)
        await socket.prepare(request)
        entry.status = 101
        if isinstance(act, HalfOpen):
            await sleep_or_hang(None)
        self._vendor.ledger.end(entry, await self._talked(form, request, socket, entry, act))
        return socket

    def _action(self, request: web.Request, entry: LedgerEntry) -> FaultAction | None:
        """The fault that befalls this connection. Raises FaultError."""
        call = FaultCall(entry.endpoint, entry.voice, target=FaultTarget.WEBSOCKET)
        fault = fault_from_header(request.headers, call) or self._vendor.faults.select(call)
        if fault is None:
            return None
        entry.fault = fault.name
        return fault.action

    async def _talked(
        self,
        form: SocketEndpoint,
        request: web.Request,
        socket: web.WebSocketResponse,
        entry: LedgerEntry,
        action: FaultAction | None,
    ) -> Ending:
        """Talk, and end it with 1008 where the vendor would."""
        line = WebSocketConnection(request, socket, action, entry, self._vendor.ledger)
        try:
            if isinstance(action, Refuse):
                raise RequestRejectedError(Rejection.ordered(action))
            call, known = self._checked(request, entry)
            conversation = WebSocketSession(self._vendor, socket, line, entry, action)
            ending = await conversation.run(form, request.match_info["voice"], call, known=known)
            await line.close(ending)
            return ending
        except RequestRejectedError as error:
            await line.trouble(Ending.REFUSED, self._vendor.elevenlabs.trouble(error.refusal))
            return Ending.REFUSED

    def _checked(self, request: web.Request, entry: LedgerEntry) -> tuple[SocketParameters, bool]:
        """Read what was asked for, and say whether the key has been shown. Raises RefusedError."""
        dialect = self._vendor.elevenlabs
        call = dialect.socket_call(request.match_info["voice"], request.query)
        entry.model = call.model_id
        key = (
            get_header(request.headers, elevenlabs_speech.KEY_HEADER)
            or get_header(request.headers, "authorization")
            or call.api_key
        )
        if key:
            dialect.check_socket_key(key)
        return call, bool(key)

    async def _turned_away(
        self, request: web.Request, entry: LedgerEntry, answer: SimulatedResponse
    ) -> web.StreamResponse:
        """Answer over HTTP, instead of opening the websocket."""
        line = ResponseWriter(request, entry, self._vendor.ledger)
        await send_response(line, answer, None, self._vendor.elevenlabs.error_line)
        self._vendor.ledger.end(entry, Ending.REFUSED)
        return line.response


def endpoint(form: SocketEndpoint) -> str:
    """How faults and the ledger call a websocket."""
    return f"text-to-speech{form.value}"
