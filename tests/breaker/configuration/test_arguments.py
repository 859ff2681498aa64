"""Invalid arguments, refused before anything is changed."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from steadyvoice.breaker import (
    CircuitArgumentError,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitConfigError,
    CircuitRegistry,
    CircuitState,
    ConsecutiveFailures,
    Event,
)
from steadyvoice.breaker.testing import VirtualClock
from tests.parametrize_ids import stable_repr

NO_CONFIGS: list[Any] = [
    None,
    {},
    {"window_size": 3},
    "production",
    5,
    [CircuitBreakerConfig()],
    CircuitBreakerConfig,
    CircuitBreakerConfig.production,
]


@pytest.fixture
def breaker(clock: VirtualClock) -> CircuitBreaker:
    return CircuitBreaker("voice", CircuitBreakerConfig(window_size=4), clock=clock)


# ---- settings


@pytest.mark.parametrize("config", NO_CONFIGS, ids=stable_repr)
def test_update_with_another_type_changes_nothing(breaker: CircuitBreaker, config: Any) -> None:
    breaker.acquire().failure()
    received: list[Event] = []
    breaker.subscribe(received.append)
    before = breaker.snapshot()
    with pytest.raises(CircuitArgumentError, match="must be a CircuitBreakerConfig") as refusal:
        breaker.update(config)
    assert isinstance(refusal.value, TypeError)
    assert isinstance(refusal.value, ValueError)
    assert (breaker.snapshot(), received) == (before, [])
    assert breaker.call(lambda: "spoken") == "spoken"


@pytest.mark.parametrize("config", NO_CONFIGS, ids=stable_repr)
def test_registry_update_with_another_type_changes_no_circuit(config: Any) -> None:
    usual = CircuitBreakerConfig(window_size=4)
    registry = CircuitRegistry(usual)
    circuits = [registry.circuit(name) for name in ("one", "two")]
    for change in (registry.update, partial(registry.configure, "one"), partial(registry.configure, "three")):
        with pytest.raises(CircuitArgumentError):
            change(config)
    assert {circuit.config for circuit in [*circuits, registry.circuit("three")]} == {usual}


@pytest.mark.parametrize("config", NO_CONFIGS[1:], ids=stable_repr)
def test_configuration_of_another_type_is_refused(config: Any) -> None:
    with pytest.raises(CircuitArgumentError, match=r"^config="):
        CircuitBreaker("voice", config)
    with pytest.raises(CircuitArgumentError, match=r"^config="):
        CircuitRegistry(config)
    with pytest.raises(CircuitArgumentError, match=r"^overrides\['voice'\]="):
        CircuitRegistry(overrides={"voice": config})


def test_number_in_place_of_the_configuration_suggests_consecutive() -> None:
    settings: Any = 5
    with pytest.raises(CircuitArgumentError, match=r"CircuitBreakerConfig\.consecutive\(5\)"):
        CircuitBreaker("voice", settings)


@pytest.mark.parametrize("other", [5, None, "FailureRate(0.5, 10)", CircuitBreakerConfig()])
def test_rules_combine_with_rules_only(other: Any) -> None:
    for put_together in (operator.and_, operator.or_):
        with pytest.raises(TypeError, match="unsupported operand"):
            put_together(ConsecutiveFailures(5), other)
        with pytest.raises(TypeError, match="unsupported operand"):
            put_together(other, ConsecutiveFailures(5))


@pytest.mark.parametrize("overrides", [CircuitBreakerConfig(), [("a", CircuitBreakerConfig())], 5], ids=stable_repr)
def test_overrides_must_be_a_mapping(overrides: Any) -> None:
    with pytest.raises(CircuitArgumentError, match=r"^overrides="):
        CircuitRegistry(overrides=overrides)


# ---- names


def test_configuration_in_place_of_the_name_is_refused_with_a_hint() -> None:
    config: Any = CircuitBreakerConfig.production()
    for use in (CircuitBreaker, CircuitRegistry().circuit, partial(CircuitRegistry().configure, config=config)):
        with pytest.raises(CircuitArgumentError, match="the name comes first"):
            use(config)


@pytest.mark.parametrize("name", [None, 5, b"voice", ["voice"], CircuitBreaker, lambda: "voice", "", "  "])
def test_name_must_be_a_nonempty_string(name: Any) -> None:
    registry = CircuitRegistry()
    for use in (CircuitBreaker, registry.circuit, lambda name: registry.configure(name, CircuitBreakerConfig())):
        with pytest.raises(CircuitConfigError, match=r"^name="):
            use(name)
    assert len(registry) == 0


# ---- states


@pytest.mark.parametrize("state", ["closed", "forced_open", "disabled", "monitoring"])
def test_initial_state_may_be_a_string(clock: VirtualClock, state: str) -> None:
    breaker = CircuitBreaker("voice", clock=clock, state=state)
    assert breaker.state is CircuitState(state)
    assert breaker.snapshot().state is CircuitState(state)
    if state != "forced_open":
        assert breaker.call(lambda: "spoken") == "spoken"
    breaker.reset()
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("state", ["open", "half_open", "foo", "", "Disabled", "DISABLED", None, True, 1, ["closed"]])
def test_unknown_initial_state_is_refused(state: Any) -> None:
    with pytest.raises(ValueError, match=r"^state="):
        CircuitBreaker("voice", state=state)


# ---- clocks


@pytest.mark.parametrize("field", ["clock", "wall_clock", "random"])
@pytest.mark.parametrize("clock", [5, 12.5, "time", time, None, asyncio.sleep, VirtualClock])
def test_clock_must_be_a_function(field: str, clock: Any) -> None:
    if (field, clock) == ("random", None):
        return
    with pytest.raises(CircuitArgumentError, match=f"^{field}="):
        CircuitBreaker("voice", **{field: clock})


async def seconds() -> float:
    return 1.0


@pytest.mark.parametrize("clock", [lambda: None, lambda: "12:00", datetime.now, partial(seconds), lambda: float("nan")])
def test_clock_must_return_seconds(clock: Any) -> None:
    for field in ("clock", "wall_clock"):
        with pytest.raises(CircuitArgumentError, match=f"^{field}="):
            CircuitBreaker("voice", **{field: clock})


@pytest.mark.parametrize("reading", [1e300, -1e12, 10**12])
def test_wall_clock_outside_the_range_of_datetime_is_refused(reading: float) -> None:
    with pytest.raises(CircuitArgumentError, match=r"^wall_clock="):
        CircuitBreaker("voice", wall_clock=lambda: reading)


# ---- listeners


async def coroutine(event: Event) -> None: ...


async def async_generator(event: Event) -> AsyncIterator[Event]:
    yield event


def generator(event: Event) -> Iterator[Event]:
    yield event


class Listens:
    async def __call__(self, event: Event) -> None: ...

    async def method(self, event: Event) -> None: ...


DEAF: list[Any] = [
    coroutine,
    async_generator,
    generator,
    partial(coroutine),
    partial(partial(coroutine)),
    Listens(),
    Listens().method,
    partial(Listens()),
    Listens,
    None,
    5,
    "listener",
    [coroutine],
]


@pytest.mark.parametrize("listener", DEAF, ids=stable_repr)
def test_listener_that_must_be_awaited_or_cannot_be_called_is_refused(breaker: CircuitBreaker, listener: Any) -> None:
    with pytest.raises(CircuitArgumentError, match=r"^listener="):
        breaker.subscribe(listener)
    for make in (CircuitBreaker, lambda _, **more: CircuitRegistry(**more)):
        with pytest.raises(CircuitArgumentError, match=r"^listeners="):
            make("voice", listeners=[listener])
    breaker.force_open()
    assert breaker.state == "forced_open"


@pytest.mark.parametrize("listeners", [print, None, 5, "listener", coroutine, Listens()], ids=stable_repr)
def test_listeners_must_be_a_list(listeners: Any) -> None:
    for make in (CircuitBreaker, lambda _, **more: CircuitRegistry(**more)):
        with pytest.raises(CircuitArgumentError, match=r"^listeners="):
            make("voice", listeners=listeners)


def test_listener_that_returns_a_coroutine_is_logged(breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture) -> None:
    received: list[Event] = []
    breaker.subscribe(lambda event: coroutine(event))
    breaker.subscribe(received.append)
    breaker.force_open()
    assert len(received) == 1
    assert "returned a coroutine" in caplog.text


async def test_listener_may_start_a_task(breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture) -> None:
    received: list[Event] = []

    async def hear(event: Event) -> None:
        received.append(event)

    tasks: list[asyncio.Task[None]] = []

    def start(event: Event) -> asyncio.Task[None]:
        tasks.append(asyncio.ensure_future(hear(event)))
        return tasks[-1]

    breaker.subscribe(start)
    breaker.force_open()
    await asyncio.gather(*tasks)
    assert len(received) == 1
    assert caplog.text == ""


# ---- by hand

FORCED: list[Callable[..., None]] = [CircuitBreaker.force_open, CircuitBreaker.disable, CircuitBreaker.monitor]


@pytest.mark.parametrize("force", FORCED, ids=lambda force: force.__name__)
@pytest.mark.parametrize("reason", [60, 0.5, timedelta(minutes=1), ["maintenance"], True, b"maintenance"])
def test_number_as_reason_is_refused(breaker: CircuitBreaker, force: Callable[..., None], reason: Any) -> None:
    for act in (partial(force, breaker), breaker.close, breaker.reset):
        with pytest.raises(CircuitArgumentError, match=r"^reason="):
            act(reason)
    assert breaker.state == "closed"
    if reason == 60:
        with pytest.raises(CircuitArgumentError, match="duration="):
            force(breaker, reason)


@pytest.mark.parametrize("force", FORCED, ids=lambda force: force.__name__)
@pytest.mark.parametrize("duration", ["60", float("nan"), float("inf"), -1, True, timedelta(seconds=-1), [60], 10**400])
def test_manual_duration_must_be_seconds_or_a_timedelta(
    breaker: CircuitBreaker, force: Callable[..., None], duration: Any
) -> None:
    with pytest.raises(ValueError, match=r"^duration="):
        force(breaker, duration=duration)
    assert breaker.state == "closed"


def test_circuit_can_be_forced_open_for_a_timedelta(breaker: CircuitBreaker) -> None:
    breaker.force_open("maintenance", timedelta(minutes=2))
    assert breaker.retry_after == 120


@pytest.mark.parametrize("state", [None, 5, "open", [], {}, [1, 2], b""], ids=stable_repr)
def test_values_that_are_no_export_are_not_restored(breaker: CircuitBreaker, state: Any) -> None:
    breaker.acquire().failure()
    before = breaker.snapshot()
    with pytest.raises(ValueError, match="not an exported circuit"):
        breaker.restore(state)
    assert breaker.snapshot() == before
