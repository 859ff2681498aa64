"""Checks of resources: cancellation at any moment, slow consumers, and whatever a request leaves behind."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import types
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from steadyvoice.speech.errors import TTSError
from steadyvoice.testing.trial import CONNECTION_TIMEOUT, Collected, ConformanceError, Trial, eventually
from steadyvoice.testing.vendor_server import VendorFault, VendorResponse

MAX_READ_AHEAD = 12 * 1024 * 1024
"""Bytes that a vendor may send to a consumer that takes one chunk, with all that the kernel holds."""

_AHEAD = 32 * 1024 * 1024  # bytes of a response that is longer than any buffer
_ROUNDS = 3  # of each kind of request in the search for leaks: what is made once only is no leak
_SETTLED = 0.3  # seconds in which a vendor that can send nothing more sends nothing


async def check_cancellation(trial: Trial) -> None:
    """Check that a cancelled request ends at once, at any moment, and closes its connection."""
    if trial.vendor is None:
        await _cancel_local(trial)
        return
    await trial.speak()
    size = trial.vendor.bytes_sent
    for when, fault in {
        "while it waited for the vendor's answer": VendorFault(stop_after=0, before_head=True),
        "while it waited for the first audio": VendorFault(stop_after=0),
        "in the middle of the audio": VendorFault(stop_after=size // 2),
        "just before the end": VendorFault(stop_after=size - 1),
    }.items():
        trial.step = f"being cancelled {when}"
        async with trial.started(fault) as task:
            await asyncio.sleep(0.02)
            await _cancel(task, when)
        await trial.connections_closed(f"after a request that was cancelled {when}")
    trial.vendor.use(VendorFault())
    trial.step = "speaking after cancelled requests"
    await trial.speak()


async def _cancel_local(trial: Trial) -> None:
    """Cancel a local engine's request after ever more turns of the event loop, then have it speak."""
    for turns in (0, 1, 2, 4, 8, 16):
        task = asyncio.create_task(trial.speak())
        for _ in range(turns):
            await asyncio.sleep(0)
        await _cancel(task, f"after {turns} turns of the event loop", may_be_done=True)
    trial.step = "speaking after cancelled requests"
    await trial.speak()


async def _cancel(task: asyncio.Task[Collected], when: str, *, may_be_done: bool = False) -> None:
    task.cancel()
    if not await eventually(task.done):
        raise ConformanceError(f"went on after it was cancelled {when}", "end at once, and pass CancelledError on")
    if not (task.cancelled() or may_be_done):
        error = task.exception()
        did = f"raised {type(error).__name__}" if error else "ended as if all was well"
        raise ConformanceError(f"{did} when it was cancelled {when}", "pass CancelledError on")
    if may_be_done and not task.cancelled() and (error := task.exception()):
        raise ConformanceError(f"raised {type(error).__name__} when it was cancelled {when}", "pass CancelledError on")


async def check_closing(trial: Trial) -> None:
    """Check that a generator that is closed after any of its first events leaves nothing open."""
    for count in (1, 2, 3):
        trial.step = f"being closed after {count} events"
        if trial.vendor:
            trial.vendor.use(VendorFault(repeat=20))
        request = trial.request()
        async with aclosing(
            trial.provider.speak(request, trial.provider.offer(request), connection_timeout=CONNECTION_TIMEOUT)
        ) as events:
            with suppress(StopAsyncIteration):
                for _ in range(count):
                    await anext(events)
    await trial.provider.aclose()
    await trial.connections_closed("after generators that were closed behind their first events, and aclose()")


async def check_slow_consumer(trial: Trial) -> None:
    """Check that a vendor is not read far ahead of a consumer that takes one chunk and waits."""
    vendor, request = trial.fake, trial.request()
    offer = trial.provider.offer(request)
    if not offer.streams:
        return  # the whole answer is in memory, and bounded by `max_characters`
    await trial.speak()
    vendor.use(VendorFault(repeat=1 + _AHEAD // max(1, len(vendor.spoken[-1].audio) if vendor.spoken else 1)))
    async with aclosing(trial.provider.speak(request, offer, connection_timeout=CONNECTION_TIMEOUT)) as events:
        await anext(events)
        await anext(events)
        sent = -1
        while sent != vendor.bytes_sent:
            sent = vendor.bytes_sent
            await asyncio.sleep(_SETTLED)
    if sent > MAX_READ_AHEAD:
        raise ConformanceError(
            f"read {sent >> 20} MiB while its consumer took one chunk",
            "stop to read from the vendor while nothing is taken, so that a slow client does not fill the memory",
        )
    await trial.connections_closed("after a consumer that stopped to read")


async def check_leaks(trial: Trial) -> None:
    """Check that requests of every ending leave no task, thread, descriptor, connection or reference cycle behind."""
    endings = list(_endings(trial))
    for ending in endings:  # imports, caches and thread pools are made by the first request
        await ending()
    await trial.provider.aclose()
    async with _nothing_left(trial):
        for _ in range(_ROUNDS):
            for ending in endings:
                await ending()
        await trial.provider.aclose()
        await trial.connections_closed("after aclose()")


def _endings(trial: Trial) -> Iterator[Callable[[], Awaitable[None]]]:
    async def complete() -> None:
        await trial.speak()

    async def cancelled() -> None:
        task = asyncio.create_task(trial.speak())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    async def closed() -> None:
        request = trial.request()
        async with aclosing(
            trial.provider.speak(request, trial.provider.offer(request), connection_timeout=CONNECTION_TIMEOUT)
        ) as events:
            await anext(events)
            await anext(events)

    async def faulty(fault: VendorFault) -> None:
        trial.fake.use(fault)
        with suppress(TTSError):
            await trial.speak()
        trial.fake.use(VendorFault())

    yield complete
    yield cancelled
    yield closed
    if trial.vendor:
        yield lambda: faulty(VendorFault(response=VendorResponse.of_json({"error": "scripted"}, 500)))
        yield lambda: faulty(VendorFault(stop_after=100, then="cut"))
        yield lambda: faulty(VendorFault(stop_after=0, before_head=True, then="cut"))


@dataclass(frozen=True, slots=True)
class _Census:
    """Tasks, threads and open descriptors at one moment."""

    tasks: frozenset[asyncio.Task[Any]]
    threads: frozenset[threading.Thread]
    descriptors: int

    @classmethod
    def taken(cls) -> _Census:
        return cls(frozenset(asyncio.all_tasks()), frozenset(threading.enumerate()), _descriptors())

    def more_than(self, before: _Census) -> str | None:
        """Return what there is more than before, None if nothing."""
        if tasks := self.tasks - before.tasks:
            return f"{len(tasks)} running tasks ({', '.join(sorted({_task_name(task) for task in tasks}))})"
        if threads := self.threads - before.threads:
            return f"{len(threads)} threads ({', '.join(sorted({thread.name for thread in threads}))})"
        if self.descriptors > before.descriptors:
            return f"{self.descriptors - before.descriptors} open files or sockets"
        return None


def _task_name(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", task.get_name())


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


@asynccontextmanager
async def _nothing_left(trial: Trial) -> AsyncIterator[None]:
    """Raise ConformanceError if the body leaves something open, or to the garbage collector."""
    before = _Census.taken()
    with _without_collector() as garbage, _unfinished_generators(trial) as unfinished:
        yield
        await eventually(lambda: not _Census.taken().more_than(before))
        if left := _Census.taken().more_than(before):
            raise ConformanceError(
                f"left {left} behind after requests and aclose()",
                "end and close whatever a request or the provider opened",
            )
        if unfinished:
            raise ConformanceError(
                f"left asynchronous generators unfinished ({', '.join(sorted(set(unfinished)))})",
                "close each generator that it iterates over, with contextlib.aclosing(): otherwise its connection is "
                "closed by the event loop some time later",
            )
        found = Counter(name for each in garbage() if (name := _own_name(each, trial)))
    if found:
        names = ", ".join(f"{count} × {name}" for name, count in found.most_common(5))
        raise ConformanceError(
            f"left objects in reference cycles ({names})",
            "let go of errors, tasks and callbacks when a request ends, so that its memory and connections do not wait "
            "for the garbage collector",
        )


@contextmanager
def _unfinished_generators(trial: Trial) -> Iterator[list[str]]:
    """Yield a list of the generators that are dropped before their end, which the event loop has to close."""
    names: list[str] = []
    hooks = sys.get_asyncgen_hooks()

    def note(generator: AsyncGenerator[Any, Any]) -> None:
        if _own_name(generator, trial):
            names.append(getattr(generator, "__qualname__", "?"))
        if hooks.finalizer:
            hooks.finalizer(generator)

    sys.set_asyncgen_hooks(finalizer=note)
    try:
        yield names
    finally:
        sys.set_asyncgen_hooks(finalizer=hooks.finalizer)


@contextmanager
def _without_collector() -> Iterator[Callable[[], list[Any]]]:
    """Switch the garbage collector off, and yield a function that returns what it would have had to free."""
    was_enabled, flags = gc.isenabled(), gc.get_debug()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)  # keeps what is unreachable, so that its types can be reported

    def garbage() -> list[Any]:
        gc.collect()
        return gc.garbage

    try:
        yield garbage
    finally:
        gc.set_debug(flags)
        gc.garbage.clear()
        if was_enabled:
            gc.enable()


def _own_name(each: object, trial: Trial) -> str | None:
    """Return the name of an object that belongs to the provider or the library; None for any other object."""
    roots = {type(trial.provider).__module__.partition(".")[0], "steadyvoice"}
    match each:
        case types.CoroutineType():
            code: types.CodeType | None = each.cr_code
        case types.AsyncGeneratorType():
            code = each.ag_code
        case types.FrameType():
            code = each.f_code
        case type() | types.ModuleType() | types.FunctionType():
            return None
        case _:
            code = None
    if code is None:
        module = type(each).__module__
        is_ours = module.partition(".")[0] in roots and not module.startswith(__package__ or "?")
        return f"{module}.{type(each).__qualname__}" if is_ours else None
    provider_file = getattr(sys.modules.get(type(trial.provider).__module__), "__file__", None) or "?"
    package = os.path.dirname(os.path.dirname(__file__))
    folder = os.path.dirname(__file__)
    is_ours = code.co_filename == provider_file or (
        code.co_filename.startswith(package) and not code.co_filename.startswith(folder)
    )
    return f"{type(each).__name__} {code.co_qualname}" if is_ours else None
