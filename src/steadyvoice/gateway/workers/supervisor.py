"""Supervisor of the workers: starts them, restarts those that end, and stops all of them gracefully.

It serves no requests, so nothing that a request does can end it. A worker is a process of its own, started anew and not
forked, which inherits nothing but its sockets.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

from steadyvoice.gateway.http_server.connections import ConnectionCounts
from steadyvoice.gateway.http_server.shutdown import ShutdownSignals, first_of, notify_systemd
from steadyvoice.gateway.workers.channel import Channel, encode_message, take_message
from steadyvoice.gateway.workers.coordinator import Coordinator
from steadyvoice.gateway.workers.fleet_store import StoreServer
from steadyvoice.service.error_state import to_iso8601

log = logging.getLogger("steadyvoice.gateway")

Spawn = Callable[[Sequence[int]], Awaitable[Process]]
"""Function that starts the process of a worker, which inherits these descriptors."""

STABLE_SECONDS = 10.0
"""Seconds after which a worker counts as having run well: if it ends then, it is restarted at once."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that ended early is restarted, doubled each time."""
QUIET_SECONDS = 3.0
"""Seconds without a word after which a worker is shown as not responding."""
HUNG_SECONDS = 30.0
"""Seconds without a word after which a worker is killed: connections that the system gives to it hang."""
_START_SECONDS = 60.0  # a worker that starts imports and connects first
_ATTEMPTS_TO_START = 3
_MARGIN = 5.0  # seconds beyond the grace time of a shutdown
_TICK = 1.0
_TICKS_TO_RECORD = 2  # between two parts of the workers' counts; all of a worker's would delay its streams


@dataclass
class Worker:
    """Worker slot, of which several processes may have run one after another."""

    number: int
    process: Process | None = None
    state: str = "starting"  # starting, ready, not responding, restarting, stopped
    started_at: float = 0.0
    heard_at: float = 0.0
    restarts: int = 0
    early_ends: int = 0  # in a row
    last_exit: str | None = None
    last_exit_at: str | None = None
    restart_at: float | None = None
    connections: int = 0
    shutdown_seconds: float | None = None
    was_ready: bool = False
    has_ended: bool = False
    cut: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def as_dict(self, now: float) -> dict[str, Any]:
        """Return what is shown of it, JSON-ready."""
        return {
            "worker": self.number,
            "pid": self.process.pid if self.process else None,
            "state": self.state,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
            "last_exit_at": self.last_exit_at,
            "restart_in": None if self.restart_at is None else round(max(0.0, self.restart_at - now), 1),
            "connections": self.connections,
        }


class NoWorkerStartedError(Exception):
    """No worker has started, in several attempts each."""


class Supervisor:
    """Supervisor of `count` workers.

    `spawn` starts a process; `saved` is called with a worker's number and its states, for the state file; `grace` is
    the longest time of a shutdown, in seconds, until the workers state their own; `ready` is called once, with the
    gateway's address and its providers.
    """

    def __init__(
        self,
        count: int,
        spawn: Spawn,
        *,
        grace: float,
        ready: Callable[[str, list[str]], None],
        saved: Callable[[int, dict[str, Any] | None], None] = lambda worker, state: None,
        show: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = [Worker(number) for number in range(1, count + 1)]
        self._spawn, self._grace, self._ready, self._show, self._clock = spawn, grace, ready, show, clock
        self._coordinator, self._store = Coordinator(saved, clock), StoreServer(clock)
        self._counts = _memory_file(ConnectionCounts.size(count))
        self._signals = ShutdownSignals()
        self._failed = asyncio.Event()
        self._is_ready = False
        self._facts: dict[str, Any] | None = None  # of the first worker that was ready
        self._pushed: object = None

    async def run(self) -> None:
        """Run the workers until SIGTERM or Ctrl-C; SIGHUP has them reload the file. Raises NoWorkerStartedError."""
        loop = asyncio.get_running_loop()
        self._signals.install()
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        keepers = [asyncio.create_task(self._keep(worker)) for worker in self._workers]
        ticker = asyncio.create_task(self._tick())
        try:
            await first_of(self._signals.stop.wait(), self._failed.wait())
            if self._failed.is_set():
                raise NoWorkerStartedError
            await self._stop(keepers)
        finally:
            ticker.cancel()
            for worker in self._workers:
                _kill(worker)
            await asyncio.gather(*keepers, ticker, return_exceptions=True)
            self._counts.close()

    # ---------------------------------------------------------------- life of a worker

    async def _keep(self, worker: Worker) -> None:
        """Run processes of a worker, one after another, until the shutdown."""
        while not self._signals.stop.is_set():
            began = self._clock()
            try:
                await self._run_once(worker)
            except OSError as error:  # no process, or no descriptor left
                worker.last_exit = f"not started: {error.strerror}"
            if self._signals.stop.is_set():
                break
            self._note_end(worker, self._clock() - began)
            pause = (worker.restart_at or 0.0) - self._clock()
            if pause > 0:
                await first_of(self._signals.stop.wait(), timeout=pause)
            worker.restart_at = None
        worker.state = "stopped"

    async def _run_once(self, worker: Worker) -> None:
        with ExitStack() as inherited:
            control, control_end = socket.socketpair()
            store, store_end = socket.socketpair()
            inherited.callback(control_end.close)
            inherited.callback(store_end.close)
            try:
                descriptors = [control_end.fileno(), store_end.fileno(), self._counts.fileno()]
                worker.process = await self._spawn(descriptors)
            except OSError:
                control.close()
                store.close()
                raise
        process, channel = worker.process, await Channel.open(control)
        worker.state, worker.started_at = "starting", self._clock()
        worker.heard_at, worker.connections = worker.started_at, 0
        count = len(self._workers)
        self._coordinator.join(worker.number, channel, count=count, restarted=worker.has_ended)
        self._push_status()
        readers = [
            asyncio.create_task(self._read(worker, channel)),
            asyncio.create_task(self._serve_store(store)),
        ]
        try:
            status = await process.wait()
            await asyncio.wait(readers[:1], timeout=_TICK)  # its last words
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            channel.close()
            ConnectionCounts(self._counts.fileno(), worker.number, count).clear()
            self._coordinator.leave(worker.number)
            worker.process = None
        worker.last_exit = _exit_reason(status)

    def _note_end(self, worker: Worker, lived: float) -> None:
        worker.has_ended = True
        worker.restarts += 1
        worker.last_exit_at = to_iso8601(datetime.now(UTC))
        worker.early_ends = 0 if lived >= STABLE_SECONDS else worker.early_ends + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (worker.early_ends - 1)) if worker.early_ends else 0.0
        worker.state, worker.restart_at = "restarting", self._clock() + pause
        log.error(
            "worker %d ended after %.1f s: %s; it is restarted in %g s", worker.number, lived, worker.last_exit, pause
        )
        self._coordinator.note("worker", {"worker": worker.number, "state": "ended", "reason": worker.last_exit})
        self._push_status()
        self._note_readiness()
        if all(each.early_ends >= _ATTEMPTS_TO_START and not each.was_ready for each in self._workers):
            self._failed.set()

    async def _read(self, worker: Worker, channel: Channel) -> None:
        async for message in channel.messages():
            worker.heard_at = self._clock()
            match message:
                case ["beat", facts]:
                    worker.connections, worker.shutdown_seconds = facts["connections"], facts["shutdown_seconds"]
                case ["ready", facts]:
                    worker.state, worker.was_ready = "ready", True
                    if worker.has_ended:
                        log.info("worker %d is ready again", worker.number)
                        self._coordinator.note("worker", {"worker": worker.number, "state": "ready", "reason": None})
                    self._push_status()
                    self._note_readiness(facts)
                case ["stopped", cut]:
                    worker.cut = cut
                case _:
                    self._coordinator.handle(worker.number, message)

    async def _serve_store(self, line: socket.socket) -> None:
        """Answer the questions of a worker's fleet."""
        line.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=line)
        received = bytearray()
        try:
            while data := await reader.read(256 * 1024):
                received += data
                while message := take_message(received):
                    number, *question = message
                    writer.write(encode_message(number, self._store.answer(*question)))
        except OSError:
            return
        finally:
            writer.close()

    # ---------------------------------------------------------------- all workers

    def _note_readiness(self, facts: dict[str, Any] | None = None) -> None:
        """Report readiness once: when each worker is ready or has failed, and at least one is ready."""
        workers = self._workers
        self._facts = facts or self._facts
        if self._is_ready or self._signals.stop.is_set() or not self._facts:
            return
        if all(each.was_ready or each.has_ended for each in workers):
            self._is_ready = True
            self._ready(self._facts["url"], self._facts["providers"])

    def _reload(self) -> None:
        """Have one worker reload the file; it has the others follow, once the file has proved right."""
        for first in list(self._coordinator.answering)[:1]:
            self._coordinator.send(first, "reload")

    def _push_status(self) -> None:
        now = self._clock()
        status = [worker.as_dict(now) for worker in self._workers]
        if status != self._pushed:
            self._pushed = status
            self._coordinator.broadcast("workers", status)

    async def _tick(self) -> None:
        """Look after the workers once a second."""
        last = self._clock()
        ticks = 0
        while True:
            await asyncio.sleep(_TICK)
            now = self._clock()
            for worker in self._workers:
                if now - last > 2 * _TICK:
                    worker.heard_at = now  # this process was stopped itself, and has not read what they sent
                self._check(worker, now)
            last = now
            self._push_status()
            ticks += 1
            if ticks % _TICKS_TO_RECORD == 0:
                self._coordinator.record_counts()

    def _check(self, worker: Worker, now: float) -> None:
        if worker.process is None or worker.state == "stopped":
            return
        silent = now - worker.heard_at
        if worker.state == "ready" and silent > QUIET_SECONDS:
            worker.state = "not responding"
            log.warning("worker %d does not respond", worker.number)
        elif worker.state == "not responding" and silent <= QUIET_SECONDS:
            worker.state = "ready"
            log.info("worker %d responds again", worker.number)
        limit = _START_SECONDS if worker.state == "starting" else HUNG_SECONDS
        if silent > limit and not self._signals.stop.is_set():
            log.error("worker %d has not responded for %.0f s, and is killed", worker.number, silent)
            _kill(worker)

    async def _stop(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        """Stop all workers gracefully, within the longest of their grace times; a second signal cuts it short."""
        notify_systemd("STOPPING=1")
        self._show(
            "Shutting down: no new requests; running responses are completed. Press Ctrl-C again to cut them short."
        )
        self._coordinator.broadcast("stop")
        stated = [each.shutdown_seconds for each in self._workers if each.shutdown_seconds is not None]
        ended = asyncio.gather(*keepers, return_exceptions=True)
        await first_of(_wait(ended), self._signals.hurry.wait(), timeout=max([*stated, self._grace]) + _MARGIN)
        if not ended.done():
            self._coordinator.broadcast("hurry")
            await first_of(_wait(ended), timeout=_MARGIN)
        for worker in self._workers:
            if worker.process:
                log.error("worker %d did not stop in time, and is killed", worker.number)
            _kill(worker)
        await ended
        cut = sum(worker.cut for worker in self._workers)
        responses = "1 response was" if cut == 1 else f"{cut or 'No'} responses were"
        self._show(f"Stopped. {responses} cut short.")


def _memory_file(size: int) -> IO[bytes]:
    """Return a file that several processes can map, in memory where the system has such: `/tmp` may be read-only."""
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = open(os.memfd_create("steadyvoice-connections"), "w+b")  # noqa: SIM115 - closed at the end
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(size)
    return file


def _kill(worker: Worker) -> None:
    if worker.process:
        with suppress(ProcessLookupError):
            worker.process.kill()


def _exit_reason(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


async def _wait(future: asyncio.Future[Any]) -> None:
    await asyncio.shield(future)
