"""Announcements: the latest of each key counts at every replica, whatever the order in which they meet."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.breaker import CircuitBreaker, CircuitState
from steadyvoice.breaker.testing import VirtualClock
from steadyvoice.fleet import Announcement, Fleet
from steadyvoice.fleet.announcements import Announcements
from steadyvoice.fleet.records import MAX_ANNOUNCEMENTS, MAX_BODY_LENGTH
from steadyvoice.fleet.testing import InMemoryFleet


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


def beat_all(clock: VirtualClock, *fleets: Fleet, times: int = 2) -> None:
    for _ in range(times):
        for fleet in fleets:
            fleet.beat()
        clock.advance(0.25)


@given(
    made=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "y"])), max_size=8),
    meetings=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("ab")), max_size=8),
)
def test_replicas_agree_once_they_have_heard_of_each_other(
    made: list[tuple[str, str]], meetings: list[tuple[str, str]]
) -> None:
    clock = VirtualClock(0.0)
    replicas = {name: Announcements(clock) for name in "ab"}
    for number, (origin, key) in enumerate(made):
        replicas[origin].announce(origin, key, str(number), "", "", 60)
        for reader, writer in meetings[number : number + 1]:
            replicas[reader].adopt([(0.0, replicas[writer].records())])
    for reader, writer in pairwise("abab"):
        replicas[reader].adopt([(0.0, replicas[writer].records())])
    for key in "xy":
        found = [replica.find(key) for replica in replicas.values()]
        assert found[0] == found[1]
        assert found[0] is not None or key not in {each for _, each in made}


def test_announcement_reaches_those_that_join_later_after_its_origin_has_gone(clock: VirtualClock) -> None:
    server = InMemoryFleet(clock)
    first, second = Fleet(server.connect(), clock=clock), Fleet(server.connect(), clock=clock)
    heard: list[Announcement] = []
    second.subscribe(heard.append)
    assert first.announce("settings", "patch", body='{"muted": true}', seconds=60) == 1
    beat_all(clock, first, second)
    first.close()
    late = Fleet(server.connect(), clock=clock)
    late.subscribe(heard.append)
    beat_all(clock, second, late)
    assert [(each.kind, each.body, each.revision) for each in heard] == [("patch", '{"muted": true}', 1)] * 2
    assert late.announce("settings", "patch", body="{}", seconds=60) == 2
    clock.advance(61)
    assert second.announcements.find("settings") is None


def test_announcements_are_bounded(clock: VirtualClock) -> None:
    announcements = Announcements(clock)
    for number in range(MAX_ANNOUNCEMENTS + 5):
        announcements.announce("a", f"key {number}", "kind", "r" * 1000, "", 1000 - number)
    assert len(announcements.records()) == MAX_ANNOUNCEMENTS
    assert announcements.find("key 0") is not None
    with pytest.raises(ValueError, match="body: must have at most 65536 characters, got 65537"):
        announcements.announce("a", "key", "kind", "", "b" * (MAX_BODY_LENGTH + 1), 10)


def test_hold_is_lifted_everywhere(clock: VirtualClock) -> None:
    server = InMemoryFleet(clock)
    first, second = Fleet(server.connect(), clock=clock), Fleet(server.connect(), clock=clock)
    first.hold("key", "quota used up", 600)
    beat_all(clock, first, second)
    second.lift("key")
    beat_all(clock, second, first)
    assert first.held("key") is second.held("key") is None


def test_order_gives_way_to_newer_evidence_and_to_the_hand_at_a_replica(clock: VirtualClock) -> None:
    server = InMemoryFleet(clock)
    circuits = [CircuitBreaker("voice", clock=clock) for _ in range(3)]
    fleets = [Fleet(server.connect(), [circuit], clock=clock) for circuit in circuits]
    beat_all(clock, *fleets)
    server.partition(fleets[1].store, fleets[2].store)
    fleets[0].open_everywhere("voice", "maintenance", seconds=100)
    assert circuits[0].state is CircuitState.FORCED_OPEN
    clock.advance(1)
    circuits[1].disable("by hand")
    circuits[2].trip("evidence")
    server.partition()
    beat_all(clock, *fleets)
    assert [circuit.state for circuit in circuits] == [
        CircuitState.FORCED_OPEN, CircuitState.DISABLED, CircuitState.FORCED_OPEN
    ]  # fmt: skip
    server.partition(fleets[1].store)
    fleets[0].reset_everywhere("voice")
    clock.advance(1)
    circuits[1].reset()
    circuits[1].trip("evidence since")
    server.partition()
    beat_all(clock, *fleets)
    assert [circuit.state for circuit in circuits] == [CircuitState.CLOSED, CircuitState.OPEN, CircuitState.CLOSED]


def test_listener_that_fails_keeps_nothing_from_the_others(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    server, heard = InMemoryFleet(clock), list[str]()
    first, second = Fleet(server.connect(), clock=clock), Fleet(server.connect(), clock=clock)
    second.subscribe(lambda announcement: 1 / 0 if announcement.key == "a" else heard.append(announcement.key))
    first.announce("a", "kind")
    first.announce("b", "kind")
    beat_all(clock, first, second)
    assert heard == ["b"]
    assert "announcement a failed" in caplog.text
