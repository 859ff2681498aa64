"""Pooled websocket to a vendor: connects, sends the messages of its contexts, and hands out what comes back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import NoReturn

from steadyvoice.providers.base import WorkBudget
from steadyvoice.providers.websocket.connection import MalformedMessageError, SocketClosedError, WebSocket
from steadyvoice.providers.websocket.context_protocol import ConnectionEnd, ContextEvent, ContextProtocol, SocketRoute
from steadyvoice.providers.websocket.text_stream import SocketTextStream
from steadyvoice.speech.errors import (
    TTSConcurrencyError,
    TTSError,
    TTSSocketIdleError,
    TTSSocketRestartedError,
    copy_without_traceback,
    drop_tracebacks,
)

DRAINING_TIMEOUT = 2.0
"""Seconds that the vendor has to end a context that was abandoned. Then the connection is closed, once no other stream
needs it.
"""

KEEP_ALIVE_INTERVAL = 10.0
"""Seconds without text after which a context is kept alive: half of the vendor's default patience."""

PING_INTERVAL = 15.0
"""Seconds between pings; a connection without any sign of life in between is dead."""

IDLE_TIMEOUT = 120.0
"""Seconds for which a connection without contexts is kept: the vendor is asked to wait for 180 s."""

LONG_MESSAGE = 128 * 1024
"""Characters above which a message is parsed in steps. The audio of a shorter one is parsed and copied at once."""

_TICK = 5.0  # seconds between checks of the intervals above

_context_numbers = count(1)


class ContextConnection:
    """Websocket and the contexts on it.

    `connect` opens the connection. `on_end` is called once, when it has ended, and `replace` when it is closed only to
    end one context early, while another stream may soon need one like it.
    """

    def __init__(
        self,
        route: SocketRoute,
        connect: Callable[[], Awaitable[WebSocket]],
        *,
        on_end: Callable[[ContextConnection], None],
        replace: Callable[[], None],
    ) -> None:
        self.route = route
        self._connect, self._on_end, self._replace = connect, on_end, replace
        self._loop = asyncio.get_running_loop()
        self._socket: WebSocket | None = None
        self._streams: dict[str, SocketTextStream] = {}
        # Contexts that were abandoned and not ended by the vendor yet: they count against its limit, too.
        self._draining: dict[str, SocketTextStream] = {}
        self._drain_timers: dict[str, asyncio.TimerHandle] = {}
        self._untouched: set[str] = set()  # contexts that began on an idle connection and have got nothing since
        self._retiring = self._closing = self._stalled = False
        self._received = False
        self._outbox: deque[SocketTextStream | str] = deque()
        self._wake = asyncio.Event()
        self._alive = True  # whether anything has come since the last ping
        self._ping_due = False
        self._pinged_at = self.idle_since = self._loop.time()
        self.connected: asyncio.Future[None] = self._loop.create_future()
        """Future that is done once the connection is open, or has failed."""
        self._tick_timer = self._loop.call_later(_TICK, self._tick)
        self._task: asyncio.Task[BaseException] | None = asyncio.create_task(self._run())
        self._task.add_done_callback(self._end)  # a task that is cancelled before its first step runs no `finally`
        self._broken = False

    @property
    def open(self) -> bool:
        """True if the connection is open."""
        return self._socket is not None and not self._closing

    @property
    def idle(self) -> bool:
        """True if no context is on it."""
        return not self._streams and not self._draining

    @property
    def has_room(self) -> bool:
        """True if it can take another context."""
        in_use = len(self._streams) + len(self._draining)
        return not (self._retiring or self._closing or self._stalled) and in_use < self.route.max_contexts

    @property
    def task(self) -> asyncio.Task[BaseException] | None:
        """Task that runs the connection; None once it has ended."""
        return self._task

    def add(self, stream: SocketTextStream) -> None:
        """Carry a stream's context."""
        stream.context_id = f"c{next(_context_numbers)}"
        self._streams[stream.context_id] = stream
        if self._socket is not None:
            self._untouched.add(stream.context_id)

    def notify(self, stream: SocketTextStream) -> None:
        """Have the messages that the stream has ready sent."""
        if stream not in self._outbox:
            self._outbox.append(stream)
            self._wake.set()

    def abandon(self, stream: SocketTextStream, *, owed: bool) -> None:
        """End a stream's context early, and release the stream when the vendor has ended it."""
        context_id = stream.context_id
        self._streams.pop(context_id, None)
        if not stream.opened or self._closing:
            stream.release()
            self._check_idle()
        elif not self.route.can_cancel or (owed and not self._streams):
            # Closing the connection ends what the vendor still generates, and with it the concurrent request.
            self._draining[context_id] = stream
            self.close()
            if self.route.keeps_idle:
                self._replace()
        else:
            self._draining[context_id] = stream
            if message := stream.protocol.cancel(context_id, shut=stream.shut):
                self._send(message)
            self._drain_timers[context_id] = self._loop.call_later(DRAINING_TIMEOUT, self.retire)

    def retire(self) -> None:
        """Take no more contexts, and close once no stream is left."""
        self._retiring = True
        self._check_idle()

    def close(self) -> None:
        """Close the connection; its streams end when it has ended."""
        if not self._closing:
            self._closing = True
            if self._task:
                self._task.cancel()

    def after_fork(self) -> None:
        """Drop the connection in a forked child: it belongs to the parent."""
        self._closing = True
        if self._socket:
            self._socket.after_fork()

    # The connection

    async def _run(self) -> BaseException:
        """Run the connection until it ends, and return the reason."""
        writer: asyncio.Task[None] | None = None
        try:
            self._socket = await self._connect()
            self._settle_connected()
            self.idle_since = self._loop.time()
            writer = asyncio.create_task(self._write(self._socket))
            await self._read(self._socket)
        except asyncio.CancelledError as error:
            return SocketClosedError(None) if self._broken else error
        except Exception as error:
            return drop_tracebacks(error)
        finally:
            self._closing = True
            if writer:
                writer.cancel()
                await asyncio.wait([writer])
            if self._socket:
                await self._socket.aclose()

    async def _read(self, socket: WebSocket) -> NoReturn:
        budget = WorkBudget()
        while True:
            message = await socket.receive()
            self._alive = self._received = True
            if message is not None:
                if len(message) > LONG_MESSAGE:
                    await self._dispatch_long(message)
                else:
                    self._dispatch(message)
                budget.spend(len(message))
                if budget.exhausted:
                    await budget.yield_to_loop()
            await self._wait_for_reader()

    def _dispatch(self, message: str) -> None:
        protocol = self._protocol()
        if protocol is None:
            return
        try:
            events = protocol.parse(message)
        except ValueError as error:
            raise MalformedMessageError(str(error)) from error
        for event in events:
            self._handle(event)

    async def _dispatch_long(self, message: str) -> None:
        """Handle a message in steps, and let the event loop run between them."""
        if protocol := self._protocol():
            for event in _steps(protocol, message):
                if event:
                    self._handle(event)
                await asyncio.sleep(0)

    def _handle(self, event: ContextEvent) -> None:
        context_id = event.context_id
        if context_id is None and len(self._streams) == 1 and not (self._draining or event.error):
            (context_id,) = self._streams  # servers that have one context leave its name out
        if context_id is None:
            if event.error:
                raise event.error
            return
        self._untouched.discard(context_id)
        stream = self._streams.get(context_id)
        if event.error:
            self._fail_context(context_id, event.error)
        elif event.final:
            self._end_context(context_id)
        elif stream:
            stream.receive(event)

    def _fail_context(self, context_id: str, error: Exception) -> None:
        if isinstance(error, TTSConcurrencyError):
            self._retiring = True
        if stream := self._streams.pop(context_id, None):
            stream.fail(error)
            self._check_idle()
        else:
            self._end_context(context_id)

    def _end_context(self, context_id: str) -> None:
        if stream := self._streams.pop(context_id, None):
            stream.finish_context()
        elif stream := self._draining.pop(context_id, None):
            self._drain_timers.pop(context_id).cancel()
            stream.release()
        self._check_idle()

    async def _wait_for_reader(self) -> None:
        """Stop reading while the only stream's reader is behind; end a stream that would stop the others."""
        for stream in [each for each in self._streams.values() if each.overfull]:
            if len(self._streams) == 1 and not self._draining:
                self._stalled = True
                await stream.room()
                self._stalled, self._alive = False, True
            else:
                stream.overflow()

    async def _write(self, socket: WebSocket) -> None:
        with suppress(OSError):  # the reader reports a broken connection
            while True:
                while self._outbox:
                    await self._write_next(socket, self._outbox.popleft())
                if self._ping_due:
                    self._ping_due = False
                    await socket.ping()
                self._wake.clear()
                await self._wake.wait()

    async def _write_next(self, socket: WebSocket, item: SocketTextStream | str) -> None:
        if isinstance(item, str):
            await socket.send(item)
            return
        if self._streams.get(item.context_id) is not item:
            return
        for message in item.take_messages():
            await socket.send(message)
            item.last_sent = self._loop.time()
            item.accept(socket.request_id)

    def _send(self, message: str) -> None:
        self._outbox.append(message)
        self._wake.set()

    # Its end

    def _end(self, task: asyncio.Task[BaseException]) -> None:
        """End all streams with the loss of the connection, as one failure."""
        error = asyncio.CancelledError() if task.cancelled() else task.result()
        self._task = None
        self._closing = True
        self._tick_timer.cancel()
        for timer in self._drain_timers.values():
            timer.cancel()
        self._drain_timers.clear()
        for stream in self._draining.values():
            stream.release()
        self._draining.clear()
        self._settle_connected(error)
        self._on_end(self)
        streams, self._streams = self._streams, {}
        shared, connected = object(), self._socket is not None
        for context_id, stream in streams.items():
            failure = self._failure(error, stream)
            if not isinstance(failure, TTSError):
                stream.fail(failure)
                continue
            failure.shared_cause = shared
            stale = connected and context_id in self._untouched
            restarted = isinstance(failure, TTSSocketRestartedError | TTSSocketIdleError)
            stream.lose(failure, retry=stale or restarted)
        self._outbox.clear()
        self._socket = None

    def _failure(self, error: BaseException, stream: SocketTextStream) -> Exception:
        """Return a stream's own error for what ended the connection."""
        protocol = stream.protocol
        match error:
            case SocketClosedError():
                return protocol.error_of(ConnectionEnd(error.code, error.reason, stream.delivered, self._received))
            case MalformedMessageError():
                return protocol.malformed(str(error))
            case Exception():
                return copy_without_traceback(error)
        return protocol.error_of(ConnectionEnd(None, "", stream.delivered, self._received))

    def _settle_connected(self, error: BaseException | None = None) -> None:
        if not self.connected.done():
            if isinstance(error, Exception):
                self.connected.set_exception(copy_without_traceback(error))
                self.connected.exception()  # retrieved, for it may be that nothing waits for it
            else:
                self.connected.set_result(None)

    def _check_idle(self) -> None:
        if self._streams:
            return
        self.idle_since = self._loop.time()
        if self._retiring or (self.idle and not self.route.keeps_idle):
            self.close()

    def _protocol(self) -> ContextProtocol | None:
        """Return the parser of messages: that of any stream, for all on one route have the same."""
        for streams in (self._streams, self._draining):
            for stream in streams.values():
                return stream.protocol
        return None

    def _tick(self) -> None:
        now = self._loop.time()
        self._tick_timer = self._loop.call_later(_TICK, self._tick)
        if self._socket is None or self._stalled:
            return
        if self.idle and now - self.idle_since >= IDLE_TIMEOUT:
            self.close()
            return
        for stream in self._streams.values():
            if stream.opened and not stream.shut and now - stream.last_sent >= KEEP_ALIVE_INTERVAL:
                stream.last_sent = now
                if message := stream.protocol.keep_alive(stream.context_id):
                    self._send(message)
        if now - self._pinged_at >= PING_INTERVAL:
            if not self._alive:
                self._broken = True
                self.close()
                return
            self._pinged_at, self._alive, self._ping_due = now, False, True
            self._wake.set()


def _steps(protocol: ContextProtocol, message: str) -> Iterator[ContextEvent | None]:
    """Parse a long message in steps. Raises MalformedMessageError."""
    try:
        yield from protocol.parse_long(message)
    except ValueError as error:
        raise MalformedMessageError(str(error)) from error
