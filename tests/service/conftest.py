"""Fixtures of the service on the event loop's time, so that an hour of outage takes no time at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, Provider

BRIEF = CircuitBreakerConfig(failure_threshold=0.5, window_size=4, cooldown_period=60, success_threshold=2)

MakeService = Callable[..., AsyncTTSService]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have virtual time advance at once when nothing is ready, in tests that do not state `noop_cycles`.

    By default, looptime polls 42 times before each timer, which is most of the processor time of such a test. That is
    for what comes through sockets, and from threads that the event loop did not start; see `noop_cycles` for these.
    """
    marks = list(item.iter_markers("looptime"))
    if marks and not any("noop_cycles" in mark.kwargs for mark in marks):
        item.add_marker(pytest.mark.looptime(noop_cycles=1))


def loop_clock() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def make_service() -> MakeService:
    """Build a service on the loop's time, with a wall clock that follows it and random numbers that repeat."""

    def make(*providers: Provider, **settings: Any) -> AsyncTTSService:
        start = loop_clock()
        settings.setdefault("circuit", BRIEF)
        return AsyncTTSService(
            list(providers),
            clock=loop_clock,
            wall_clock=lambda: datetime(2026, 1, 1, tzinfo=UTC).timestamp() + loop_clock() - start,
            rng=Random(1),
            **settings,
        )

    return make
