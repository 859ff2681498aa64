"""Adaptive concurrency limit and order of its queue, decided without a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.service.resilience.concurrency import MAX_OVERTAKING, ConcurrencyLimit, QueueEntry


def enqueue_many(limiter: ConcurrencyLimit, size: int) -> list[QueueEntry]:
    return [limiter.acquire(0.0) for _ in range(size)]


def running(entries: list[QueueEntry]) -> list[bool]:
    return [entry.running for entry in entries]


def test_without_limits_any_number_runs() -> None:
    limiter = ConcurrencyLimit()
    assert all(running(enqueue_many(limiter, 100)))
    assert (limiter.limit, limiter.running, limiter.waiting, limiter.expected_wait()) == (None, 100, 0, 0.0)


def test_guessed_limit_applies_until_the_vendor_reports_one() -> None:
    limiter = ConcurrencyLimit(initial=2)
    entries = enqueue_many(limiter, 5)
    assert running(entries) == [True, True, False, False, False]
    assert limiter.accepted(entries[0], 4, 0.0) == entries[2:4]
    assert (limiter.limit, limiter.running, limiter.waiting) == (4, 4, 1)


def test_initial_limit_ends_with_a_response_without_a_limit() -> None:
    limiter = ConcurrencyLimit(initial=2)
    entries = enqueue_many(limiter, 5)
    assert limiter.accepted(entries[0], None, 0.0) == entries[2:]
    assert limiter.limit is None


def test_response_without_a_limit_keeps_the_known_one() -> None:
    limiter = ConcurrencyLimit()
    first, *_ = enqueue_many(limiter, 1)
    limiter.accepted(first, 4, 0.0)
    limiter.accepted(first, None, 0.0)
    assert limiter.limit == 4


def test_first_come_first_served() -> None:
    limiter = ConcurrencyLimit(initial=1)
    first, second, third = enqueue_many(limiter, 3)
    assert limiter.release(second, 0.0) == [], "it gave up waiting"
    newcomer = limiter.acquire(0.0)
    assert limiter.release(first, 0.0) == [third]
    assert limiter.release(first, 0.0) == [], "leaving twice changes nothing"
    assert limiter.release(third, 0.0) == [newcomer]


def served(limiter: ConcurrencyLimit, running: QueueEntry) -> list[QueueEntry]:
    """Release and start all waiting entries, one after the other, and return their order."""
    order = []
    while following := limiter.release(running, 0.0):
        (running,) = following
        order.append(running)
    return order


def test_continuations_overtake_and_new_requests_get_one_slot_in_four() -> None:
    limiter = ConcurrencyLimit(initial=1)
    first, *newcomers = enqueue_many(limiter, 4)
    speaking = [limiter.acquire(0.0, is_continuation=True) for _ in range(7)]
    expected = [*speaking[:3], newcomers[0], *speaking[3:6], newcomers[1], speaking[6], newcomers[2]]
    assert served(limiter, first) == expected


def test_continuations_without_waiting_requests_overtake_none() -> None:
    limiter = ConcurrencyLimit(initial=1)
    (first,) = enqueue_many(limiter, 1)
    for _ in range(10):
        following = limiter.acquire(0.0, is_continuation=True)
        assert limiter.release(first, 0.0) == [following]
        first = following
    newcomer, speaking = limiter.acquire(0.0), limiter.acquire(0.0, is_continuation=True)
    assert served(limiter, first) == [speaking, newcomer]


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 3), st.integers(0, 9))
def test_no_request_starves_and_each_kind_is_served_in_order(kinds: list[bool], initial: int, leavers: int) -> None:
    limiter = ConcurrencyLimit(initial)
    entries = [limiter.acquire(0.0, is_continuation=goes_on) for goes_on in kinds]
    running = [entry for entry in entries if entry.running]
    waiting = [entry for entry in entries if not entry.running]
    for entry in waiting[:leavers]:
        limiter.release(entry, 0.0)
    waiting = waiting[leavers:]
    order = []
    while running:
        following = limiter.release(running.pop(0), 0.0)
        order += following
        running += following
    assert sorted(order, key=waiting.index) == waiting, "everybody had a turn"
    for kind in (True, False):
        assert [entry for entry in order if entry.is_continuation is kind] == [
            each for each in waiting if each.is_continuation is kind
        ]
    for index, entry in enumerate(order):
        before = order[max(0, index - MAX_OVERTAKING) : index]
        assert (
            entry.is_continuation is False
            or index < MAX_OVERTAKING
            or not all(each.is_continuation for each in before)
            or not any(not each.is_continuation for each in order[index:])
        ), "the fourth in a row, while a newcomer waits"


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 3))
def test_expected_wait_of_a_continuation_is_exact(speaking: int, newcomers: int, favoured: int) -> None:
    limiter = ConcurrencyLimit(initial=1)
    limiter.release(limiter.acquire(0.0), 1.0)  # a request runs for a second
    running = limiter.acquire(1.0)
    enqueue_many(limiter, newcomers)
    for now in range(2, favoured + 2):
        following = limiter.acquire(now, is_continuation=True)
        limiter.release(running, now)
        running = following
    for _ in range(speaking):
        limiter.acquire(5.0, is_continuation=True)
    wait = limiter.expected_wait(is_continuation=True)
    last = limiter.acquire(5.0, is_continuation=True)
    assert served(limiter, running).index(last) + 1 == wait


def test_configured_limit_is_never_exceeded() -> None:
    limiter = ConcurrencyLimit(initial=5, maximum=5)
    entries = enqueue_many(limiter, 9)
    assert sum(running(entries)) == 5
    limiter.accepted(entries[0], 20, 0.0)
    assert (limiter.limit, limiter.running) == (5, 5)
    limiter.accepted(entries[0], 3, 0.0)
    assert limiter.limit == 3
    assert ConcurrencyLimit(maximum=4).limit == 4


def test_lowest_configured_limit_applies() -> None:
    limiter = ConcurrencyLimit(initial=5)
    for mosts, limit in (([None, 3], 3), ([2, 3, None], 2), ([], 5)):
        limiter.set_user_limits(mosts, 0.0)
        assert limiter.limit == limit


def test_raised_limit_starts_waiting_requests() -> None:
    limiter = ConcurrencyLimit(maximum=1)
    entries = enqueue_many(limiter, 3)
    assert limiter.set_user_limits([2], 0.0) == [entries[1]]
    assert (limiter.running, limiter.waiting) == (2, 1)


def test_refusal_halves_the_limit_and_a_burst_halves_it_once() -> None:
    limiter = ConcurrencyLimit()
    entries = enqueue_many(limiter, 20)
    for entry in entries[10:]:
        limiter.refused(entry)
        limiter.release(entry, 0.0)
    assert limiter.limit == 10


def test_later_refusal_halves_again_and_the_limit_grows_back_by_one() -> None:
    limiter = ConcurrencyLimit()
    entries = enqueue_many(limiter, 8)
    limiter.accepted(entries[0], 8, 0.0)
    limiter.refused(entries[7])
    limiter.release(entries[7], 0.0)
    assert limiter.limit == 4
    for entry in entries[:4]:
        limiter.release(entry, 0.0)
    seen = [limiter.limit]
    for _ in range(40):
        newcomers = enqueue_many(limiter, 9)
        for entry in [entry for entry in newcomers if entry.running]:
            limiter.accepted(entry, 8, 0.0)
        for entry in newcomers:
            limiter.release(entry, 0.0)
        seen.append(limiter.limit)
    assert seen == sorted(seen)
    assert seen[-1] == 8
    assert {4, 5, 6, 7, 8} <= set(seen), "one at a time"


def test_requests_admitted_before_a_refusal_do_not_raise_the_limit() -> None:
    limiter = ConcurrencyLimit()
    entries = enqueue_many(limiter, 8)
    limiter.refused(entries[7])
    for entry in entries[:7]:
        limiter.accepted(entry, None, 0.0)
    assert limiter.limit == 4


def test_limit_grown_back_to_the_vendors_is_bound_by_that_alone() -> None:
    limiter = ConcurrencyLimit(initial=2)
    entries = enqueue_many(limiter, 2)
    limiter.refused(entries[1])
    for entry in entries:
        limiter.release(entry, 0.0)
    assert limiter.limit == 1
    limiter.accepted(limiter.acquire(0.0), 2, 0.0)
    assert limiter.limit == 2
    limiter.accepted(limiter.acquire(0.0), 20, 0.0)
    assert limiter.limit == 20, "a larger plan"


def test_unused_limit_does_not_grow() -> None:
    limiter = ConcurrencyLimit()
    entries = enqueue_many(limiter, 8)
    limiter.refused(entries[7])
    for entry in entries:
        limiter.release(entry, 0.0)
    alone = limiter.acquire(0.0)
    for _ in range(100):
        limiter.accepted(alone, None, 0.0)
    assert limiter.limit == 4


def test_limit_does_not_fall_below_one() -> None:
    limiter = ConcurrencyLimit()
    for _ in range(5):
        entry = limiter.acquire(0.0)
        assert entry.running
        limiter.refused(entry)
        limiter.release(entry, 0.0)
    assert limiter.limit == 1


def test_expected_wait_is_estimated_from_past_durations() -> None:
    limiter = ConcurrencyLimit(initial=2)
    first, _second = enqueue_many(limiter, 2)
    assert limiter.expected_wait() == 0.0, "nobody knows yet"
    limiter.release(first, 4.0)
    assert limiter.expected_wait() == 0.0, "there is room"
    limiter.acquire(4.0)
    assert limiter.expected_wait() == 2.0, "one of two entries every four seconds"
    limiter.acquire(4.0)
    assert limiter.expected_wait() == 4.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30), st.integers(1, 6)), max_size=200), st.integers(1, 4))
def test_limit_is_never_exceeded_and_no_slot_is_lost(history: list[tuple[int, int, int]], initial: int) -> None:
    limiter = ConcurrencyLimit(initial)
    there: list[QueueEntry] = []
    for now, (action, which, number) in enumerate(history):
        before = {entry for entry in there if entry.running}
        match action:
            case 0 | 1:
                there.append(limiter.acquire(now, is_continuation=action == 1))
            case 2 | 3 if there:
                limiter.release(there.pop(which % len(there)), now)
            case 4 if there and there[which % len(there)].running:
                limiter.accepted(there[which % len(there)], number, now)
            case 5 if there and there[which % len(there)].running:
                limiter.refused(there[which % len(there)])
        now_running = [entry for entry in there if entry.running]
        assert limiter.running == len(now_running)
        assert limiter.waiting == len(there) - len(now_running)
        assert limiter.limit is not None
        if not set(now_running) <= before:
            assert limiter.running <= limiter.limit, "somebody was let through"
        assert not limiter.waiting or limiter.running >= limiter.limit, "nobody waits beside an empty entry"
        assert now_running == there[: len(now_running)] or any(not p.running for p in there), "in order"
    for entry in there:
        limiter.release(entry, 0.0)
    assert (limiter.running, limiter.waiting) == (0, 0)
