"""Circuit breakers that are compared, each used as its own readme shows first: as a decorator.

A breaker with a count window has one of 100 calls; one that only counts consecutive failures does that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from importlib import import_module
from typing import Any, Protocol, TypeAlias

Function: TypeAlias = Callable[[], Any]

LONG = 1e6
"""Cooldown in seconds that does not end during a measurement."""


class Case(Enum):
    """Outcome of the measured calls."""

    SUCCESS = "closed, success"
    FAILURE = "closed, failure"
    REFUSAL = "open, refused"


class Subject(Protocol):
    """Breaker to measure. `guard` and `guard_async` return None where it has no such decorator."""

    @property
    def name(self) -> str: ...
    @property
    def distribution(self) -> str | None: ...
    @property
    def module(self) -> str: ...

    def guard(self, fn: Function, case: Case) -> Function | None: ...
    def guard_async(self, fn: Function, case: Case) -> Function | None: ...
    def new(self, number: int) -> object: ...


def limit(case: Case, usual: int = 5) -> int:
    """Return the failures that open: never, where failures are measured; one, where refusals are."""
    return {Case.SUCCESS: usual, Case.FAILURE: 10**9, Case.REFUSAL: 1}[case]


class Ours:
    distribution = None
    module = "steadyvoice.breaker.breaker"  # the package alone imports nothing until a name is used

    def __init__(self, name: str, preset: Callable[[Any], Any]) -> None:
        self.name = name
        self._preset = preset

    def guard(self, fn: Function, case: Case) -> Function | None:
        return self._breaker(case)(fn)  # type: ignore[no-any-return]

    guard_async = guard

    def new(self, number: int) -> object:
        return self._breaker(Case.SUCCESS)

    def _breaker(self, case: Case) -> Any:
        breaker = import_module(self.module)
        config = self._preset(breaker.CircuitBreakerConfig)
        if case is Case.FAILURE:
            # No rule may trip: all calls fail.
            config = replace(config, failure_threshold=None, consecutive_failures=10**9, significance=None)
        if case is Case.REFUSAL:
            config = replace(config, consecutive_failures=1, cooldown_period=LONG, max_cooldown=None)
        return breaker.CircuitBreaker("ours", config)


class Permits(Ours):
    """Calls between `acquire()` and the settling of the permit, as the speech service makes them."""

    def guard(self, fn: Function, case: Case) -> Function | None:
        acquire = self._breaker(case).acquire

        def guarded() -> Any:
            permit = acquire()
            try:
                result = fn()
            except Exception as error:
                permit.failure(error)
                raise
            permit.success()
            return result

        return guarded

    def guard_async(self, fn: Function, case: Case) -> Function | None:
        return None  # the permit is the same


class PyBreaker:
    name = distribution = module = "pybreaker"

    def guard(self, fn: Function, case: Case) -> Function | None:
        breaker = import_module(self.module).CircuitBreaker(fail_max=limit(case), reset_timeout=LONG)
        return breaker(fn)  # type: ignore[no-any-return]

    def guard_async(self, fn: Function, case: Case) -> Function | None:
        return None  # for Tornado only

    def new(self, number: int) -> object:
        return import_module(self.module).CircuitBreaker()


class CircuitBreakerPackage:
    name = distribution = module = "circuitbreaker"

    def guard(self, fn: Function, case: Case) -> Function | None:
        breaker = import_module(self.module).CircuitBreaker(failure_threshold=limit(case), recovery_timeout=LONG)
        return breaker(fn)  # type: ignore[no-any-return]

    guard_async = guard

    def new(self, number: int) -> object:
        return import_module(self.module).CircuitBreaker()


class AioBreaker:
    name = distribution = module = "aiobreaker"

    def guard(self, fn: Function, case: Case) -> Function | None:
        rest = timedelta(seconds=LONG)
        breaker = import_module(self.module).CircuitBreaker(fail_max=limit(case), timeout_duration=rest)
        return breaker(fn)  # type: ignore[no-any-return]

    guard_async = guard

    def new(self, number: int) -> object:
        return import_module(self.module).CircuitBreaker()


class Purgatory:
    name = distribution = module = "purgatory"

    def __init__(self) -> None:
        self._factory: Any = None

    def guard(self, fn: Function, case: Case) -> Function | None:
        factory = import_module(self.module).SyncCircuitBreakerFactory(limit(case), LONG)
        return factory("peer")(fn)  # type: ignore[no-any-return]

    def guard_async(self, fn: Function, case: Case) -> Function | None:
        factory = import_module(self.module).AsyncCircuitBreakerFactory(limit(case), LONG)
        return factory("peer")(fn)  # type: ignore[no-any-return]

    def new(self, number: int) -> object:
        # Its breakers belong to a factory, which is counted once and not per breaker.
        if self._factory is None:
            self._factory = import_module(self.module).SyncCircuitBreakerFactory()
        return self._factory.get_breaker(f"peer {number}")


class Hyx:
    name = distribution = "hyx"
    module = "hyx.circuitbreaker"

    def guard(self, fn: Function, case: Case) -> Function | None:
        return None

    def guard_async(self, fn: Function, case: Case) -> Function | None:
        make = import_module(self.module).consecutive_breaker
        breaker = make(failure_threshold=limit(case), recovery_time_secs=LONG)
        return breaker(fn)  # type: ignore[no-any-return]

    def new(self, number: int) -> object:
        return import_module(self.module).consecutive_breaker()


class Fluxgate:
    name = distribution = module = "fluxgate"

    def guard(self, fn: Function, case: Case) -> Function | None:
        return self._make("CircuitBreaker", case)(fn)  # type: ignore[no-any-return]

    def guard_async(self, fn: Function, case: Case) -> Function | None:
        return self._make("AsyncCircuitBreaker", case)(fn)  # type: ignore[no-any-return]

    def new(self, number: int) -> object:
        return self._make("CircuitBreaker", Case.SUCCESS)

    def _make(self, kind: str, case: Case) -> Any:
        trippers, retries = import_module("fluxgate.trippers"), import_module("fluxgate.retries")
        tripper = trippers.MinRequests(limit(case, usual=100)) & trippers.FailureRate(0.5)
        return getattr(import_module(self.module), kind)(tripper=tripper, retry=retries.Cooldown(LONG))


class PyResilience:
    name = distribution = module = "pyresilience"

    def guard(self, fn: Function, case: Case) -> Function | None:
        module = import_module(self.module)
        config = module.CircuitBreakerConfig(failure_threshold=limit(case), recovery_timeout=LONG)
        return module.resilient(circuit_breaker=config)(fn)  # type: ignore[no-any-return]

    guard_async = guard

    def new(self, number: int) -> object:
        module = import_module("pyresilience._circuit_breaker")
        return module.CircuitBreaker(import_module(self.module).CircuitBreakerConfig())


class Interlock:
    name = distribution = "interlock-cb"
    module = "interlock"

    def guard(self, fn: Function, case: Case) -> Function | None:
        module = import_module(self.module)
        config = module.Config(minimum_number_of_calls=limit(case, usual=10), wait_duration_in_open=LONG)
        return module.CircuitBreaker(name="peer", config=config)(fn)  # type: ignore[no-any-return]

    guard_async = guard

    def new(self, number: int) -> object:
        return import_module(self.module).CircuitBreaker(name="peer")


OURS = Ours("steadyvoice", lambda config: config(window_size=100))
ADAPTIVE = Ours("steadyvoice adaptive", lambda config: config.adaptive())
PERMITS = Permits("steadyvoice acquire()", lambda config: config.adaptive())
INTERLOCK = Interlock()
PEERS: tuple[Subject, ...] = (
    AioBreaker(),
    CircuitBreakerPackage(),
    Fluxgate(),
    Hyx(),
    INTERLOCK,
    Purgatory(),
    PyBreaker(),
    PyResilience(),
)
