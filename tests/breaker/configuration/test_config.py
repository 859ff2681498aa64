"""Configuration: defaults, presets, and validation."""

from __future__ import annotations

import ast
import asyncio
import concurrent.futures
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Union

import pytest

from steadyvoice.breaker import CircuitBreakerConfig, CircuitConfigError, ConsecutiveFailures
from steadyvoice.breaker.testing import assert_opens_after, assert_stays_closed
from tests.parametrize_ids import stable_repr


def test_defaults() -> None:
    config = CircuitBreakerConfig()
    assert (config.failure_threshold, config.window_size) == (0.5, 10)
    assert (config.cooldown_period, config.success_threshold) == (60, 3)
    assert (config.minimum, config.half_open_max_calls, config.half_open_timeout) == (5, 1, 60)


@pytest.mark.parametrize(
    ("preset", "values"),
    [
        (CircuitBreakerConfig.production, (0.6, 20, 120, 5)),
        (CircuitBreakerConfig.development, (0.5, 4, 10, 2)),
    ],
)
def test_presets(preset: Callable[[], CircuitBreakerConfig], values: tuple[float, ...]) -> None:
    config = preset()
    assert values == (
        config.failure_threshold,
        config.window_size,
        config.cooldown_period,
        config.success_threshold,
    )


def test_adaptive_preset_detects_hanging_probes_soon_and_backs_off() -> None:
    config = CircuitBreakerConfig.adaptive()
    assert config.hung_after is not None
    assert config.cooldown_period <= 2
    assert config.cooldown_backoff > 1
    assert config.max_cooldown is not None
    assert config.half_open_max_calls == 1


def test_minimum_of_a_time_window_defaults_to_five_results() -> None:
    assert CircuitBreakerConfig(window_seconds=10, window_size=100).minimum == 5
    assert CircuitBreakerConfig(window_seconds=10, minimum_calls=50).minimum == 50


COUNTS = ["window_size", "minimum_calls", "success_threshold", "half_open_max_calls", "consecutive_failures"]
DURATIONS = [
    "cooldown_period",
    "window_seconds",
    "hung_after",
    "slow_call_duration",
    "half_open_timeout",
    "max_cooldown",
    "ramp_up",
]
RATES = ["failure_threshold", "slow_call_threshold"]
NOT_A_NUMBER: list[Any] = [math.nan, math.inf, -math.inf, True, "5", [5]]
FREE = ("cooldown_period", 0)  # the next caller is a probe at once


async def in_time(error: object) -> bool:
    return True


def one_by_one(error: object) -> Iterator[bool]:
    yield True


class InTime:
    async def __call__(self, error: object) -> bool:
        return True


class BrokenOffError(BaseException):
    pass


PREDICATES = ["failure_on", "ignore", "failure_result", "failure_weight", "cooldown_from_error"]
NEVER_ANSWERS = [in_time, one_by_one, partial(in_time), InTime()]
NO_ERRORS: list[Any] = [
    5,
    "ValueError",
    int,
    (ValueError, int),
    [ValueError, "KeyError"],
    {ValueError, int},
    ValueError | int,
    ValueError | None,
    ValueError("an instance"),
    [ValueError()],
    (ValueError, lambda error: True),
    ["ValueError"],
    list[int],
]
NEVER_FAILURES: list[Any] = [
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
    concurrent.futures.CancelledError,
    BrokenOffError,
    (ValueError, KeyboardInterrupt),
    ValueError | KeyboardInterrupt,
    (),
    [],
    set(),
]
IMPOSSIBLE: list[tuple[str, Any]] = [
    *[(field, value) for field in COUNTS for value in [0, -1, 2.5, *NOT_A_NUMBER]],
    *[(field, value) for field in DURATIONS for value in [0, -1, *NOT_A_NUMBER] if (field, value) != FREE],
    *[(field, timedelta(seconds=-1)) for field in DURATIONS],
    *[(field, 10**value) for field in COUNTS for value in (10, 400, 5000)],
    *[(field, value) for field in RATES for value in [0, -0.1, 1.01, *NOT_A_NUMBER]],
    *[(field, 10**400) for field in [*DURATIONS, *RATES, "cooldown_backoff"]],
    *[("cooldown_backoff", value) for value in [0.99, 0, None, *NOT_A_NUMBER]],
    *[("hung_factor", value) for value in [0.99, 0, *NOT_A_NUMBER]],
    *[("cooldown_jitter", value) for value in [-0.1, 1.1, None, *NOT_A_NUMBER]],
    *[("stream_probe_success_after", value) for value in [-1, None, *NOT_A_NUMBER]],
    *[(field, None) for field in ["window_size", "cooldown_period", "success_threshold"]],
    *[(field, None) for field in ["half_open_max_calls", "half_open_timeout"]],
    *[("significance", value) for value in [0, 1, -1e-7, *NOT_A_NUMBER]],
    *[("half_open_failures", value) for value in [-1, 2.5, *NOT_A_NUMBER]],
    *[("cooldown_schedule", value) for value in [(), [], 5, (1.0, -1), [1.0, "2"], (1.0, None), (math.inf,), (True,)]],
    ("minimum_calls", 11),
    ("max_cooldown", 59),
    ("slow_call_threshold", 0.5),
    ("failure_threshold", None),
    *[(field, value) for field in ["failure_on", "ignore"] for value in NO_ERRORS],
    *[("failure_on", value) for value in NEVER_FAILURES],
    *[(field, 5) for field in ["failure_result", "failure_weight", "cooldown_from_error"]],
    *[(field, value) for field in PREDICATES for value in NEVER_ANSWERS],
]


@pytest.mark.parametrize(("field", "value"), IMPOSSIBLE, ids=stable_repr)
def test_impossible_setting_is_refused_with_field_and_reason(field: str, value: Any) -> None:
    with pytest.raises(CircuitConfigError) as refusal:
        CircuitBreakerConfig(**{field: value})
    error = refusal.value
    assert isinstance(error, ValueError)
    assert error.field == field
    assert error.reason
    assert str(error).startswith(f"{field}=")


def test_rates_may_be_one_and_times_may_be_whole_numbers() -> None:
    config = CircuitBreakerConfig(failure_threshold=1, window_seconds=1, hung_after=1, stream_probe_success_after=0)
    assert config.failure_threshold == 1


SEVERAL: list[Any] = [
    (ValueError, KeyError),
    [ValueError, KeyError],
    {ValueError, KeyError},
    frozenset({ValueError, KeyError}),
    ValueError | KeyError,
    Union[ValueError, KeyError],  # noqa: UP007
    [ValueError, (KeyError,)],
]


@pytest.mark.parametrize("field", ["failure_on", "ignore"])
@pytest.mark.parametrize("several", SEVERAL, ids=lambda several: type(several).__name__)
def test_several_exception_types_may_come_in_any_collection_or_as_a_union(field: str, several: Any) -> None:
    config = CircuitBreakerConfig(**{field: several})
    assert set(getattr(config, field)) == {ValueError, KeyError}
    assert replace(config, window_size=5) == replace(CircuitBreakerConfig(**{field: several}), window_size=5)


def test_errors_may_be_one_type_or_a_predicate() -> None:
    some: list[Any] = [ValueError, BaseException, ExceptionGroup, BaseExceptionGroup, lambda error: True]
    for errors in some:
        CircuitBreakerConfig(failure_on=errors, ignore=errors)


def test_ignoring_cancellations_is_accepted() -> None:
    harmless: list[Any] = [asyncio.CancelledError, KeyboardInterrupt, (), []]
    for errors in harmless:
        CircuitBreakerConfig(ignore=errors)


def test_durations_may_be_timedeltas() -> None:
    minute = timedelta(minutes=1)
    config = CircuitBreakerConfig(**dict.fromkeys(DURATIONS, minute), stream_probe_success_after=minute)  # type: ignore[arg-type]
    assert {getattr(config, field) for field in [*DURATIONS, "stream_probe_success_after"]} == {60.0}
    assert CircuitBreakerConfig(cooldown_schedule=[minute, 90]).cooldown_schedule == (60.0, 90)
    assert CircuitBreakerConfig(cooldown_period=minute) == CircuitBreakerConfig(cooldown_period=60)


def test_whole_number_as_rate_suggests_consecutive() -> None:
    with pytest.raises(CircuitConfigError, match=r"CircuitBreakerConfig\.consecutive\(5\)"):
        CircuitBreakerConfig(failure_threshold=5)


def test_consecutive_opens_after_so_many_failures_in_a_row_and_for_nothing_else() -> None:
    config = CircuitBreakerConfig.consecutive(20, cooldown_period=30)
    assert (config.cooldown_period, config.rule) == (30, ConsecutiveFailures(20))
    assert_opens_after(config, "F" * 20)
    assert_opens_after(config, "S" + "F" * 20)
    assert_stays_closed(config, "F" * 19 + ("S" + "F" * 19) * 5)
    assert_stays_closed(config, "FS" * 100)
    assert_opens_after(CircuitBreakerConfig(consecutive_failures=20), "FFFFF")  # for the rate is judged as well


def test_consecutive_takes_a_timedelta_and_the_default_of_a_minute() -> None:
    assert CircuitBreakerConfig.consecutive(3).cooldown_period == 60
    assert CircuitBreakerConfig.consecutive(3, timedelta(minutes=2)).cooldown_period == 120


def test_consecutive_takes_further_settings() -> None:
    config = CircuitBreakerConfig.consecutive(3, 30, success_threshold=1, ignore=ValueError)
    assert (config.success_threshold, config.ignore, config.failure_threshold) == (1, ValueError, None)
    with pytest.raises(TypeError, match="cooldown_period"):
        CircuitBreakerConfig.consecutive(3, reset_timeout=60)


@pytest.mark.parametrize("n", [0, -1, 2.5, True, None, "5", math.nan])
def test_consecutive_needs_a_number_of_failures(n: Any) -> None:
    with pytest.raises(CircuitConfigError, match="consecutive_failures"):
        CircuitBreakerConfig.consecutive(n)


def test_slow_call_rule_alone_is_sufficient() -> None:
    CircuitBreakerConfig(failure_threshold=None, slow_call_duration=5)


def test_cooldown_schedule_may_be_a_list() -> None:
    assert CircuitBreakerConfig(cooldown_schedule=[5, 30]).cooldown_schedule == (5, 30)


def documented_presets() -> dict[str, dict[str, str]]:
    """Return the settings of each preset in docs/breaker.md, as written."""
    page = (Path(__file__).parents[3] / "docs" / "breaker.md").read_text("utf-8")
    rows = re.findall(r"^\| `\.(\w+)\(n?\)` \| `([^`]+)` \|$", page, re.MULTILINE)
    return {name: dict(re.findall(r"(\w+)=([^,]+)", settings)) for name, settings in rows}


@pytest.mark.parametrize("preset", ["adaptive", "production", "development", "consecutive"])
def test_documentation_lists_all_settings_of_a_preset(preset: str) -> None:
    arguments = [7] if preset == "consecutive" else []
    config, plain = getattr(CircuitBreakerConfig, preset)(*arguments), CircuitBreakerConfig()
    documented = documented_presets()[preset]
    changed = {field.name for field in fields(config) if getattr(config, field.name) != getattr(plain, field.name)}
    assert changed <= documented.keys()
    for name, value in documented.items():
        assert getattr(config, name) == (7 if value == "n" else ast.literal_eval(value))
