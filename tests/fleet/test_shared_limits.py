"""Slots of an account: who gets how many, and that all replicas together never exceed the limit."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.breaker.testing import VirtualClock
from steadyvoice.fleet import Fleet, FleetState, SlotUsage
from steadyvoice.fleet.records import SlotRecord
from steadyvoice.fleet.shared_limits import account_limit, fair_shares, slot_target, slots_alone
from steadyvoice.fleet.testing import InMemoryFleet

RECORDS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=1),
    st.builds(
        SlotRecord,
        used=st.integers(0, 12),
        queued=st.integers(0, 12),
        waited=st.floats(0, 60),
        recent=st.integers(0, 30),
    ),
    min_size=1,
    max_size=8,
)


@given(records=RECORDS, limit=st.integers(1, 200))
def test_shares_are_fair_and_never_more_than_the_limit(records: dict[str, SlotRecord], limit: int) -> None:
    shares = fair_shares(records, limit)
    wants = {replica: record.used + record.queued for replica, record in records.items()}
    assert sum(shares.values()) <= limit
    used_lately = {replica: max(wants[replica], record.recent) for replica, record in records.items()}
    left = max(0, limit - sum(used_lately.values()))
    idle = max(1, left // 2 // len(records))  # half of what is left stays free
    assert all(share <= used_lately[replica] + idle for replica, share in shares.items())
    assert sum(shares.values()) >= min(limit, sum(wants.values()))  # no slot is idle while it is wanted
    if left:
        assert all(share >= used_lately[replica] for replica, share in shares.items())
    short = [replica for replica, share in shares.items() if share < wants[replica]]
    for replica in short:
        assert all(share <= shares[replica] + 1 for share in shares.values())


@given(records=RECORDS, limit=st.integers(1, 30), replica=st.sampled_from("abcdefgh"))
def test_more_is_attainable_for_more_requests(records: dict[str, SlotRecord], limit: int, replica: str) -> None:
    target = slot_target(replica, {**records, replica: records.get(replica, SlotRecord())}, limit)
    assert target.attainable >= min(1, target.slots)
    assert target.attainable <= limit


def test_one_replica_with_requests_has_all_slots_while_others_are_idle() -> None:
    idle = SlotRecord()
    assert fair_shares({"a": SlotRecord(used=7, queued=9), "b": idle, "c": idle, "d": idle}, 10)["a"] == 10
    assert fair_shares({"a": SlotRecord(used=4), "b": idle, "c": idle, "d": idle}, 10) == {
        "a": 5, "b": 1, "c": 1, "d": 1,
    }  # fmt: skip


def test_slots_go_to_those_that_waited_longest_if_there_are_fewer_than_replicas() -> None:
    records = {name: SlotRecord(queued=3, waited=waited) for name, waited in zip("abc", (0.5, 2.0, 1.0), strict=True)}
    assert fair_shares(records, 2) == {"a": 0, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("records", "limit"),
    [
        ([SlotRecord(stated=10), SlotRecord(initial=2)], 10),  # assumed only until a replica knows better
        ([SlotRecord(stated=10), SlotRecord(maximum=4)], 4),
        ([SlotRecord(initial=3), SlotRecord(initial=2)], 2),
        ([SlotRecord(), SlotRecord()], None),
    ],
)
def test_least_limit_that_is_known_holds_for_all(records: list[SlotRecord], limit: int | None) -> None:
    assert account_limit(records) == limit


def test_share_of_one_alone_is_at_least_one() -> None:
    assert [slots_alone(10, 4), slots_alone(3, 10), slots_alone(5, 0)] == [2, 1, 5]


# ---------------------------------------------------------------- simulated replicas


class Replica:
    """Replica whose requests last for a while, and whose event loop may hang."""

    grace = 5.0
    name = "vendor"

    def __init__(self, simulation: Slots, limit: int | None) -> None:
        self.simulation, self.maximum = simulation, limit
        self.share: int | None = 1
        self.pending: list[int | None] = []
        self.ends: list[float] = []
        self.queued = self.peak = 0
        self.waiting_since = 0.0
        self.is_stopped = self.loop_hangs = False
        self.store = simulation.server.connect()
        self.fleet = Fleet(self.store, accounts=[self], clock=simulation.clock, random=simulation.random.random)

    def identity(self, fleet_name: str) -> str:
        return f"{fleet_name}/key"

    def usage(self) -> SlotUsage:
        used, queued = len(self.ends), self.queued
        bound = max(used, self.share or 0, *(slots or 0 for slots in self.pending))
        waited = self.simulation.clock() - self.waiting_since if queued else 0.0
        peak, self.peak = self.peak, used
        return SlotUsage(used, queued, bound, waited, maximum=self.maximum, peak=peak)

    def lend(self, slots: int | None, attainable: int) -> None:
        self.pending.append(slots)

    def turn(self) -> None:
        """Let the event loop have a turn: requests end and begin, and decisions take effect."""
        if self.loop_hangs or self.is_stopped:
            return
        now = self.simulation.clock()
        self.ends = [end for end in self.ends if end > now]
        for slots in self.pending:
            self.share = slots
        self.pending.clear()
        while self.queued and (self.share is None or len(self.ends) < self.share):
            self.queued -= 1
            self.waiting_since = now
            self.ends.append(now + 0.2 + 0.2 * self.simulation.random.random())
        self.peak = max(self.peak, len(self.ends))


class Slots:
    """Fleet of replicas that share one account."""

    def __init__(self, replicas: int, limit: int, *, seed: int = 1) -> None:
        self.clock, self.random = VirtualClock(1000.0), Random(seed)
        self.server = InMemoryFleet(self.clock, self.random.random)
        self.replicas = [Replica(self, limit) for _ in range(replicas)]
        for place, replica in enumerate(self.replicas):
            replica.fleet.replica = f"replica-{place}"
        self.due = {id(replica): self.random.random() * 0.25 for replica in self.replicas}
        self.most = 0

    @property
    def used(self) -> list[int]:
        return [len(replica.ends) for replica in self.replicas]

    def run(self, seconds: float, *busy: Replica) -> None:
        """Let time pass; the busy replicas have more requests than slots."""
        end = self.clock() + seconds
        while self.clock() < end:
            for replica in self.replicas:
                if replica in busy:
                    replica.waiting_since = replica.waiting_since if replica.queued else self.clock()
                    replica.queued = 20
                replica.turn()
                self.due[id(replica)] -= 0.05
                if self.due[id(replica)] <= 0 and not replica.is_stopped:
                    replica.fleet.beat()
                    self.due[id(replica)] = 0.25 * (0.9 + 0.2 * self.random.random())
            self.most = max(self.most, sum(self.used))
            self.clock.advance(0.05)

    def finish(self) -> None:
        for replica in self.replicas:
            replica.queued = 0


def test_busy_replica_uses_the_whole_limit_and_then_shares_it_fairly() -> None:
    slots = Slots(4, 10)
    first, *_ = slots.replicas
    slots.run(2)
    slots.run(3, first)
    assert slots.used == [10, 0, 0, 0]
    slots.run(2, *slots.replicas)
    assert sorted(slots.used) == [2, 2, 3, 3]
    assert slots.most == 10
    slots.finish()
    slots.run(3)
    assert [replica.fleet.status().slots["vendor"].block for replica in slots.replicas] == [1, 1, 1, 1]


def test_no_request_waits_for_a_slot_while_most_of_the_limit_is_free() -> None:
    slots = Slots(2, 100)
    slots.run(1)
    waited = begun = 0
    for _ in range(200):
        for replica in slots.replicas:
            replica.queued = slots.random.randrange(4)
            begun += replica.queued
        slots.run(0.05)
        waited += sum(replica.queued for replica in slots.replicas)
    assert (waited, begun > 400) == (0, True)


def test_requests_of_steady_traffic_seldom_wait_at_a_small_limit() -> None:
    slots = Slots(2, 12)
    slots.run(1)
    waited = begun = 0
    for _ in range(400):
        for replica in slots.replicas:
            more = slots.random.random() < 0.5
            replica.queued += more
            begun += more
        slots.run(0.05)
        waited += sum(replica.queued for replica in slots.replicas)
    assert waited < 0.05 * begun


def test_more_replicas_than_slots_take_turns() -> None:
    slots = Slots(6, 2)
    slots.run(2)
    served = dict.fromkeys(range(6), 0)
    for _ in range(60):
        slots.run(0.25, *slots.replicas)
        for place, used in enumerate(slots.used):
            served[place] += used
    assert slots.most == 2
    assert min(served.values()) > 0


def test_block_of_a_replica_that_died_is_lent_again_after_lease_and_grace() -> None:
    slots = Slots(2, 4)
    first, second = slots.replicas
    slots.run(2)
    slots.run(2, first)
    assert slots.used == [4, 0]
    first.is_stopped = True
    begin = slots.clock()
    while len(second.ends) < 4:
        slots.run(0.05, second)
        assert sum(slots.used) <= 4 or slots.clock() - begin >= 3.0 + 5.0 - 0.3
    assert slots.clock() - begin < 10


def test_replicas_share_evenly_what_one_that_died_leaves_for_now() -> None:
    slots = Slots(3, 10)
    victim, first, second = slots.replicas
    slots.run(4, *slots.replicas)
    used, victim.is_stopped = len(victim.ends), True
    slots.run(4, first)
    slots.run(3, first, second)
    assert sorted(len(replica.ends) for replica in (first, second)) == [(10 - used) // 2, (10 - used + 1) // 2]
    slots.run(8, first, second)
    assert slots.used[1:] == [5, 5]


def test_stopped_replica_finds_its_slots_lent_to_others() -> None:
    slots = Slots(2, 4)
    first, second = slots.replicas
    slots.run(2)
    slots.run(2, first)
    first.is_stopped = True
    slots.run(12, second)
    first.is_stopped = False
    first.ends.clear()  # the vendor gave them up
    first.fleet.beat()  # its thread is overdue
    slots.most = 0
    slots.run(3, first, second)
    assert slots.used == [2, 2]
    assert slots.most <= 4


def test_hanging_event_loop_keeps_what_it_may_still_use() -> None:
    slots = Slots(2, 4)
    first, second = slots.replicas
    slots.run(2)
    slots.run(2, first)
    first.loop_hangs = True
    first.queued = 0
    slots.run(2, second)
    assert slots.used == [4, 0]
    first.loop_hangs = False
    slots.run(2, second)
    assert slots.used == [0, 4]


def test_replicas_that_are_cut_off_take_their_share_once_others_have_given_theirs_up() -> None:
    slots = Slots(4, 10)
    first, *idle = slots.replicas
    slots.run(2)
    slots.run(2, first)
    slots.server.partition(*(replica.store for replica in slots.replicas))
    slots.run(5, *slots.replicas)
    assert {replica.fleet.state for replica in slots.replicas} == {FleetState.ALONE}
    assert slots.used == [2, 1, 1, 1]
    slots.run(5, *slots.replicas)
    assert slots.used == [2, 2, 2, 2]
    slots.server.partition()
    slots.run(3, *slots.replicas)
    assert sorted(slots.used) == [2, 2, 3, 3]
    assert idle[0].fleet.status().slots["vendor"].overshoot == 0
    assert slots.most <= 13  # one slot each at the time when the first still used all


def test_replicas_without_a_store_and_fewer_slots_have_one_each() -> None:
    slots = Slots(4, 2)
    slots.run(2)
    slots.server.partition(*(replica.store for replica in slots.replicas))
    slots.run(10, *slots.replicas)
    assert slots.used == [1, 1, 1, 1]
    assert slots.replicas[0].fleet.status().slots["vendor"].overshoot == 2


def test_replica_that_starts_alone_takes_its_share_of_those_expected() -> None:
    slots = Slots(1, 10)
    (replica,) = slots.replicas
    replica.fleet = Fleet(replica.store, accounts=[replica], clock=slots.clock, expected_replicas=5)
    slots.server.partition(replica.store)
    slots.run(1, replica)
    assert slots.used == [2]


def test_replicas_with_other_limits_use_the_least(caplog: pytest.LogCaptureFixture) -> None:
    slots = Slots(3, 10)
    slots.replicas[2].maximum = 4
    slots.run(2)
    slots.most = 0
    slots.run(3, *slots.replicas)
    assert slots.most == 4
    assert "the least of them, 4, holds for all" in caplog.text


def test_lost_data_of_the_store_lends_no_slot_twice() -> None:
    slots = Slots(3, 9)
    slots.run(2)
    slots.run(2, *slots.replicas[:2])
    slots.server.restart()
    slots.run(3, *slots.replicas)
    assert slots.most == 9


@given(
    seed=st.integers(0, 10**6),
    limit=st.integers(1, 12),
    faults=st.lists(st.sampled_from(["loss", "delay", "hang", "busy", "idle", "restart"]), max_size=8),
)
def test_limit_is_kept_by_replicas_that_live(seed: int, limit: int, faults: list[str]) -> None:
    slots, random = Slots(4, limit, seed=seed), Random(seed)
    slots.run(1)
    for fault in faults:
        victim = random.choice(slots.replicas)
        slots.server.loss, slots.server.delay = 0.2 * (fault == "loss"), 0.5 * (fault == "delay")
        victim.loop_hangs = fault == "hang"
        if fault == "restart":
            slots.server.restart()
        busy = [] if fault == "idle" else random.sample(slots.replicas, random.randint(1, 4))
        slots.run(1.5, *busy)
        victim.loop_hangs, slots.server.loss, slots.server.delay = False, 0.0, 0.0
        if fault == "idle":
            slots.finish()
        slots.run(1, *busy)  # else a replica may be cut off for so long that it is alone
    assert slots.most <= limit
