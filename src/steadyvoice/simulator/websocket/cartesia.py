"""Cartesia's websocket in the simulator: generations of many contexts, each with a voice, a model and a format."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from aiohttp import web

from steadyvoice.simulator.cartesia import (
    WEBSOCKET_ENDPOINT,
    SimulatedCartesia,
    alignment_of_words,
    timestamps_document,
    whole_words,
)
from steadyvoice.simulator.fault_injection.actions import FaultAction, FinalWithoutAudio, Refuse
from steadyvoice.simulator.http.response import Rejection, RequestRejectedError, sleep_or_hang
from steadyvoice.simulator.ledger import Ending, LedgerEntry
from steadyvoice.simulator.synthesis import EncodedAudio, SynthesisOrder
from steadyvoice.simulator.vendor import SimulatedVendor
from steadyvoice.simulator.websocket.connection import WebSocketConnection
from steadyvoice.simulator.websocket.routes import WebSocketRoutes
from steadyvoice.simulator.websocket.session import SessionContext, TextBuffer, WebSocketSession
from steadyvoice.speech.alignment import Alignment
from steadyvoice.wire import cartesia as wire
from steadyvoice.wire.elevenlabs.websocket import (
    AudioMessage,
    ClientMessage,
    ErrorMessage,
    FinalMessage,
    SocketEndpoint,
    SocketParameters,
)

IDLE_TIMEOUT = 300.0
"""Seconds without a message after which a connection is closed.

https://docs.cartesia.ai/use-the-api/concurrency-limits-and-timeouts
"""


class CartesiaWebSocketRoutes(WebSocketRoutes):
    """Route of `/tts/websocket`."""

    def routes(self) -> list[web.RouteDef]:
        """Return the route."""
        return [web.get(wire.WEBSOCKET_PATH, partial(self._serve, SocketEndpoint.MULTI), allow_head=False)]

    @property
    def _dialect(self) -> SimulatedCartesia:
        return next(each for each in self._vendor.further if isinstance(each, SimulatedCartesia))

    def _endpoint(self, form: SocketEndpoint, request: web.Request) -> str:
        return WEBSOCKET_ENDPOINT

    def _check_upgrade(self, request: web.Request) -> None:
        self._dialect.check_key(request.headers)

    async def _run_session(
        self,
        form: SocketEndpoint,
        request: web.Request,
        socket: web.WebSocketResponse,
        entry: LedgerEntry,
        action: FaultAction | None,
    ) -> Ending:
        connection = CartesiaConnection(self._dialect, request, socket, action, entry, self._vendor.ledger)
        session = CartesiaSession(self._dialect, self._vendor, socket, connection, entry, action)
        try:
            if isinstance(action, Refuse):
                raise RequestRejectedError(Rejection.from_action(action))
            parameters = SocketParameters(inactivity_timeout=IDLE_TIMEOUT)
            ending = await session.run(form, "", parameters, authenticated=True)
            await connection.close(ending)
            return ending
        except RequestRejectedError as error:
            await connection.refuse(None, error.rejection)
            await connection.close(Ending.REFUSED)
            return Ending.REFUSED


class CartesiaConnection(WebSocketConnection):
    """Connection that sends audio and the times of its words in separate messages."""

    def __init__(self, dialect: SimulatedCartesia, *args: Any) -> None:
        super().__init__(*args)
        self._dialect = dialect

    async def refuse(self, context_id: str | None, rejection: Rejection) -> None:
        """Send a rejection of one context, or of the connection."""
        refusal = self._dialect.refusal(rejection)
        message = rejection.message or f"The simulator rejects this: {refusal.code or refusal.status}."
        await self._write(ErrorMessage(rejection.code or "", message, refusal.status, context_id))

    async def flush_done(self, context_id: str | None, number: int) -> None:
        """Send that all text before a flush was spoken."""
        document = {"type": "flush_done", "done": False, "flush_done": True, "flush_id": number, "status_code": 206}
        await self._send(json.dumps({**document, "context_id": context_id}))

    def encode(self, message: AudioMessage | FinalMessage | ErrorMessage) -> list[str]:
        """Return the vendor's messages."""
        return [
            json.dumps({**document, "context_id": message.context_id}, separators=(",", ":"))
            for document in self._documents(message)
        ]

    def _documents(self, message: AudioMessage | FinalMessage | ErrorMessage) -> list[dict[str, Any]]:
        match message:
            case AudioMessage(audio, times):
                data = base64.b64encode(audio).decode()
                chunk = {"type": "chunk", "data": data, "done": False, "status_code": 206, "step_time": 50.0}
                return [*([chunk] if audio else []), *([timestamps_document(times)] if times else [])]
            case FinalMessage():
                return [{"type": "done", "done": True, "status_code": 206}]
            case ErrorMessage(code, text, status):
                refusal = self._dialect.refusal(Rejection(code or None, status=status if 400 <= status < 600 else None))
                document = self._dialect.error_document(refusal, text, self._entry.request_id or "")
                return [{"type": "error", "done": True, "status_code": refusal.status, **document}]


@dataclass(slots=True)
class _Generation:
    """Settings of a context, and how long its text may wait for more."""

    order: SynthesisOrder
    delay: float  # seconds
    timed: bool
    flushes: int = 0
    waits: bool = False  # whether a task will have its buffered text spoken


class CartesiaSession(WebSocketSession):
    """Session of one connection. An error ends a context only."""

    def __init__(
        self,
        dialect: SimulatedCartesia,
        vendor: SimulatedVendor,
        socket: web.WebSocketResponse,
        connection: CartesiaConnection,
        entry: LedgerEntry,
        action: FaultAction | None,
    ) -> None:
        super().__init__(vendor, socket, connection, entry, action)
        self._dialect, self._cartesia = dialect, connection
        self._generations: dict[str | None, _Generation] = {}

    def _handle_multi(self, frame: str) -> bool:
        name: str | None = None
        try:
            try:
                message = json.loads(frame)
                name = str(message["context_id"])
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                raise RequestRejectedError(Rejection("invalid_parameters", "The message has no context_id.")) from error
            if message.get("cancel"):
                self._cancel(name)
            else:
                self._generate(name, message)
        except RequestRejectedError as error:
            self._start(partial(self._cartesia.refuse, name, error.rejection))
        return False

    def _generate(self, name: str, message: dict[str, Any]) -> None:
        order = self._dialect.parse_generation(message, WEBSOCKET_ENDPOINT, wire.TIMED_FORMATS)
        context = self._contexts.get(name)
        if context is None:
            delay = float(message.get("max_buffer_delay_ms") or wire.BUFFER_DELAY * 1000) / 1000
            self._generations[name] = _Generation(replace(order, text=""), delay, message.get("add_timestamps") is True)
            self._entry.voice, self._entry.model = order.voice, order.model
            context = SessionContext(name, TextBuffer(), order.voice, speed=order.speed)
            self._contexts[name] = context
            self._speakers.append(self._start(partial(self._speak_context, context)))
        elif replace(order, text="") != self._generations[name].order:
            raise RequestRejectedError(Rejection("invalid_parameters", "Only the transcript of a context may change."))
        goes_on = message.get("continue") is True
        self._buffer_text(context, ClientMessage(order.text), flush=bool(message.get("flush")) or not goes_on)
        if message.get("flush"):
            self._enqueue(context, ("", context.voice))
        if not goes_on:
            self._close(context)
        elif order.text and not self._generations[name].waits:
            self._generations[name].waits = True
            self._start(partial(self._speak_buffered, context))

    def _cancel(self, name: str) -> None:
        """Drop the texts of a context that are not being spoken yet, and end it."""
        if context := self._contexts.get(name):
            while not context.texts.empty():
                context.texts.get_nowait()
                self._pending -= 1
            self._close(context)

    async def _speak_buffered(self, context: SessionContext) -> None:
        generation = self._generations[context.name]
        await asyncio.sleep(generation.delay)
        generation.waits = False
        if self._contexts.get(context.name) is context:
            self._buffer_text(context, ClientMessage(""), flush=True)

    async def _next_text(self, context: SessionContext) -> tuple[str, str] | None:
        try:
            async with asyncio.timeout(wire.CONTEXT_EXPIRY if context.audio_end else None):
                return await context.texts.get()
        except TimeoutError:
            if self._contexts.get(context.name) is context:
                self._close(context)  # it has expired
            return await context.texts.get()

    async def _speak(self, context: SessionContext, text: str, voice: str) -> bool:
        if isinstance(self._action, FinalWithoutAudio):
            return False
        generation = self._generations[context.name]
        if not text:
            generation.flushes += 1
            await self._cartesia.flush_done(context.name, generation.flushes)
            return True
        order = replace(generation.order, text=text)
        self._entry.characters += len(text)
        self._vendor.ledger.charge(self._entry, len(text))
        async with aclosing(self._vendor.voice.speak(order, self._action)) as pieces:
            await self._send(context, pieces)
        return True

    async def _send(self, context: SessionContext, pieces: AsyncIterator[EncodedAudio]) -> None:
        began = asyncio.get_running_loop().time()
        timed = self._generations[context.name].timed
        before = audio_end = 0.0
        held: list[Alignment] = []
        async for piece in pieces:
            before, audio_end = audio_end, piece.audio_end
            due = began + self._vendor.settings.real_time_factor * audio_end
            await sleep_or_hang(due - asyncio.get_running_loop().time())
            held += [Alignment.joined([(context.audio_end, piece.alignment)])] if timed and piece.alignment else []
            words, held = whole_words(held)
            times = alignment_of_words(words) if words else None
            await self._connection.sound(AudioMessage(piece.data, times, None, context.name), audio_end - before)
        if rest := Alignment.joined([(0.0, piece) for piece in held]).words():
            await self._connection.sound(AudioMessage(b"", alignment_of_words(rest), None, context.name), 0.0)
        context.audio_end += audio_end
