"""Four guarantees that hold whatever a vendor does; docs/faults.md states each outcome."""

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

from .fault_cases import ALL_CASES, EXCLUDED, FaultCase
from .page import differences, http_part, page_parts
from .scenario import DEADLINE, ENDPOINTS, TEXT, VENDOR, FaultOutcome, run_all_cases, weight_of
from .scenario import Endpoint as Way

pytestmark = pytest.mark.timeout(300)  # the first test runs all cases

ODD = (OddSplits(), Gzip(), SlowFirstByte(0.1), SlowAccept(0.1))

CASES = [(case, endpoint) for case in ALL_CASES for endpoint in ENDPOINTS]


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[FaultCase, Way], FaultOutcome]:
    """Outcomes of every fault, at both endpoints."""
    return {(outcome.case, outcome.endpoint): outcome for outcome in asyncio.run(run_all_cases(ALL_CASES))}


@pytest.fixture
def outcome(outcomes: dict[tuple[FaultCase, Way], FaultOutcome], request: pytest.FixtureRequest) -> FaultOutcome:
    return outcomes[request.param]


every_outcome = pytest.mark.parametrize("outcome", CASES, indirect=True, ids=lambda case: f"{case[0]} {case[1]}")


@every_outcome
def test_caller_gets_speech_silence_with_captions_or_a_typed_error(outcome: FaultOutcome) -> None:
    if outcome.error:
        assert isinstance(outcome.error, TTSError)
        assert outcome.error.kind in FAILURE_TABLE
        return
    assert outcome.account is not None
    assert len(outcome.audio) > 10_000, "five seconds of anything are more than that"
    assert "wiser" in outcome.account.captions()


@every_outcome
def test_call_ends_within_the_deadline(outcome: FaultOutcome) -> None:
    assert outcome.took < DEADLINE


@every_outcome
def test_circuit_counts_failures_by_the_failure_table(outcome: FaultOutcome) -> None:
    assert outcome.counted == weight_of(outcome.failures)


@every_outcome
def test_no_character_is_billed_twice(outcome: FaultOutcome) -> None:
    assert outcome.charged <= len(TEXT)


@every_outcome
def test_accounting_agrees_with_the_vendor_to_the_character(outcome: FaultOutcome) -> None:
    charged = {entry.request_id: entry.charged for entry in outcome.ledger}
    for attempt in outcome.attempts:
        match attempt.bill.charge:
            case Charge.BILLED:
                assert charged.pop(attempt.request_id) == attempt.bill.characters
            case Charge.REFUSED:
                assert charged.pop(attempt.request_id, 0) == 0
    may_be = [attempt.bill.characters for attempt in outcome.attempts if attempt.bill.charge is Charge.UNKNOWN]
    if outcome.account:
        assert sum(charged.values()) in (0, *may_be), "what is left is what we do not know"
    assert outcome.bills["billed"] <= outcome.charged <= outcome.bills["billed"] + outcome.bills["unknown"]


@every_outcome
def test_wasted_characters_are_counted_by_cause(outcome: FaultOutcome) -> None:
    bills = outcome.bills
    assert bills["wasted"] == sum(bills["wasted_by"].values()) <= bills["billed"] + bills["unknown"]
    assert set(bills["wasted_by"]) <= {error.kind.value for error in outcome.failures}
    if outcome.account and outcome.account.outcome == "spoken":
        assert bills["wasted"] == 0
    if outcome.account and outcome.account.outcome in ("substituted", "muted"):
        assert bills["wasted"] == bills["billed"] + bills["unknown"]


@every_outcome
def test_reported_provider_really_spoke(outcome: FaultOutcome) -> None:
    if outcome.account is not None and outcome.account.outcome == "spoken":
        assert outcome.account.provider == VENDOR
        assert not outcome.failures
    else:
        assert outcome.failures


@pytest.mark.parametrize("way", ENDPOINTS)
@pytest.mark.parametrize("case", [case for case in ALL_CASES if case.act in ODD], ids=str)
def test_harmless_faults_do_not_change_the_words(
    outcomes: dict[tuple[FaultCase, Way], FaultOutcome], case: FaultCase, way: Way
) -> None:
    assert outcomes[case, way].words == TEXT.split()


def test_every_fault_of_the_simulator_is_covered() -> None:
    assert {action_name(case.act) for case in ALL_CASES} | set(EXCLUDED) == set(ACTIONS)
    assert all(ACTIONS[name].targets == {FaultTarget.WEBSOCKET} for name in EXCLUDED)


def test_page_states_the_outcome_of_each_fault(outcomes: dict[tuple[FaultCase, Way], FaultOutcome]) -> None:
    changed = differences(page_parts()[0], http_part(list(outcomes.values())))
    assert not changed, changed
