"""Permit for one call: acquired before it, settled once after it."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Self

from steadyvoice.breaker import _validators
from steadyvoice.breaker.errors import CircuitArgumentError
from steadyvoice.breaker.failure_classification import make_failure

if TYPE_CHECKING:
    from datetime import timedelta

    from steadyvoice.breaker._locking import LockedStateMachine
    from steadyvoice.breaker.in_flight_calls import InFlightCall


_nothing = bool
"""Finaliser that does nothing, in C. It takes less time than a missing one, for which Python makes an error."""


class Permit:
    """Permit for one call. It is settled once: later settlements do nothing.

    As a context manager it settles itself. A permit that is dropped without being settled counts as ignored.
    """

    # The finaliser is an object of each permit, written in C. An exception that a signal handler raises in a finaliser
    # written in Python is lost, Ctrl-C included: the interpreter prints it and goes on.
    # It has no `__init__`: a Python call would take as long as the three assignments, which `of()` makes.
    __slots__ = ("__del__", "_breaker", "_call")

    _breaker: LockedStateMachine
    _call: InFlightCall
    __del__: Callable[[], object]

    @classmethod
    def of(cls, breaker: LockedStateMachine, call: InFlightCall) -> Self:
        """Return the permit for a call of this breaker."""
        permit = cls()
        permit._breaker, permit._call = breaker, call
        permit.__del__ = MethodType(breaker._forget, call)
        return permit

    @property
    def settled(self) -> bool:
        """Whether the call has ended: it was settled, or its timeout as a probe ran out."""
        return self._call.settled

    def success(self, duration: float | timedelta | None = None, *, now: float | None = None) -> None:
        """Settle a call that succeeded. `duration` in seconds, measured by the breaker when absent.

        `now` saves the breaker a reading of its clock, for callers that have just read it.

        Raises ValueError for a duration that is neither a number of seconds nor a timedelta; the permit is unsettled
        then.
        """
        self._breaker._succeed(self._call, None if duration is None else _checked(duration), now)
        self.__del__ = _nothing  # as `_disarm`, without a call

    def failure(
        self,
        error: BaseException | str | None = None,
        duration: float | timedelta | None = None,
        *,
        weight: float = 1.0,
        cooldown: float | timedelta | None = None,
        trip: bool = False,
    ) -> None:
        """Settle a call that failed.

        `duration` in seconds is measured by the breaker when absent. `weight` in (0, 1] is added to the failures;
        `cooldown` is the time in seconds that the circuit stays open if this failure opens it, such as the provider's
        Retry-After; `trip` opens it at once.

        Raises ValueError for a weight outside (0, 1], and for a duration or cooldown that is neither seconds, 0 or
        more, nor a timedelta; the permit is unsettled then.
        """
        _check_error(error)
        seconds = _validators.optional_duration("cooldown", cooldown, "None: the configured one")
        failure = make_failure(error, weight=_validators.weight(weight), cooldown=seconds, trip=bool(trip))
        self._breaker._fail(self._call, failure, _checked(duration))
        self._disarm()

    def ignore(self) -> None:
        """Settle a call that says nothing about the provider, such as the caller's own mistake.

        Where the caller was cancelled or gave up, use `abandon()`: there, a call that hangs counts as a failure.
        """
        self._breaker._ignore(self._call)
        self._disarm()

    def abandon(self, *, weight: float = 1.0) -> None:
        """Settle a call whose consumer left: a success if something useful had come, else ignored.

        A call without progress for `hung_after` keeps the failure that it counts as already; `weight` in (0, 1] is
        added to the failures for it from then on. Raises ValueError for another weight.
        """
        self._breaker._abandon(self._call, _validators.weight(weight))
        self._disarm()

    def progress(self, *, now: float | None = None) -> None:
        """Report that something useful arrived: the call is not hanging. `now` as in `success`."""
        self._breaker._progress(self._call, paused=False, now=now)

    def pause(self, *, now: float | None = None) -> None:
        """Report that something useful arrived, and stop the call's clocks until `resume()`: its consumer is busy."""
        self._breaker._progress(self._call, paused=True, now=now)

    def suspend(self) -> None:
        """Stop the call's clocks until `resume()`: it waits for something of the caller's own, such as a queue."""
        self._breaker._suspend(self._call)

    def resume(self, *, now: float | None = None) -> None:
        """Restart the call's clocks: the consumer wants more."""
        self._breaker._resume(self._call, now)

    def settle(self, error: BaseException | None) -> None:
        """Settle by the error that ended the call, as the configuration classifies it; None is a success."""
        if error is None:
            self.success()
        elif not isinstance(error, BaseException):
            raise CircuitArgumentError("error", error, "must be the exception itself, or None for a success")
        else:
            self._breaker._record_error(self._call, error)
            self._disarm()

    def _disarm(self) -> None:
        """Replace the finaliser, which would only append a settled call."""
        self.__del__ = _nothing

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
    return _validators.optional_duration("duration", duration, "None: measured by the breaker")


def _check_error(error: object) -> None:
    """Raise CircuitArgumentError for a value that does not describe a failure."""
    if error is None or isinstance(error, BaseException | str):
        return
    raise CircuitArgumentError("error", error, "must be the exception itself, or a description of the failure")
