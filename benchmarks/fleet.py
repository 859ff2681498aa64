"""Fleets of replicas at a real Redis or Valkey server: outages, probes, refusals at an account's limit, costs, peers.

Run: `python benchmarks/fleet.py` where `redis-server` is installed; six minutes. `--server valkey-server` for another
server, `--replicas 5 10` for other fleets, `--peers` for the comparison alone: pybreaker, interlock-cb and purgatory at
the same server, installed into `benchmarks/.venv`; three minutes.

The replicas are threads and tasks of this process, each with a connection of its own; ten calls a second in all meet a
vendor that fails for half a minute. Alone means: the same replicas without a fleet. At the account's limit, services
with sixteen callers each meet a vendor that refuses what exceeds ten requests at once.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from itertools import count
from random import Random
from statistics import quantiles

from redis import Redis
from speed import sharing
from speed.own_venv import HOME, install_peers, source_folder
from speed.sharing import DISTRIBUTIONS

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, Tone
from steadyvoice.breaker import CircuitBreaker, CircuitState, Permit
from steadyvoice.fleet import Fleet, FleetConfig
from steadyvoice.providers.base import Accepted, AudioChunk, SynthesisOffer
from steadyvoice.providers.credentials import credential_for
from steadyvoice.speech.errors import TTSConcurrencyError
from steadyvoice.speech.request import SpeechRequest

CALLS_PER_SECOND = 10.0
CALL_SECONDS = 0.05
WARM_UP, OUTAGE = 4.0, 30.0
LIMIT, CALLERS = 10, 16
LOAD_SECONDS = 6.0


class StoreServer:
    """Server process, which can be stopped."""

    def __init__(self, program: str, folder: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = Redis(host="127.0.0.1", port=self.port)
        wait_until(self._answers, 20)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except OSError:
            return False

    @property
    def commands(self) -> int:
        """Number of scripts that it ran."""
        statistics = self.client.info("commandstats")
        return sum(int(each["calls"]) for name, each in statistics.items() if name.startswith("cmdstat_eval"))


@contextmanager
def store_server(program: str) -> Iterator[StoreServer]:
    """Run a server while the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        server = StoreServer(program, folder)
        try:
            yield server
        finally:
            server.process.kill()
            server.process.wait()
            server.client.close()


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


# ---------------------------------------------------------------- outages


class OutageRun:
    """Replicas in an outage; calls are made by this thread, beats by those of the fleets."""

    def __init__(self, replicas: int, url: str | None) -> None:
        self.circuits = [CircuitBreaker("vendor", CircuitBreakerConfig.adaptive()) for _ in range(replicas)]
        self.fleets = [Fleet(url, [circuit], name=f"outage {replicas}") for circuit in self.circuits] if url else []
        self.failures = self.probes = self.probing = self.most_probing = 0
        self.failures_until_open: int | None = None
        self.seconds_until_open: float | None = None
        self._random, self._order = Random(1), count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._is_down = False

    def run(self) -> None:
        """Let the vendor work, then fail, and count."""
        for fleet in self.fleets:
            fleet.start()
        if self.fleets:
            others = len(self.fleets) - 1
            wait_until(lambda: all(len(fleet.status().replicas) == others for fleet in self.fleets), 30)
        pause = len(self.circuits) / CALLS_PER_SECOND
        for circuit in self.circuits:
            self._after(self._random.random() * pause, partial(self._call, circuit, pause))
        self._pass(WARM_UP * max(1.0, pause))
        self._is_down, began = True, time.monotonic()
        self._pass(OUTAGE, began)
        for fleet in self.fleets:
            fleet.close()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action))

    def _pass(self, seconds: float, outage_began: float | None = None) -> None:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if outage_began is not None and self.failures_until_open is None and all(map(is_open, self.circuits)):
                self.failures_until_open, self.seconds_until_open = self.failures, now - outage_began
            if self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            else:
                time.sleep(min(0.005, self._due[0][0] - now))

    def _call(self, circuit: CircuitBreaker, pause: float) -> None:
        self._after(pause * (0.5 + self._random.random()), partial(self._call, circuit, pause))
        permit = circuit.try_acquire()
        if permit is None:
            return
        is_probe = circuit.state is CircuitState.HALF_OPEN
        self.probes += is_probe
        self.probing += is_probe
        self.most_probing = max(self.most_probing, self.probing)
        self._after(CALL_SECONDS, partial(self._end, permit, is_probe))

    def _end(self, permit: Permit, is_probe: bool) -> None:
        self.probing -= is_probe
        if self._is_down:
            self.failures += 1
            permit.failure("down")
        else:
            permit.success()


def is_open(circuit: CircuitBreaker) -> bool:
    """Return whether a circuit refuses calls for failures."""
    return circuit.state in (CircuitState.OPEN, CircuitState.HALF_OPEN)


def measure_outages(server: StoreServer, replicas: Sequence[int]) -> None:
    """Print what an outage costs."""
    print("| replicas | failures until all are open | seconds | probes in 30 s | at once |\n|---|---|---|---|---|")
    for number in replicas:
        for url, how in ((None, "alone"), (server.url, "sharing")):
            run = OutageRun(number, url)
            run.run()
            seconds = "never" if run.seconds_until_open is None else f"{run.seconds_until_open:.1f}"
            failures = run.failures if run.failures_until_open is None else run.failures_until_open
            print(f"| {number}, {how} | {failures} | {seconds} | {run.probes} | {run.most_probing} |", flush=True)


# ---------------------------------------------------------------- the account's limit


class LimitedVendor:
    """Vendor that refuses what exceeds the limit of the account."""

    def __init__(self) -> None:
        self.running = self.refused = self.served = self.most = 0
        self.used = 0.0  # slot seconds


class LimitedTone(Tone):
    """Provider with an account at the vendor."""

    def __init__(self, vendor: LimitedVendor) -> None:
        super().__init__(name="vendor")
        self._vendor = vendor
        self.credential = credential_for("key", "vendor.test", max_concurrency=LIMIT)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Speak, if the account has a free slot."""
        vendor = self._vendor
        if vendor.running >= LIMIT:
            vendor.refused += 1
            raise TTSConcurrencyError("too many requests", provider=self.name)
        vendor.running += 1
        vendor.most = max(vendor.most, vendor.running)
        began = time.monotonic()
        try:
            async for event in super().speak(request, offer, connection_timeout=connection_timeout):
                yield event
            await asyncio.sleep(0.2)
            vendor.served += 1
        finally:
            vendor.running -= 1
            vendor.used += time.monotonic() - began


async def measure_limit(server: StoreServer, busy: int, *, shares: bool) -> None:
    """Print refusals and used slots of four services, of which so many have callers."""
    vendor = LimitedVendor()
    fleet = FleetConfig(server.url, f"limit {busy}") if shares else None
    logging.getLogger("steadyvoice").setLevel(logging.CRITICAL)
    async with AsyncExitStack() as stack:
        services = [
            await stack.enter_async_context(AsyncTTSService([LimitedTone(vendor)], fleet=fleet)) for _ in range(4)
        ]
        await asyncio.sleep(1)
        began = time.monotonic()
        end = began + LOAD_SECONDS

        async def call(service: AsyncTTSService) -> None:
            while time.monotonic() < end:
                await service.synthesize("Hello")

        await asyncio.gather(*(call(service) for service in services[:busy] for _ in range(CALLERS)))
        used = vendor.used / (time.monotonic() - began)
    how = "sharing" if shares else "alone"
    print(f"| {busy} of 4 busy, {how} | {vendor.refused} | {vendor.served} | {used:.1f} | {vendor.most} |", flush=True)


# ---------------------------------------------------------------- costs


async def latencies(circuit: CircuitBreaker, seconds: float) -> list[float]:
    """Return by how much a call through a circuit takes longer than its pause, again and again, in milliseconds."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        with circuit:
            pass
        found.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.001)
    return found


def measure_costs(server: StoreServer, replicas: int) -> None:
    """Print what the closed path and the server cost."""
    circuit = CircuitBreaker("cost", CircuitBreakerConfig.adaptive())
    print("\n| closed path | p50 µs | p99 µs |\n|---|---|---|")

    def show(name: str) -> None:
        cuts = quantiles(asyncio.run(latencies(circuit, 4)), n=100)
        print(f"| {name} | {cuts[49] * 1000:.0f} | {cuts[98] * 1000:.0f} |", flush=True)

    show("without a fleet")
    with Fleet(server.url, [circuit], name="cost") as fleet:
        wait_until(lambda: fleet.state == "together", 10)
        show("in a fleet")
        server.process.send_signal(signal.SIGSTOP)
        show("the server hangs")
        server.process.send_signal(signal.SIGCONT)
    fleets = [Fleet(server.url, [CircuitBreaker("cost")], name="many") for _ in range(replicas)]
    for fleet in fleets:
        fleet.start()
    time.sleep(2)
    before, cpu, began = server.commands, server.client.info("cpu")["used_cpu_user"], time.monotonic()
    time.sleep(5)
    took = time.monotonic() - began
    share = (server.client.info("cpu")["used_cpu_user"] - cpu) / took
    print(
        f"\n{replicas} replicas: {(server.commands - before) / took:.0f} scripts a second, {share:.1%} of a processor"
    )
    for fleet in fleets:
        fleet.close()


# ---------------------------------------------------------------- peers


def compare_peers(server: StoreServer) -> None:
    """Print what circuit breakers that share over Redis cost, in the peers' environment."""
    for name, reason in install_peers(HOME, DISTRIBUTIONS).items():
        if name in DISTRIBUTIONS:
            print(f"NOT INSTALLED: {name}: {reason}")
    command = [str(HOME / "bin" / "python"), sharing.__file__, str(server.port), str(server.process.pid)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": source_folder()})


def main() -> None:
    """Measure and print all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="redis-server", help="program of the server")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 5, 10, 50])
    parser.add_argument("--peers", action="store_true", help="only compare with other circuit breakers")
    arguments = parser.parse_args()
    logging.getLogger("steadyvoice.fleet").setLevel(logging.ERROR)
    with store_server(arguments.server) as server:
        if arguments.peers:
            compare_peers(server)
            return
        measure_outages(server, arguments.replicas)
        print(f"\n| limit of {LIMIT} | refused | served | slots in use | most |\n|---|---|---|---|---|")
        for busy in (1, 4):
            for shares in (False, True):
                asyncio.run(measure_limit(server, busy, shares=shares))
        measure_costs(server, max(arguments.replicas))
        print(flush=True)
        compare_peers(server)


if __name__ == "__main__":
    main()
