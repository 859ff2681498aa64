"""Validation of options of the library and of providers, with errors that name the option."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from steadyvoice._option_rules import OptionRule, short_repr
from steadyvoice.speech.errors import TTSConfigurationError

T = TypeVar("T")


def validate_option(name: str, value: T, rule: OptionRule) -> T:
    """Return the value of an option if it follows the rule. Raises TTSConfigurationError, which names the option."""
    if not rule.accepts(value):
        raise TTSConfigurationError(f"{name}: {rule.expected}, got {short_repr(value)}")
    return value


def validate_fields(options: object, names: Iterable[str], rule: OptionRule) -> None:
    """Check that fields of an object follow the rule. Raises TTSConfigurationError, which names the field."""
    for name in names:
        validate_option(name, getattr(options, name), rule)
