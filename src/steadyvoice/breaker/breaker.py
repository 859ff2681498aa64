"""Circuit breaker: the public class, for threads and event loops alike.

Threads and event loops share one object. The lock is held for the bookkeeping only: never across the protected call, a
listener, a predicate or an await. While the circuit is healthy, and its settings need no clock, a plain call does not
take it at all (see `Era`).
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import fields
from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Any, Never, NoReturn, ParamSpec, TypeVar

from steadyvoice._option_rules import is_finite
from steadyvoice.breaker import _validators
from steadyvoice.breaker._arguments import (
    check_clock,
    check_config,
    check_duration,
    check_listener,
    check_listeners,
    check_name,
    check_reason,
    check_state,
)
from steadyvoice.breaker._locking import LockedStateMachine
from steadyvoice.breaker.call_lifecycle import CallLifecycle, CallRefusal
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.decorators import guard, guard_async_stream, guard_stream
from steadyvoice.breaker.errors import CircuitArgumentError, CircuitOpenError, RefusalFields
from steadyvoice.breaker.guarded_calls import (
    NOT_CALLED,
    UNFINISHED_TYPES,
    await_locked,
    call_locked,
    raise_not_callable,
    register_future_types,
    settle_when_done,
    unless_not_awaitable,
)
from steadyvoice.breaker.in_flight_calls import InFlightCall
from steadyvoice.breaker.migration_hints import BREAKER_ATTRIBUTES, add_attribute_hints, raise_unknown_keywords
from steadyvoice.breaker.permit import AsyncExitDescriptor, ExitDescriptor, Permit, push_permit
from steadyvoice.breaker.persistence import export_state, restore_state
from steadyvoice.breaker.state_machine import StateMachine
from steadyvoice.breaker.states import Cause, CircuitState

if TYPE_CHECKING:
    from datetime import timedelta

    from steadyvoice.breaker.events import Listener
    from steadyvoice.breaker.snapshot import Explanation, Snapshot

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class CircuitBreaker(LockedStateMachine):
    """Circuit breaker: refuses calls to a service that keeps failing, and probes whether it works again.

    `clock` is monotonic, in seconds; `wall_clock` is the time of day, in seconds since 1970, and only shown. `random`
    returns numbers in [0, 1) for jitter. Listeners take one event each; see `subscribe`. A circuit begins closed, or in
    the manual state that `state` names. Raises ValueError for a state that cannot be set manually, and
    CircuitArgumentError, a TypeError, for arguments of another type.

    - `name`: name in errors, events, logs and metrics.
    - `config`: settings; the defaults of CircuitBreakerConfig if None.
    - `listeners`: called with each event.
    - `other`: names that other breakers use, refused with a hint.
    - `reason`: sentence for events, logs and errors.
    - `args`: arguments of the function.
    - `kwargs`: keyword arguments of the function.
    - `fn`: function that is called.
    - `now`: present second of the breaker's clock, if it has been read already.
    """

    __slots__ = ()

    def __init__(
        self,
        name: str = "circuit",
        config: CircuitBreakerConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        listeners: Iterable[Listener] = (),
        wall_clock: Callable[[], float] = time.time,
        random: Callable[[], float] | None = None,
        state: CircuitState | str = CircuitState.CLOSED,
        **other: Never,
    ) -> None:
        if other:  # accepted only to be refused with a hint: `**other: Never` keeps them errors for type checkers
            raise_unknown_keywords(other, (field.name for field in fields(CircuitBreakerConfig)))
        register_future_types()
        initial_state = check_state(state)
        super().__init__(
            check_name(name),
            _DEFAULT if config is None else check_config(config),
            check_clock("clock", clock),
            check_clock("wall_clock", wall_clock),
            _default_random if random is None else check_clock("random", random),
            check_listeners(listeners),
        )
        if initial_state is not CircuitState.CLOSED:
            self._force(initial_state, "initial state", None)

    # ---------------------------------------------------------------- guarded calls

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn` if the circuit admits it.

        Raises CircuitOpenError when it does not, TypeError for a coroutine function (see `call_async`) or a generator
        function (see `stream`), and otherwise what `fn` raises. A Future or Task that `fn` returns is returned at once;
        the call ends when it is done.
        """
        # The flag is read before `fn` and again after the tick: see `Era` for why each success is counted exactly once.
        era = self._era
        if not era.lock_free:
            if (refusal := era.open_refusal) and (shown := self._refuse_without_lock(refusal)):
                raise CircuitOpenError.from_fields(shown)
            return call_locked(self.acquire, fn, args, kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            if not callable(fn):
                raise_not_callable(fn)
            self._record_lock_free_error(era, error)
            raise
        if result.__class__ in UNFINISHED_TYPES:
            return settle_when_done(Permit.of(self, InFlightCall.new(era)), fn, result)
        next(era.ticks)
        if not era.lock_free:
            self._collect_late_ticks(era)
        return result

    async def call_async(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `fn(...)` if the circuit admits it. Raises as `call` does.

        A cancelled call is ignored, unless it had made no progress for `hung_after`. So put your timeout inside `fn`,
        around what it awaits: there it is a failure like any other.
        """
        era = self._era
        if not era.lock_free:
            if (refusal := era.open_refusal) and (shown := self._refuse_without_lock(refusal)):
                raise CircuitOpenError.from_fields(shown)
            return await await_locked(self.acquire, fn, args, kwargs)
        awaitable = NOT_CALLED
        try:
            awaitable = fn(*args, **kwargs)
            result = await awaitable
        except BaseException as error:
            if not callable(fn):
                raise_not_callable(fn)
            self._record_lock_free_error(era, unless_not_awaitable(error, awaitable))
            raise
        next(era.ticks)
        if not era.lock_free:
            self._collect_late_ticks(era)
        return result

    def stream(self, fn: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        """Iterate over `fn(...)` as one call, which begins with the first item asked for. Raises as `call` does."""
        if not callable(fn):
            raise_not_callable(fn)
        stream: Generator[T, None, None] = guard_stream(self.acquire, fn)(*args, **kwargs)
        return stream

    def stream_async(
        self,
        fn: Callable[P, AsyncIterator[T] | Awaitable[AsyncIterator[T]]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncGenerator[T, None]:
        """Iterate over `fn(...)`, or over the iterator it is an awaitable of, with `async for`; else as `stream`."""
        if not callable(fn):
            raise_not_callable(fn)
        stream: AsyncGenerator[T, None] = guard_async_stream(self.acquire, fn)(*args, **kwargs)
        return stream

    def __call__(self, fn: F, /) -> F:
        """Guard a function, coroutine function, generator or async generator; it keeps signature and kind.

        Raises TypeError if `fn` is not a function, or its calls do not show whether the work succeeded: a class, a
        property, a context manager.
        """
        guarded: F = guard(self, self.acquire, fn)
        return guarded

    def acquire(self, *, now: float | None = None) -> Permit:
        """Acquire the permit for one call. Raises CircuitOpenError when refused.

        `now` saves the breaker a reading of its clock, for callers that have just read it.
        """
        quiet = self._quiet
        if quiet is not None and not self._postponed:
            if now is None:
                now = self._clock()
            if now < quiet.until:
                # `InFlightCall.new`, `admit` and `Permit.of`, without the three Python calls: a third of a permit.
                call, permit = InFlightCall(), Permit()
                call.era, call.started_at, call.last_progress_at = quiet.era, now, now
                call.first_output_at, call.paused, call.unsettled = None, False, True
                permit._breaker, permit._call = self, call
                permit.__del__ = MethodType(self._forget, call)
                quiet.running[call] = now
                if self._quiet is not quiet:
                    self._unless_refused(permit, self._run_locked(CallLifecycle.admit_again, call))
                return permit
        if (refusal := self._era.open_refusal) and (shown := self._refuse_without_lock(refusal)):
            raise CircuitOpenError.from_fields(shown)
        # The permit exists before the call is admitted: an exception that a signal handler raises behind the admission
        # then meets an object whose finaliser gives the place back.
        permit = Permit.of(self, call := InFlightCall.new())
        self._unless_refused(permit, self._run_locked(CallLifecycle.admit, call))
        return permit

    def try_acquire(self, *, now: float | None = None) -> Permit | None:
        """Acquire the permit for one call, or return None when refused, without the cost of an exception.

        `retry_after` is when to try again.
        """
        if self._quiet is not None:
            try:
                return self.acquire(now=now)
            except CircuitOpenError:  # opened meanwhile, or by a call that hangs by now
                return None
        if (refusal := self._era.open_refusal) and self._refuse_without_lock(refusal):
            return None
        permit = Permit.of(self, call := InFlightCall.new())
        if self._run_locked(CallLifecycle.admit, call) is None:
            return permit
        permit._drop()
        return None

    def count_refusal(self) -> RefusalFields | None:
        """Count the refusal of a call and return what its error says; None, and nothing has changed, if none is due.

        For callers that have other work to do instead, and make the error only if it is read.
        """
        if (refusal := self._era.open_refusal) and (shown := self._refuse_without_lock(refusal)):
            return shown
        if self.state not in (CircuitState.OPEN, CircuitState.FORCED_OPEN) or self.retry_after == 0:
            return None
        try:
            self.acquire().ignore()
        except CircuitOpenError as error:
            return error._refusal_fields
        return None

    def _unless_refused(self, permit: Permit, refusal: CallRefusal | None) -> None:
        """Raise CircuitOpenError for a refusal."""
        if refusal is not None:
            permit._drop()  # the call is settled: without its finaliser, the next section has nothing to do
            raise CircuitOpenError.from_fields((self._machine.name, *refusal))

    def __enter__(self) -> Permit:
        return push_permit(self, self.acquire())

    async def __aenter__(self) -> Permit:
        return push_permit(self, self.acquire())

    if TYPE_CHECKING:

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

    else:
        __exit__, __aexit__ = ExitDescriptor(), AsyncExitDescriptor()

    # ---------------------------------------------------------------- readings

    @property
    def name(self) -> str:
        """Name of the circuit."""
        return self._machine.name

    @property
    def config(self) -> CircuitBreakerConfig:
        """Configuration in force."""
        return self._machine.config

    @property
    def state(self) -> CircuitState:
        """Present state. Reading it changes nothing: a cooldown that is over ends with the next call."""
        return self._machine.state

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next caller becomes a probe; None unless open, and where it is unknown."""
        if refusal := self._era.open_refusal:  # without the lock, as a refusal: callers may ask before each call
            if refusal.until == math.inf:
                return None
            if (seconds_left := refusal.until - self._clock()) > 0:
                return seconds_left
        seconds: float | None = self._read(lambda machine, _history, now, _wall_time: machine.retry_after(now))
        return seconds

    def snapshot(self) -> Snapshot:
        """Return state, window and totals at one moment. Taking a snapshot changes nothing."""
        from steadyvoice.breaker.snapshot import take_snapshot  # a tenth of the time to import the package

        return self._read(take_snapshot)

    def explain(self) -> Explanation:
        """Explain why the circuit is in its state, which calls failed, what will change it and when."""
        from steadyvoice.breaker.snapshot import explain

        return self._read(explain)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"circuit {self.name!r} cannot be copied or pickled: export() and restore() carry its state")

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self.state.value}>"

    # ---------------------------------------------------------------- manual control

    def reset(self, reason: str = "reset") -> None:
        """Close from any state, as if new: empty window, first cooldown. The totals stay."""
        self._run_locked(StateMachine.reset, check_reason(reason, "reset"))

    def close(self, reason: str = "closed manually") -> None:
        """Close from any state, a manual one included, and empty the window."""
        self._run_locked(StateMachine.close, Cause.MANUAL, check_reason(reason, "closed manually"))

    def force_open(self, reason: str = "", duration: float | timedelta | None = None) -> None:
        """Refuse every call until released, or for `duration` seconds; after that the next caller is a probe."""
        self._force(CircuitState.FORCED_OPEN, check_reason(reason, "forced open manually"), duration)

    def disable(self, reason: str = "", duration: float | timedelta | None = None) -> None:
        """Admit every call and record nothing, until released or for `duration` seconds."""
        self._force(CircuitState.DISABLED, check_reason(reason, "disabled manually"), duration)

    def monitor(self, reason: str = "", duration: float | timedelta | None = None) -> None:
        """Record every call and refuse none, until released or for `duration` seconds.

        Each time the circuit would have opened, listeners receive `WouldHaveOpened` once.
        """
        self._force(CircuitState.MONITORING, check_reason(reason, "monitoring only"), duration)

    def trip(self, reason: str, cooldown: float | timedelta | None = None, *, level: int | None = None) -> bool:
        """Open the circuit on evidence from elsewhere; return whether it is open by this.

        It refuses calls for `cooldown` seconds, by default for its own next cooldown. A circuit that is open already
        stays open for so long from now on, if that is longer. `level` is the number of times the backoff has been
        applied, to be continued from. A monitored circuit reports that it would have opened; manual states stay.
        """
        seconds = _validators.optional_duration("cooldown", cooldown, "None: the circuit's own")
        _validators.count("level", level, least=-1)
        return self._run_locked(StateMachine.trip, check_reason(reason, "tripped from outside"), seconds, level)

    def recover(self, reason: str = "") -> bool:
        """Close an open or half-open circuit because probes succeeded elsewhere, as probes of its own would.

        Return whether it was open or half-open. It counts as a recovery, and `ramp_up` applies.
        """
        return self._run_locked(StateMachine.recover, check_reason(reason, "recovered elsewhere"))

    def grant_probe(self, until: float | None) -> None:
        """Admit probes only before `until`, a time of the breaker's clock; None, as initially, at any time.

        After that no caller becomes a probe, whether the cooldown is over or the circuit half-open; a probe in flight
        counts when it ends. For several processes that take turns in probing one service.
        """
        if until is not None and not is_finite(until):
            raise CircuitArgumentError("until", until, "must be a time of the breaker's clock, in seconds, or None")
        self._run_locked(StateMachine.grant_probe, math.inf if until is None else float(until))

    def update(self, config: CircuitBreakerConfig) -> None:
        """Replace the configuration at run time. The newest results that fit the window are kept and evaluated at once.

        Raises CircuitArgumentError, a TypeError, for anything but a CircuitBreakerConfig.
        """
        self._run_locked(StateMachine.update, check_config(config))

    def export(self) -> dict[str, Any]:
        """Return the state as JSON-ready values, for `restore` after a restart; durations are what remains of them."""
        return self._read(export_state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from an exported state: with its window, its backoff, and what remained of its cooldown.

        Raises ValueError for values that are not an exported state.

        - `state`: what `export()` returned.
        """
        self._run_locked(restore_state, state)

    def subscribe(self, listener: Listener, *, calls: bool = False) -> Callable[[], None]:
        """Call `listener` with every event from now on. Return a function that ends the subscription.

        With `calls`, also with one event for every call and refusal; without such a listener those cost nothing.
        Listeners run in the thread of the call that caused the event, after its lock is released, one at a time and in
        order. Their exceptions are logged to `steadyvoice.breaker`. A listener is never awaited: raises
        CircuitArgumentError, a TypeError, for a coroutine function and for anything that is not a function.
        """
        unsubscribe = self._run_locked(self._subscribe, check_listener(listener), calls)
        return lambda: self._run_locked(self._unsubscribe, unsubscribe)

    def _force(self, state: CircuitState, reason: str, duration: float | timedelta | None) -> None:
        self._run_locked(StateMachine.force, state, reason, check_duration(duration))

    def _subscribe(self, machine: StateMachine, _now: float, listener: Listener, calls: bool) -> Callable[[], None]:
        dispatcher = self._own_dispatcher()
        unsubscribe = dispatcher.subscribe(listener, calls)
        machine.set_call_events(dispatcher.wants_call_events)
        return unsubscribe

    def _unsubscribe(self, machine: StateMachine, _now: float, unsubscribe: Callable[[], None]) -> None:
        unsubscribe()
        machine.set_call_events(self._own_dispatcher().wants_call_events)


def _default_random() -> float:
    from random import random  # 2 ms of import, wanted only with jitter

    return random()


_DEFAULT = CircuitBreakerConfig()
add_attribute_hints(CircuitBreaker, BREAKER_ATTRIBUTES)
