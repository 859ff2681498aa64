"""What a forked child process must not use as its parent left it: locks, threads, pipes, connections.

`os.fork()` copies memory, but only the thread that called it. A lock held by another thread stays held in the child
for ever, an executor waits for a thread that is not there, and pipes, sockets and epoll sets are shared with the
parent. Objects that own such things register here; the hooks run for every fork that Python knows of, which includes
multiprocessing, gunicorn, Celery and uWSGI.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from threading import RLock
from typing import Protocol
from weakref import ref

PATIENCE = 1.0
"""Seconds, for all owners together, that a fork waits for other threads to leave what must not be copied half done."""


class _AnyLock(Protocol):
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...


class ForkAware(Protocol):
    """An owner of something that a child must renew."""

    @property
    def fork_lock(self) -> _AnyLock | None:
        """Lock to hold while the process forks, so that the copy is consistent. None if there is no need."""
        ...

    def after_fork(self) -> None:
        """Renew everything in the child, where no other thread runs yet. A lock that is held now is held for ever."""
        ...


def renew_after_fork(owner: ForkAware) -> None:
    """Call `owner.after_fork()` in every child that is forked while `owner` is alive. Holds no strong reference."""
    _owners.add(ref(owner, _forget))


def abandon(inherited: object) -> None:
    """Keep a parent's object alive in the child until the process is gone, so that its finaliser never runs.

    Closing an inherited event loop, transport or database would act on what the parent still uses.
    """
    _abandoned.append(inherited)
    with suppress(ImportError, AttributeError):  # other interpreters than CPython
        import ctypes

        # One reference more than there are: the interpreter's exit clears modules, this list included.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


_owners: set[ref[ForkAware]] = set()
_forget = _owners.discard  # one object for all references
_abandoned: list[object] = []
_forking = RLock()  # two threads may fork at once
_held: list[_AnyLock] = []


def _before() -> None:
    _forking.acquire()
    deadline = time.monotonic() + PATIENCE
    for each in _owners.copy():
        owner = each()
        lock = owner and owner.fork_lock
        if lock and (lock.acquire(blocking=False) or lock.acquire(timeout=max(0.0, deadline - time.monotonic()))):
            _held.append(lock)


def _release() -> None:
    while _held:
        _held.pop().release()
    with suppress(RuntimeError):  # a signal handler raised before it was acquired
        _forking.release()


def _after_in_child() -> None:
    _release()
    for each in _owners.copy():
        if owner := each():
            owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_after_in_child)
