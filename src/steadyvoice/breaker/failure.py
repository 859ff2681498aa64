"""What a call's end means: a failure, nothing at all, or the consumer leaving.

Everything that runs somebody else's code (predicates, `str(error)`) is here, and runs outside the breaker's lock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from steadyvoice.breaker import checks
from steadyvoice.breaker.errors import CircuitOpenError

if TYPE_CHECKING:
    from steadyvoice.breaker.config import CircuitBreakerConfig, Errors

T = TypeVar("T")
MESSAGE_LENGTH = 200
SENTENCE_LENGTH = 80  # of a message, inside a sentence about something else
FAILED, RESULT = UNNAMED = ("failure", "result")  # what is called a failure without being an error


class Failure(NamedTuple):
    """One failure as it is reported to the machine.

    `weight` counts toward the failures (the call itself always counts one); `cooldown` is how long, in seconds,
    the circuit stays open should this failure open it; `trip` opens it at once.
    """

    kind: str
    message: str
    weight: float = 1.0
    cooldown: float | None = None
    trip: bool = False

    def told_of(self, what: str) -> str:
        """What failed, with which error if it was one, and what was said: in one line, for people."""
        named = what if self.kind in UNNAMED else f"{what} with {self.kind}"
        said = _in_short(self.message)
        return f"{named}: {said}" if said else named


def failure_of(
    error: BaseException | str | None,
    *,
    weight: float = 1.0,
    cooldown: float | None = None,
    trip: bool = False,
) -> Failure:
    """Describe `error` without keeping it."""
    if isinstance(error, BaseException):
        kind, message = type(error).__name__, _message(error)
    else:
        kind, message = FAILED, error or ""
    return Failure(kind, message[:MESSAGE_LENGTH], weight, _sane_seconds(cooldown), trip)


def hanging(seconds: float, weight: float = 1.0) -> Failure:
    """Describe a call that showed no sign of life for so long."""
    return Failure("hanging", f"no sign of life for {seconds:.3g} s", weight)


def judge_error(config: CircuitBreakerConfig, error: BaseException) -> Failure | None:
    """The failure that `error` is, or None when it says nothing about the provider. Not for departures."""
    if not _counts(config, error):
        return None
    if config.failure_weight is None and config.open_for is None:
        return Failure(type(error).__name__, _message(error)[:MESSAGE_LENGTH])
    weight = _ask(config.failure_weight, error, 1.0, _sane_weight)
    cooldown = _ask(config.open_for, error, None, _sane_seconds)
    return failure_of(error, weight=weight, cooldown=cooldown, trip=cooldown is not None)


def judge_result(config: CircuitBreakerConfig, result: object) -> Failure | None:
    """The failure that a returned value is, or None when it is a success."""
    if not _ask(config.failure_result, result, False, bool):
        return None
    return Failure(RESULT, f"a {type(result).__name__} that counts as a failure")


def is_departure(error: BaseException) -> bool:
    """Cancelled, interrupted or closed: the caller went away, the provider did nothing wrong."""
    if not isinstance(error, Exception):
        return True
    futures = sys.modules.get("concurrent.futures")
    return futures is not None and isinstance(error, futures.CancelledError)


def _counts(config: CircuitBreakerConfig, error: BaseException) -> bool:
    if config.ignore is not None and _matches(config.ignore, error, otherwise=False):
        return False
    if config.failure_on is not None:
        return _matches(config.failure_on, error, otherwise=True)
    return not isinstance(error, CircuitOpenError)  # a refusal further in is no evidence of its own


def _matches(errors: Errors, error: BaseException, *, otherwise: bool) -> bool:
    if isinstance(errors, type | tuple):
        return isinstance(error, errors)
    return _ask(errors, error, otherwise, bool)


def _ask(question: Callable[..., object] | None, about: object, otherwise: T, read: Callable[[Any], T]) -> T:
    """Ask a predicate; one that raises is logged and answered for, so the caller's result stays its own.

    So is one whose answer cannot be read: an array has no truth, and None no weight.
    """
    if question is None:
        return otherwise
    try:
        return read(question(about))
    except Exception as error:
        if raised_by_signal_handler(error):
            raise
        logger().exception("a circuit breaker's predicate %r raised", question)
        return otherwise


def _sane_weight(weight: float) -> float:
    return weight if 0 < weight <= 1 else 1.0


def _sane_seconds(seconds: float | None) -> float | None:
    """A time somebody else named, if it is one."""
    return max(0.0, seconds) if checks.is_finite(seconds) else None


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:
        if raised_by_signal_handler(another):
            raise
        return ""  # an error whose text cannot be had still has a type


def raised_by_signal_handler(error: BaseException) -> bool:
    """Whether a signal handler raised this: then it is meant for the caller, and not the fault of the code it met."""
    import signal  # with its enumerations as much to import as a quarter of this package

    handlers = (signal.getsignal(each) for each in signal.valid_signals())
    codes = {getattr(getattr(each, "__func__", each), "__code__", None) for each in handlers} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _in_short(message: str) -> str:
    """On one line, whatever somebody else wrote there."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in message).split())
    return line if len(line) <= SENTENCE_LENGTH else f"{line[: SENTENCE_LENGTH - 1]}…"


def logger() -> logging.Logger:
    """The breaker's only logger; imported when first needed, for logging costs 3 ms of import."""
    import logging

    return logging.getLogger("steadyvoice.breaker")


if TYPE_CHECKING:
    import logging
