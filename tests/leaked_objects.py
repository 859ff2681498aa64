"""Objects that code leaves to the garbage collector, or keeps alive, found with the collector switched off."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import types
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_SOURCE = f"{os.sep}src{os.sep}steadyvoice{os.sep}"
_PACKAGES = ("steadyvoice", "av", "uvicorn", "zlib")

_KEPT_ON_PURPOSE = (
    "steadyvoice.breaker.",  # a circuit's last events
    "steadyvoice.speech.format.",  # keys of caches
    "steadyvoice.speech.request.",  # requests that a test's vendor keeps
    "steadyvoice.simulator.",
    "steadyvoice.gateway.observability.hourly_statistics.",
    "steadyvoice.gateway.observability.event_log.",  # the last calls and events, a bounded number of them, with:
    "steadyvoice.gateway.observability.recent_calls.",
    "steadyvoice.service.result.RelayedSpeech",
    "steadyvoice.providers.base.Accepted",
    "steadyvoice.service.result.Attempt",
    "steadyvoice.service.result.Span",
    "steadyvoice.service.billing.Bill",
    "steadyvoice.service.billing.Charge",
)
# Counted although the breaker keeps some objects: each belongs to a call, and has to go with it.
_CALL_OBJECTS = ("Permit", "InFlightCall")
_PYAV_FILTERS = "av.filter."  # since Python 3.12 filter graphs and their contexts in encoders refer to each other


@pytest.fixture
def frozen_heap() -> None:
    """Exclude all present objects from garbage collection, from now on.

    A test process has millions of objects of earlier tests, and each collection of them takes a second.
    """
    # What earlier tests left in cycles is freed first: later, nothing would find it.
    gc.collect()
    gc.freeze()


@contextmanager
def no_garbage() -> Iterator[None]:
    """Fail if the body leaves objects of ours in reference cycles, which only the collector frees.

    Objects that are still reachable are not counted; see `live_objects`.
    """
    # Cycles of earlier tests are freed first, or they would be reported as those of the body.
    gc.collect()
    gc.disable()
    # What is unreachable is kept in `gc.garbage` instead of freed, so that its types can be reported.
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        found = Counter(name for each in gc.garbage if (name := _own_type_name(each)))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not found, f"left for the collector: {dict(found)}"


def live_objects() -> Counter[str]:
    """Count our live objects by type: objects, frames, coroutines, tasks, encoders."""
    found = Counter(name for each in gc.get_objects() if (name := _own_type_name(each)))
    for name in [name for name in found if name.startswith(_KEPT_ON_PURPOSE) and not name.endswith(_CALL_OBJECTS)]:
        del found[name]
    return found


def native_threads() -> int:
    """Count the threads of this process that Python did not start, such as FFmpeg's."""
    return len(os.listdir("/proc/self/task")) - threading.active_count()


def native_threads_back_to(before: int) -> bool:
    """Return whether the number of native threads has returned to `before`.

    A thread that has been joined is counted until the kernel has removed it, so this waits for up to a second.
    """
    for _ in range(200):
        if native_threads() <= before:
            return True
        threading.Event().wait(0.005)
    return False


def _own_type_name(each: Any) -> str | None:
    if type(each) in weakref.ProxyTypes:  # the object behind it may be gone
        return None
    match each:
        case asyncio.Task():
            return type(each).__name__
        case types.FrameType():
            code = each.f_code
        case types.CoroutineType():
            code = each.cr_code
        case types.AsyncGeneratorType():
            code = each.ag_code
        case types.GeneratorType():
            code = each.gi_code
        # Classes, modules and functions live as long as the process, and are in cycles of their own.
        case type() | types.ModuleType() | types.FunctionType():
            return None
        case _:
            module = type(each).__module__.partition(".")[0]
            if sys.version_info >= (3, 12) and type(each).__module__.startswith(_PYAV_FILTERS):
                return None
            return f"{type(each).__module__}.{type(each).__qualname__}" if module in _PACKAGES else None
    return f"{type(each).__name__} {code.co_qualname}" if _SOURCE in code.co_filename else None
