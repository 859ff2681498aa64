"""Whatever a vendor does, four things hold; and docs/faults.md tells what became of it."""

from __future__ import annotations

import asyncio

import pytest

from steadyvoice import TTSError
from steadyvoice.service.billing import Charge
from steadyvoice.simulator.fault_injection.actions import (
    ACTIONS,
    FaultTarget,
    Gzip,
    OddSplits,
    SlowAccept,
    SlowFirstByte,
    action_name,
)
from steadyvoice.speech.failure_kinds import FAILURE_TABLE

from .fault_cases import EVERY_DAY, LEFT_OUT, BadDay
from .page import PAGE, written
from .scenario import DEADLINE, DOORS, TEXT, VENDOR, Fate, live_through_all
from .scenario import Door as Way

pytestmark = pytest.mark.timeout(300)  # all of it is lived through in the first one

ODD = (OddSplits(), Gzip(), SlowFirstByte(0.1), SlowAccept(0.1))

CASES = [(day, door) for day in EVERY_DAY for door in DOORS]


@pytest.fixture(scope="module")
def fates() -> dict[tuple[BadDay, Way], Fate]:
    """Every fault, at both doors."""
    return {(fate.day, fate.door): fate for fate in asyncio.run(live_through_all(EVERY_DAY))}


@pytest.fixture
def fate(fates: dict[tuple[BadDay, Way], Fate], request: pytest.FixtureRequest) -> Fate:
    return fates[request.param]


every_fate = pytest.mark.parametrize("fate", CASES, indirect=True, ids=lambda case: f"{case[0]} {case[1]}")


@every_fate
def test_the_caller_gets_speech_silence_with_captions_or_a_typed_error(fate: Fate) -> None:
    if fate.error:
        assert isinstance(fate.error, TTSError)
        assert fate.error.kind in FAILURE_TABLE
        return
    assert fate.account is not None
    assert len(fate.audio) > 10_000, "five seconds of anything are more than that"
    assert "wiser" in fate.account.captions()


@every_fate
def test_within_the_deadline(fate: Fate) -> None:
    assert fate.took < DEADLINE


@every_fate
def test_the_circuit_counts_what_the_taxonomy_says(fate: Fate) -> None:
    assert fate.counted == sum(FAILURE_TABLE[error.kind].counts for error in fate.failures)


@every_fate
def test_no_character_is_billed_twice(fate: Fate) -> None:
    assert fate.charged <= len(TEXT)


@every_fate
def test_our_books_agree_with_the_vendors_to_the_character(fate: Fate) -> None:
    charged = {entry.request_id: entry.charged for entry in fate.ledger}
    for attempt in fate.attempts:
        match attempt.bill.charge:
            case Charge.BILLED:
                assert charged.pop(attempt.request_id) == attempt.bill.characters
            case Charge.REFUSED:
                assert charged.pop(attempt.request_id, 0) == 0
    may_be = [attempt.bill.characters for attempt in fate.attempts if attempt.bill.charge is Charge.UNKNOWN]
    if fate.account:
        assert sum(charged.values()) in (0, *may_be), "what is left is what we do not know"
    assert fate.bills["billed"] <= fate.charged <= fate.bills["billed"] + fate.bills["unknown"]


@every_fate
def test_what_was_paid_and_not_heard_is_counted_by_its_cause(fate: Fate) -> None:
    bills = fate.bills
    assert bills["wasted"] == sum(bills["wasted_by"].values()) <= bills["billed"] + bills["unknown"]
    assert set(bills["wasted_by"]) <= {error.kind.value for error in fate.failures}
    if fate.account and fate.account.outcome == "spoken":
        assert bills["wasted"] == 0
    if fate.account and fate.account.outcome in ("substituted", "muted"):
        assert bills["wasted"] == bills["billed"] + bills["unknown"]


@every_fate
def test_whoever_is_said_to_have_spoken_was_the_vendor_or_had_to_stand_in(fate: Fate) -> None:
    if fate.account is not None and fate.account.outcome == "spoken":
        assert fate.account.provider == VENDOR
        assert not fate.failures
    else:
        assert fate.failures


@pytest.mark.parametrize("way", DOORS)
@pytest.mark.parametrize("day", [day for day in EVERY_DAY if day.act in ODD], ids=str)
def test_what_only_looks_odd_is_heard_word_for_word(
    fates: dict[tuple[BadDay, Way], Fate], day: BadDay, way: Way
) -> None:
    assert fates[day, way].words == TEXT.split()


def test_every_fault_of_the_simulator_is_among_them() -> None:
    assert {action_name(day.act) for day in EVERY_DAY} | set(LEFT_OUT) == set(ACTIONS)
    assert all(ACTIONS[name].targets == {FaultTarget.WEBSOCKET} for name in LEFT_OUT)


def test_the_page_tells_what_became_of_each(fates: dict[tuple[BadDay, Way], Fate]) -> None:
    assert PAGE.read_text("utf-8") == written(list(fates.values())), "to write it anew: python -m tests.faults.page"
