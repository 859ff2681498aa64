"""What a call's end means: a failure, nothing at all, or the consumer leaving.

Everything that runs somebody else's code (predicates, `str(error)`) is here, and runs outside the breaker's lock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import CoroutineType
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
    return Failure(kind, message[:MESSAGE_LENGTH], weight, cooldown, trip)


def hanging(seconds: float, weight: float = 1.0) -> Failure:
    """Describe a call that showed no sign of life for so long."""
    return Failure("hanging", f"no sign of life for {seconds:.3g} s", weight)


def judge_error(config: CircuitBreakerConfig, error: BaseException) -> Failure | None:
    """The failure that `error` is, or None when it says nothing about the provider. Not for departures."""
    if isinstance(error, BaseExceptionGroup):
        return _judge_group(config, error)
    if not _counts(config, error):
        return None
    if config.failure_weight is None and config.open_for is None:
        return Failure(type(error).__name__, _message(error)[:MESSAGE_LENGTH])
    return _weigh(config, error)


def judge_result(config: CircuitBreakerConfig, result: object) -> Failure | None:
    """The failure that a returned value is, or None when it is a success."""
    if not _ask(config.failure_result, result, False, _truth):
        return None
    return Failure(RESULT, f"a {type(result).__name__} that counts as a failure")


def is_departure(error: BaseException) -> bool:
    """Cancelled, interrupted or closed: the caller went away, the provider did nothing wrong.

    A group is a departure if all exceptions in it are.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_departure, errors_in(error)))
    if not isinstance(error, Exception):
        return True
    futures = sys.modules.get("concurrent.futures")
    return futures is not None and isinstance(error, futures.CancelledError)


def _weigh(config: CircuitBreakerConfig, error: BaseException) -> Failure:
    weight = _ask(config.failure_weight, error, 1.0, _sane_weight)
    cooldown = _ask(config.open_for, error, None, _named_seconds)
    return failure_of(error, weight=weight, cooldown=cooldown, trip=cooldown is not None)


def _judge_group(config: CircuitBreakerConfig, group: BaseExceptionGroup[BaseException]) -> Failure | None:
    """The failure that a group of errors is: the worst one in it, or None when there is none."""
    failures = _failures_in(config, group)
    if config.failure_weight is None and config.open_for is None:
        first = next(failures, None)
        return None if first is None else failure_of(first)
    judged = [_weigh(config, error) for error in failures]
    if not judged:
        return None
    longest = max(judged, key=lambda failure: -1.0 if failure.cooldown is None else failure.cooldown)
    return longest._replace(weight=max(failure.weight for failure in judged))


def _failures_in(config: CircuitBreakerConfig, group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it, that are failures. However deep: there is no recursion.

    Predicates are asked about each error and never about a group, which is not what they were written for.
    """
    rest: list[tuple[BaseException, bool]] = [(group, False)]
    while rest:
        error, named = rest.pop()
        if not isinstance(error, BaseExceptionGroup):
            if not is_departure(error) and (_counts(config, error) or (named and not _is_ignored(config, error))):
                yield error
        elif not _is_named(config.ignore, error):
            named = named or _is_named(config.failure_on, error)
            rest += [(each, named) for each in reversed(error.exceptions)]


def errors_in(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it, in their order. However deep: there is no recursion."""
    rest: list[BaseException] = [group]
    while rest:
        error = rest.pop()
        if isinstance(error, BaseExceptionGroup):
            rest += reversed(error.exceptions)
        else:
            yield error


def _is_named(errors: Errors | None, group: BaseException) -> bool:
    return isinstance(errors, type | tuple) and isinstance(group, errors)


def _is_ignored(config: CircuitBreakerConfig, error: BaseException) -> bool:
    return config.ignore is not None and _matches(config.ignore, error, otherwise=False)


def _counts(config: CircuitBreakerConfig, error: BaseException) -> bool:
    if config.ignore is not None and _matches(config.ignore, error, otherwise=False):  # as _is_ignored: a call less
        return False
    if config.failure_on is not None:
        return _matches(config.failure_on, error, otherwise=True)
    return not isinstance(error, CircuitOpenError)  # a refusal further in is no evidence of its own


def _matches(errors: Any, error: BaseException, *, otherwise: bool) -> bool:
    if isinstance(errors, type | tuple):
        return isinstance(error, errors)
    return _ask(errors, error, otherwise, _truth)


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


def _truth(answer: object) -> bool:
    if isinstance(answer, CoroutineType):  # always true, and nobody awaits it
        answer.close()
        raise TypeError("the predicate returned a coroutine; it must be a plain function that returns a bool")
    return bool(answer)


def _sane_weight(weight: Any) -> float:
    return checks.weight(float(weight) if hasattr(weight, "__float__") else weight)


def _named_seconds(seconds: object) -> float | None:
    return checks.span("open_for", seconds, "None where nobody knows")


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
