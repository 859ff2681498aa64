"""Store that replicas share: its protocol, and the rules of its leases.

A store keeps the latest record of each replica until it is too old, and leases units of named resources: the right to
probe a circuit, slots of an account. It decides nothing about circuits. All that a replica wants of it goes through one
call, the beat, so that a beat is one round trip.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol


class FleetStoreError(Exception):
    """Store could not be reached in time, refused the credentials, or does not hold what this fleet wrote."""


class FleetURLError(ValueError):
    """Address of a store that cannot be used; the message never shows its password."""


class LeaseClaim(NamedTuple):
    """Claim of `wanted` units of a resource, of which there are `limit` in all; 0 wanted gives back what is held.

    The lease ends `life` seconds later unless it is renewed. Units of a lease that ended so, not by giving them back,
    are lent again only after `grace` seconds more: what they were used for may still be going on.
    """

    resource: str  # name of the resource
    wanted: int
    limit: int
    life: float
    grace: float = 0.0


class ReceivedRecord(NamedTuple):
    """Record of another replica, `age` seconds after it was written."""

    replica: str  # id of the replica
    age: float
    payload: bytes  # the record, encoded


class BeatReply(NamedTuple):
    """Answer to a beat: the records of the other replicas, and the units that are leased for each claimed resource.

    `run` names the data of the store: another one means that all leases and records were lost. `withheld` are the units
    of each claimed resource that no replica has and none can get yet: those of replicas that died.
    """

    run: str
    records: Sequence[ReceivedRecord]  # of the other replicas
    leased: Mapping[str, int]  # units by resource
    withheld: Mapping[str, int] = MappingProxyType({})  # units by resource that no living replica has


class FleetStore(Protocol):
    """Store that replicas share. Its methods are called by one thread at a time, and may block for a short time only.

    Each of them raises FleetStoreError if the store cannot be reached in time.

    - `replica`: id of the replica.
    - `payload`: its record, encoded.
    - `life`: seconds for which the record is kept.
    - `claims`: leases that the replica wants, keeps or gives back.
    """

    @property
    def address(self) -> str:
        """Address for people, without credentials."""
        ...

    def beat(self, replica: str, payload: bytes, life: float, claims: Sequence[LeaseClaim]) -> BeatReply:
        """Keep a replica's record for `life` seconds, claim leases, and return the records of the others."""
        ...

    def leave(self, replica: str) -> None:
        """Remove a replica's record and return its leases. A beat that was sent before must not bring them back."""
        ...

    def renew(self) -> None:
        """Forget connections that were inherited from a parent process, without closing them."""
        ...

    def close(self) -> None:
        """Close the connections. Further beats raise FleetStoreError."""
        ...


class _Lease(NamedTuple):
    units: int
    free_at: float


class LeaseTable:
    """Leases of all resources, on the store's clock. Stores that hold them elsewhere follow the same rules."""

    def __init__(self) -> None:
        self._leases: dict[str, dict[str, _Lease]] = {}

    def claim(self, owner: str, claim: LeaseClaim, now: float) -> int:
        """Return how many units the owner holds from now on: as many as it wants, if the others leave them."""
        leases = self._leases.setdefault(claim.resource, {})
        for holder in [holder for holder, lease in leases.items() if lease.free_at <= now]:
            del leases[holder]
        others = sum(lease.units for holder, lease in leases.items() if holder != owner)
        units = max(0, min(claim.wanted, claim.limit - others))
        if units:
            leases[owner] = _Lease(units, now + claim.life + claim.grace)
        else:
            leases.pop(owner, None)
        return units

    def withheld(self, resource: str, living: Container[str], now: float) -> int:
        """Return the units that are leased to owners which do not live, for their grace."""
        leases = self._leases.get(resource, {})
        return sum(lease.units for owner, lease in leases.items() if owner not in living and lease.free_at > now)

    def release_all(self, owner: str) -> None:
        """Return everything that an owner holds."""
        for leases in self._leases.values():
            leases.pop(owner, None)
