"""Circuit breakers that share over Redis, at one server: cost of a closed circuit, an outage, a server that hangs.

Run by `benchmarks/fleet.py`, in the peers' environment: `sharing.py PORT PID`. Each opens after five failures. A
replica has a connection of its own, and counts as open once a call of it was refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from itertools import cycle
from statistics import quantiles
from typing import Any

DISTRIBUTIONS = ("interlock-cb", "msgspec", "purgatory", "pybreaker", "redis")
FAILURES = 5
LONG = 600.0
"""Cooldown in seconds that does not end during a measurement."""
SHORT_TIMEOUT = 0.2
HANG = 12.0
REPLICAS_IN_OUTAGE, REPLICAS_AT_WORK = 10, 50
CALLS_PER_SECOND = 10.0
CALLS_AT_WORK = 100.0

Call = Callable[[Callable[[], None]], None]


class Down(Exception):
    """Failure of the function that is called."""


class SharingBreaker:
    """Breaker that shares. `make` returns a replica's way to call a function, and a way to end the replica."""

    name = distribution = ""

    def make(self, port: int, circuit: str, timeout: float | None) -> tuple[Call, Callable[[], None]]:
        """Return a new replica; with a timeout, its client waits so long for the server and does not retry."""
        raise NotImplementedError


class OurFleet(SharingBreaker):
    name = "steadyvoice"

    def make(self, port: int, circuit: str, timeout: float | None) -> tuple[Call, Callable[[], None]]:
        breaker, fleet = import_module("steadyvoice.breaker"), import_module("steadyvoice.fleet")
        config = breaker.CircuitBreakerConfig.consecutive(FAILURES, cooldown_period=LONG)
        guard = breaker.CircuitBreaker(circuit, config)
        member = fleet.Fleet(f"redis://127.0.0.1:{port}/0", [guard], name=circuit)
        member.start()

        def call(function: Callable[[], None]) -> None:
            with guard:
                function()

        return call, member.close


class PyBreakerOnRedis(SharingBreaker):
    name = distribution = "pybreaker"

    def make(self, port: int, circuit: str, timeout: float | None) -> tuple[Call, Callable[[], None]]:
        pybreaker, client = import_module("pybreaker"), _client(port, timeout)
        storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, client, namespace=circuit)
        breaker = pybreaker.CircuitBreaker(fail_max=FAILURES, reset_timeout=LONG, state_storage=storage)
        return breaker.call, client.close


class InterlockOnRedis(SharingBreaker):
    name = distribution = "interlock-cb"

    def make(self, port: int, circuit: str, timeout: float | None) -> tuple[Call, Callable[[], None]]:
        interlock, storage = import_module("interlock"), import_module("interlock.integrations.redis")
        # It has rates only: half of ten calls is the nearest to five failures.
        config = interlock.Config(wait_duration_in_open=LONG, window_size=2 * FAILURES)
        client = _client(port, timeout)
        breaker = interlock.CircuitBreaker(name=circuit, config=config, storage=storage.RedisStorage(client))

        def close() -> None:
            breaker.close()
            client.close()

        return breaker.call_sync, close


class PurgatoryOnRedis(SharingBreaker):
    """Used with asyncio: its synchronous store cannot be, as it makes an asynchronous client (3.0.1)."""

    name = distribution = "purgatory"

    def make(self, port: int, circuit: str, timeout: float | None) -> tuple[Call, Callable[[], None]]:
        purgatory, loop = import_module("purgatory"), asyncio.new_event_loop()
        store = purgatory.AsyncRedisUnitOfWork(f"redis://127.0.0.1:{port}/0")
        if timeout is not None:
            store.contexts.redis = _client(port, timeout, "redis.asyncio")
        factory = purgatory.AsyncCircuitBreakerFactory(FAILURES, LONG, uow=store)
        loop.run_until_complete(factory.initialize())

        async def guarded(function: Callable[[], None]) -> None:
            async with await factory.get_breaker(circuit):
                function()

        def call(function: Callable[[], None]) -> None:
            loop.run_until_complete(guarded(function))

        def close() -> None:
            loop.run_until_complete(store.contexts.redis.aclose())
            loop.close()

        return call, close


SUBJECTS = (OurFleet(), PyBreakerOnRedis(), InterlockOnRedis(), PurgatoryOnRedis())


def _client(port: int, timeout: float | None, module: str = "redis") -> Any:
    client = import_module(module).Redis
    if timeout is None:
        return client(host="127.0.0.1", port=port)
    retry = import_module(f"{module}.retry").Retry(import_module("redis.backoff").NoBackoff(), 0)
    times = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    return client(host="127.0.0.1", port=port, retry=retry, **times)


class Server:
    """Server that all share, and its counters."""

    def __init__(self, port: int, process: int) -> None:
        self.port, self._process, self._own_requests = port, process, 0
        self._client = _client(port, None)

    def requests(self) -> int:
        """Return how many requests it read from its connections, without those of this object."""
        self._own_requests += 1
        return int(self._client.info("stats")["total_reads_processed"]) - self._own_requests

    def empty(self) -> None:
        """Forget all data."""
        self._client.flushall()
        self._own_requests += 1

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Stop the process while the block lasts."""
        os.kill(self._process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process, signal.SIGCONT)


@contextmanager
def replicas(
    subject: SharingBreaker, server: Server, number: int, timeout: float | None = None
) -> Iterator[list[Call]]:
    """Run replicas that share while the block lasts, on an empty server."""
    server.empty()
    made = [subject.make(server.port, "vendor", timeout) for _ in range(number)]
    time.sleep(2)  # all know each other
    try:
        yield [call for call, _ in made]
    finally:
        for _, close in made:
            close()


def works() -> None:
    """Return at once."""


def closed_path(subject: SharingBreaker, server: Server) -> str:
    """Return round trips, and microseconds in the median and at p99, of a call that succeeds."""
    with replicas(subject, server, 1) as (call,):
        call(works)
        times = [_milliseconds(call, works) * 1000 for _ in range(3000)]
        # What is sent in the background is counted without calls, for a second at least, and subtracted.
        before, began = server.requests(), time.monotonic()
        for _ in range(1000):
            call(works)
        took, during = time.monotonic() - began, server.requests() - before
        before = server.requests()
        time.sleep(max(1.0, took))
        idle = (server.requests() - before) / max(1.0, took) * took
    return f"{max(0.0, during - idle) / 1000:.1f} | {_percentile(times, 50):.1f} | {_percentile(times, 99):.1f}"


def outage(subject: SharingBreaker, server: Server) -> str:
    """Return the failures, and the seconds, until all replicas refuse."""
    failures, refused = 0, set[int]()

    def fails() -> None:
        nonlocal failures
        failures += 1
        raise Down

    with replicas(subject, server, REPLICAS_IN_OUTAGE) as calls:
        order = cycle(range(len(calls)))
        _pace(2.0, CALLS_PER_SECOND, lambda: calls[next(order)](works))
        began = time.monotonic()

        def fail() -> bool:
            number, before = next(order), failures
            try:
                calls[number](fails)
            except Exception:
                if failures == before:
                    refused.add(number)
            return len(refused) == len(calls)

        _pace(40.0, CALLS_PER_SECOND, fail)
        took = time.monotonic() - began
    left = "" if len(refused) == len(calls) else f", {len(calls) - len(refused)} still closed"
    return f"{failures}{left} | {took:.1f}"


def requests_at_work(subject: SharingBreaker, server: Server) -> str:
    """Return the requests a second of many replicas, of which each is called twice a second."""
    with replicas(subject, server, REPLICAS_AT_WORK) as calls:
        order = cycle(calls)
        before, began = server.requests(), time.monotonic()
        _pace(5.0, CALLS_AT_WORK, lambda: next(order)(works))
        return f"{(server.requests() - before) / (time.monotonic() - began):.0f}"


def hung(subject: SharingBreaker, server: Server, timeout: float | None) -> str:
    """Return p99 in milliseconds of calls that would succeed while the server hangs, and how many were broken by it."""
    times, broken, ends = list[float](), 0, time.monotonic() + HANG

    with replicas(subject, server, 1, timeout) as (call,):
        call(works)

        def keep_calling() -> None:
            nonlocal broken
            while time.monotonic() < ends and len(times) < 2000:
                began = time.perf_counter()
                try:
                    call(works)
                except Exception:
                    broken += 1
                times.append((time.perf_counter() - began) * 1000)
                time.sleep(0.002)

        caller = threading.Thread(target=keep_calling)
        with server.hung():
            ends = time.monotonic() + HANG
            caller.start()
            caller.join(HANG + 10)
            unanswered = caller.is_alive()
        caller.join()
    slowest = f"over {HANG + 10:.0f} s" if unanswered else _readable(_percentile(times, 99))
    return f"{slowest}{f', {broken} of {len(times)} fail' if broken else ''}"


def _readable(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.1f} s" if milliseconds >= 1000 else f"{milliseconds:.2g} ms"


def _milliseconds(call: Call, function: Callable[[], None]) -> float:
    began = time.perf_counter()
    call(function)
    return (time.perf_counter() - began) * 1000


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def _pace(seconds: float, rate: float, act: Callable[[], object]) -> None:
    """Act at a rate until the time is over, or an act returns True."""
    began, number = time.monotonic(), 0
    while (due := began + number / rate) < began + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        if act() is True:
            return
        number += 1


def main(port: int, process: int) -> None:
    """Measure and print a table, a row for each breaker that is installed."""
    logging.disable(logging.CRITICAL)
    server = Server(port, process)
    print(f"Python {platform.python_version()}, redis-py {version('redis')}, {os.cpu_count()} processors")
    columns = [
        "round trips",
        "p50 µs",
        "p99 µs",
        f"failures until {REPLICAS_IN_OUTAGE} are open",
        "s",
        f"requests/s, {REPLICAS_AT_WORK} replicas",
        "p99, server hangs",
        f"with {SHORT_TIMEOUT} s timeout",
    ]
    print(f"| shared | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for subject in SUBJECTS:
        try:
            name = f"{subject.name} {version(subject.distribution)}" if subject.distribution else subject.name
        except ModuleNotFoundError:
            print(f"| {subject.name} | not installed |", flush=True)
            continue
        cells = [closed_path(subject, server), outage(subject, server), requests_at_work(subject, server)]
        # With ours, users set up no client: the timeout is always the short one.
        cells += [hung(subject, server, None), hung(subject, server, SHORT_TIMEOUT) if subject.distribution else "same"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
