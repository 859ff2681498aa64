"""Classification of exceptions and results: failures, ignored ones, and cancellations.

All foreign code (predicates, `str(error)`) is called from here, outside the breaker's lock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from steadyvoice.breaker import _validators
from steadyvoice.breaker.errors import CircuitOpenError

if TYPE_CHECKING:
    from steadyvoice.breaker.config import CircuitBreakerConfig, Errors

T = TypeVar("T")
MESSAGE_LENGTH = 200
REMEMBERED_CLASSES = 100
SHORT_MESSAGE_LENGTH = 80
"""Length of a message inside another sentence."""
FAILURE, RESULT = KINDS_WITHOUT_ERROR = ("failure", "result")
"""Kinds of failures that no exception caused."""


class Failure(NamedTuple):
    """Failure as it is reported to the state machine.

    `weight` is added to the failures (the call itself always counts 1); `cooldown` is the number of seconds that the
    circuit stays open should this failure open it; `trip` opens it at once.
    """

    kind: str
    message: str
    weight: float = 1.0
    cooldown: float | None = None
    trip: bool = False

    def describe(self, subject: str) -> str:
        """Return one line: the subject that failed, the kind of error if there was one, and its message."""
        text = subject if self.kind in KINDS_WITHOUT_ERROR else f"{subject} with {self.kind}"
        message = _shorten(self.message)
        return f"{text}: {message}" if message else text


new_failure: Callable[[tuple[str, str, float, float | None, bool]], Failure] = partial(tuple.__new__, Failure)
"""Same as `Failure(...)`, whose constructor is a Python function, at a third of its price."""


def make_failure(
    error: BaseException | str | None,
    *,
    weight: float = 1.0,
    cooldown: float | None = None,
    trip: bool = False,
) -> Failure:
    """Return the failure that an error, or a description, is. Keeps no reference to the error."""
    if isinstance(error, BaseException):
        kind, message = type(error).__name__, _message(error)
    else:
        kind, message = FAILURE, error or ""
    return new_failure((kind, message[:MESSAGE_LENGTH], weight, cooldown, trip))


def hung_failure(seconds: float, weight: float = 1.0) -> Failure:
    """Return the failure of a call without progress for so many seconds."""
    return Failure("hanging", f"no progress for {seconds:.3g} s", weight)


def classify_error(config: CircuitBreakerConfig, error: BaseException) -> Failure | None:
    """Return the failure that an error is, or None when it is ignored. Not for cancellations."""
    if isinstance(error, BaseExceptionGroup):
        return _classify_group(config, error)
    if config.ignore is config.failure_on is None:  # as `_counts`, without a call
        if isinstance(error, CircuitOpenError):
            return None
    elif not _counts(config, error):
        return None
    if config.failure_weight is None and config.cooldown_from_error is None:
        return new_failure((type(error).__name__, _message(error)[:MESSAGE_LENGTH], 1.0, None, False))
    return _weigh(config, error)


def remember_class(config: CircuitBreakerConfig, kind: type[BaseException]) -> None:
    """Remember that an error of this class is one failure, if its class alone decides that for all of them.

    Predicates look at the error, and so may `isinstance` where a class has a metaclass of its own.
    """
    rule_set = config.rule_set
    if (
        len(rule_set.counted_errors) < REMEMBERED_CLASSES
        and not issubclass(kind, BaseExceptionGroup)
        and config.failure_weight is None
        and config.cooldown_from_error is None
        and _names_plain_classes(config.ignore)
        and _names_plain_classes(config.failure_on)
    ):
        rule_set.counted_errors = {**rule_set.counted_errors, kind: kind.__name__}


def _names_plain_classes(errors: Errors | None) -> bool:
    classes = errors if isinstance(errors, tuple) else () if errors is None else (errors,)
    return all(type(each) is type for each in classes)


def classify_result(config: CircuitBreakerConfig, result: object) -> Failure | None:
    """Return the failure that a returned value is, or None when it is a success."""
    if not _call_predicate(config.failure_result, result, False, _truth):
        return None
    return Failure(RESULT, f"a {type(result).__name__} that counts as a failure")


def is_cancellation(error: BaseException) -> bool:
    """Return whether the call was cancelled, interrupted or closed: its caller left, the provider did not fail.

    A group is a cancellation if all exceptions in it are.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_cancellation, iter_leaf_errors(error)))
    if not isinstance(error, Exception):
        return True
    # asyncio.CancelledError is a BaseException, the one of concurrent.futures an Exception. Importing the module here
    # would cost every user of the breaker its time.
    futures = sys.modules.get("concurrent.futures")
    return futures is not None and isinstance(error, futures.CancelledError)


def _weigh(config: CircuitBreakerConfig, error: BaseException) -> Failure:
    weight = _call_predicate(config.failure_weight, error, 1.0, _to_weight)
    cooldown = _call_predicate(config.cooldown_from_error, error, None, _to_cooldown)
    return make_failure(error, weight=weight, cooldown=cooldown, trip=cooldown is not None)


def _classify_group(config: CircuitBreakerConfig, group: BaseExceptionGroup[BaseException]) -> Failure | None:
    """Return the failure that a group of errors is: the worst one in it, or None when there is none."""
    failures = _failures_in(config, group)
    if config.failure_weight is None and config.cooldown_from_error is None:
        first = next(failures, None)
        return None if first is None else make_failure(first)
    weighed = [_weigh(config, error) for error in failures]
    if not weighed:
        return None
    longest = max(weighed, key=lambda failure: -1.0 if failure.cooldown is None else failure.cooldown)
    return longest._replace(weight=max(failure.weight for failure in weighed))


def _failures_in(config: CircuitBreakerConfig, group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yield the errors in a group, and in nested groups, that are failures. Iterative, so any depth is possible.

    Predicates get each error and never a group, for which they were not written: `error.status` would raise.
    """
    remaining: list[tuple[BaseException, bool]] = [(group, False)]
    while remaining:
        error, named = remaining.pop()
        if not isinstance(error, BaseExceptionGroup):
            if not is_cancellation(error) and (_counts(config, error) or (named and not _is_ignored(config, error))):
                yield error
        elif not _is_named(config.ignore, error):
            named = named or _is_named(config.failure_on, error)
            remaining += [(each, named) for each in reversed(error.exceptions)]


def iter_leaf_errors(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yield the errors in a group, and in nested groups, in their order. Iterative, so any depth is possible."""
    remaining: list[BaseException] = [group]
    while remaining:
        error = remaining.pop()
        if isinstance(error, BaseExceptionGroup):
            remaining += reversed(error.exceptions)
        else:
            yield error


def _is_named(errors: Errors | None, group: BaseException) -> bool:
    return isinstance(errors, type | tuple) and isinstance(group, errors)


def _is_ignored(config: CircuitBreakerConfig, error: BaseException) -> bool:
    return config.ignore is not None and _matches(config.ignore, error, default=False)


def _counts(config: CircuitBreakerConfig, error: BaseException) -> bool:
    if config.ignore is not None and _matches(config.ignore, error, default=False):  # as _is_ignored, without a call
        return False
    if config.failure_on is not None:
        return _matches(config.failure_on, error, default=True)
    return not isinstance(error, CircuitOpenError)  # the refusal of another circuit is no failure of its own


def _matches(errors: Any, error: BaseException, *, default: bool) -> bool:
    if isinstance(errors, type | tuple):
        return isinstance(error, errors)
    return _call_predicate(errors, error, default, _truth)


def _call_predicate(
    predicate: Callable[..., object] | None, argument: object, default: T, convert: Callable[[Any], T]
) -> T:
    """Call a predicate and convert its result. One that raises is logged and replaced by the default.

    So is one whose result cannot be converted: an array has no truth value, and None is no weight. The predicate runs
    while the caller's own error is on its way, and must not replace it.
    """
    if predicate is None:
        return default
    try:
        return convert(predicate(argument))
    except Exception as error:
        if raised_by_signal_handler(error):
            raise
        logger().exception("circuit breaker predicate %r raised", predicate)
        return default


def _truth(result: object) -> bool:
    if isinstance(result, CoroutineType):  # always true, and never awaited
        result.close()
        raise TypeError("the predicate returned a coroutine; it must be a plain function that returns a bool")
    return bool(result)


def _to_weight(weight: Any) -> float:
    return _validators.weight(float(weight) if hasattr(weight, "__float__") else weight)


def _to_cooldown(seconds: object) -> float | None:
    return _validators.optional_duration("cooldown_from_error", seconds, "None: the configured one")


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:
        return missing_message(another)


def missing_message(another: Exception) -> str:
    """Return the message of an error whose `__str__` raised another; its type is still known."""
    if raised_by_signal_handler(another):
        raise another
    return ""


def raised_by_signal_handler(error: BaseException) -> bool:
    """Return whether a signal handler raised this: then it is meant for the caller, and no error of the called code."""
    import signal  # takes as long to import as a quarter of this package

    handlers = (signal.getsignal(each) for each in signal.valid_signals())
    codes = {getattr(getattr(each, "__func__", each), "__code__", None) for each in handlers} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _shorten(message: str) -> str:
    """Return a foreign message on one line, without control characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in message).split())
    return line if len(line) <= SHORT_MESSAGE_LENGTH else f"{line[: SHORT_MESSAGE_LENGTH - 1]}…"


def logger() -> logging.Logger:
    """Return the breaker's logger. Imports logging, which takes 3 ms, when it is first needed."""
    import logging

    return logging.getLogger("steadyvoice.breaker")


if TYPE_CHECKING:
    import logging
