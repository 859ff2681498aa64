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
    Html,
    Json,
    Refuse,
    Reset,
)
from steadyvoice.simulator.fault_injection.matching import FaultCall
from steadyvoice.simulator.fault_injection.syntax import FAULT_HEADER, fault_from_header
from steadyvoice.simulator.http.fault_responses import apply_body_action, send_response
from steadyvoice.simulator.http.response import (
    Rejection,
    RequestRejectedError,
    ResponseWriter,
    SimulatedResponse,
    bytes_response,
    json_response,
    sleep_or_hang,
)
from steadyvoice.simulator.http.routes import SimulatorDialect
from steadyvoice.simulator.ledger import Ending, LedgerEntry
from steadyvoice.simulator.vendor import SimulatedVendor
from steadyvoice.simulator.websocket.connection import WebSocketConnection
from steadyvoice.simulator.websocket.session import WebSocketSession
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.dialogue import DIALOGUE_PATH
from steadyvoice.wire.elevenlabs.websocket import FieldSpelling, SocketEndpoint, SocketParameters
from steadyvoice.wire.error_response import get_header

_CLOSE_TIMEOUT = 2.0  # seconds that a client has to answer a close frame


class WebSocketRoutes:
    """Routes of ElevenLabs' `stream-input` and `multi-stream-input`, of text-to-speech and of text-to-dialogue."""

    def __init__(self, vendor: SimulatedVendor) -> None:
        self._vendor = vendor

    def routes(self) -> list[web.RouteDef]:
        """Return all routes."""
        return [
            web.get(f"{path}{form.value}", partial(self._serve, form), allow_head=False)
            for path in (f"{elevenlabs_speech.SPEECH_PATH}/{{voice}}", DIALOGUE_PATH)
            for form in SocketEndpoint
        ]

    @property
    def _dialect(self) -> SimulatorDialect:
        return self._vendor.elevenlabs

    def _endpoint(self, form: SocketEndpoint, request: web.Request) -> str:
        return endpoint(form, dialogue="voice" not in request.match_info)

    def _check_upgrade(self, request: web.Request) -> None:
        """Check what the vendor checks before it opens the websocket: here nothing. Raises RequestRejectedError."""

    async def _serve(self, form: SocketEndpoint, request: web.Request) -> web.StreamResponse:
        ledger = self._vendor.ledger
        entry = ledger.open(self._endpoint(form, request))
        entry.request_id = self._vendor.new_request_id()
        with ledger.track(entry):
            return await self._upgrade(form, request, entry)
        return web.Response()  # never sent: the client has left

    async def _upgrade(self, form: SocketEndpoint, request: web.Request, entry: LedgerEntry) -> web.StreamResponse:
        entry.voice = request.match_info.get("voice")
        # The session closes the websocket itself, after the ledger has its ending. Without compression a large frame
        # stays large on the wire.
        socket = web.WebSocketResponse(compress=False, autoclose=False, timeout=_CLOSE_TIMEOUT)
        socket.headers["request-id"] = entry.request_id or ""
        if not socket.can_prepare(request):
            response = self._dialect.not_found(request.method, request.path, (), entry.request_id or "")
            return await self._reject(request, entry, response)
        try:
            action = self._select_action(request, entry)
        except FaultError as error:
            response = json_response({"error": f"{FAULT_HEADER}: {error}"}, status=400)
            return await self._reject(request, entry, response)
        match action:
            case Hang():
                await sleep_or_hang(None)
            case Reset(None):
                ResponseWriter(request, entry, self._vendor.ledger).reset_connection()
                self._vendor.ledger.end(entry, Ending.CUT)
                return web.Response()
            case Refuse(None):
                response = self._dialect.error_response(Rejection.from_action(action), entry.request_id or "")
                return await self._reject(request, entry, response)
            case Html() | Json():
                response = apply_body_action(bytes_response(b"", "audio/mpeg"), action)
                return await self._reject(request, entry, response)
        try:
            self._check_upgrade(request)
        except RequestRejectedError as error:
            response = self._dialect.error_response(error.rejection, entry.request_id or "")
            return await self._reject(request, entry, response)
        await socket.prepare(request)
        entry.status = 101
        if isinstance(action, HalfOpen):
            await sleep_or_hang(None)
        self._vendor.ledger.end(entry, await self._run_session(form, request, socket, entry, action))
        return socket

    def _select_action(self, request: web.Request, entry: LedgerEntry) -> FaultAction | None:
        """Return the fault action of this connection, if any. Raises FaultError."""
        call = FaultCall(entry.endpoint, entry.voice, target=FaultTarget.WEBSOCKET)
        fault = fault_from_header(request.headers, call) or self._vendor.faults.select(call)
        if fault is None:
            return None
        entry.fault = fault.name
        return fault.action

    async def _run_session(
        self,
        form: SocketEndpoint,
        request: web.Request,
        socket: web.WebSocketResponse,
        entry: LedgerEntry,
        action: FaultAction | None,
    ) -> Ending:
        """Run the session, and close it with 1008 where the vendor would."""
        spelling = FieldSpelling.SNAKE if entry.voice is None else FieldSpelling.USUAL
        connection = WebSocketConnection(request, socket, action, entry, self._vendor.ledger, spelling)
        try:
            if isinstance(action, Refuse):
                raise RequestRejectedError(Rejection.from_action(action))
            parameters, authenticated = self._parse(request, entry)
            session = WebSocketSession(self._vendor, socket, connection, entry, action)
            voice = request.match_info.get("voice")
            ending = await session.run(form, voice, parameters, authenticated=authenticated)
            await connection.close(ending)
            return ending
        except RequestRejectedError as error:
            await connection.send_error(Ending.REFUSED, self._vendor.elevenlabs.socket_error(error.rejection))
            return Ending.REFUSED

    def _parse(self, request: web.Request, entry: LedgerEntry) -> tuple[SocketParameters, bool]:
        """Parse the query, and return whether a key was given. Raises RequestRejectedError."""
        dialect = self._vendor.elevenlabs
        voice = request.match_info.get("voice")
        if voice is None:
            parameters = dialect.parse_dialogue_socket_query(request.query)
        else:
            parameters = dialect.parse_socket_query(voice, request.query)
        entry.model = parameters.model_id
        key = (
            get_header(request.headers, elevenlabs_speech.KEY_HEADER)
            or get_header(request.headers, "authorization")
            or parameters.api_key
        )
        if key:
            dialect.check_socket_key(key)
        return parameters, bool(key)

    async def _reject(
        self, request: web.Request, entry: LedgerEntry, response: SimulatedResponse
    ) -> web.StreamResponse:
        """Send an HTTP response instead of opening the websocket."""
        writer = ResponseWriter(request, entry, self._vendor.ledger)
        await send_response(writer, response, None, self._dialect.error_line)
        self._vendor.ledger.end(entry, Ending.REFUSED)
        return writer.response


def endpoint(form: SocketEndpoint, *, dialogue: bool) -> str:
    """Return the name of a websocket endpoint in faults and the ledger."""
    return f"{'text-to-dialogue' if dialogue else 'text-to-speech'}{form.value}"
