"""Audio that the library collects, or streams, is the same whether a relay or the pipeline does it, whatever a vendor
does.

Not each variant of a fault is tried at both endpoints, unless with STEADYVOICE_DEEP=1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache, partial

import pytest

from steadyvoice import ElevenLabs, Provider
from steadyvoice.providers.base import SupportsPrepare
from steadyvoice.simulator.fault_injection.actions import RefuseConnection, SlowAccept, TlsFailure

from .fault_cases import FaultCase, on_paths
from .scenario import ENDPOINTS, Endpoint, FaultOutcome, run_case, run_each_way, run_together
from .test_passthrough import CASES, timeless_fields

pytestmark = pytest.mark.timeout(300)  # the first test runs all cases


class IteratedElevenLabs(ElevenLabs):
    """Provider whose responses cannot be read directly, so that its chunks are iterated."""

    prepare = None  # type: ignore[assignment]


SELECTED = on_paths(CASES, ENDPOINTS)

Ways = dict[FaultCase, list[FaultOutcome]]  # relayed, and iterated


def run_all(endpoint: Endpoint) -> Ways:
    """Run every fault, by a relay and iterated."""

    async def both_ways(case: FaultCase, local: Provider) -> list[FaultOutcome]:
        kinds = (ElevenLabs, IteratedElevenLabs)
        ways = [partial(run_case, case, endpoint, local, by=by, warm=True) for by in kinds]
        return await run_each_way(case, ways, timeless_fields)

    cases = [case for case, path in SELECTED if path == endpoint]
    return dict(zip(cases, asyncio.run(run_together(cases, both_ways)), strict=True))


@pytest.fixture(scope="module")
def outcomes_of_endpoint() -> Callable[[Endpoint], Ways]:
    """Outcomes of every fault, once they are asked for."""
    return cache(run_all)


@pytest.mark.parametrize(("case", "endpoint"), SELECTED, ids=str)
def test_relayed_and_iterated_answers_are_indistinguishable(
    outcomes_of_endpoint: Callable[[Endpoint], Ways], endpoint: Endpoint, case: FaultCase
) -> None:
    relayed, iterated = outcomes_of_endpoint(endpoint)[case]
    assert timeless_fields(relayed) == timeless_fields(iterated)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_relays_begin_the_requests(outcomes_of_endpoint: Callable[[Endpoint], Ways], endpoint: Endpoint) -> None:
    """Otherwise this module would compare equal ways."""
    assert isinstance(ElevenLabs("any"), SupportsPrepare)
    assert not isinstance(IteratedElevenLabs("any"), SupportsPrepare)
    # These faults of new connections close the idle one, and Opus is not relayed.
    unconnected = (RefuseConnection, SlowAccept, TlsFailure)
    outcomes = outcomes_of_endpoint(endpoint)
    relayable = [case for case in outcomes if not case.format.startswith("opus")]
    assert all(outcomes[case][0].relayed for case in relayable if not isinstance(case.act, unconnected))
    assert not any(iterated.relayed for _, iterated in outcomes.values())
