"""Guarantees that hold for an answer spoken while it is written, whatever a vendor's websocket does."""

from __future__ import annotations

import asyncio

import pytest

from steadyvoice.simulator.fault_injection.actions import ACTIONS, FaultTarget, WrongRate, action_name

from .page import differences, page_parts, websocket_part
from .scenario import weight_of
from .websocket_scenario import TEXT, WEBSOCKET_CASES, TurnOutcome, name_of, run_all_websocket_cases

pytestmark = pytest.mark.timeout(300)  # the first test runs all cases

CHANGES_NOTHING = {"slow-first-byte (seconds=0.1)", "stall (after=0.6, seconds=0.1)", "odd-splits", "big-frame"}
CHANGES_NOTHING |= {"other-spelling", "other-spelling (style=mixed)", "absolute-times", "drip (bytes=8001, every=0.01)"}


@pytest.fixture(scope="module")
def websocket_outcomes() -> list[TurnOutcome]:
    """Outcomes of every fault."""
    return asyncio.run(run_all_websocket_cases())


@pytest.fixture
def outcome(websocket_outcomes: list[TurnOutcome], request: pytest.FixtureRequest) -> TurnOutcome:
    index: int = request.param
    return websocket_outcomes[index]


every_outcome = pytest.mark.parametrize(
    "outcome", range(len(WEBSOCKET_CASES)), indirect=True, ids=[name_of(case) for case in WEBSOCKET_CASES]
)


@every_outcome
def test_every_word_is_heard_once_and_in_order(outcome: TurnOutcome) -> None:
    assert outcome.error is None
    # Samples do not say their rate: such audio plays at the wrong pitch.
    assert outcome.heard == TEXT.split() or isinstance(outcome.case.act, WrongRate)


@every_outcome
def test_words_are_announced_no_later_than_their_audio(outcome: TurnOutcome) -> None:
    assert list(outcome.words) == TEXT.split()
    assert outcome.late_words == 0


@every_outcome
def test_circuit_counts_what_the_failure_table_says(outcome: TurnOutcome) -> None:
    assert outcome.counted == weight_of(outcome.failures)


@every_outcome
def test_no_character_is_billed_twice_and_no_slot_is_lost(outcome: TurnOutcome) -> None:
    assert outcome.charged <= len(TEXT)
    assert outcome.charged == len(TEXT) or outcome.outcome != "spoken", "by the websocket, and not over HTTP"
    assert outcome.running == 0


@every_outcome
def test_only_a_fault_that_takes_something_is_a_failure(outcome: TurnOutcome) -> None:
    harmless = name_of(outcome.case) in CHANGES_NOTHING or isinstance(outcome.case.act, WrongRate)
    assert (outcome.outcome == "spoken") is harmless
    assert bool(outcome.failures) is not harmless


def test_every_fault_of_websockets_is_covered() -> None:
    covered = {action_name(case.act) for case in WEBSOCKET_CASES}
    assert covered == {name for name, kind in ACTIONS.items() if FaultTarget.WEBSOCKET in kind.targets}


def test_page_states_the_outcome_of_each_fault(websocket_outcomes: list[TurnOutcome]) -> None:
    changed = differences(page_parts()[1], websocket_part(websocket_outcomes))
    assert not changed, changed
