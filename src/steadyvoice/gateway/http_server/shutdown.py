"""Graceful shutdown: signals, draining of open connections, notification of systemd."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

from steadyvoice.gateway.http_server.connections import ConnectionSet

_FLUSH_SECONDS = 1.0  # for which closing connections may still send what is buffered


class GracefulShutdown:
    """Drain of all open connections: idle ones close at once, busy ones after their response."""

    def __init__(self, connections: ConnectionSet) -> None:
        self._connections = connections

    async def run(self, timeout: float, hurry: asyncio.Event | None = None) -> int:
        """Wait at most `timeout` seconds for running responses, or until `hurry` is set, then cancel the rest.

        Returns the number of responses that were cut.
        """
        connections = self._connections
        connections.closing = True
        for each in connections.all:
            each.shutdown()
        await first_of(connections.wait_until_empty(), (hurry or asyncio.Event()).wait(), timeout=timeout)
        cut = sum(each.busy for each in connections.all)
        await self._cancel_tasks()
        await first_of(connections.wait_until_empty(), timeout=_FLUSH_SECONDS)
        for each in connections.all:
            if each.busy:
                each.reset()
            else:  # its client may not have read all
                each.close()
        return cut

    async def _cancel_tasks(self) -> None:
        late = set(self._connections.state.tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


async def first_of(*waits: Coroutine[Any, Any, Any], timeout: float | None = None) -> None:
    """Wait until one of the coroutines has finished, at most `timeout` seconds, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class ShutdownSignals:
    """SIGINT and SIGTERM as events: the first one sets `stop`, the second one `hurry`."""

    def __init__(self, hurry: asyncio.Event | None = None) -> None:
        self.stop, self.hurry = asyncio.Event(), hurry or asyncio.Event()

    def install(self) -> None:
        """Handle the signals in the running event loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


def notify_systemd(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send a state such as `READY=1` to systemd, if NOTIFY_SOCKET names its socket.

    https://www.freedesktop.org/software/systemd/man/sd_notify.html
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # Linux's abstract namespace, which has no file
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(state.encode(), address)
