"""Order of failover, decided from the status of each provider."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.service.resilience.failover import (
    CLOCK_RESOLUTION,
    CandidateStatus,
    GiveUp,
    TryProvider,
    WaitForProvider,
    next_step,
)
from steadyvoice.speech.failure_kinds import FAILURE_TABLE, Billed, FailureKind, FailureMeaning, RetryAdvice


def failed(kind: FailureKind, *, tries: int = 1, ready_at: float = 0.0, **rest: bool) -> CandidateStatus:
    rest.setdefault("billed", FAILURE_TABLE[kind].billed is not Billed.NO)
    return CandidateStatus(tries=tries, failure=FAILURE_TABLE[kind], ready_at=ready_at, **rest)


def step(
    *standings: CandidateStatus, now: float = 0.0, remaining: float = 40.0, max_attempts: int = 3
) -> TryProvider | WaitForProvider | GiveUp:
    return next_step(standings, now=now, remaining=remaining, max_attempts=max_attempts)


def test_first_provider_leaves_a_fifth_of_the_time_to_the_next() -> None:
    assert step(CandidateStatus(), CandidateStatus()) == TryProvider(0, 32.0)


def test_only_provider_gets_all_the_time() -> None:
    assert step(CandidateStatus()) == TryProvider(0, 40.0)


def test_refused_provider_is_skipped_and_gets_no_time() -> None:
    assert step(CandidateStatus(refused=True), CandidateStatus()) == TryProvider(1, 40.0)
    assert step(CandidateStatus(), CandidateStatus(refused=True)) == TryProvider(0, 40.0)


def test_server_error_is_retried_once_before_the_next_provider() -> None:
    assert step(failed(FailureKind.SERVER_ERROR, ready_at=0.4), CandidateStatus()) == WaitForProvider(0.4)
    assert step(failed(FailureKind.SERVER_ERROR, ready_at=0.4), CandidateStatus(), now=0.4) == TryProvider(0, 32.0)
    assert step(failed(FailureKind.SERVER_ERROR, tries=2), CandidateStatus()) == TryProvider(1, 32.0)


@pytest.mark.parametrize("rest", [0.0, 5e-17, 1e-6, 0.001])
def test_pause_shorter_than_the_clocks_resolution_is_over(rest: float) -> None:
    # Sleeping for 5e-17 s ends at once, and the clock is where it was: whoever waits for that waits for ever.
    assert step(failed(FailureKind.SERVER_ERROR, ready_at=rest), CandidateStatus()) == TryProvider(0, 32.0)


def test_last_provider_gets_all_its_attempts() -> None:
    assert step(failed(FailureKind.SERVER_ERROR, tries=2)) == TryProvider(0, 40.0)
    assert step(failed(FailureKind.SERVER_ERROR, tries=2), CandidateStatus(refused=True)) == TryProvider(0, 40.0)
    assert step(failed(FailureKind.SERVER_ERROR, tries=3)) == GiveUp()


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if FAILURE_TABLE[kind].billed is not Billed.NO])
def test_possibly_billed_text_goes_to_another_provider(kind: FailureKind) -> None:
    assert step(failed(kind), CandidateStatus()) == TryProvider(1, 32.0 if _is_retriable(FAILURE_TABLE[kind]) else 40.0)


def test_possibly_billed_text_is_retried_when_no_provider_is_left() -> None:
    assert step(failed(FailureKind.READ_TIMEOUT), CandidateStatus(refused=True)) == TryProvider(0, 40.0)
    assert step(failed(FailureKind.EMPTY_AUDIO), failed(FailureKind.INVALID_KEY)) == TryProvider(0, 40.0)


def test_pause_longer_than_the_time_excludes_a_provider() -> None:
    assert step(failed(FailureKind.READ_TIMEOUT), failed(FailureKind.BUSY, ready_at=50.0)) == TryProvider(0, 40.0)


def test_last_attempts_of_others_come_before_a_second_bill() -> None:
    assert step(failed(FailureKind.CUT), failed(FailureKind.SERVER_ERROR, tries=2)) == TryProvider(1, 32.0)
    assert step(failed(FailureKind.CUT), failed(FailureKind.SERVER_ERROR, tries=3)) == TryProvider(0, 40.0)


def test_later_free_failure_does_not_clear_a_bill() -> None:
    assert step(
        failed(FailureKind.SERVER_ERROR, tries=2, billed=True), failed(FailureKind.BUSY, tries=2)
    ) == TryProvider(1, 32.0)


def test_bill_for_text_that_others_began_is_kept() -> None:
    assert step(CandidateStatus(billed=True), CandidateStatus()) == TryProvider(1, 32.0)
    assert step(CandidateStatus(billed=True), CandidateStatus(refused=True)) == TryProvider(0, 40.0)


def test_billed_provider_without_failure_comes_first() -> None:
    assert step(failed(FailureKind.CUT), CandidateStatus(billed=True)) == TryProvider(1, 32.0)
    assert step(failed(FailureKind.CUT, ready_at=0.3), CandidateStatus(billed=True, refused=True)) == WaitForProvider(
        0.3
    )


def test_concurrency_refusal_fails_over_although_it_costs_nothing() -> None:
    assert step(failed(FailureKind.CONCURRENCY), CandidateStatus()) == TryProvider(1, 32.0)
    assert step(failed(FailureKind.CONCURRENCY)) == TryProvider(0, 40.0)


def test_probe_is_limited_only_while_another_provider_can_take_over() -> None:
    assert step(CandidateStatus(probe=1.5), CandidateStatus()) == TryProvider(0, 32.0, first_audio=1.5)
    assert step(CandidateStatus(probe=1.5), CandidateStatus(refused=True)) == TryProvider(0, 40.0)
    assert step(CandidateStatus(), CandidateStatus(probe=1.5)) == TryProvider(0, 32.0)


def test_long_pause_is_not_waited_for_while_another_provider_is_ready() -> None:
    assert step(failed(FailureKind.BUSY, ready_at=5.0), CandidateStatus()) == TryProvider(1, 32.0)


def test_pause_is_waited_for_when_it_fits_and_no_other_is_left() -> None:
    assert step(failed(FailureKind.BUSY, ready_at=5.0)) == WaitForProvider(5.0)
    assert step(failed(FailureKind.BUSY, ready_at=50.0)) == GiveUp()


def test_exhausted_retry_budget_means_no_second_attempt() -> None:
    assert step(failed(FailureKind.SERVER_ERROR, affords_retry=False), CandidateStatus()) == TryProvider(1, 40.0)
    assert step(failed(FailureKind.SERVER_ERROR, affords_retry=False)) == GiveUp()


def test_max_attempts_of_one_means_no_retries() -> None:
    assert step(failed(FailureKind.SERVER_ERROR), max_attempts=1) == GiveUp()


def test_local_voice_is_tried_after_the_deadline() -> None:
    assert step(CandidateStatus(), CandidateStatus(local=True), remaining=-1.0) == TryProvider(1, 5.0)
    assert step(CandidateStatus(), CandidateStatus(), remaining=0.0) == GiveUp()
    assert step(CandidateStatus(), now=100.0, remaining=-1.0) == GiveUp()


KINDS = st.sampled_from(sorted(FAILURE_TABLE, key=lambda kind: kind.value))
STANDINGS = st.builds(
    CandidateStatus,
    refused=st.booleans(),
    local=st.booleans(),
    tries=st.integers(0, 4),
    failure=st.none() | KINDS.map(FAILURE_TABLE.__getitem__),
    billed=st.booleans(),
    ready_at=st.floats(0, 100),
    affords_retry=st.booleans(),
).filter(lambda s: (s.failure is None) == (s.tries == 0))


@given(st.lists(STANDINGS, max_size=4), st.floats(0, 100), st.floats(-10, 60), st.integers(1, 4))
def test_chosen_provider_is_always_usable(
    standings: list[CandidateStatus], now: float, remaining: float, most: int
) -> None:
    match next_step(standings, now=now, remaining=remaining, max_attempts=most):
        case TryProvider(index, allowance):
            chosen = standings[index]
            assert not chosen.refused
            assert chosen.tries < most
            assert chosen.ready_at - now <= CLOCK_RESOLUTION
            assert allowance > 0
            assert chosen.failure is None or _is_retriable(chosen.failure)
        case WaitForProvider(seconds):
            assert seconds > 0
            assert seconds < remaining or any(standing.local for standing in standings)
        case GiveUp():
            fresh = [s for s in standings if not s.refused and s.tries == 0 and (remaining > 0 or s.local)]
            assert all(s.ready_at - now >= remaining for s in fresh)


@given(st.lists(STANDINGS, max_size=4), st.floats(0, 100), st.floats(-10, 60), st.integers(1, 4))
def test_no_second_bill_while_another_provider_can_speak(
    standings: list[CandidateStatus], now: float, remaining: float, most: int
) -> None:
    match next_step(standings, now=now, remaining=remaining, max_attempts=most):
        case TryProvider(index) if standings[index].billed:
            for other in standings:
                alone = step(other, now=now, remaining=remaining, max_attempts=most)
                assert other.billed or alone == GiveUp()


def _is_retriable(meaning: FailureMeaning) -> bool:
    return meaning.retry is not RetryAdvice.NO
