"""Simulated fleet on a virtual clock: replicas with traffic, a vendor that can die, a store that can be cut off."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState, Event, Permit, StateChanged
from steadyvoice.breaker.testing import VirtualClock
from steadyvoice.fleet import Fleet, FleetStore
from steadyvoice.fleet.heartbeat import BEAT_INTERVAL
from steadyvoice.fleet.testing import InMemoryFleet


class SimulatedReplica:
    """Replica: its circuit, its fleet, and regular traffic with some jitter."""

    def __init__(self, simulation: Simulation, config: CircuitBreakerConfig, rate: float) -> None:
        self.simulation = simulation
        self.rate = rate
        self.failure_rate: float | None = None  # of its own network; None: that of the vendor
        self.is_stopped = False
        self.store = simulation.connect()
        random = Random(simulation.random.random())
        self.circuit = CircuitBreaker("voice", config, clock=simulation.clock, random=random.random)
        self.fleet = Fleet(self.store, [self.circuit], clock=simulation.clock, random=random.random)
        self.failures = self.successes = self.refused = self.probes = 0
        self.probes_in_flight = 0
        self.transitions: list[StateChanged] = []
        self.circuit.subscribe(self.note)

    def note(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self.transitions.append(event)

    @property
    def is_open(self) -> bool:
        return self.circuit.state in (CircuitState.OPEN, CircuitState.HALF_OPEN)

    def call(self) -> None:
        permit = self.circuit.try_acquire()
        if permit is None:
            self.refused += 1
            return
        is_probe = self.circuit.state is CircuitState.HALF_OPEN
        self.probes += is_probe
        self.probes_in_flight += is_probe
        self.simulation.after(self.simulation.call_seconds, lambda: self._end(permit, is_probe))

    def _end(self, permit: Permit, is_probe: bool) -> None:
        self.probes_in_flight -= is_probe
        failure_rate = self.simulation.failure_rate if self.failure_rate is None else self.failure_rate
        if self.simulation.random.random() < failure_rate:
            self.failures += 1
            permit.failure("down", self.simulation.call_seconds)
        else:
            self.successes += 1
            permit.success(self.simulation.call_seconds)


class Simulation:
    """Fleet of replicas with the same vendor, whose calls fail by `failure_rate`."""

    def __init__(
        self, replicas: int, config: CircuitBreakerConfig, *, calls_per_second: float = 10.0, seed: int = 1
    ) -> None:
        self.random = Random(seed)
        self.clock: Callable[[], float] = self.make_clock()
        self.failure_rate = 0.0
        self.call_seconds = 0.05
        self.most_probes = 0
        self._order = count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.replicas: list[SimulatedReplica] = []
        for _ in range(replicas):
            self.add(config, calls_per_second / replicas)

    def make_clock(self) -> Callable[[], float]:
        """Return the clock of all replicas."""
        self.virtual_clock = VirtualClock(1000.0)
        self.server = InMemoryFleet(self.virtual_clock, self.random.random)
        return self.virtual_clock

    def connect(self) -> FleetStore:
        """Return the store of one more replica."""
        return self.server.connect()

    def wait_until(self, at: float) -> None:
        """Let time pass."""
        self.virtual_clock.advance(max(0.0, at - self.clock()))

    def begin_to_beat(self, replica: SimulatedReplica) -> None:
        """Let a replica beat from now on."""
        self.after(self.random.random() * BEAT_INTERVAL, lambda: self._beat(replica))

    def add(self, config: CircuitBreakerConfig, rate: float) -> SimulatedReplica:
        replica = SimulatedReplica(self, config, rate)
        self.replicas.append(replica)
        self.begin_to_beat(replica)
        self.after(self.random.random() / max(rate, 1.0), lambda: self._call(replica))
        return replica

    def remove(self, replica: SimulatedReplica) -> None:
        """End a replica as SIGKILL does."""
        self.replicas.remove(replica)
        replica.is_stopped = True

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.clock() + seconds, next(self._order), action))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float) -> float:
        """Let time pass until the condition holds; return the seconds it took, or the given ones."""
        begin, end = self.clock(), self.clock() + seconds
        while self._due and self._due[0][0] <= end:
            at, _, action = heapq.heappop(self._due)
            self.wait_until(at)
            action()
            self.most_probes = max(self.most_probes, sum(replica.probes_in_flight for replica in self.replicas))
            if condition():
                return self.clock() - begin
        self.wait_until(end)
        return seconds

    def _beat(self, replica: SimulatedReplica) -> None:
        if not replica.is_stopped:
            replica.fleet.beat()
        self.after(BEAT_INTERVAL * (0.9 + 0.2 * self.random.random()), lambda: self._beat(replica))

    def _call(self, replica: SimulatedReplica) -> None:
        if replica.rate and not replica.is_stopped:
            replica.call()
        self.after((0.5 + self.random.random()) / max(replica.rate, 0.01), lambda: self._call(replica))

    @property
    def open_replicas(self) -> int:
        return sum(replica.is_open for replica in self.replicas)

    def total(self, counter: str) -> int:
        return sum(getattr(replica, counter) for replica in self.replicas)
