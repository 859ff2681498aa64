"""A worker's link to its supervisor, and by way of it to the other workers."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from steadyvoice.gateway.http_server.connections import ConnectionCounts
from steadyvoice.gateway.workers.channel import Channel, receive_message
from steadyvoice.gateway.workers.fleet_store import WorkerStore

log = logging.getLogger("steadyvoice.gateway")

BEAT_SECONDS = 1.0
_ANSWER_TIMEOUT = 2.0  # the supervisor answers after one second, with what there is
_ORDER_TIMEOUT = 35.0

_recorded_elsewhere: ContextVar[bool] = ContextVar("steadyvoice_recorded_elsewhere", default=False)
"""Whether an order is carried out here whose effects another worker writes into the event log."""


class SupervisorLink:
    """Link of one worker, made from the descriptors that it inherited: two sockets, and the counts of connections.

    `async with` it, around everything that asks. `stop` and `hurry` are set by the supervisor, `stop` also when the
    supervisor has ended: then this process ends by itself.
    """

    def __init__(self, descriptors: str) -> None:
        numbers = [int(number) for number in descriptors.split(",")]
        for number in numbers:
            os.set_inheritable(number, False)  # engines that this process starts must not hold them
        self._line, store, counts = socket.socket(fileno=numbers[0]), socket.socket(fileno=numbers[1]), numbers[2]
        hello = receive_message(self._line)[1]
        self.number: int = hello["worker"]
        self.edition: str = hello["edition"]
        self.entries: list[tuple[int, str, str]] = hello["entries"]
        self.salt = bytes.fromhex(hello["salt"])
        self.is_restarted: bool = hello["restarted"]
        self._store = WorkerStore(store)
        self.counts = ConnectionCounts(counts, self.number, hello["count"])
        self.stop, self.hurry = asyncio.Event(), asyncio.Event()
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self.on_entry: Callable[[int, str, str], None] = lambda number, kind, data: None
        self.shutdown_seconds: Callable[[], float] = lambda: 0.0
        self._revision = 0
        self._workers: list[dict[str, Any]] = []
        self._channel: Channel | None = None
        self._replay: asyncio.Future[list[tuple[str, Any]]] | None = None
        self._waiting: dict[int, asyncio.Future[dict[int, Any]]] = {}
        self._asked = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> SupervisorLink:
        self._loop = loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the supervisor gets them, and tells all
        self._channel = await Channel.open(self._line)
        self._replay = loop.create_future()
        self._start(self._read())
        self._start(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._channel.flush(), BEAT_SECONDS)
            self._channel.close()
        for task in list(self._tasks):
            task.cancel()

    async def catch_up(self) -> None:
        """Carry out the orders that are in force, before this worker accepts connections."""
        self._send("joined")
        assert self._replay is not None  # noqa: S101 - set on entry
        for name, argument in await self._replay:
            await self._carry_out(name, {**argument, "asker": 0})

    def ready(self, url: str, providers: list[str]) -> None:
        """Report that this worker accepts connections."""
        self._send("ready", {"url": url, "providers": providers})

    def stopped(self, cut: int) -> None:
        """Report the number of responses that were cut at the end."""
        self._send("stopped", cut)

    @property
    def store(self) -> WorkerStore:
        """Store of the workers' fleet; another one after it was closed."""
        if self._store.closed:
            self._store = self._store.reopened()
        return self._store

    # ---------------------------------------------------------------- to the others

    def status(self) -> dict[str, Any]:
        """Return the workers as the supervisor sees them, JSON-ready."""
        return {"answered_by": self.number, "revision": self._revision, "workers": self._workers}

    async def gather(self, question: str, argument: Any = None) -> list[Any]:
        """Return the answers of all workers, the own one first; without the supervisor, that of this one."""
        return await self._ask("ask", question, argument, _ANSWER_TIMEOUT)

    async def ask(self, worker: int, question: str, argument: Any) -> Any:
        """Return the answer of one worker; None if it does not answer in time."""
        answers = await self._answers("ask one", _ANSWER_TIMEOUT, question, argument, worker)
        return answers.get(worker)

    async def order(self, name: str, argument: Mapping[str, Any]) -> list[Any]:
        """Have all workers carry out an order, at each in the same sequence; return their answers, the own one first.

        Only this one writes the effects into the event log.
        """
        return await self._ask("order", name, {**argument, "asker": self.number}, _ORDER_TIMEOUT)

    @property
    def writes_entries(self) -> bool:
        """False while this worker carries out an order whose effects another one writes into the event log."""
        return not _recorded_elsewhere.get()

    def add_entries(self, entries: Sequence[tuple[str, str, tuple[str, str, str] | None]]) -> None:
        """Add entries to the event log of all workers."""
        self._send("entries", entries)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Have the supervisor write the states of circuits and holds. May be called by any thread."""
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._send, "state", state)

    async def _ask(self, kind: str, name: str, argument: Any, timeout: float) -> list[Any]:
        answers = await self._answers(kind, timeout, name, argument)
        own = answers.pop(self.number, None)
        if own is None:  # without the supervisor
            own = await self._carry_out(name, argument)
        return [own, *(answer for answer in answers.values() if answer is not None)]

    async def _answers(self, kind: str, timeout: float, *question: Any) -> dict[int, Any]:
        self._asked += 1
        number = self._asked
        self._waiting[number] = waiting = asyncio.get_running_loop().create_future()
        self._send(kind, number, *question)
        try:
            return await asyncio.wait_for(waiting, timeout)
        except TimeoutError:
            return {}
        finally:
            del self._waiting[number]

    # ---------------------------------------------------------------- from the supervisor

    async def _read(self) -> None:
        assert self._channel is not None  # noqa: S101 - set on entry
        async for message in self._channel.messages():
            self._handle(message)
        if not self.stop.is_set():
            log.error("worker %d: the supervisor has ended; shutting down", self.number)
        self.stop.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result({})
        if self._replay and not self._replay.done():
            self._replay.set_result([])

    def _handle(self, message: list[Any]) -> None:
        match message:
            case ["entries", entries]:
                for entry in entries:
                    self.on_entry(*entry)
            case ["question", number, name, argument]:
                self._start(self._answer(number, name, argument))
            case ["answers", number, answers]:
                if (waiting := self._waiting.get(number)) and not waiting.done():
                    waiting.set_result(answers)
            case ["replay", orders, revision]:
                self._revision = revision
                if self._replay and not self._replay.done():
                    self._replay.set_result(orders)
            case ["revision", revision]:
                self._revision = revision
            case ["workers", workers]:
                self._workers = workers
            case ["reload"]:
                self._start(self._carry_out("reload by signal", None))
            case ["stop"]:
                self.stop.set()
            case ["hurry"]:
                self.stop.set()
                self.hurry.set()

    async def _answer(self, number: int, name: str, argument: Any) -> None:
        self._send("answer", number, await self._carry_out(name, argument))

    async def _carry_out(self, name: str, argument: Any) -> Any:
        """Return the answer of this worker; None for one that failed."""
        elsewhere = isinstance(argument, Mapping) and argument.get("asker", self.number) != self.number
        token = _recorded_elsewhere.set(elsewhere)
        try:
            answer = self.answers[name](argument)
            return await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            log.exception("worker %d: %s failed: %s", self.number, name, type(error).__name__)
            return None
        finally:
            _recorded_elsewhere.reset(token)

    async def _beat(self) -> None:
        while True:
            self._send("beat", {"connections": self.counts.own, "shutdown_seconds": self.shutdown_seconds()})
            await asyncio.sleep(BEAT_SECONDS)

    def _send(self, *message: Any) -> None:
        if self._channel:
            self._channel.send(*message)

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        # The loop holds only weak references to tasks.
        self._tasks.add(task := asyncio.ensure_future(work))
        task.add_done_callback(self._tasks.discard)
