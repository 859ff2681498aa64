"""Context manager of a breaker: which permit belongs to which `with breaker:` block.

One breaker serves many tasks, and a task may enter it again inside. Direct calls of `__enter__()` and `__exit__()`, as
`contextlib.ExitStack` makes them, find their permit on a stack that each task has.
"""

# A `with` statement looks `__exit__` up before it calls `__enter__`, and holds what it found until the block is left,
# in whichever way. So the lookup returns an object of that block alone, and that object holds the permit: should a
# signal handler raise at the very entry of `__exit__`, the object goes, the permit goes with it, and its place in a
# half-open circuit is free. A permit on the task's stack would stay there.

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from steadyvoice.breaker._locking import LockedStateMachine
    from steadyvoice.breaker.permit import Permit

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
