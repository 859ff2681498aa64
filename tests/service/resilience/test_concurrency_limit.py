"""How many run at once, and whose turn it is: decided by a value without a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.service.resilience.concurrency import MAX_OVERTAKING, ConcurrencyLimit, QueueEntry


def crowd(gate: ConcurrencyLimit, size: int) -> list[QueueEntry]:
    return [gate.ask(0.0) for _ in range(size)]


def running(places: list[QueueEntry]) -> list[bool]:
    return [place.running for place in places]


def test_who_says_no_limit_has_none() -> None:
    gate = ConcurrencyLimit()
    assert all(running(crowd(gate, 100)))
    assert (gate.limit, gate.running, gate.waiting, gate.expected_wait()) == (None, 100, 0, 0.0)


def test_a_guess_holds_until_the_vendor_has_told() -> None:
    gate = ConcurrencyLimit(at_once=2)
    places = crowd(gate, 5)
    assert running(places) == [True, True, False, False, False]
    assert gate.accepted(places[0], 4, 0.0) == places[2:4]
    assert (gate.limit, gate.running, gate.waiting) == (4, 4, 1)


def test_a_vendor_that_never_tells_is_not_guessed_at_for_ever() -> None:
    gate = ConcurrencyLimit(at_once=2)
    places = crowd(gate, 5)
    assert gate.accepted(places[0], None, 0.0) == places[2:]
    assert gate.limit is None


def test_an_answer_that_leaves_out_the_limit_does_not_lift_it() -> None:
    gate = ConcurrencyLimit()
    first, *_ = crowd(gate, 1)
    gate.accepted(first, 4, 0.0)
    gate.accepted(first, None, 0.0)
    assert gate.limit == 4


def test_first_come_first_served_and_nobody_overtakes() -> None:
    gate = ConcurrencyLimit(at_once=1)
    first, second, third = crowd(gate, 3)
    assert gate.leave(second, 0.0) == [], "it gave up waiting"
    newcomer = gate.ask(0.0)
    assert gate.leave(first, 0.0) == [third]
    assert gate.leave(first, 0.0) == [], "leaving twice changes nothing"
    assert gate.leave(third, 0.0) == [newcomer]


def served(gate: ConcurrencyLimit, running: QueueEntry) -> list[QueueEntry]:
    """Let everybody have their turn, one after the other."""
    order = []
    while following := gate.leave(running, 0.0):
        (running,) = following
        order.append(running)
    return order


def test_who_is_being_heard_goes_first_and_newcomers_get_one_turn_in_four() -> None:
    gate = ConcurrencyLimit(at_once=1)
    first, *newcomers = crowd(gate, 4)
    speaking = [gate.ask(0.0, is_continuation=True) for _ in range(7)]
    expected = [*speaking[:3], newcomers[0], *speaking[3:6], newcomers[1], speaking[6], newcomers[2]]
    assert served(gate, first) == expected


def test_who_goes_on_with_nobody_behind_owes_nobody_a_turn() -> None:
    gate = ConcurrencyLimit(at_once=1)
    (first,) = crowd(gate, 1)
    for _ in range(10):
        following = gate.ask(0.0, is_continuation=True)
        assert gate.leave(first, 0.0) == [following]
        first = following
    newcomer, speaking = gate.ask(0.0), gate.ask(0.0, is_continuation=True)
    assert served(gate, first) == [speaking, newcomer]


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 3), st.integers(0, 9))
def test_nobody_starves_and_each_kind_is_served_in_order(kinds: list[bool], at_once: int, leavers: int) -> None:
    gate = ConcurrencyLimit(at_once)
    places = [gate.ask(0.0, is_continuation=goes_on) for goes_on in kinds]
    running = [place for place in places if place.running]
    waiting = [place for place in places if not place.running]
    for place in waiting[:leavers]:
        gate.leave(place, 0.0)
    waiting = waiting[leavers:]
    order = []
    while running:
        following = gate.leave(running.pop(0), 0.0)
        order += following
        running += following
    assert sorted(order, key=waiting.index) == waiting, "everybody had a turn"
    for kind in (True, False):
        assert [place for place in order if place.is_continuation is kind] == [
            each for each in waiting if each.is_continuation is kind
        ]
    for at, place in enumerate(order):
        before = order[max(0, at - MAX_OVERTAKING) : at]
        assert (
            place.is_continuation is False
            or at < MAX_OVERTAKING
            or not all(each.is_continuation for each in before)
            or not any(not each.is_continuation for each in order[at:])
        ), "the fourth in a row, while a newcomer waits"


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 3))
def test_how_long_who_goes_on_would_wait_is_known_to_the_turn(speaking: int, newcomers: int, favoured: int) -> None:
    gate = ConcurrencyLimit(at_once=1)
    gate.leave(gate.ask(0.0), 1.0)  # a request runs for a second
    running = gate.ask(1.0)
    crowd(gate, newcomers)
    for now in range(2, favoured + 2):
        following = gate.ask(now, is_continuation=True)
        gate.leave(running, now)
        running = following
    for _ in range(speaking):
        gate.ask(5.0, is_continuation=True)
    wait = gate.expected_wait(is_continuation=True)
    last = gate.ask(5.0, is_continuation=True)
    assert served(gate, running).index(last) + 1 == wait


def test_a_limit_of_the_users_own_is_never_exceeded_whatever_the_vendor_says() -> None:
    gate = ConcurrencyLimit(at_once=5, most=5)
    places = crowd(gate, 9)
    assert sum(running(places)) == 5
    gate.accepted(places[0], 20, 0.0)
    assert (gate.limit, gate.running) == (5, 5)
    gate.accepted(places[0], 3, 0.0)
    assert gate.limit == 3
    assert ConcurrencyLimit(most=4).limit == 4


def test_of_several_such_limits_the_least_holds() -> None:
    gate = ConcurrencyLimit(at_once=5)
    for mosts, limit in (([None, 3], 3), ([2, 3, None], 2), ([], 5)):
        gate.bound(mosts, 0.0)
        assert gate.limit == limit


def test_when_more_may_run_at_once_those_who_wait_are_let_through() -> None:
    gate = ConcurrencyLimit(most=1)
    places = crowd(gate, 3)
    assert gate.bound([2], 0.0) == [places[1]]
    assert (gate.running, gate.waiting) == (2, 1)


def test_a_refusal_halves_what_runs_and_a_burst_of_them_halves_it_once() -> None:
    gate = ConcurrencyLimit()
    places = crowd(gate, 20)
    for place in places[10:]:
        gate.refused(place)
        gate.leave(place, 0.0)
    assert gate.limit == 10


def test_somebody_else_on_the_account_halves_it_again_and_it_grows_back_one_at_a_time() -> None:
    gate = ConcurrencyLimit()
    places = crowd(gate, 8)
    gate.accepted(places[0], 8, 0.0)
    gate.refused(places[7])
    gate.leave(places[7], 0.0)
    assert gate.limit == 4
    for place in places[:4]:
        gate.leave(place, 0.0)
    seen = [gate.limit]
    for _ in range(40):
        newcomers = crowd(gate, 9)
        for place in [place for place in newcomers if place.running]:
            gate.accepted(place, 8, 0.0)
        for place in newcomers:
            gate.leave(place, 0.0)
        seen.append(gate.limit)
    assert seen == sorted(seen)
    assert seen[-1] == 8
    assert {4, 5, 6, 7, 8} <= set(seen), "one at a time"


def test_what_was_let_through_before_a_refusal_does_not_soften_it() -> None:
    gate = ConcurrencyLimit()
    places = crowd(gate, 8)
    gate.refused(places[7])
    for place in places[:7]:
        gate.accepted(place, None, 0.0)
    assert gate.limit == 4


def test_who_has_grown_back_to_the_vendors_limit_is_bound_by_that_alone() -> None:
    gate = ConcurrencyLimit(at_once=2)
    places = crowd(gate, 2)
    gate.refused(places[1])
    for place in places:
        gate.leave(place, 0.0)
    assert gate.limit == 1
    gate.accepted(gate.ask(0.0), 2, 0.0)
    assert gate.limit == 2
    gate.accepted(gate.ask(0.0), 20, 0.0)
    assert gate.limit == 20, "a larger plan"


def test_what_is_not_used_does_not_grow() -> None:
    gate = ConcurrencyLimit()
    places = crowd(gate, 8)
    gate.refused(places[7])
    for place in places:
        gate.leave(place, 0.0)
    alone = gate.ask(0.0)
    for _ in range(100):
        gate.accepted(alone, None, 0.0)
    assert gate.limit == 4


def test_the_last_place_is_never_taken_away() -> None:
    gate = ConcurrencyLimit()
    for _ in range(5):
        place = gate.ask(0.0)
        assert place.running
        gate.refused(place)
        gate.leave(place, 0.0)
    assert gate.limit == 1


def test_how_long_one_more_would_wait_goes_by_how_long_the_others_ran() -> None:
    gate = ConcurrencyLimit(at_once=2)
    first, _second = crowd(gate, 2)
    assert gate.expected_wait() == 0.0, "nobody knows yet"
    gate.leave(first, 4.0)
    assert gate.expected_wait() == 0.0, "there is room"
    gate.ask(4.0)
    assert gate.expected_wait() == 2.0, "one of two places every four seconds"
    gate.ask(4.0)
    assert gate.expected_wait() == 4.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30), st.integers(1, 6)), max_size=200), st.integers(1, 4))
def test_whatever_happens_no_more_are_let_through_than_may_and_no_place_is_lost(
    history: list[tuple[int, int, int]], at_once: int
) -> None:
    gate = ConcurrencyLimit(at_once)
    there: list[QueueEntry] = []
    for now, (deed, which, number) in enumerate(history):
        before = {place for place in there if place.running}
        match deed:
            case 0 | 1:
                there.append(gate.ask(now, is_continuation=deed == 1))
            case 2 | 3 if there:
                gate.leave(there.pop(which % len(there)), now)
            case 4 if there and there[which % len(there)].running:
                gate.accepted(there[which % len(there)], number, now)
            case 5 if there and there[which % len(there)].running:
                gate.refused(there[which % len(there)])
        now_running = [place for place in there if place.running]
        assert gate.running == len(now_running)
        assert gate.waiting == len(there) - len(now_running)
        assert gate.limit is not None
        if not set(now_running) <= before:
            assert gate.running <= gate.limit, "somebody was let through"
        assert not gate.waiting or gate.running >= gate.limit, "nobody waits beside an empty place"
        assert now_running == there[: len(now_running)] or any(not p.running for p in there), "in order"
    for place in there:
        gate.leave(place, 0.0)
    assert (gate.running, gate.waiting) == (0, 0)
