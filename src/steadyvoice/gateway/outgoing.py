"""What goes out to a client: an answer's parts, a few at a time, or one that is poured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

_AT_ONCE = 64 * 1024  # bytes, which are not held for others to go along

MOST_HELD = 1024 * 1024
"""Bytes that a transport may hold unsent when more is written: beyond, the client is dropped.

An answer waits when its transport says so, at 64 KiB, and one part of it may go beyond. This holds where a transport
never says so, as asyncio's `writelines()` in 3.12.0 to 3.12.8, 3.13.0 and 3.13.1 (CVE-2024-12254): a client that did
not read filled the memory.
"""


class Outgoing:
    """What an answer sees of its connection: it says that it is done, and the connection decides how to end.

    What is written within one turn of the event loop goes out as one: a short answer in one packet, not in three.
    """

    __slots__ = ("_loop", "_pending", "_size", "_transport", "close", "is_closing")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, close: Callable[[], None]
    ) -> None:
        self._transport, self._loop = transport, loop
        self.is_closing, self.close = transport.is_closing, close
        self._pending: list[bytes] = []
        self._size = 0  # of these

    def write(self, data: bytes) -> None:
        """Send it; when that is over, which the answer hears of a moment later, send nothing: uvloop would raise."""
        if self.is_closing():
            return
        if not self._pending:
            self._loop.call_soon(self.flush)
        self._pending.append(data)
        self._size += len(data)
        if self._size > _AT_ONCE:  # the transport must know, for it tells when to wait
            self.flush()

    def write_at_once(self, parts: Iterable[bytes]) -> None:
        """Send what is pending, and these behind it, without waiting for more."""
        self._pending += parts
        self.flush()

    def disconnect(self) -> None:
        """Forget the connection, which is lost: it holds this, and would be held by it."""
        self.close = _nothing

    def flush(self) -> None:
        """Let it go."""
        if self._pending and not self.is_closing():
            if self._transport.get_write_buffer_size() > MOST_HELD:
                self._transport.abort()
            else:
                self._transport.write(b"".join(self._pending))  # `writelines()` does not always pause the writer
        self._pending, self._size = [], 0


def _nothing() -> None: ...


class Pouring:
    """An outlet for an answer in HTTP's chunks that has begun."""

    __slots__ = ("_cycle", "_line")

    def __init__(self, cycle: Any, line: Outgoing) -> None:
        self._cycle, self._line = cycle, line

    def open(self) -> bool:
        """Whether the client reads on, as far as one knows."""
        cycle = self._cycle
        return not (cycle.flow.write_paused or cycle.disconnected or cycle.response_complete)

    def write(self, data: bytes) -> None:
        """Send it as a chunk."""
        self._line.write_at_once((b"%x\r\n" % len(data), data, b"\r\n"))
