"""Timing in rounds, with all subjects in each round, so that load on the machine affects all of them alike."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from threading import Barrier, Thread
from time import perf_counter_ns
from typing import NamedTuple

from speed.subjects import Case, Function, Subject

ROUNDS = 41
ROUND_NS = 4_000_000
"""Nanoseconds that one subject may take in one round."""


class Timing(NamedTuple):
    """Nanoseconds per call: the median of the rounds, and the spread of their middle half as a share of it."""

    ns: float
    spread: float


class ExpectedError(Exception):
    """Error that the guarded function raises."""


def succeed() -> None:
    """Do nothing."""


def fail() -> None:
    """Raise ExpectedError."""
    raise ExpectedError


async def succeed_async() -> None:
    """Do nothing."""


async def fail_async() -> None:
    """Raise ExpectedError."""
    raise ExpectedError


def calls(functions: Mapping[str, Function], case: Case) -> dict[str, Timing]:
    """Return the time of one call of each function."""
    loop = _successes if case is Case.SUCCESS else _errors
    return _in_rounds({name: _bind(loop, function) for name, function in functions.items()})


def awaits(functions: Mapping[str, Function], case: Case) -> dict[str, Timing]:
    """Return the time of one await of each coroutine function, in a running loop."""
    loop = _successes_async if case is Case.SUCCESS else _errors_async

    def bind(function: Function) -> Callable[[int], int]:
        return lambda times: asyncio.run(loop(function, times))

    return _in_rounds({name: bind(function) for name, function in functions.items()})


def in_threads(functions: Mapping[str, Function], threads: int) -> dict[str, Timing]:
    """Return the time of one call when so many threads call the same function."""

    def bind(function: Function) -> Callable[[int], int]:
        return lambda times: _run_threads(function, times, threads)

    return _in_rounds({name: bind(function) for name, function in functions.items()})


def bytes_each(subject: Subject, count: int) -> float:
    """Return the bytes of one breaker, measured over so many."""
    subject.new(-1)  # so that imports and caches are not measured
    gc.collect()
    tracemalloc.start()
    kept = [subject.new(number) for number in range(count)]
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(kept)


def imports(modules: Iterable[str]) -> dict[str, Timing]:
    """Return the time of importing each module in a new process."""
    names = list(modules)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(7):
        for name in names:
            samples[name].append(_import_ns(name))
    return {name: _timing(values) for name, values in samples.items()}


def _bind(loop: Callable[[Function, int], int], function: Function) -> Callable[[int], int]:
    return lambda times: loop(function, times)


def _in_rounds(runs: Mapping[str, Callable[[int], int]]) -> dict[str, Timing]:
    times = {name: _calls_per_round(run) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    # A collection would fall on whichever subject happens to run.
    gc.disable()
    try:
        for _ in range(ROUNDS):
            for name, run in runs.items():
                samples[name].append(run(times[name]) / times[name])
    finally:
        gc.enable()
    return {name: _timing(values) for name, values in samples.items()}


def _calls_per_round(run: Callable[[int], int]) -> int:
    """Return the number of calls that fill a round. Trying fills every sliding window, too."""
    times = 256
    # Doubled until a quarter of a round is filled, so that the clock's resolution does not matter.
    while (elapsed := run(times)) < ROUND_NS / 4:
        times *= 2
    return max(1, int(times * ROUND_NS / elapsed))


def _timing(samples: list[float]) -> Timing:
    low, middle, high = statistics.quantiles(samples, n=4)
    return Timing(middle, (high - low) / middle)


def _successes(function: Function, times: int) -> int:
    begin = perf_counter_ns()
    for _ in repeat(None, times):
        function()
    return perf_counter_ns() - begin


def _errors(function: Function, times: int) -> int:
    begin = perf_counter_ns()
    for _ in repeat(None, times):
        try:  # noqa: SIM105 - suppress() would be measured, too
            function()
        except Exception:
            pass
    return perf_counter_ns() - begin


async def _successes_async(function: Function, times: int) -> int:
    begin = perf_counter_ns()
    for _ in repeat(None, times):
        await function()
    return perf_counter_ns() - begin


async def _errors_async(function: Function, times: int) -> int:
    begin = perf_counter_ns()
    for _ in repeat(None, times):
        try:  # noqa: SIM105
            await function()
        except Exception:
            pass
    return perf_counter_ns() - begin


def _run_threads(function: Function, times: int, threads: int) -> int:
    # The same number of calls in total, whatever the number of threads.
    share = max(1, times // threads)
    # Starting a thread takes longer than many calls: the clock runs from the moment that all are ready.
    ready = Barrier(threads + 1)

    def work() -> None:
        ready.wait()
        _successes(function, share)

    workers = [Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    begin = perf_counter_ns()
    for worker in workers:
        worker.join()
    return perf_counter_ns() - begin


def _import_ns(module: str) -> float:
    code = f"from time import perf_counter_ns as now; begin = now(); import {module}; print(now() - begin)"
    # Without bytecode on disk, compiling would be measured, and only for our modules: pip compiles what it installs.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)
