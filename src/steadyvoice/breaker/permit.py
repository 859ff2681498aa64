"""Leave to make one call: acquired before it, settled once after it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from steadyvoice.breaker import checks
from steadyvoice.breaker.errors import CircuitArgumentError
from steadyvoice.breaker.failure import failure_of

if TYPE_CHECKING:
    from datetime import timedelta

    from steadyvoice.breaker.era import Flight
    from steadyvoice.breaker.locked import LockedMachine


class Permit:
    """Leave to make one call. Settle it once: later settlements do nothing.

    As a context manager it settles itself. One that is dropped without a word counts as ignored.
    """

    # The finaliser is an object of each permit, written in C. An exception that a signal handler raises in a finaliser
    # written in Python is lost, Ctrl-C included: the interpreter prints it and goes on.
    __slots__ = ("__del__", "_breaker", "_flight")

    __del__: Callable[[], None]

    def __init__(self, breaker: LockedMachine, flight: Flight) -> None:
        self._breaker = breaker
        self._flight = flight
        self.__del__ = partial(breaker._later.append, flight)

    @property
    def settled(self) -> bool:
        """Whether the call's end is known, by its own word or by its lease."""
        return self._flight.settled

    def success(self, duration: float | timedelta | None = None) -> None:
        """The call did what it was asked to. `duration` in seconds, measured by the breaker when absent.

        Raises ValueError for a duration that is no number of seconds, and no timedelta. The permit can be settled then.
        """
        self._breaker._succeed(self._flight, _checked(duration))
        self._disarm()

    def failure(
        self,
        error: BaseException | str | None = None,
        duration: float | timedelta | None = None,
        *,
        weight: float = 1.0,
        cooldown: float | timedelta | None = None,
        trip: bool = False,
    ) -> None:
        """The call failed.

        `weight` in (0, 1] is what it adds to the failures; `cooldown` is the time in seconds, named by the provider,
        that the circuit stays open if this failure opens it; `trip` opens it at once.

        Raises ValueError for a weight outside (0, 1], and for a duration or cooldown that is neither seconds, 0 or
        more, nor a timedelta. The permit can be settled then.
        """
        _check_error(error)
        seconds = checks.span("cooldown", cooldown, "None for the usual one")
        failure = failure_of(error, weight=checks.weight(weight), cooldown=seconds, trip=bool(trip))
        self._breaker._fail(self._flight, failure, _checked(duration))
        self._disarm()

    def ignore(self) -> None:
        """Settle a call that says nothing about the provider, such as the caller's own mistake.

        Where the caller was cancelled or lost patience, use `abandon()`: a call that hangs is evidence then.
        """
        self._breaker._ignore(self._flight)
        self._disarm()

    def abandon(self, *, weight: float = 1.0) -> None:
        """Settle a call whose consumer left: a success if something useful had come, else ignored.

        A call that had been silent for `hung_after` keeps the failure that it counts as already; `weight` in (0, 1] is
        what it adds to the failures from then on. Raises ValueError for another weight.
        """
        self._breaker._abandon(self._flight, checks.weight(weight))
        self._disarm()

    def progress(self) -> None:
        """Something useful arrived: the call is not hanging."""
        self._breaker._progress(self._flight, held=False)

    def pause(self) -> None:
        """Something useful arrived and the consumer has it: the call's clocks stand still until `resume()`."""
        self._breaker._progress(self._flight, held=True)

    def suspend(self) -> None:
        """Stop the call's clocks until `resume()`, for it waits for something of the caller's own, such as a queue."""
        self._breaker._suspend(self._flight)

    def resume(self) -> None:
        """The consumer wants more: the call's clocks run again."""
        self._breaker._resume(self._flight)

    def settle(self, error: BaseException | None) -> None:
        """Settle by how the call ended, the configuration deciding what `error` means."""
        if error is None:
            self.success()
        elif not isinstance(error, BaseException):
            raise CircuitArgumentError("error", error, "must be the exception itself, or None for a success")
        else:
            self._breaker._ended(self._flight, error)
            self._disarm()

    def _disarm(self) -> None:
        """Spare the finaliser, which would only be told again that the call has ended."""
        try:  # noqa: SIM105 - a context manager costs as much as all the rest, and this is done for each call
            del self.__del__
        except AttributeError:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle(error)


def _checked(duration: object) -> float | None:
    if duration is None:
        return None
    return checks.span("duration", duration, "None has the breaker measure it")


def _check_error(error: object) -> None:
    """Raise CircuitArgumentError for what cannot be told as a failure."""
    if error is None or isinstance(error, BaseException | str):
        return
    raise CircuitArgumentError("error", error, "must be the exception itself, or words about the failure")
