"""Settings: the defaults, the presets, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreakerConfig, CircuitConfigError


def test_the_defaults() -> None:
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
def test_the_presets(preset: Callable[[], CircuitBreakerConfig], values: tuple[float, ...]) -> None:
    config = preset()
    assert values == (
        config.failure_threshold,
        config.window_size,
        config.cooldown_period,
        config.success_threshold,
    )


def test_the_recommended_policy_notices_hanging_probes_soon_and_backs_off() -> None:
    config = CircuitBreakerConfig.adaptive()
    assert config.hung_after is not None
    assert config.cooldown_period <= 2
    assert config.cooldown_backoff > 1
    assert config.max_cooldown is not None
    assert config.half_open_max_calls == 1


def test_a_time_window_needs_five_results_unless_told_otherwise() -> None:
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
IMPOSSIBLE: list[tuple[str, Any]] = [
    *[(field, value) for field in COUNTS for value in [0, -1, 2.5, *NOT_A_NUMBER]],
    *[(field, value) for field in DURATIONS for value in [0, -1, *NOT_A_NUMBER]],
    *[(field, value) for field in RATES for value in [0, -0.1, 1.01, *NOT_A_NUMBER]],
    *[(field, 10**400) for field in [*DURATIONS, *RATES, "cooldown_backoff"]],
    *[("cooldown_backoff", value) for value in [0.99, 0, None, *NOT_A_NUMBER]],
    *[("hung_factor", value) for value in [0.99, 0, *NOT_A_NUMBER]],
    *[("cooldown_jitter", value) for value in [-0.1, 1.1, None, *NOT_A_NUMBER]],
    *[("probe_after", value) for value in [-1, None, *NOT_A_NUMBER]],
    *[(field, None) for field in ["window_size", "cooldown_period", "success_threshold"]],
    *[(field, None) for field in ["half_open_max_calls", "half_open_timeout"]],
    *[("significance", value) for value in [0, 1, -1e-7, *NOT_A_NUMBER]],
    *[("half_open_failures", value) for value in [-1, 2.5, *NOT_A_NUMBER]],
    *[("cooldown_schedule", value) for value in [(), [], 5, (1.0, 0), [1.0, "2"], (1.0, None), (math.inf,), (True,)]],
    ("minimum_calls", 11),
    ("max_cooldown", 59),
    ("slow_call_threshold", 0.5),
    ("failure_threshold", None),
    *[(field, value) for field in ["failure_on", "ignore"] for value in [5, "ValueError", int, (ValueError, int)]],
    ("ignore", (ValueError, lambda error: True)),
    *[(field, 5) for field in ["failure_result", "failure_weight", "open_for"]],
]


@pytest.mark.parametrize(("field", "value"), IMPOSSIBLE, ids=lambda part: str(part)[:30])
def test_impossible_settings_are_refused_by_name_and_with_the_reason(field: str, value: Any) -> None:
    with pytest.raises(CircuitConfigError) as refusal:
        CircuitBreakerConfig(**{field: value})
    error = refusal.value
    assert isinstance(error, ValueError)
    assert error.field == field
    assert error.reason
    assert str(error).startswith(f"{field}=")


def test_rates_may_be_one_and_times_may_be_whole_numbers() -> None:
    config = CircuitBreakerConfig(failure_threshold=1, window_seconds=1, hung_after=1, probe_after=0)
    assert config.failure_threshold == 1


def test_errors_are_given_as_a_type_several_or_a_predicate() -> None:
    for errors in (ValueError, (ValueError, KeyError), lambda error: True, ()):
        CircuitBreakerConfig(failure_on=errors, ignore=errors)


def test_a_slow_rule_is_rule_enough() -> None:
    CircuitBreakerConfig(failure_threshold=None, slow_call_duration=5)


def test_a_schedule_may_come_as_a_list_as_configuration_files_have_it() -> None:
    assert CircuitBreakerConfig(cooldown_schedule=[5, 30]).cooldown_schedule == (5, 30)  # type: ignore[arg-type]
