"""The breaker that is used: the doors to a machine behind a clock and a lock.

Threads and event loops share one object. The lock is held for the bookkeeping only: never across the protected
call, a listener, a predicate or an await. While the circuit is healthy, and its settings ask for no clock, a plain
call does not take it at all (see `Era`).
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import fields
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, NoReturn, ParamSpec, TypeVar

from steadyvoice.breaker.admission import admit
from steadyvoice.breaker.arguments import (
    check_clock,
    check_config,
    check_duration,
    check_listener,
    check_listeners,
    check_name,
    check_reason,
    check_state,
)
from steadyvoice.breaker.by_hand import close, force, reset
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.decorator import guard
from steadyvoice.breaker.entered import AsyncExit, Exit, enter
from steadyvoice.breaker.era import Flight
from steadyvoice.breaker.locked import LockedMachine
from steadyvoice.breaker.other_names import ATTRIBUTES, answer_other_attributes, refuse_keywords
from steadyvoice.breaker.permit import Permit
from steadyvoice.breaker.recorded import NOTHING_YET, await_recorded, call_recorded, callers_own
from steadyvoice.breaker.rules import Verdict
from steadyvoice.breaker.saved import restore, saved
from steadyvoice.breaker.states import Cause, CircuitState
from steadyvoice.breaker.stream import guard_stream, guard_stream_async
from steadyvoice.breaker.unfinished import UNFINISHED, finish_later, know_futures, refuse_to_call
from steadyvoice.breaker.updating import heed, update

if TYPE_CHECKING:
    from datetime import timedelta

    from steadyvoice.breaker.events import Listener
    from steadyvoice.breaker.explain import Explanation
    from steadyvoice.breaker.machine import Machine
    from steadyvoice.breaker.snapshot import Snapshot

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class CircuitBreaker(LockedMachine):
    """Refuses calls to something that keeps failing, and finds out by itself when it works again.

    `clock` is monotonic, in seconds; `wall` is the time of day, in seconds since 1970, and only shown. `luck`
    gives numbers in [0, 1) for jitter. Listeners take one event each; see `subscribe`. A circuit begins closed, or
    in the manual state that `state` names. Raises ValueError for a state that is not set by hand, and
    CircuitArgumentError, a TypeError, for arguments of another type.
    """

    __slots__ = ()

    def __init__(
        self,
        name: str = "circuit",
        config: CircuitBreakerConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        listeners: Iterable[Listener] = (),
        wall: Callable[[], float] = time.time,
        luck: Callable[[], float] | None = None,
        state: CircuitState | str = CircuitState.CLOSED,
        **other: Never,
    ) -> None:
        if other:
            refuse_keywords(other, (field.name for field in fields(CircuitBreakerConfig)))
        know_futures()
        beginning = check_state(state)
        super().__init__(
            check_name(name),
            _DEFAULT if config is None else check_config(config),
            check_clock("clock", clock),
            check_clock("wall", wall),
            _luck if luck is None else check_clock("luck", luck),
            check_listeners(listeners),
        )
        if beginning is not CircuitState.CLOSED:
            self._force(beginning, "from the beginning", None)

    # ---------------------------------------------------------------- doors

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn` if the circuit allows it.

        Raises CircuitOpenError when it does not, TypeError for a coroutine function (see `call_async`) or a generator
        function (see `stream`), and otherwise what `fn` raises. A Future or Task that `fn` returns is returned at once;
        the call ends when it is done.
        """
        era = self._era
        if not era.quiet:
            return call_recorded(self, fn, args, kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            if not callable(fn):
                refuse_to_call(fn)
            self._ended_quietly(era, error)
            raise
        if result.__class__ in UNFINISHED:
            return finish_later(self, Flight(era), fn, result)
        next(era.ticks)
        if not era.quiet:
            self._reconcile(era)
        return result

    async def call_async(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `fn(...)` if the circuit allows it. Raises as `call` does.

        A cancelled call counts for nothing, unless it had been silent for `hung_after`: so a timeout of yours belongs
        inside, around what `fn` awaits, where it is a failure like any other.
        """
        era = self._era
        if not era.quiet:
            return await await_recorded(self, fn, args, kwargs)
        awaitable = NOTHING_YET
        try:
            awaitable = fn(*args, **kwargs)
            result = await awaitable
        except BaseException as error:
            if not callable(fn):
                refuse_to_call(fn)
            self._ended_quietly(era, callers_own(error, awaitable))
            raise
        next(era.ticks)
        if not era.quiet:
            self._reconcile(era)
        return result

    def stream(self, fn: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        """The items of `fn(...)`, as one call over its life that begins with the first item asked for."""
        if not callable(fn):
            refuse_to_call(fn)
        stream: Generator[T, None, None] = guard_stream(self, fn)(*args, **kwargs)
        return stream

    def stream_async(
        self,
        fn: Callable[P, AsyncIterator[T] | Awaitable[AsyncIterator[T]]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncGenerator[T, None]:
        """The same for `async for`."""
        if not callable(fn):
            refuse_to_call(fn)
        stream: AsyncGenerator[T, None] = guard_stream_async(self, fn)(*args, **kwargs)
        return stream

    def __call__(self, fn: F, /) -> F:
        """Guard a function, coroutine function, generator or async generator; it keeps signature and kind.

        Raises TypeError for what is no function, or one that says nothing of the work when it returns: a class, a
        property, a context manager.
        """
        guarded: F = guard(self, fn)
        return guarded

    def acquire(self) -> Permit:
        """Leave to make one call. Raises CircuitOpenError when refused."""
        if shut := self._era.shut:
            self._refuse_quickly(shut)
        permit = Permit(self, flight := Flight())
        self._admit(flight)
        return permit

    def try_acquire(self) -> Permit | None:
        """Leave to make one call, or None when refused. Costs no exception; `retry_after` says when to come back."""
        shut = self._era.shut
        if shut and self._refuse_quickly(shut, silently=True):
            return None
        permit = Permit(self, flight := Flight())
        if self._locked(admit, flight) is None:
            return permit
        permit._disarm()
        return None

    def __enter__(self) -> Permit:
        return enter(self, self.acquire())

    async def __aenter__(self) -> Permit:
        return enter(self, self.acquire())

    if TYPE_CHECKING:

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

    else:
        __exit__, __aexit__ = Exit(), AsyncExit()

    # ---------------------------------------------------------------- to look at

    @property
    def name(self) -> str:
        """What the circuit is called."""
        return self._machine.name

    @property
    def config(self) -> CircuitBreakerConfig:
        """The settings in force."""
        return self._machine.config

    @property
    def state(self) -> CircuitState:
        """The state now; reading changes nothing."""
        return self._machine.state

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next caller becomes a probe; None unless open, and where nobody can know."""
        if shut := self._era.shut:  # as a refusal, without the lock: who comes by often may ask first
            return max(0.0, shut.until - self._clock()) if shut.until < math.inf else None
        seconds: float | None = self._look(lambda machine, _history, now, _wall: machine.retry_after(now))
        return seconds

    def snapshot(self) -> Snapshot:
        """Everything there is to know, at one moment; taking it changes nothing."""
        from steadyvoice.breaker.snapshot import snapshot_of  # with `explain` a tenth of the package's import

        return self._look(snapshot_of)

    def explain(self) -> Explanation:
        """Why the circuit is in its state, which calls made it so, what will change it and when."""
        from steadyvoice.breaker.explain import explain

        return self._look(explain)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"circuit {self.name!r} cannot be copied or pickled: export() and restore() carry its state")

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self.state.value}>"

    # ---------------------------------------------------------------- by hand

    def reset(self, reason: str = "reset") -> None:
        """Close from any state, as if new: empty window, first cooldown. The totals stay."""
        self._locked(reset, check_reason(reason, "reset"))

    def close(self, reason: str = "closed by hand") -> None:
        """Close from any state, a manual one included; the window is empty afterwards."""
        self._locked(close, Verdict(Cause.MANUAL, check_reason(reason, "closed by hand")))

    def force_open(self, reason: str = "", duration: float | timedelta | None = None) -> None:
        """Refuse every call until released, or for `duration` seconds; after that the next caller is a probe."""
        self._force(CircuitState.FORCED_OPEN, check_reason(reason, "forced open by hand"), duration)

    def disable(self, reason: str = "", duration: float | timedelta | None = None) -> None:
        """Admit every call and record nothing, until released or for `duration` seconds."""
        self._force(CircuitState.DISABLED, check_reason(reason, "disabled by hand"), duration)

    def monitor(self, reason: str = "", duration: float | timedelta | None = None) -> None:
        """Record every call and refuse none, until released or for `duration` seconds.

        Each time the circuit would have opened, listeners hear `WouldHaveOpened` once.
        """
        self._force(CircuitState.MONITORING, check_reason(reason, "only watching"), duration)

    def update(self, config: CircuitBreakerConfig) -> None:
        """Change the settings at run time. The newest evidence that fits is kept, and judged at once.

        Raises CircuitArgumentError, a TypeError, for anything but a CircuitBreakerConfig.
        """
        self._locked(update, check_config(config))

    def export(self) -> dict[str, Any]:
        """The state as JSON-ready values, for `restore` after a restart; durations are what remains of them."""
        return self._look(saved)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up an exported state: the window, the backoff, and what remained of the cooldown.

        Raises ValueError for values that no export has.
        """
        self._locked(restore, state)

    def subscribe(self, listener: Listener, *, calls: bool = False) -> Callable[[], None]:
        """Call `listener` with every event from now on; call what is returned to stop.

        With `calls`, also with one event for every call and refusal; without such a listener those cost nothing.
        Listeners run in the thread of the call that caused the event, after its lock is released, one at a time
        and in order. One that raises is logged to `steadyvoice.breaker`. Nothing awaits a listener: raises
        CircuitArgumentError, a TypeError, for a coroutine function and for what is not a function.
        """
        unsubscribe = self._locked(self._listen, check_listener(listener), calls)
        return lambda: self._locked(self._turn_away, unsubscribe)

    # ---------------------------------------------------------------- behind the doors

    def _force(self, state: CircuitState, reason: str, duration: float | timedelta | None) -> None:
        self._locked(force, state, reason, check_duration(duration))

    def _listen(self, _now: float, machine: Machine, listener: Listener, calls: bool) -> Callable[[], None]:
        unsubscribe = self._outbox.subscribe(listener, calls)
        heed(machine, self._outbox.wants_calls)
        return unsubscribe

    def _turn_away(self, _now: float, machine: Machine, unsubscribe: Callable[[], None]) -> None:
        unsubscribe()
        heed(machine, self._outbox.wants_calls)


def _luck() -> float:
    from random import random  # 2 ms of import, wanted only with jitter

    return random()


_DEFAULT = CircuitBreakerConfig()
answer_other_attributes(CircuitBreaker, ATTRIBUTES)
