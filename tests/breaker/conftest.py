"""A virtual clock, and stories played through every door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreakerConfig
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.doors import DOORS, CallersMistakeError, Door, Story

Tell = Callable[..., Story]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


@pytest.fixture(params=DOORS, ids=lambda door: door.__name__)
def door(request: pytest.FixtureRequest) -> Door:
    chosen: Door = request.param
    return chosen


@pytest.fixture
def tell(door: Door, clock: VirtualClock) -> Tell:
    """Begin a story through each door: `tell(window_size=10)`."""

    def begin(slow: float = 5.0, **settings: Any) -> Story:
        config = CircuitBreakerConfig(**{"ignore": CallersMistakeError, **settings})
        return Story(door, clock, config, slow)

    return begin
