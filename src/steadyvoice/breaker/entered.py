"""Which permit belongs to which `with breaker:`.

One breaker serves many tasks, and a task may enter it again inside. A `with` statement looks up `__exit__` before it
calls `__enter__`, and holds what it found until the block is left, in whichever way. So the lookup gives an object of
that block alone, and that has the permit: should a signal handler raise at the very entry of `__exit__`, the permit
goes with it, and its place in a half-open circuit is free.

Calls of `__enter__()` and `__exit__()` by hand, and by `contextlib.ExitStack`, find their permit in a stack that each
task has.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from steadyvoice.breaker.breaker import CircuitBreaker
    from steadyvoice.breaker.permit import Permit

_entered: ContextVar[tuple[Permit, Any] | None] = ContextVar("steadyvoice_entered", default=None)
_looked_up: ContextVar[ref[_Block] | None] = ContextVar("steadyvoice_looked_up", default=None)


def enter(breaker: CircuitBreaker, permit: Permit) -> Permit:
    """Give the permit to the `with` block that is being entered, or to the task that calls by hand."""
    found = _looked_up.get()
    block = found and found()
    if block and block.breaker is breaker and block.permit is None:
        block.permit = permit
    else:
        _entered.set((permit, _entered.get()))
    return permit


def leave(breaker: CircuitBreaker) -> Permit:
    """Return the permit this task entered last with this breaker, by hand. Raises RuntimeError where there is none."""
    permit, rest = _without(breaker, _entered.get())
    _entered.set(rest)
    return permit


class _Block:
    """The exit of one `with` block."""

    __slots__ = ("__weakref__", "breaker", "permit")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.permit: Permit | None = None

    def __call__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        (self.permit or leave(self.breaker)).settle(error)


class _AsyncBlock(_Block):
    """The same for `async with`."""

    __slots__ = ()

    async def __call__(  # type: ignore[override]
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        (self.permit or leave(self.breaker)).settle(error)


class Exit:
    """`__exit__` of a breaker: another object with each lookup."""

    block: type[_Block] = _Block

    def __get__(self, breaker: CircuitBreaker | None, owner: type[CircuitBreaker]) -> Any:
        if breaker is None:
            return self.by_hand
        block = self.block(breaker)
        _looked_up.set(ref(block))
        return block

    @staticmethod
    def by_hand(
        breaker: CircuitBreaker,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Any:
        """Settle the permit that this task entered last."""
        leave(breaker).settle(error)


class AsyncExit(Exit):
    """`__aexit__` of a breaker."""

    block = _AsyncBlock

    @staticmethod
    async def by_hand(
        breaker: CircuitBreaker,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Any:
        """Settle the permit that this task entered last."""
        leave(breaker).settle(error)


def _without(breaker: CircuitBreaker, stack: tuple[Permit, Any] | None) -> tuple[Permit, Any]:
    if stack is None:
        raise RuntimeError(
            f"circuit {breaker.name!r} was not entered in this task; across tasks use `with breaker.acquire():`"
        )
    permit, rest = stack
    if permit._breaker is breaker:
        return permit, rest
    found, rest = _without(breaker, rest)
    return found, (permit, rest)
