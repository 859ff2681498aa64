"""Permit for one call: acquired before it, settled once after it; and the permits of `with breaker:` blocks."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import ref

from steadyvoice.breaker import _validators
from steadyvoice.breaker.call_lifecycle import CallLifecycle
from steadyvoice.breaker.errors import CircuitArgumentError
from steadyvoice.breaker.failure_classification import (
    Failure,
    classify_error,
    classify_result,
    is_cancellation,
    make_failure,
)
from steadyvoice.breaker.in_flight_calls import MOST_QUIET_RESULTS, CallTiming
from steadyvoice.breaker.states import CircuitState

if TYPE_CHECKING:
    from datetime import timedelta

    from steadyvoice.breaker._locking import LockedStateMachine
    from steadyvoice.breaker.in_flight_calls import InFlightCall


_CONFIGURED = "None: the configured one"

forget_nothing = bool
"""Finaliser of a settled permit: it does nothing, in C. Without one, Python would make an error, which takes longer."""


class Permit:
    """Permit for one call. It is settled once: later settlements do nothing.

    As a context manager it settles itself. A permit that is dropped without being settled counts as ignored.

    - `error`: exception or text of the failure, for `last_error`.
    - `now`: present second of the breaker's clock, if it has been read already.
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
        """True if the call has ended: it was settled, or its timeout as a probe ran out."""
        return self._call.settled

    @property
    def timing(self) -> CallTiming | None:
        """Times of the call so far, on the circuit's clock; None for a call that began without a clock."""
        call, era = self._call, self._call.era
        if call.started_at is None:
            return None
        ended, is_probe = getattr(call, "ended_at", None), era is not None and era.state is CircuitState.HALF_OPEN
        read_at = self._breaker._clock()
        return CallTiming(call.started_at, call.first_output_at, call.last_progress_at, ended, is_probe, read_at)

    # ---------------------------------------------------------------- the end

    def success(self, duration: float | timedelta | None = None, *, now: float | None = None) -> None:
        """Settle a call that succeeded. `duration` in seconds, measured by the breaker when absent.

        `now` saves the breaker a reading of its clock, for callers that have just read it.

        Raises ValueError for a duration that is neither a number of seconds nor a timedelta; the permit is unsettled
        then.
        """
        seconds = None if duration is None else _checked(duration)
        breaker, call = self._breaker, self._call
        quiet = breaker._quiet
        if quiet is not None and not breaker._postponed:
            if now is None:
                now = breaker._clock()
            if now < quiet.until and quiet.running.pop(call, None) is not None:
                try:
                    del call.unsettled
                except AttributeError:  # another thread settled it between the two steps
                    return
                call.ended_at = now
                ended, silences = quiet.ended, quiet.silences
                if call.first_output_at is None:
                    silences.append(now - call.last_progress_at)
                ended.append(now)
                if breaker._quiet is not quiet:
                    breaker._run_locked(CallLifecycle.settle_quiet_call, quiet.era, call)
                elif len(ended) >= MOST_QUIET_RESULTS or len(silences) >= quiet.silences_wanted:
                    breaker._run_locked(CallLifecycle.record_quiet_results, quiet.era)
                self.__del__ = forget_nothing
                return
        breaker._run_locked(CallLifecycle.succeed, call, seconds)
        self.__del__ = forget_nothing

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
        if not (error is None or isinstance(error, BaseException | str)):
            raise CircuitArgumentError("error", error, "must be the exception itself, or a description of the failure")
        seconds = None if cooldown is None else _validators.optional_duration("cooldown", cooldown, _CONFIGURED)
        failure = make_failure(error, weight=_validators.weight(weight), cooldown=seconds, trip=bool(trip))
        self._fail(failure, None if duration is None else _checked(duration))

    def _fail(self, failure: Failure, duration: float | None) -> None:
        breaker, call = self._breaker, self._call
        quiet = breaker._quiet
        if quiet is not None and not (breaker._postponed or failure.trip):
            now = breaker._clock()
            if (
                now < quiet.until
                and next(quiet.harmless, None) is not None
                and quiet.running.pop(call, None) is not None
            ):
                try:
                    del call.unsettled
                except AttributeError:  # another thread settled it between the two steps
                    return
                call.ended_at = now
                latency = call.latency(now) if duration is None else duration
                quiet.failed.append(((failure, breaker._wall_clock(), latency), len(quiet.ended), now))
                if breaker._quiet is not quiet:
                    breaker._run_locked(CallLifecycle.settle_quiet_call, quiet.era, call)
                self.__del__ = forget_nothing
                return
        breaker._run_locked(CallLifecycle.fail, call, failure, duration)
        self.__del__ = forget_nothing

    def ignore(self) -> None:
        """Settle a call that says nothing about the provider, such as the caller's own mistake.

        Where the caller was cancelled or gave up, use `abandon()`: there, a call that hangs counts as a failure.
        """
        self._breaker._run_locked(CallLifecycle.ignore, self._call)
        self.__del__ = forget_nothing

    def abandon(self, *, weight: float = 1.0) -> None:
        """Settle a call whose consumer left: a success if something useful had come, else ignored.

        A call without progress for `hung_after` keeps the failure that it counts as already; `weight` in (0, 1] is
        added to the failures for it from then on. Raises ValueError for another weight.
        """
        self._breaker._run_locked(CallLifecycle.abandon, self._call, _validators.weight(weight))
        self.__del__ = forget_nothing

    def settle(self, error: BaseException | None) -> None:
        """Settle by the error that ended the call, as the configuration classifies it; None is a success."""
        if error is None:
            self.success()
        elif not isinstance(error, BaseException):
            raise CircuitArgumentError("error", error, "must be the exception itself, or None for a success")
        elif is_cancellation(error):
            self.abandon()
        elif (failure := classify_error(self._breaker._machine.config, error)) is not None:
            self._fail(failure, None)
        else:
            self.ignore()

    def _settle_result(self, result: object) -> None:
        """Settle by what the call returned, as the configuration classifies it."""
        config = self._breaker._machine.config
        failure = None if config.failure_result is None else classify_result(config, result)
        if failure is None:
            self.success()
        else:
            self._fail(failure, None)

    def _drop(self) -> None:
        """Ignore the call unless it is settled.

        Called after exceptions, perhaps inside a locked section, so it only appends: no lock, no listener.
        """
        if hasattr(self._call, "unsettled"):
            self.__del__()
        self.__del__ = forget_nothing

    # ---------------------------------------------------------------- progress

    def progress(self, *, now: float | None = None) -> None:
        """Report that something useful arrived: the call is not hanging. `now` as in `success`."""
        self._progress(paused=False, now=now)

    def pause(self, *, now: float | None = None) -> None:
        """Report that something useful arrived, and stop the call's clocks until `resume()`: its consumer is busy."""
        self._progress(paused=True, now=now)

    def suspend(self) -> None:
        """Stop the call's clocks until `resume()`: it waits for something of the caller's own, such as a queue."""
        if self._breaker._machine.tracks_calls:
            self._breaker._run_locked(CallLifecycle.suspend, self._call)

    def resume(self, *, now: float | None = None) -> None:
        """Restart the call's clocks: the consumer wants more."""
        if self._note_progress(now):
            self._call.paused = False
        elif self._breaker._machine.tracks_calls:
            self._breaker._run_locked(CallLifecycle.resume, self._call)

    def _progress(self, *, paused: bool, now: float | None) -> None:
        breaker, call = self._breaker, self._call
        if call.first_output_at is not None:
            if self._note_progress(now):
                call.paused = paused
            elif breaker._machine.tracks_calls:
                breaker._run_locked(CallLifecycle.progress, call, paused)
            return
        quiet = breaker._quiet
        if quiet is not None and call in quiet.running and not breaker._postponed:
            if now is None:
                now = breaker._clock()
            if now < quiet.until:
                silence = now - call.last_progress_at
                call.first_output_at = call.last_progress_at = now
                call.paused = paused
                quiet.silences.append(silence)
                if breaker._quiet is not quiet or len(quiet.silences) >= quiet.silences_wanted:
                    breaker._run_locked(CallLifecycle.record_quiet_results, quiet.era)
                return
        breaker._run_locked(CallLifecycle.progress, call, paused)

    def _note_progress(self, now: float | None) -> bool:
        """Note progress on the call itself, if nothing else can depend on it; return whether that was possible.

        A stream reports progress twice for each chunk; without the lock, a chunk costs a fifth of what it did with it.
        """
        breaker, call = self._breaker, self._call
        machine = breaker._machine
        if call.first_output_at is None or not machine.records_results or call not in machine.in_flight.running:
            return False
        if now is None:
            now = breaker._clock()
        if now >= machine.next_timer_at:  # a call hangs by now, perhaps this one
            return False
        call.last_progress_at = now
        return True

    # ---------------------------------------------------------------- context manager

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
    return _validators.optional_duration("duration", duration, "None: measured by the breaker")


# ---------------------------------------------------------------- `with breaker:`

# One breaker serves many tasks, and a task may enter it again inside. Direct calls of `__enter__()` and `__exit__()`,
# as `contextlib.ExitStack` makes them, find their permit on a stack that each task has.
#
# A `with` statement looks `__exit__` up before it calls `__enter__`, and holds what it found until the block is left,
# in whichever way. So the lookup returns an object of that block alone, and that object holds the permit: should a
# signal handler raise at the very entry of `__exit__`, the object goes, the permit goes with it, and its place in a
# half-open circuit is free. A permit on the task's stack would stay there.

_entered: ContextVar[tuple[Permit, Any] | None] = ContextVar("steadyvoice_entered", default=None)
_looked_up: ContextVar[ref[_Block] | None] = ContextVar("steadyvoice_looked_up", default=None)


def push_permit(breaker: LockedStateMachine, permit: Permit) -> Permit:
    """Give the permit to the `with` block that is being entered, or put it on the task's stack."""
    found = _looked_up.get()
    block = found and found()
    if block and block.breaker is breaker and block.permit is None:
        block.permit = permit
    else:
        _entered.set((permit, _entered.get()))
    return permit


def pop_permit(breaker: LockedStateMachine) -> Permit:
    """Take this task's last permit of this breaker from the stack. Raises RuntimeError where there is none."""
    permit, rest = _without(breaker, _entered.get())
    _entered.set(rest)
    return permit


class _Block:
    """Exit of one `with` block."""

    __slots__ = ("__weakref__", "breaker", "permit")

    def __init__(self, breaker: LockedStateMachine) -> None:
        self.breaker = breaker
        self.permit: Permit | None = None

    def __call__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        (self.permit or pop_permit(self.breaker)).settle(error)


class _AsyncBlock(_Block):
    """Exit of one `async with` block."""

    __slots__ = ()

    async def __call__(  # type: ignore[override]
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        (self.permit or pop_permit(self.breaker)).settle(error)


class ExitDescriptor:
    """Descriptor for `__exit__` of a breaker: returns another object with each lookup."""

    block: type[_Block] = _Block

    def __get__(self, breaker: LockedStateMachine | None, owner: type[LockedStateMachine]) -> Any:
        if breaker is None:
            return self.exit_directly
        block = self.block(breaker)
        _looked_up.set(ref(block))
        return block

    @staticmethod
    def exit_directly(
        breaker: LockedStateMachine,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Any:
        """Settle the permit that this task entered last."""
        pop_permit(breaker).settle(error)


class AsyncExitDescriptor(ExitDescriptor):
    """Descriptor for `__aexit__` of a breaker."""

    block = _AsyncBlock

    @staticmethod
    async def exit_directly(
        breaker: LockedStateMachine,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Any:
        """Settle the permit that this task entered last."""
        pop_permit(breaker).settle(error)


def _without(breaker: LockedStateMachine, stack: tuple[Permit, Any] | None) -> tuple[Permit, Any]:
    if stack is None:
        name = breaker._machine.name
        raise RuntimeError(f"circuit {name!r} was not entered in this task; across tasks use `with breaker.acquire():`")
    permit, rest = stack
    if permit._breaker is breaker:
        return permit, rest
    found, rest = _without(breaker, rest)
    return found, (permit, rest)
