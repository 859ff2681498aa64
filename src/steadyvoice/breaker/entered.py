"""Which permits a task holds by `with breaker:`. One breaker serves many tasks, so each task has a stack of its own."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steadyvoice.breaker.breaker import CircuitBreaker
    from steadyvoice.breaker.permit import Permit

_entered: ContextVar[tuple[Permit, Any] | None] = ContextVar("steadyvoice_entered", default=None)


def enter(permit: Permit) -> Permit:
    """This task holds it until it leaves."""
    _entered.set((permit, _entered.get()))
    return permit


def leave(breaker: CircuitBreaker) -> Permit:
    """The permit this task entered last with this breaker. Raises RuntimeError where there is none."""
    permit, rest = _without(breaker, _entered.get())
    _entered.set(rest)
    return permit


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
