"""One request to a vendor's door, from its arrival in the ledger to its end there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Protocol

from aiohttp import web

from steadyvoice.simulator.acts import Act, FaultError, Refuse
from steadyvoice.simulator.answer import Answer, json_answer
from steadyvoice.simulator.faults import Call
from steadyvoice.simulator.header import FAULT_HEADER, ordered
from steadyvoice.simulator.ledger import Ending, Entry
from steadyvoice.simulator.line import Line
from steadyvoice.simulator.misbehave import deliver
from steadyvoice.simulator.order import Order
from steadyvoice.simulator.refusal import Refusal, RefusedError
from steadyvoice.simulator.vendor import Vendor
from steadyvoice.simulator.wrapping import wrapped


class Dialect(Protocol):
    """One vendor's manners."""

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Raise RefusedError for a key that is not good."""

    def refusal(self, refusal: Refusal, request_id: str) -> Answer:
        """Put a refusal in the vendor's words."""
        ...

    def nobody(self, method: str, path: str, allowed: Collection[str], request_id: str) -> Answer:
        """Say that nobody keeps this path; if some methods are `allowed` there, that this one is not."""
        ...

    def error_line(self, code: str) -> bytes:
        """Write an error that comes in the middle of a body."""
        ...


class Visit:
    """Holds what belongs to one request; `body` is what the client sent."""

    def __init__(self, vendor: Vendor, request: web.Request, dialect: Dialect, endpoint: str) -> None:
        self.request = request
        self.body = b""
        self.request_id = vendor.new_request_id()
        self._vendor = vendor
        self._dialect = dialect
        self._entry: Entry = vendor.ledger.open(endpoint)
        self._entry.request_id = self.request_id
        self._line = Line(request, self._entry, vendor.ledger, vendor.settings.real_time_factor)
        self._act: Act | None = None
        self._stack = AsyncExitStack()

    async def serve(self, make: Callable[[Visit], Awaitable[Answer]]) -> web.StreamResponse:
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

    def befall(self, call: Call) -> None:
        """Let the fault happen that this call is due, if any. Raises RefusedError when it is a refusal."""
        fault = ordered(self.request.headers, call) or self._vendor.faults.choose(call)
        if fault is None:
            return
        self._entry.fault = fault.name
        if isinstance(fault.act, Refuse):
            raise RefusedError(Refusal.ordered(fault.act))
        self._act = fault.act

    def note(self, order: Order) -> None:
        """Write in the ledger what is asked for."""
        entry = self._entry
        entry.voice, entry.model, entry.characters = order.voice, order.model, len(order.text)

    def accept(self, characters: int) -> None:
        """From here on it costs, whatever becomes of it."""
        self._vendor.ledger.charge(self._entry, characters)

    async def take_place(self) -> int:
        """Wait for a place at the gate, and hold it until the end. Raises RefusedError."""
        return await self._stack.enter_async_context(self._vendor.gate.place())

    async def spoken(self, order: Order, headers: Mapping[str, str]) -> Answer:
        """Speak, with the fault in the sound if that is where it is."""
        pieces = self._vendor.voice.speak(order, self._act)
        self._stack.push_async_callback(pieces.aclose)
        answer = await wrapped(pieces, order)
        return replace(answer, headers={**headers, **answer.headers})

    async def _answered(self, make: Callable[[Visit], Awaitable[Answer]]) -> Ending:
        try:
            self.body = await self._read()
            self._dialect.check_key(self.request.headers)
            answer = await make(self)
        except RefusedError as error:
            return await self._refused(self._dialect.refusal(error.refusal, self.request_id))
        except FaultError as error:
            return await self._refused(json_answer({"error": f"{FAULT_HEADER}: {error}"}, status=400))
        return await deliver(self._line, answer, self._act, self._dialect.error_line)

    async def _read(self) -> bytes:
        try:
            return await self.request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise RefusedError(Refusal(status=413, message=error.text)) from error

    async def _refused(self, answer: Answer) -> Ending:
        await deliver(self._line, answer, None, self._dialect.error_line)
        return Ending.REFUSED
