"""Memory that is allocated in one turn of the event loop: a count of what was unpacked or copied in it."""

from __future__ import annotations

import asyncio
import tracemalloc
from types import TracebackType
from typing import Self


class TurnMeter:
    """Bytes by which memory grew at most within one turn of the running event loop, while the context lasts.

    Buffers that grow count with what they keep in reserve. Work in other threads counts as well.
    """

    def __init__(self) -> None:
        self.most = 0
        self.turns = 0
        self._before = 0
        self._handle: asyncio.Handle | None = None

    def __enter__(self) -> Self:
        tracemalloc.start()
        self._begin_turn()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_turn()
        tracemalloc.stop()
        assert self._handle
        self._handle.cancel()

    def _begin_turn(self) -> None:
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]
        self._handle = asyncio.get_running_loop().call_soon(self._tick)

    def _end_turn(self) -> None:
        self.turns += 1
        self.most = max(self.most, tracemalloc.get_traced_memory()[1] - self._before)

    def _tick(self) -> None:
        self._end_turn()
        self._begin_turn()
