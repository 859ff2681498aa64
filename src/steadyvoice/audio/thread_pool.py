"""Thread pool with a bounded number of threads, in which audio is decoded and encoded off the event loop."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import ParamSpec, TypeVar

from steadyvoice.breaker.fork_safety import register_fork_aware

P = ParamSpec("P")
T = TypeVar("T")

_RECENT_JOBS = 16

MAX_THREADS = 4
"""Maximum of threads, whatever the number of processors: much of the work holds the interpreter's lock."""


class AudioThreadPool:
    """Thread pool of one service: threads start on demand and end with `close()`, after which it can be used again.

    Jobs start in the order in which they came. Safe to use from several threads, and in a forked child, which starts
    threads of its own.
    """

    def __init__(self, threads: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads or min(MAX_THREADS, _available_processors())
        self._clock = clock
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: dict[int, float] = {}  # when each queued job came, the oldest first
        self._job_count = 0
        self._durations = deque([0.0], maxlen=_RECENT_JOBS)
        register_fork_aware(self)

    @property
    def queue_wait(self) -> float:
        """Seconds for which the oldest job in the queue has waited; 0 when the queue is empty."""
        waiting = list(self._waiting.values())  # a copy at once: threads remove jobs while this runs
        return max(0.0, self._clock() - waiting[0]) if waiting else 0.0

    @property
    def slowest_recent_job(self) -> float:
        """Seconds, by the event loop's clock, that the slowest of the last jobs took from its order to its result."""
        return max(self._durations)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a thread and return its result. The job finishes even if the caller is cancelled meanwhile."""
        with self._lock:
            self._pool = pool = self._pool or ThreadPoolExecutor(self._threads, thread_name_prefix="steadyvoice-audio")
            self._job_count = number = self._job_count + 1
            self._waiting[number] = self._clock()
        start = partial(self._start, number, partial(work, *args, **kwargs))
        loop = asyncio.get_running_loop()
        began = loop.time()
        # A thread cannot be interrupted. The shield keeps a job in the queue from being cancelled with its caller, so
        # that jobs on one object run in order and are all counted.
        try:
            return await asyncio.shield(loop.run_in_executor(pool, start))
        finally:
            self._durations.append(loop.time() - began)

    def close(self) -> None:
        """Wait for the running jobs, then end the threads. Queued jobs are dropped."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._waiting = {}
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)

    fork_lock = None

    def after_fork(self) -> None:
        """Replace the parent's threads, which were not copied, and its lock, which one of them may have held."""
        self._pool, self._lock = None, Lock()
        self._waiting = {}

    def _start(self, number: int, work: Callable[[], T]) -> T:
        self._waiting.pop(number, None)
        return work()


def _available_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
