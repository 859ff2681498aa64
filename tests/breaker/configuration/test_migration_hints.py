"""Migration hints for the names of other libraries."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import pytest

import steadyvoice.breaker
from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitRegistry

ATTRIBUTES = [
    ("fail_max", "consecutive_failures"),
    ("reset_timeout", "cooldown_period"),
    ("timeout_duration", "cooldown_period"),
    ("recovery_timeout", "cooldown_period"),
    ("exclude", "ignore"),
    ("excluded_exceptions", "ignore"),
    ("expected_exception", "failure_on"),
    ("success_threshold", "config.success_threshold"),
    ("failure_threshold", "config.failure_threshold"),
    ("current_state", "breaker.state"),
    ("fail_counter", "consecutive_failures"),
    ("failure_count", "consecutive_failures"),
    ("success_counter", "probe_successes"),
    ("last_failure", "last_error"),
    ("opened", "breaker.state"),
    ("open_remaining", "retry_after"),
    ("open", "force_open"),
    ("half_open", "by itself"),
    ("calling", "with breaker"),
    ("add_listener", "subscribe"),
    ("add_listeners", "subscribe"),
    ("remove_listener", "subscribe"),
    ("fallback_function", "CircuitOpenError"),
    ("call_generator", "stream"),
]


@pytest.mark.parametrize(("name", "ours"), ATTRIBUTES)
def test_attributes_of_other_libraries_name_the_replacement(name: str, ours: str) -> None:
    breaker: Any = CircuitBreaker("voice")
    with pytest.raises(AttributeError, match=ours) as refusal:
        getattr(breaker, name)
    assert refusal.value.name == name
    with pytest.raises(AttributeError, match=ours):
        setattr(breaker, name, 5)
    assert not hasattr(breaker, name)
    assert name not in dir(breaker)


def test_misspelt_attribute_raises_an_ordinary_attribute_error() -> None:
    breaker: Any = CircuitBreaker("voice")
    with pytest.raises(AttributeError, match="no attribute 'stat'"):
        breaker.stat  # noqa: B018


KEYWORDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"fail_max": 5, "reset_timeout": 60}, [r"CircuitBreakerConfig\.consecutive\(5\)", "cooldown_period"]),
    ({"failure_threshold": 5, "recovery_timeout": 30}, [r"CircuitBreakerConfig\.consecutive\(5\)", "cooldown_period"]),
    ({"failure_threshold": 0.5}, [r"CircuitBreaker\(name, CircuitBreakerConfig\(failure_threshold=\.\.\.\)\)"]),
    ({"expected_exception": OSError}, ["failure_on"]),
    ({"exclude": [ValueError]}, ["ignore"]),
    ({"timeout_duration": 5}, ["cooldown_period"]),
    ({"threshold": 5, "ttl": 30}, [r"consecutive\(5\)", "cooldown_period"]),
    ({"fallback_function": print}, ["except CircuitOpenError"]),
    ({"state_storage": None}, ["export"]),
    ({"success_threshold": 3}, [r"CircuitBreakerConfig\(success_threshold=\.\.\.\)"]),
    (
        {"luck": len, "wall": len},
        [r"instead of luck, CircuitBreaker\(random", r"instead of wall, CircuitBreaker\(wall_clock"],
    ),
    ({"nonsense": 3}, ["nonsense", "no such setting"]),
]


@pytest.mark.parametrize(("keywords", "ours"), KEYWORDS, ids=repr)
def test_keywords_of_other_libraries_name_the_replacement(keywords: dict[str, Any], ours: list[str]) -> None:
    for name in ours:
        with pytest.raises(TypeError, match=name):
            CircuitBreaker("voice", **keywords)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("fail_max", "consecutive"),
        ("reset_timeout", "cooldown_period"),
        ("recovery_timeout", "cooldown_period"),
        ("timeout_duration", "cooldown_period"),
        ("expected_exception", "failure_on"),
        ("exclude", "ignore"),
        ("fallback_function", "CircuitOpenError"),
    ],
)
def test_settings_of_other_libraries_name_the_replacement(name: str, ours: str) -> None:
    settings: dict[str, Any] = {name: 5}
    for make in (CircuitBreakerConfig, lambda **given: replace(CircuitBreakerConfig(), **given)):
        with pytest.raises(TypeError, match=ours):
            make(**settings)
    with pytest.raises(AttributeError, match=ours):
        getattr(CircuitBreakerConfig(), name)


def test_configuration_keeps_its_signature() -> None:
    parameters = inspect.signature(CircuitBreakerConfig).parameters
    assert list(parameters)[:4] == ["failure_threshold", "window_size", "cooldown_period", "success_threshold"]
    assert parameters["minimum_calls"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("CircuitBreakerError", "CircuitOpenError"),
        ("CircuitBreakerListener", "subscribe"),
        ("CircuitBreakerMonitor", "CircuitRegistry"),
        ("CircuitMemoryStorage", "export"),
        ("circuit", "CircuitBreaker"),
        ("STATE_OPEN", "CircuitState.OPEN"),
        ("AsyncCircuitBreakerFactory", "CircuitRegistry"),
    ],
)
def test_module_names_of_other_libraries_name_the_replacement_also_on_import(name: str, ours: str) -> None:
    with pytest.raises(AttributeError, match=ours):
        getattr(steadyvoice.breaker, name)
    assert not hasattr(steadyvoice.breaker, name)
    with pytest.raises(ImportError, match=ours):
        exec(f"from steadyvoice.breaker import {name}")
    with pytest.raises(ImportError, match="nonsense"):
        exec("from steadyvoice.breaker import nonsense")


def test_registry_attributes_of_other_libraries_name_the_replacement() -> None:
    registry: Any = CircuitRegistry()
    with pytest.raises(AttributeError, match="circuit"):
        registry.get_breaker("voice")
