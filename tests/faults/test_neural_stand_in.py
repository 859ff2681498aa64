"""Faults of the vendor with the neural voice as the next provider: as with any other local voice, and understood."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from steadyvoice import AudioFormat, Espeak, Neural, Provider, SpeechRequest
from steadyvoice.providers import espeak, neural
from tests.required_tools import require_tool

from .fault_cases import ALL_CASES, FaultCase
from .scenario import ENDPOINTS, LOCAL, Endpoint, FaultOutcome, run_case

require_tool(neural.is_installed() and espeak.is_installed(), "hibari-tts and espeakng-loader")

_REQUEST = SpeechRequest("Hello.", AudioFormat.parse("pcm_24000"))
Case = tuple[FaultCase, Endpoint]
CASES: list[Case] = [(case, endpoint) for case in ALL_CASES for endpoint in ENDPOINTS]
FEW = CASES[::29]
"""Cases of each kind, for every run; `make long` has them all."""


async def outcomes_of(cases: Sequence[Case], local: Provider) -> dict[Case, FaultOutcome]:
    """Live through faults, two at a time, with a local voice that has spoken before."""
    places = asyncio.Semaphore(2)

    async def one(case: Case) -> FaultOutcome:
        async with places:
            return await run_case(*case, local)

    try:
        request = local.speak(_REQUEST, local.offer(_REQUEST), connection_timeout=1.0)
        assert [event async for event in request]
        return dict(zip(cases, await asyncio.gather(*map(one, cases)), strict=True))
    finally:
        await local.aclose()


def summary(outcome: FaultOutcome) -> tuple[object, ...]:
    """Return what must not depend on the local voice."""
    speakers = [span.provider for span in outcome.account.report.spans] if outcome.account else []
    return (
        outcome.account.outcome if outcome.account else None,
        type(outcome.error),
        speakers,
        outcome.charged,
        outcome.counted,
        [type(error) for error in outcome.failures],
    )


def assert_same_outcomes(cases: Sequence[Case]) -> None:
    natural = asyncio.run(outcomes_of(cases, Neural(name=LOCAL)))
    robotic = asyncio.run(outcomes_of(cases, Espeak(name=LOCAL)))
    for case in cases:
        assert summary(natural[case]) == summary(robotic[case]), f"{case[0]} {case[1]}"
    assert any(outcome.account and outcome.account.outcome == "substituted" for outcome in natural.values())


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_few_faults_end_as_with_espeak() -> None:
    assert_same_outcomes(FEW)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_every_fault_ends_as_with_espeak() -> None:
    assert_same_outcomes(CASES)
