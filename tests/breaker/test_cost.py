"""Cost of a breaker in numbers that depend on no machine: Python calls of each operation, bytes of an idle circuit.

The limits are what was counted, and a twentieth more. They hold what the benchmarks measure in time.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import repeat
from types import FrameType

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from tests.breaker.entry_points import ProviderDownError

ADAPTIVE = CircuitBreakerConfig.adaptive()
PLAIN = CircuitBreakerConfig(window_size=100)
TIMES = 1000

pytestmark = pytest.mark.skipif(not CircuitBreaker.quiet_periods, reason="without interpreter lock, costs are others")


def breaker(config: CircuitBreakerConfig) -> CircuitBreaker:
    return CircuitBreaker("voice", config, clock=repeat(0.0).__next__)


def speak() -> None:
    """Do nothing."""


def fail() -> None:
    raise ProviderDownError


def permit(config: CircuitBreakerConfig) -> Callable[[], object]:
    acquire = breaker(config).acquire
    return lambda: acquire().success()


def stream(config: CircuitBreakerConfig) -> Callable[[], object]:
    acquire = breaker(config).acquire

    def deliver() -> None:
        permit = acquire()
        for _ in range(4):
            permit.pause()
            permit.resume()
        permit.success()

    return deliver


def success(config: CircuitBreakerConfig) -> Callable[[], object]:
    return breaker(config)(speak)


def failure(config: CircuitBreakerConfig) -> Callable[[], object]:
    lenient = replace(config, failure_threshold=None, consecutive_failures=10**9, significance=None)
    return breaker(lenient)(fail)


def refusal(config: CircuitBreakerConfig) -> Callable[[], object]:
    refusing = breaker(config)
    refusing.force_open()
    return refusing(speak)


@pytest.mark.parametrize(
    ("make", "config", "counted"),
    [
        (permit, ADAPTIVE, 2.6),
        (stream, ADAPTIVE, 21.8),
        (success, PLAIN, 1.0),
        (success, ADAPTIVE, 5.6),
        (failure, PLAIN, 2.7),
        (failure, ADAPTIVE, 13.6),
        (refusal, ADAPTIVE, 3.0),
    ],
)
def test_python_calls_of_an_operation(
    make: Callable[[CircuitBreakerConfig], Callable[[], object]], config: CircuitBreakerConfig, counted: float
) -> None:
    act = make(config)
    calls = 0

    def count(frame: FrameType, event: str, about: object) -> None:
        nonlocal calls
        calls += event == "call"

    for _ in range(3 * TIMES // 10):  # until the time is known after which a call hangs
        with suppress(ProviderDownError, CircuitOpenError):
            act()
    calls = 0
    sys.setprofile(count)
    for _ in repeat(None, TIMES):
        try:  # noqa: SIM105 - suppress() would be counted, too
            act()
        except (ProviderDownError, CircuitOpenError):
            pass
    sys.setprofile(None)
    own = 0 if make is refusal else 1  # the function of this test that is called each time
    assert calls / TIMES - own <= counted * 1.05


def test_bytes_of_an_idle_circuit() -> None:
    def make(number: int) -> list[CircuitBreaker]:
        return [CircuitBreaker("voice", CircuitBreakerConfig.adaptive()) for _ in range(number)]

    make(1)  # so that imports and caches are not measured
    kept, sizes = list[list[CircuitBreaker]](), list[float]()
    for _ in range(3):
        gc.collect()
        tracemalloc.start()
        kept.append(make(TIMES))
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0] / TIMES)
        tracemalloc.stop()
    # Among 10,000 it is 1,160. The set of what a fork renews grows in steps, of which one may fall into a measurement.
    assert min(sizes) <= 1_200, sizes
