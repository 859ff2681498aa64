"""Testing of fleets without a server: a store in memory, whose network can fail.

server = InMemoryFleet(clock)
first, second = Fleet(server.connect(), [...], clock=clock), Fleet(server.connect(), [...], clock=clock)
first.beat()
server.partition(first.store)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from threading import Lock

from steadyvoice.fleet.store import BeatReply, FleetStore, FleetStoreError, LeaseClaim, LeaseTable, ReceivedRecord

__all__ = ["InMemoryFleet", "InMemoryStore"]

BEAT_TIMEOUT = 0.2
"""Seconds of delay from which on a beat counts as failed, as with a real store."""


class InMemoryFleet:
    """Server in memory: records and leases, on a clock. `random` returns numbers in [0, 1), for losses.

    - `clock`: function that returns seconds.
    - `stores`: stores to cut off.
    - `replica`: id of the replica.
    - `payload`: its record, encoded.
    - `life`: seconds for which the record is kept.
    - `store`: store that the beat came from.
    - `claims`: leases that the replica wants, keeps or gives back.
    """

    def __init__(self, clock: Callable[[], float], random: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._random = random or (lambda: 0.0)
        self._lock = Lock()
        self._runs = count(1)
        self._partitioned: set[int] = set()
        self.loss = 0.0
        """Share of the messages that are lost, requests and replies alike."""
        self.delay = 0.0
        """Seconds until a reply arrives; from 0.2 on it comes too late, though the request is carried out."""
        self.beats = 0
        self.restart()

    def connect(self) -> InMemoryStore:
        """Return the store of one more replica."""
        return InMemoryStore(self)

    def restart(self) -> None:
        """Lose all data, as FLUSHALL does, or a failover to an empty server."""
        self._run = str(next(self._runs))
        self._records: dict[str, tuple[float, float, bytes]] = {}
        self._leases = LeaseTable()

    def partition(self, *stores: FleetStore) -> None:
        """Cut these stores off; without any, heal all partitions."""
        self._partitioned = {id(store) for store in stores}

    def write(self, replica: str, payload: bytes, life: float = 3.0) -> None:
        """Write a record as a replica would, whatever it holds."""
        self._records[replica] = (self._clock(), life, payload)

    def exchange(
        self, store: InMemoryStore, replica: str, payload: bytes, life: float, claims: Sequence[LeaseClaim]
    ) -> BeatReply:
        """Carry out a beat that came from a store, or lose it. Raises FleetStoreError."""
        with self._lock:
            self.beats += 1
            if id(store) in self._partitioned or self._random() < self.loss:
                raise FleetStoreError("no connection")
            now = self._clock()
            self.write(replica, payload, life)
            leased = {claim.resource: self._leases.claim(replica, claim, now) for claim in claims}
            others = [
                ReceivedRecord(other, now - at, written)
                for other, (at, life, written) in self._records.items()
                if other != replica and now - at < life
            ]
            if self._random() < self.loss or self.delay >= BEAT_TIMEOUT:
                raise FleetStoreError("timed out")
            living = {replica, *(other.replica for other in others)}
            withheld = {claim.resource: self._leases.withheld(claim.resource, living, now) for claim in claims}
            return BeatReply(self._run, others, leased, withheld)

    def remove(self, store: InMemoryStore, replica: str) -> None:
        """Remove a replica that leaves. Raises FleetStoreError."""
        with self._lock:
            if id(store) in self._partitioned:
                raise FleetStoreError("no connection")
            self._records.pop(replica, None)
            self._leases.release_all(replica)


class InMemoryStore:
    """Connection of one replica to an `InMemoryFleet`.

    - `server`: the fleet that it belongs to.
    - `replica`: id of the replica.
    - `payload`: its record, encoded.
    - `life`: seconds for which the record is kept.
    - `claims`: leases that the replica wants, keeps or gives back.
    """

    address = "memory"

    def __init__(self, server: InMemoryFleet) -> None:
        self._server = server
        self._closed = False

    def beat(self, replica: str, payload: bytes, life: float, claims: Sequence[LeaseClaim]) -> BeatReply:
        """Exchange records with the others. Raises FleetStoreError."""
        if self._closed:
            raise FleetStoreError("closed")
        return self._server.exchange(self, replica, payload, life, claims)

    def leave(self, replica: str) -> None:
        """Remove a replica's record and leases. Raises FleetStoreError."""
        self._server.remove(self, replica)

    def renew(self) -> None:
        """Do nothing: memory is not shared with a child process."""

    def close(self) -> None:
        """Refuse further beats."""
        self._closed = True
