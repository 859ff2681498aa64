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
# Of one response. With our longest chunk size that makes 13 digits; h11 accepts 20, Go's net/http 16.
_MAX_ZEROS = 8
_MIN_INTERVAL, _MAX_INTERVAL = 0.01, 10.0  # seconds between two bytes
_INTERVAL_FACTOR = 3


class HalfCloseProbe:
    """Probe that finds out whether a half-closed client still reads, while its response has nothing to send."""

    __slots__ = ("_cycle", "_early_bytes", "_loop", "_output", "_timer", "_wait", "_zeros")

    def __init__(self, loop: asyncio.AbstractEventLoop, output: BufferedOutput) -> None:
        self._loop, self._output = loop, output
        self._cycle: Any = None  # uvicorn's request and response that is running
        self._timer: asyncio.TimerHandle | None = None
        self._early_bytes = self._zeros = 0
        self._wait = _MIN_INTERVAL

    @property
    def early(self) -> int:
        """Bytes of the status line that were sent ahead of the response."""
        return self._early_bytes

    @property
    def dangling(self) -> bool:
        """True if a zero may have been sent without a chunk size after it, which some clients take for the end."""
        return self._zeros > 0

    def watch(self, cycle: Any) -> None:
        """Probe while this request is answered."""
        self.stop()
        # On loopback, a client that has left is noticed with the second byte, within 10 ms. Later bytes follow at
        # growing intervals, for a client that leaves later.
        self._cycle, self._early_bytes, self._zeros, self._wait = cycle, 0, 0, _MIN_INTERVAL
        # The body is complete, and "100 Continue" must not follow a status line that may have begun.
        cycle.waiting_for_100_continue = False
        self._probe()

    def stop(self) -> None:
        """Stop probing."""
        cycle, self._cycle = self._cycle, None
        if cycle and isinstance(cycle.transport, _StartedResponse):
            # The two refer to each other, and would be left to the garbage collector.
            cycle.transport = self._output
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _probe(self) -> None:
        # Not `100 Continue`, which simple clients take for the response; not TCP's keepalive, which a closed peer
        # acknowledges.
        cycle = self._cycle
        if cycle is None or cycle.response_complete or self._output.is_closing():
            return
        if not cycle.response_started:
            self._send_early(cycle)
        elif cycle.chunked_encoding and self._zeros < _MAX_ZEROS and not cycle.flow.write_paused:
            self._zeros += 1
            self._output.write_at_once((b"0",))
        self._timer = self._loop.call_later(self._wait, self._probe)
        self._wait = min(self._wait * _INTERVAL_FACTOR, _MAX_INTERVAL)

    def _send_early(self, cycle: Any) -> None:
        if self._early_bytes == len(_STATUS_LINE_START):
            return
        self._early_bytes += 1
        cycle.transport = _StartedResponse(cycle, self._output, self._early_bytes)
        self._output.write_at_once((_STATUS_LINE_START[self._early_bytes - 1 : self._early_bytes],))


class _StartedResponse:
    """Transport of a response whose first bytes were sent already: drops them from the first write."""

    __slots__ = ("_cycle", "_output", "_sent", "close", "is_closing")

    def __init__(self, cycle: Any, output: BufferedOutput, sent: int) -> None:
        self._cycle, self._output, self._sent = cycle, output, sent
        self.close, self.is_closing = output.close, output.is_closing

    def write(self, data: bytes) -> None:
        """Send the rest, and give the response its usual transport back."""
        self._cycle.transport = self._output
        self._output.write(data[self._sent :])
