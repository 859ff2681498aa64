"""Bounded pool of threads that decode and encode audio, so that the event loop does not."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import ParamSpec, TypeVar

from steadyvoice.breaker.fork_safety import register_fork_aware

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 4
"""Threads at most, whatever the number of processors: much of the work needs the interpreter's lock."""


class AudioThreadPool:
    """Threads of one service, started when there is work and ended by `close()`. It may be used again afterwards.

    Work is begun in the order in which it came. `queue_wait` tells how far the pool is behind. Safe in threads, and in
    a forked child, which starts threads of its own.
    """

    def __init__(self, threads: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads or min(MAX_THREADS, _available_processors())
        self._clock = clock
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: dict[int, float] = {}  # when each piece of work came that has not begun, the oldest first
        self._numbers = 0
        register_fork_aware(self)

    @property
    def queue_wait(self) -> float:
        """Seconds for which the oldest piece of work that has not begun has waited; 0 when nothing waits."""
        waiting = list(self._waiting.values())
        return max(0.0, self._clock() - waiting[0]) if waiting else 0.0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do this in a thread, and wait for it. It is done even when whoever waits is cancelled meanwhile."""
        with self._lock:
            self._pool = pool = self._pool or ThreadPoolExecutor(self._threads, thread_name_prefix="steadyvoice-audio")
            self._numbers = number = self._numbers + 1
            self._waiting[number] = self._clock()
        begin = partial(self._begin, number, partial(work, *args, **kwargs))
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(pool, begin))

    def close(self) -> None:
        """End the threads once they have done what they do, and wait for that; what has not begun is dropped."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._waiting = {}
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)

    fork_lock = None

    def after_fork(self) -> None:
        """Forget the parent's threads, which were not copied, and its lock, which one of them may have held."""
        self._pool, self._lock = None, Lock()
        self._waiting = {}

    def _begin(self, number: int, work: Callable[[], T]) -> T:
        self._waiting.pop(number, None)
        return work()


def _available_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
