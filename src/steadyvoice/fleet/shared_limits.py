"""Slots: the concurrency limit of an account, leased to replicas in blocks from which they lend without a round trip.

Who gets how many is a pure decision that every replica makes from the same records: each gets what it has requests
for, in fair shares if there is not enough for all; of the rest what it used lately, and idle slots for further
requests. The lease of the store keeps the sum within the limit, whatever the replicas believe of each other.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from steadyvoice.fleet.records import MAX_ACCOUNTS, SlotRecord
from steadyvoice.fleet.store import BeatReply, LeaseClaim

SLOT_LEASE = 3.0
"""Seconds for which a block is leased; each beat renews it."""
SETTLING = 3.0
"""Seconds after the store lost its data in which no block grows, until all replicas have claimed theirs again."""
RECENT_SECONDS = 2.0
"""Seconds for which a replica keeps the slots that it used, unless others have requests for them."""

_logger = logging.getLogger("steadyvoice.fleet")


class SlotUsage(NamedTuple):
    """Use of an account by this process.

    `bound` is the most requests that may run until the next `lend()` takes effect. `queued` requests wait, the first of
    them for `waited` seconds. `stated` is the limit that the vendor stated, `initial` the one that is assumed before,
    and `maximum` that of the user.
    """

    used: int  # requests that run
    queued: int
    bound: int
    waited: float = 0.0
    stated: int | None = None
    maximum: int | None = None
    initial: int | None = None
    peak: int = 0  # the most requests that ran at once since the last reading


class SlotAccount(Protocol):
    """Account of a vendor at this process. Its methods are called by the thread that beats, and must not wait."""

    @property
    def name(self) -> str:
        """Name for people."""
        ...

    @property
    def grace(self) -> float:
        """Longest silence in seconds that is allowed to a request: a replica that died may have one running so long."""
        ...

    def identity(self, fleet_name: str) -> str | None:
        """Return by what other replicas know the account, which reveals nothing of its key; None: it is not shared."""
        ...

    def usage(self) -> SlotUsage:
        """Return the present use."""
        ...

    def lend(self, slots: int | None, attainable: int) -> None:
        """Let at most so many requests run; None: as many as without a fleet. More requests may get `attainable`."""
        ...


class SlotTarget(NamedTuple):
    """Slots that a replica should have now, and those that it would get if it had any number of requests."""

    slots: int
    attainable: int


# ---------------------------------------------------------------- decisions


def account_limit(records: Iterable[SlotRecord]) -> int | None:
    """Return the limit of an account: the least that is known of it, by any replica; None: it is unlimited.

    A limit that is only assumed counts while the vendor has stated none.
    """
    known = list(records)
    stated = [record.stated for record in known if record.stated is not None]
    assumed = [] if stated else [record.initial for record in known if record.initial is not None]
    maxima = [record.maximum for record in known if record.maximum is not None]
    return min([*stated, *assumed, *maxima], default=None)


def fair_shares(records: Mapping[str, SlotRecord], limit: int) -> dict[str, int]:
    """Return the slots of each replica: what it has requests for, or a fair share where there is not enough.

    With fewer slots than replicas that want one, the replicas whose requests have waited longest come first.
    """
    wants = {replica: record.used + record.queued for replica, record in records.items()}
    wanting = [replica for replica, wanted in wants.items() if wanted]
    shares = dict.fromkeys(records, 0)
    if len(wanting) > limit:
        for replica in sorted(wanting, key=lambda replica: (-records[replica].waited, replica))[:limit]:
            shares[replica] = 1
        return shares
    _add_fairly(shares, wants, limit)
    # Use goes up and down between two beats. Were slots given back whenever it was down at a beat, requests would wait
    # for them while most of the limit is free: every twelfth did at two workers whose account had 100,000 slots.
    recent = {replica: max(0, record.recent - wants[replica]) for replica, record in records.items()}
    _add_fairly(shares, recent, limit - sum(shares.values()))
    left = limit - sum(shares.values())
    idle = max(1, left // (2 * len(records)))  # half of what is left stays free: it is leased at once
    for replica in sorted(records)[: left // idle]:
        shares[replica] += idle
    return shares


def _add_fairly(shares: dict[str, int], wants: Mapping[str, int], slots: int) -> None:
    """Add to the shares what is wanted, or a fair share of the slots where there are not enough."""
    wanting = sorted(
        (replica for replica, wanted in wants.items() if wanted), key=lambda each: wants[each], reverse=True
    )
    while wanting and wants[wanting[-1]] <= slots // len(wanting):
        replica = wanting.pop()
        shares[replica] += wants[replica]
        slots -= wants[replica]
    # By name, which does not change with every request: else slots would wander between replicas that want more.
    for place, replica in enumerate(sorted(wanting)):
        shares[replica] += slots // len(wanting) + (place < slots % len(wanting))


def slot_target(replica: str, records: Mapping[str, SlotRecord], limit: int) -> SlotTarget:
    """Return how many slots a replica should have of the limit, by the records of all, its own included."""
    own = records[replica]
    greedy = {**records, replica: SlotRecord(used=own.used, queued=limit, waited=own.waited)}
    return SlotTarget(fair_shares(records, limit)[replica], max(1, fair_shares(greedy, limit)[replica]))


def slots_alone(limit: int, replicas: int) -> int:
    """Return the slots of a replica without a store: its share of the limit, but at least one."""
    return max(1, limit // max(1, replicas))


# ---------------------------------------------------------------- one account


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSlotsStatus:
    """Slots of an account as this replica has them.

    `block` are leased to it, of `limit` in all. `overshoot` is by how many all replicas together may exceed the limit,
    because each of them is alone and needs one slot at least. `elsewhere` has block, used and queued of the others.
    """

    name: str  # name of the account for people
    limit: int | None
    block: int
    used: int  # requests of this replica that run
    queued: int  # requests of this replica that wait
    overshoot: int
    elsewhere: Mapping[str, tuple[int, int, int]]


class SharedSlots:
    """Slots of one account at this replica. Used by one thread."""

    def __init__(self, account: SlotAccount, key: str) -> None:
        self.account = account
        self.resource = f"slots/{key}"
        self.limit: int | None = None
        self.block = 0
        self.record = SlotRecord()
        self._usage = SlotUsage(0, 0, 0)
        self._target = SlotTarget(1, 1)
        self._others: Mapping[str, SlotRecord] = {}
        self._lent: tuple[int | None, int] | None = None
        self._overshoot = 0
        self._was_together = False
        self._alone_since: float | None = None
        self._withheld = 0
        self._warned = False
        self._recent: deque[tuple[float, int]] = deque()  # time and use, of those that no later one exceeds

    @property
    def wants_more(self) -> bool:
        """True if requests wait for slots that are to come."""
        return self._usage.queued > 0 and self.limit is not None and self.block < self._target.slots

    def status(self) -> SharedSlotsStatus:
        """Return the slots as this replica has them."""
        return SharedSlotsStatus(
            name=self.account.name,
            limit=self.limit,
            block=self.block,
            used=self.record.used,
            queued=self.record.queued,
            overshoot=self._overshoot,
            elsewhere={name: (each.block, each.used, each.queued) for name, each in self._others.items()},
        )

    def observe(self, now: float) -> SlotRecord:
        """Read the account, and return its record."""
        usage = self._usage = self.account.usage()
        self.record = SlotRecord(
            used=usage.used,
            queued=usage.queued,
            block=self.block,
            waited=usage.waited,
            stated=usage.stated,
            maximum=usage.maximum,
            initial=usage.initial,
            recent=self._most_recently(max(usage.peak, usage.used + usage.queued), now),
        )
        return self.record

    def _most_recently(self, use: int, now: float) -> int:
        """Return the most slots that were in use or waited for at once lately, with the present use."""
        while self._recent and self._recent[-1][1] <= use:
            self._recent.pop()
        self._recent.append((now, use))
        while self._recent[0][0] <= now - RECENT_SECONDS:
            self._recent.popleft()
        return self._recent[0][1]

    def claim(self, replica: str, others: Mapping[str, SlotRecord]) -> LeaseClaim | None:
        """Return what this replica wants of the account's slots; None if the account is unlimited.

        Slots that it wants no longer are given up here, and returned by the beat at which no request can use them.
        """
        self._others = others
        self.limit = account_limit([self.record, *others.values()])
        if self.limit is None:
            self._lend(None, 0)
            return LeaseClaim(self.resource, 0, 0, SLOT_LEASE) if self.block else None
        self._note_difference(others)
        # What a replica that died may still use is no part of the shares: whichever replica came first would have its
        # whole share, and the last one less or none.
        left = max(1, self.limit - self._withheld)
        self._target = slot_target(replica, {**others, replica: self.record}, left)
        if self._target.slots < self._usage.bound:
            self._lend(*self._target)
        wanted = max(self._usage.bound, self._usage.used, self._target.slots)
        return LeaseClaim(self.resource, wanted, self.limit, SLOT_LEASE, self.account.grace)

    def claim_used(self) -> LeaseClaim | None:
        """Return what this replica uses already; None if it knows of no limit."""
        self.limit = account_limit([self.record])
        if self.limit is None:
            return None
        return LeaseClaim(self.resource, self._usage.bound, self.limit, SLOT_LEASE, self.account.grace)

    def apply(self, leased: int, withheld: int, *, may_grow: bool) -> None:
        """Lend from the block that the store has leased. `withheld` slots are those of replicas that died."""
        self.block, self._withheld = leased, withheld
        self._was_together, self._alone_since, self._overshoot = True, None, 0
        if self.limit is not None:
            slots = min(leased, self._target.slots)
            self._lend(slots if may_grow else min(slots, self._usage.bound), self._target.attainable)

    def stand_alone(self, replicas: int, now: float) -> None:
        """Lend a share of the limit without a store.

        More than the last block only after the grace: until then, requests may run that were begun together.
        """
        self._others, self._withheld = {}, 0
        self.limit = account_limit([self.record, SlotRecord(maximum=self.limit)])
        if self.limit is None:
            return
        if self._alone_since is None:
            self._alone_since = now
        self._overshoot = max(0, replicas - self.limit)
        slots = slots_alone(self.limit, replicas)
        if self._was_together and now - self._alone_since < self.account.grace:
            slots = max(1, min(slots, self.block))
        self._lend(slots, slots)

    def detach(self) -> None:
        """Give the account back as it was before it was shared."""
        self._lend(None, 0)

    def _lend(self, slots: int | None, attainable: int) -> None:
        if (slots, attainable) != self._lent:
            self._lent = (slots, attainable)
            self.account.lend(slots, attainable)

    def _note_difference(self, others: Mapping[str, SlotRecord]) -> None:
        differs = any(each.maximum != self.record.maximum for each in others.values())
        if differs and not self._warned:
            _logger.warning(
                "account of %s has other limits at another replica: the least of them, %d, holds for all",
                self.account.name,
                self.limit,
            )
        self._warned = differs


# ---------------------------------------------------------------- all accounts


class SharedAccounts:
    """Accounts of this replica that share their slots with those of others. Used by one thread."""

    def __init__(self, accounts: Iterable[SlotAccount], fleet_name: str, expected_replicas: int) -> None:
        self._accounts, self._fleet_name = accounts, fleet_name
        self._replicas = self._expected = expected_replicas
        self._shared: dict[str, SharedSlots] = {}
        self._settled_at = 0.0

    @property
    def want_more(self) -> bool:
        """True if requests wait for slots that are to come."""
        return any(shared.wants_more for shared in self._shared.values())

    def status(self) -> dict[str, SharedSlotsStatus]:
        """Return the slots of each account that has a limit, by its name."""
        shared = self._shared.copy().values()
        return {each.account.name: each.status() for each in shared if each.limit is not None}

    def observe(self, now: float) -> dict[str, SlotRecord]:
        """Read the accounts, and return their records."""
        accounts = {key: each for each in self._accounts if (key := each.identity(self._fleet_name)) is not None}
        for key, shared in list(self._shared.items()):
            if accounts.get(key) is not shared.account:
                self._shared.pop(key).detach()
        for key, account in accounts.items():
            if key not in self._shared and len(self._shared) < MAX_ACCOUNTS:
                self._shared[key] = SharedSlots(account, key)
        return {key: shared.observe(now) for key, shared in self._shared.items()}

    def claims(
        self, replica: str, others: Mapping[str, Mapping[str, SlotRecord]] | None, now: float
    ) -> list[LeaseClaim]:
        """Return what this replica wants; `others` are the slots of the other replicas, by replica and account.

        None: it is not together with the others, and claims only what it uses already, so that they learn of it.
        """
        if others is None:
            return [claim for shared in self._shared.values() if (claim := shared.claim_used())]
        self._replicas = max(self._expected, len(others) + 1)
        claims = [
            shared.claim(replica, {name: slots[key] for name, slots in others.items() if key in slots})
            for key, shared in self._shared.items()
        ]
        return [claim for claim in claims if claim]

    def apply(self, reply: BeatReply, claims: Sequence[LeaseClaim], now: float, *, lost_data: bool) -> None:
        """Lend what the store has leased for these claims."""
        if lost_data:
            self._settled_at = now + SETTLING
        claimed = {claim.resource for claim in claims}
        for shared in self._shared.values():
            if shared.resource in claimed:
                leased, withheld = reply.leased.get(shared.resource, 0), reply.withheld.get(shared.resource, 0)
                shared.apply(leased, withheld, may_grow=now >= self._settled_at)

    def stand_alone(self, now: float) -> None:
        """Go on without a store."""
        for shared in self._shared.values():
            shared.stand_alone(self._replicas, now)

    def detach(self) -> None:
        """Give all accounts back as they were before they were shared."""
        for shared in self._shared.values():
            shared.detach()
        self._shared = {}
