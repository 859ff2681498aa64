"""Store of the workers' fleet: records and leases in the supervisor's memory, over a socket that each worker inherits.

Workers share their circuits as replicas on several machines do, without a server.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from steadyvoice.fleet.store import BeatReply, FleetStoreError, LeaseClaim, LeaseTable, ReceivedRecord
from steadyvoice.gateway.workers.channel import encode_message, take_message

STORE_TIMEOUT = 0.2
"""Seconds to wait for the supervisor, as for any other store."""
_READ_BYTES = 256 * 1024


class WorkerStore:
    """Store of one worker."""

    address = "supervisor of the workers"

    def __init__(self, line: socket.socket | None) -> None:
        self._line = line
        self._received, self._unsent = bytearray(), b""
        self._number = 0
        self.closed = False

    def reopened(self) -> WorkerStore:
        """Return another store on the socket of this one, which is closed: a reload may leave a fleet, and join it."""
        store = WorkerStore(self._line)
        store._received, store._unsent, store._number = self._received, self._unsent, self._number
        return store

    def beat(self, replica: str, payload: bytes, life: float, claims: Sequence[LeaseClaim]) -> BeatReply:
        """Exchange records with the other workers. Raises FleetStoreError."""
        run, records, leased, withheld = self._ask("beat", replica, payload, life, [tuple(claim) for claim in claims])
        return BeatReply(run, [ReceivedRecord(*record) for record in records], leased, withheld)

    def leave(self, replica: str) -> None:
        """Remove a worker's record and leases. Raises FleetStoreError."""
        self._ask("leave", replica)

    def renew(self) -> None:
        """Forget the connection, which belongs to the parent of a forked process."""
        self._line = None

    def close(self) -> None:
        """Refuse further beats. The socket stays open: it belongs to the process."""
        self.closed = True

    def _ask(self, *question: Any) -> Any:
        deadline = time.monotonic() + STORE_TIMEOUT
        self._number += 1
        try:
            # A question that was sent in part is completed first, or the supervisor could not read the next one.
            self._send(self._unsent, deadline)
            self._send(encode_message(self._number, *question), deadline)
            return self._answer(deadline)
        except OSError as error:
            raise FleetStoreError(f"{self.address}: {str(error) or 'timed out'}") from error

    def _send(self, data: bytes, deadline: float) -> None:
        self._unsent = data
        while self._unsent:
            self._unsent = self._unsent[self._line_until(deadline).send(self._unsent) :]

    def _answer(self, deadline: float) -> Any:
        while True:
            while message := take_message(self._received):
                if message[0] == self._number:  # not an answer that came too late for an earlier beat
                    return message[1]
            line = self._line_until(deadline)
            if not (data := line.recv(_READ_BYTES)):
                raise FleetStoreError("the supervisor has ended")
            self._received += data

    def _line_until(self, deadline: float) -> socket.socket:
        """Return the socket, with the rest of the time as its timeout. Raises FleetStoreError."""
        if self._line is None or self.closed:
            raise FleetStoreError("closed" if self.closed else "a forked process has no connection to the supervisor")
        self._line.settimeout(max(0.001, deadline - time.monotonic()))
        return self._line


class StoreServer:
    """Records and leases of all workers. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._run = secrets.token_hex(8)
        self._records: dict[str, tuple[float, float, bytes]] = {}
        self._leases = LeaseTable()

    def answer(self, question: str, replica: str, *fields: Any) -> Any:
        """Carry out what a worker's store has asked."""
        if question == "beat":
            return self._beat(replica, *fields)
        self._records.pop(replica, None)
        self._leases.release_all(replica)
        return None

    def _beat(self, replica: str, payload: bytes, life: float, claims: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
        now = self._clock()
        self._records[replica] = (now, life, payload)
        self._records = {name: each for name, each in self._records.items() if now - each[0] < each[1]}
        parsed = [LeaseClaim(*claim) for claim in claims]
        leased = {claim.resource: self._leases.claim(replica, claim, now) for claim in parsed}
        others = [(name, now - at, written) for name, (at, _, written) in self._records.items() if name != replica]
        withheld = {claim.resource: self._leases.withheld(claim.resource, self._records, now) for claim in parsed}
        return self._run, others, leased, withheld
