"""What a piece of work leaves behind for the garbage collector: found with the collector switched off."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import types
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_SOURCE = f"{os.sep}src{os.sep}steadyvoice{os.sep}"
_PACKAGES = ("steadyvoice", "av", "uvicorn", "zlib")

_KEPT_ON_PURPOSE = (
    "steadyvoice.breaker.",  # a circuit's last events
    "steadyvoice.speech.format.",  # the keys of caches
    "steadyvoice.speech.request.",  # what a test's vendor was asked
    "steadyvoice.simulator.",
    "steadyvoice.gateway.observability.hourly_statistics.",
    "steadyvoice.gateway.observability.event_log.",  # the last calls and events, a bounded number of them, with:
    "steadyvoice.gateway.observability.recent_calls.",
    "steadyvoice.service.result.Attempt",
    "steadyvoice.service.result.Span",
    "steadyvoice.service.billing.",
)
_OF_A_CALL = ("Permit", "Flight")
_OF_PYAV = "av.filter."  # from 3.12 on its filter graphs and their contexts hold each other, inside of its encoders


@pytest.fixture
def set_aside() -> Iterator[None]:
    """Keep what there is already out of the collector's sight.

    A test process has millions of objects of earlier tests; to look at all of them takes a second, each time.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@contextmanager
def no_garbage() -> Iterator[None]:
    """Fail if the body leaves objects of ours that only the collector would find.

    What is still reachable is not counted: it belongs to somebody. See `alive`.
    """
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        found = Counter(name for each in gc.garbage if (name := _name_of_ours(each)))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not found, f"left for the collector: {dict(found)}"


def live_objects() -> Counter[str]:
    """Count what is alive of ours by its type: objects, frames, coroutines, tasks, encoders."""
    found = Counter(name for each in gc.get_objects() if (name := _name_of_ours(each)))
    for name in [name for name in found if name.startswith(_KEPT_ON_PURPOSE) and not name.endswith(_OF_A_CALL)]:
        del found[name]
    return found


def native_threads() -> int:
    """Count the threads of this process that Python has not started, such as FFmpeg's."""
    return len(os.listdir("/proc/self/task")) - threading.active_count()


def native_threads_back_to(before: int) -> bool:
    """Return whether no foreign threads were left behind, once those that end have ended.

    A thread that has been joined counts as foreign until the kernel has put it away.
    """
    for _ in range(200):
        if native_threads() <= before:
            return True
        threading.Event().wait(0.005)
    return False


def _name_of_ours(each: Any) -> str | None:
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
        case type() | types.ModuleType() | types.FunctionType():
            return None
        case _:
            module = type(each).__module__.partition(".")[0]
            if sys.version_info >= (3, 12) and type(each).__module__.startswith(_OF_PYAV):
                return None
            return f"{type(each).__module__}.{type(each).__qualname__}" if module in _PACKAGES else None
    return f"{type(each).__name__} {code.co_qualname}" if _SOURCE in code.co_filename else None
