"""Passthrough, passthrough to a sink, and buffered delivery are indistinguishable, whatever a vendor does."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, Provider
from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.service.options import ResolvedOptions
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech.request import SpeechRequest

from .fault_cases import ALL_CASES, FaultCase
from .scenario import FaultOutcome, run_case, run_each_way, run_together

pytestmark = pytest.mark.timeout(300)  # the first test runs all cases

A_FEW_REFUSALS = {"quota_exceeded", "too_many_concurrent_requests", "voice_not_found", "system_busy"}
CASES = [case for case in ALL_CASES if not isinstance(case.act, actions.Refuse) or case.act.code in A_FEW_REFUSALS]


class BufferedElevenLabs(ElevenLabs):
    """Provider without prepared requests, so that its audio takes the buffered path."""

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> None:
        """Return None, so that nothing is passed through."""


Ways = dict[FaultCase, list[FaultOutcome]]  # passed through, passed to a sink, and buffered


@pytest.fixture(scope="module")
def all_outcomes() -> Ways:
    """Outcomes of every fault, on all paths."""

    async def each_way(case: FaultCase, local: Provider) -> list[FaultOutcome]:
        ways = ((ElevenLabs, False), (ElevenLabs, True), (BufferedElevenLabs, False))
        runs = [
            partial(run_case, case, "stream", local, by=by, with_sink=with_sink, on_midstream="error")
            for by, with_sink in ways
        ]
        return await run_each_way(case, runs, timeless_fields)

    return dict(zip(CASES, asyncio.run(run_together(CASES, each_way)), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_passthrough_and_buffered_answers_are_indistinguishable(all_outcomes: Ways, case: FaultCase) -> None:
    passed, with_sink, buffered = all_outcomes[case]
    assert timeless_fields(passed) == timeless_fields(buffered)
    assert timeless_fields(with_sink) == timeless_fields(buffered)


def test_passthrough_call_is_used_for_passthrough(all_outcomes: Ways) -> None:
    """Otherwise this module would compare equal paths."""
    with_sink = [outcomes[1].with_sink for outcomes in all_outcomes.values()]
    assert sum(size > 0 for size in with_sink) >= 5
    assert not any(outcomes[0].with_sink or outcomes[2].with_sink for outcomes in all_outcomes.values())


def timeless_fields(outcome: FaultOutcome) -> dict[str, Any]:
    """Return everything about an outcome that does not depend on time."""
    assert outcome.account is not None
    spoken = outcome.account.report
    return {
        "outcome": spoken.outcome,
        "error": type(outcome.error),
        "attempts": [(each.provider, each.begin, each.end, type(each.error), each.bill) for each in spoken.attempts],
        "spans": [(span.provider, span.begin, span.voice, span.exact) for span in spoken.spans],
        "text": spoken.alignment.text,
        "times": spoken.outcome == "spoken" and spoken.alignment,  # the local voice's own are never quite the same
        "audio": spoken.outcome == "spoken" and outcome.audio,
        "counted": outcome.counted,
        "requests": outcome.requests,
        "charged": outcome.charged,
        "bills": outcome.bills,
    }


@pytest.mark.parametrize(("by", "passes"), [(ElevenLabs, True), (BufferedElevenLabs, False)])
async def test_both_paths_are_exercised(by: type[ElevenLabs], passes: bool) -> None:
    """Otherwise this module would compare equal paths."""
    async with AsyncTTSService([by("any")], on_midstream="error") as tts:
        style = ResolvedOptions.resolve({})
        tts.open_stream("Hello", style, hold=False)
        [staging] = style.templates.values()
        assert staging.candidates
        assert (staging.candidates.candidates[0].prepared is not None) is passes
