"""Fork safety: renewal of locks, threads, pipes and connections in forked child processes.

`os.fork()` copies the memory, but only the thread that called it. A lock held by another thread stays held in the child
for ever, an executor waits for a thread that does not exist, and pipes, sockets and epoll sets are shared with the
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

LOCK_TIMEOUT = 1.0
"""Seconds, for all owners together, that a fork waits for other threads to release their locks."""


class _AnyLock(Protocol):
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...


class ForkAware(Protocol):
    """Owner of something that a forked child must renew."""

    @property
    def fork_lock(self) -> _AnyLock | None:
        """Lock to hold while the process forks, so that the copy is consistent. None if none is needed."""
        ...

    def after_fork(self) -> None:
        """Renew everything in the child, where no other thread runs. A lock that is held now stays held for ever."""
        ...


def register_fork_aware(owner: ForkAware) -> None:
    """Call `owner.after_fork()` in every child that is forked while `owner` is alive. Holds no strong reference."""
    _owners.add(ref(owner, _forget))


def keep_until_exit(inherited: object) -> None:
    """Keep a parent's object alive in the child until the process exits, so that its finaliser never runs.

    Closing an inherited event loop, transport or database would act on what the parent still uses.
    """
    _kept.append(inherited)
    with suppress(ImportError, AttributeError):  # other interpreters than CPython
        import ctypes

        # One reference too many: at exit, the interpreter clears the modules, this list included.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


_owners: set[ref[ForkAware]] = set()
_forget = _owners.discard  # bound once, for all references
_kept: list[object] = []
_forking = RLock()  # two threads may fork at the same time
_held: list[_AnyLock] = []


def _before() -> None:
    _forking.acquire()
    deadline = time.monotonic() + LOCK_TIMEOUT
    for each in _owners.copy():
        owner = each()
        lock = owner and owner.fork_lock
        if lock and (lock.acquire(blocking=False) or lock.acquire(timeout=max(0.0, deadline - time.monotonic()))):
            _held.append(lock)


def _release() -> None:
    while _held:
        _held.pop().release()
    with suppress(RuntimeError):  # not held: a signal handler raised before it was acquired
        _forking.release()


def _after_in_child() -> None:
    _release()
    for each in _owners.copy():
        if owner := each():
            try:
                owner.after_fork()
            except Exception:  # the others are renewed all the same
                import logging  # breakers that never fork do without it

                log = logging.getLogger("steadyvoice.breaker")
                log.exception("%s was not renewed in a forked child", type(owner).__name__)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_after_in_child)
