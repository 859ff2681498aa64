"""Validation of options by one family of helpers: same wording, same types of errors, no hand-written checks."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from steadyvoice import CacheConfig, HedgeConfig, OpenAICompatible, RetryConfig, TimeoutConfig, TTSConfigurationError
from steadyvoice._option_rules import Number, OneOf
from steadyvoice.breaker import CircuitBreakerConfig, CircuitConfigError
from steadyvoice.providers.credentials import validate_concurrency
from steadyvoice.service.pipeline.timeouts import check_deadline
from steadyvoice.service.resilience.admission_control import AdmissionLimits
from steadyvoice.simulator.fault_injection.actions import Drip, FaultError, Stall
from steadyvoice.speech.voice import Voice

from .layers import PACKAGE

HOME = PACKAGE / "_option_rules.py"


def hand_written_checks(source: str) -> Iterator[str]:
    """Yield the checks of a module that tell True from a number, or compare types with those of numbers."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.BoolOp(values=parts):
                yield from (ast.unparse(part) for part in parts if _mentions_bool(part))
            case ast.UnaryOp(ast.Not(), operand) if _mentions_bool(operand):
                yield ast.unparse(node)
            case ast.Compare(ast.Call(ast.Name("type")), _, [ast.Name("int" | "float" | "bool")]):
                yield ast.unparse(node)


def _mentions_bool(node: ast.expr) -> bool:
    match node:
        case ast.UnaryOp(ast.Not(), operand):
            return _mentions_bool(operand)
        case ast.Call(ast.Name("isinstance"), [_, kinds]):
            return any(isinstance(each, ast.Name) and each.id == "bool" for each in ast.walk(kinds))
    return False


def test_no_module_checks_numbers_and_flags_by_hand() -> None:
    found = {
        str(path.relative_to(PACKAGE)): checks
        for path in PACKAGE.rglob("*.py")
        if path != HOME and (checks := list(hand_written_checks(path.read_text("utf-8"))))
    }
    assert found == {}
    assert list(hand_written_checks(HOME.read_text("utf-8")))  # they would be found


@pytest.mark.parametrize(
    "check",
    [
        "isinstance(value, bool) or not isinstance(value, int) or value < 1",
        "isinstance(value, int | float) and not isinstance(value, bool)",
        "not isinstance(streams, bool)",
        "type(value) is not int or value < 1",
    ],
)
def test_hand_written_check_is_found(check: str) -> None:
    assert list(hand_written_checks(check))


def test_formatting_of_a_flag_is_allowed() -> None:
    assert not list(hand_written_checks("str(value).lower() if isinstance(value, bool) else str(value)"))


COUNT, SECONDS = "must be a whole number, 1 or more", "must be a number of seconds, 0 or more"
POSITIVE_SECONDS = "must be a number of seconds, more than 0"
NOT_COUNTS: list[Any] = [0, -1, 2.0, 2.5, True, "3", float("nan")]
NOT_SECONDS: list[Any] = [-0.1, True, "3", float("nan"), float("inf"), 10**400]

RULES: list[tuple[str, list[Any], dict[str, Callable[[Any], object]]]] = [
    (
        COUNT,
        NOT_COUNTS,
        {
            "max_attempts": lambda value: RetryConfig(max_attempts=value),
            "minimum_samples": lambda value: HedgeConfig(minimum_samples=value),
            "max_active": lambda value: AdmissionLimits(max_active=value),
            "o.max_concurrency": lambda value: validate_concurrency(value, provider="o"),
            "openai.max_characters": lambda value: OpenAICompatible("sk-x" * 8, max_characters=value),
            "window_size": lambda value: CircuitBreakerConfig(window_size=value),
            "bytes": lambda value: Drip(bytes=value),
        },
    ),
    (
        POSITIVE_SECONDS,
        [0, *NOT_SECONDS],
        {
            "read_timeout": lambda value: TimeoutConfig(read_timeout=value),
            "deadline": check_deadline,
            "window_seconds": lambda value: HedgeConfig(window_seconds=value),
            "hung_after": lambda value: CircuitBreakerConfig(hung_after=value),
        },
    ),
    (
        SECONDS,
        NOT_SECONDS,
        {
            "base_delay": lambda value: RetryConfig(base_delay=value),
            "queue_timeout": lambda value: AdmissionLimits(queue_timeout=value),
            "cooldown_period": lambda value: CircuitBreakerConfig(cooldown_period=value),
            "after": lambda value: Stall(after=value),
        },
    ),
    (
        "must be a number, more than 0 and at most 1",
        [0, 1.5, True, "1", float("nan")],
        {
            "budget": lambda value: HedgeConfig(budget=value),
            "slow_call_threshold": lambda value: CircuitBreakerConfig(slow_call_duration=1, slow_call_threshold=value),
        },
    ),
    (
        "must be true or false",
        [0, 1, None, "yes"],
        {
            "openai.streams": lambda value: OpenAICompatible("sk-x" * 8, streams=value),
            "openai.trust_env": lambda value: OpenAICompatible("sk-x" * 8, trust_env=value),
        },
    ),
    ("must be a whole number, 0 or more", [-1, 1.5, True], {"max_megabytes": lambda v: CacheConfig(max_megabytes=v)}),
    ("must be a number of LUFS from -70 to 0", [1, -71, True], {"loudness": lambda v: Voice("v", loudness=v)}),
]


@pytest.mark.parametrize(
    ("rule", "name", "use", "value"),
    [(rule, name, use, value) for rule, values, uses in RULES for name, use in uses.items() for value in values],
)
def test_broken_rule_reads_the_same_everywhere(rule: str, name: str, use: Callable[[Any], object], value: Any) -> None:
    with pytest.raises((TTSConfigurationError, CircuitConfigError, FaultError)) as refused:
        use(value)
    match refused.value:
        case CircuitConfigError() as error:
            assert error.field == name
            assert error.reason.startswith(rule)
        case TTSConfigurationError() as error:
            assert error.message.startswith(f"{name}: {rule}, got ")
        case error:
            assert str(error).startswith(f"{name}: {rule}, got ")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Number(), "must be a number"),
        (Number("bytes", integer=True, minimum=1, maximum=9), "must be a whole number of bytes from 1 to 9"),
        (Number(above=0, below=1), "must be a number, more than 0 and less than 1"),
        (Number(minimum=0, below=1), "must be a number, 0 or more and less than 1"),
        (Number(minimum=0.25, maximum=4.0), "must be a number from 0.25 to 4"),
        (OneOf(("any", "never")), "must be one of any, never"),
    ],
)
def test_rule_has_one_wording(rule: Number | OneOf, expected: str) -> None:
    assert rule.expected == expected


def test_infinity_is_accepted_only_where_the_rule_says_so() -> None:
    assert CacheConfig(max_age_days=float("inf")).max_age_days == float("inf")
    with pytest.raises(TTSConfigurationError, match="max_age_days: must be a number of days, more than 0, got nan"):
        CacheConfig(max_age_days=float("nan"))
