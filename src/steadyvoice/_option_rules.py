"""Rules for the values of options: which are accepted, and one wording for each rule wherever it is broken.

A rule is a value, and raises nothing: every layer has an exception of its own for a broken rule. Needs the standard
library only, for the circuit breaker uses it as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeGuard

_REPR_LENGTH = 100  # characters
_LARGEST = sys.float_info.max


class OptionRule(Protocol):
    """Rule for the value of one option."""

    @property
    def expected(self) -> str:
        """Requirement in words, to follow the name of the option in a message."""
        ...

    def accepts(self, value: object) -> bool:
        """Return whether a value follows the rule."""
        ...


class Number(NamedTuple):
    """Rule for a number of a `unit`: `minimum` and `maximum` are allowed values, `above` and `below` are not."""

    unit: str = ""
    integer: bool = False
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    finite: bool = True

    @property
    def expected(self) -> str:
        """Requirement in words, such as "must be a number of seconds, more than 0"."""
        kind = f"must be a {'whole ' if self.integer else ''}number{f' of {self.unit}' if self.unit else ''}"
        if self.minimum is not None and self.maximum is not None:
            return f"{kind} from {_shown(self.minimum)} to {_shown(self.maximum)}"
        bounds = [
            "" if self.minimum is None else f"{_shown(self.minimum)} or more",
            "" if self.above is None else f"more than {_shown(self.above)}",
            "" if self.maximum is None else f"at most {_shown(self.maximum)}",
            "" if self.below is None else f"less than {_shown(self.below)}",
        ]
        requirement = " and ".join(filter(None, bounds))
        return f"{kind}, {requirement}" if requirement else kind

    def accepts(self, value: object) -> bool:
        """Return whether a value is such a number. True and False are none, and neither is text with digits."""
        fits: Callable[[object], TypeGuard[float]] = (
            is_whole_number if self.integer else is_finite if self.finite else is_number
        )
        return fits(value) and (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )


class OneOf(NamedTuple):
    """Rule for one of several values."""

    choices: Sequence[object]

    @property
    def expected(self) -> str:
        """Requirement in words, with all choices."""
        return f"must be one of {', '.join(map(str, self.choices))}"

    def accepts(self, value: object) -> bool:
        """Return whether a value is one of the choices; one of another type is not, even if it is equal."""
        return any(value == each and type(value) is type(each) for each in self.choices)


class Flag(NamedTuple):
    """Rule for true or false."""

    @property
    def expected(self) -> str:
        """Requirement in words that fit both Python and TOML."""
        return "must be true or false"

    def accepts(self, value: object) -> bool:
        """Return whether a value is True or False; 1 and 0 are not."""
        return isinstance(value, bool)


FLAG = Flag()
COUNT = Number(integer=True, minimum=1)
SECONDS = Number("seconds", minimum=0)
POSITIVE_SECONDS = Number("seconds", above=0)
FACTOR = Number(minimum=1)
SHARE = Number(minimum=0, maximum=1)
POSITIVE_SHARE = Number(above=0, maximum=1)
PROBABILITY = Number(above=0, below=1)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a number of any size, infinity and nan included, and neither True nor False."""
    # bool is a subclass of int: without this check, `max_attempts=True` would be one attempt.
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole_number(value: object) -> TypeGuard[int]:
    """Return whether a value is a whole number of any size, and neither True nor False."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: object) -> TypeGuard[float]:
    """Return whether a value is a number that a float can hold; a whole number may be too large for one."""
    return is_number(value) and -_LARGEST <= value <= _LARGEST


def short_repr(value: object) -> str:
    """Return a value's repr, shortened: it may be a number of thousands of digits, or fail."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= _REPR_LENGTH else f"{text[:_REPR_LENGTH]}..."


def _shown(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)
