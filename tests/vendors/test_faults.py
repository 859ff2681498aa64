"""Every fault of the simulator at every further vendor: what holds at ElevenLabs holds here.

Each fault is tried at each vendor at one of the endpoints; with STEADYVOICE_DEEP=1 at both.
"""

from __future__ import annotations

import asyncio
from functools import cache

import pytest

from steadyvoice import TTSError
from steadyvoice.service.billing import Charge
from steadyvoice.simulator.fault_injection.actions import Refuse
from steadyvoice.speech.errors import TTSTimeoutError
from steadyvoice.speech.failure_kinds import FAILURE_TABLE
from tests.case_selection import covering_pairs
from tests.faults.fault_cases import ALL_CASES, SAMPLES, FaultCase
from tests.faults.scenario import DEADLINE, ENDPOINTS, TEXT, VENDOR, Endpoint, FaultOutcome, run_all_cases

from .vendors import VENDORS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # the first test of a vendor runs all cases

# Each fault once, in samples, which every vendor sends; and each code once, for older forms are ElevenLabs' own.
CASES = list(
    dict.fromkeys(
        FaultCase(case.act, SAMPLES)
        for case in ALL_CASES
        if not (isinstance(case.act, Refuse) and case.act.form == "legacy")
    )
)
MOST_AT_ONCE = 4
SELECTED: list[tuple[str, FaultCase, Endpoint]] = covering_pairs(VENDORS, CASES, ENDPOINTS)


@cache
def _outcomes(name: str) -> dict[tuple[FaultCase, Endpoint], FaultOutcome]:
    selected = {(case, endpoint) for vendor, case, endpoint in SELECTED if vendor == name}
    made = asyncio.run(run_all_cases(CASES, at_once=MOST_AT_ONCE, by=VENDORS[name].make, selected=selected))
    return {(outcome.case, outcome.endpoint): outcome for outcome in made}


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> FaultOutcome:
    name, case, way = request.param
    return _outcomes(name)[case, way]


@pytest.mark.parametrize(
    "outcome",
    SELECTED,
    indirect=True,
    ids=lambda case: f"{case[0]} {case[1]} {case[2]}",
)
def test_fault(outcome: FaultOutcome) -> None:
    if outcome.error:
        assert isinstance(outcome.error, TTSError)
        assert outcome.error.kind in FAILURE_TABLE
    else:
        assert outcome.account is not None
        assert len(outcome.audio) > 10_000, "five seconds of anything are more than that"
        assert "wiser" in outcome.account.captions()
    assert outcome.took < DEADLINE
    weights = [error.meaning.circuit_weight for error in outcome.failures]
    # A timeout excuses the provider for the time in which this machine was too busy to look.
    excused = any(isinstance(error, TTSTimeoutError) for error in outcome.failures)
    assert outcome.counted == sum(weights) or (excused and outcome.counted < sum(weights))
    assert outcome.charged <= len(TEXT)
    bills = outcome.bills
    assert bills["billed"] <= outcome.charged <= bills["billed"] + bills["unknown"]
    assert bills["wasted"] == sum(bills["wasted_by"].values()) <= bills["billed"] + bills["unknown"]
    charged = {entry.request_id: entry.charged for entry in outcome.ledger}
    for attempt in outcome.attempts:
        if attempt.bill.charge is Charge.REFUSED:
            assert charged.get(attempt.request_id or "", 0) == 0
    if outcome.account is not None and outcome.account.outcome == "spoken":
        assert outcome.account.provider == VENDOR
        assert not outcome.failures
    else:
        assert outcome.failures
