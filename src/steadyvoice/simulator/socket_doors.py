"""The websockets' doors: who is let in, and what the ledger knows of them."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from steadyvoice.simulator.acts import Act, Door, FaultError, HalfOpen, Hang, Refuse, Reset
from steadyvoice.simulator.answer import Answer, json_answer
from steadyvoice.simulator.conversation import Conversation
from steadyvoice.simulator.faults import Call
from steadyvoice.simulator.header import FAULT_HEADER, ordered
from steadyvoice.simulator.ledger import Ending, Entry
from steadyvoice.simulator.line import Line, wait
from steadyvoice.simulator.misbehave import deliver
from steadyvoice.simulator.refusal import Refusal, RefusedError
from steadyvoice.simulator.socket_line import SocketLine
from steadyvoice.simulator.vendor import Vendor
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.websocket import SocketEndpoint, SocketParameters
from steadyvoice.wire.error_response import get_header

_PATIENCE = 2.0  # seconds a client has to answer a close


class SocketDoors:
    """ElevenLabs' `stream-input` and `multi-stream-input`."""

    def __init__(self, vendor: Vendor) -> None:
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

    async def _received(self, form: SocketEndpoint, request: web.Request, entry: Entry) -> web.StreamResponse:
        entry.voice = request.match_info["voice"]
        # It is for us to close, once the ledger knows; and no compression, so that a big frame is one.
        socket = web.WebSocketResponse(compress=False, autoclose=False, timeout=_PATIENCE)
        socket.headers["request-id"] = entry.request_id or ""
        if not socket.can_prepare(request):
            answer = self._vendor.elevenlabs.nobody(request.method, request.path, (), entry.request_id or "")
            return await self._turned_away(request, entry, answer)
        try:
            act = self._act(request, entry)
        except FaultError as error:
            answer = json_answer({"error": f"{FAULT_HEADER}: {error}"}, status=400)
            return await self._turned_away(request, entry, answer)
        match act:
            case Hang():
                await wait(None)
            case Reset(None):
                Line(request, entry, self._vendor.ledger).reset()
                self._vendor.ledger.end(entry, Ending.CUT)
                return web.Response()
            case Refuse(None):
                answer = self._vendor.elevenlabs.refusal(Refusal.ordered(act), entry.request_id or "")
                return await self._turned_away(request, entry, answer)
        await socket.prepare(request)
        entry.status = 101
        if isinstance(act, HalfOpen):
            await wait(None)
        self._vendor.ledger.end(entry, await self._talked(form, request, socket, entry, act))
        return socket

    def _act(self, request: web.Request, entry: Entry) -> Act | None:
        """The fault that befalls this connection. Raises FaultError."""
        call = Call(entry.endpoint, entry.voice, door=Door.WEBSOCKET)
        fault = ordered(request.headers, call) or self._vendor.faults.choose(call)
        if fault is None:
            return None
        entry.fault = fault.name
        return fault.act

    async def _talked(
        self, form: SocketEndpoint, request: web.Request, socket: web.WebSocketResponse, entry: Entry, act: Act | None
    ) -> Ending:
        """Talk, and end it with 1008 where the vendor would."""
        line = SocketLine(request, socket, act, entry, self._vendor.ledger)
        try:
            if isinstance(act, Refuse):
                raise RefusedError(Refusal.ordered(act))
            call, known = self._checked(request, entry)
            conversation = Conversation(self._vendor, socket, line, entry, act)
            ending = await conversation.run(form, request.match_info["voice"], call, known=known)
            await line.close(ending)
            return ending
        except RefusedError as error:
            await line.trouble(Ending.REFUSED, self._vendor.elevenlabs.trouble(error.refusal))
            return Ending.REFUSED

    def _checked(self, request: web.Request, entry: Entry) -> tuple[SocketParameters, bool]:
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

    async def _turned_away(self, request: web.Request, entry: Entry, answer: Answer) -> web.StreamResponse:
        """Answer over HTTP, instead of opening the websocket."""
        line = Line(request, entry, self._vendor.ledger)
        await deliver(line, answer, None, self._vendor.elevenlabs.error_line)
        self._vendor.ledger.end(entry, Ending.REFUSED)
        return line.response


def endpoint(form: SocketEndpoint) -> str:
    """How faults and the ledger call a websocket."""
    return f"text-to-speech{form.value}"
