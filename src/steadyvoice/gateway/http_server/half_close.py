"""Half-closed connections: clients that have ended their own side, and still read.

`shutdown(SHUT_WR)` and `close()` send the same FIN. The difference shows in what becomes of the next byte sent to the
client: it is read, or answered with a reset, after which the next write fails. Such a client is therefore sent bytes
that change nothing: the beginning of the status line ahead of time, or a zero in front of the next chunk's size.
"""

from __future__ import annotations

import asyncio
from typing import Any

from steadyvoice.gateway.http_server.output import BufferedOutput

_STATUS_LINE_START = b"HTTP/1.1 "
_MAX_ZEROS = 8  # of one answer. With the longest size of ours that makes 13 digits; h11 reads 20, Go's net/http 16
_MIN_INTERVAL, _MAX_INTERVAL = 0.01, 10.0  # seconds from one byte to the next
_INTERVAL_FACTOR = 3


class HalfCloseProbe:
    """Probes whether the client of a half-closed connection still reads, while an answer has nothing to send."""

    __slots__ = ("_cycle", "_early", "_line", "_loop", "_timer", "_wait", "_zeros")

    def __init__(self, loop: asyncio.AbstractEventLoop, line: BufferedOutput) -> None:
        self._loop, self._line = loop, line
        self._cycle: Any = None  # the answer that is being made
        self._timer: asyncio.TimerHandle | None = None
        self._early = self._zeros = 0
        self._wait = _MIN_INTERVAL

    @property
    def early(self) -> int:
        """Bytes of the status line that have been sent ahead of an answer that has not begun."""
        return self._early

    @property
    def dangling(self) -> bool:
        """Whether a zero may have been sent behind which no size has come: some clients would take it for the end."""
        return self._zeros > 0

    def watch(self, cycle: Any) -> None:
        """Probe while this is being answered."""
        self.stop()
        self._cycle, self._early, self._zeros, self._wait = cycle, 0, 0, _MIN_INTERVAL
        cycle.waiting_for_100_continue = False  # its body is there, and a status line may have begun
        self._probe()

    def stop(self) -> None:
        """Probe no more."""
        cycle, self._cycle = self._cycle, None
        if cycle and isinstance(cycle.transport, _StartedResponse):  # which refers to it, and would need the collector
            cycle.transport = self._line
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _probe(self) -> None:
        cycle = self._cycle
        if cycle is None or cycle.response_complete or self._line.is_closing():
            return
        if not cycle.response_started:
            self._send_early(cycle)
        elif cycle.chunked_encoding and self._zeros < _MAX_ZEROS and not cycle.flow.write_paused:
            self._zeros += 1
            self._line.write_at_once((b"0",))
        self._timer = self._loop.call_later(self._wait, self._probe)
        self._wait = min(self._wait * _INTERVAL_FACTOR, _MAX_INTERVAL)

    def _send_early(self, cycle: Any) -> None:
        if self._early == len(_STATUS_LINE_START):
            return
        self._early += 1
        cycle.transport = _StartedResponse(cycle, self._line, self._early)
        self._line.write_at_once((_STATUS_LINE_START[self._early - 1 : self._early],))


class _StartedResponse:
    """What an answer writes to when the first bytes of it have been sent."""

    __slots__ = ("_cycle", "_line", "_sent", "close", "is_closing")

    def __init__(self, cycle: Any, line: BufferedOutput, sent: int) -> None:
        self._cycle, self._line, self._sent = cycle, line, sent
        self.close, self.is_closing = line.close, line.is_closing

    def write(self, data: bytes) -> None:
        """Send the rest, and step aside."""
        self._cycle.transport = self._line
        self._line.write(data[self._sent :])
