"""Virtual clock, and scenarios that run through every entry point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import ENTRY_POINTS, CallerError, EntryPoint, LockingBreaker, Scenario

MakeScenario = Callable[..., Scenario]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


@pytest.fixture(params=[CircuitBreaker, LockingBreaker])
def kind(request: pytest.FixtureRequest) -> type[CircuitBreaker]:
    """With quiet periods, where this Python permits them, and without."""
    chosen: type[CircuitBreaker] = request.param
    return chosen


@pytest.fixture(params=ENTRY_POINTS, ids=lambda entry_point: entry_point.__name__)
def entry_point(request: pytest.FixtureRequest) -> EntryPoint:
    chosen: EntryPoint = request.param
    return chosen


@pytest.fixture
def make_scenario(entry_point: EntryPoint, clock: VirtualClock) -> MakeScenario:
    """Begin a scenario through each entry_point: `make_scenario(window_size=10)`."""

    def begin(slow: float = 5.0, **settings: Any) -> Scenario:
        config = CircuitBreakerConfig(**{"ignore": CallerError, **settings})
        return Scenario(entry_point, clock, config, slow)

    return begin
