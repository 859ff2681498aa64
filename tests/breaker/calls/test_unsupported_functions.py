"""Unsupported functions and results: refused with a reason, and never counted as failures."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import ProviderDownError, run_coroutine
from tests.parametrize_ids import stable_repr


@pytest.fixture(params=[{}, {"hung_after": 5}], ids=["without a clock", "with a clock"])
def breaker(request: pytest.FixtureRequest, clock: VirtualClock) -> CircuitBreaker:
    return CircuitBreaker("voice", CircuitBreakerConfig(window_size=4, **request.param), clock=clock)


def plain() -> str:
    return "spoken"


async def coroutine() -> str:
    return "spoken"


def generator() -> Iterator[str]:
    yield "spoken"


async def async_generator() -> AsyncIterator[str]:
    yield "spoken"


@contextlib.contextmanager
def block() -> Iterator[None]:
    yield


@contextlib.asynccontextmanager
async def async_block() -> AsyncIterator[None]:
    yield


class UnsupportedBlock(contextlib.ContextDecorator):
    def __enter__(self) -> None: ...

    def __exit__(self, *_about: object) -> None: ...


class UnsupportedSpeaker:
    @property
    def voice(self) -> str:
        return "anna"

    @functools.cached_property
    def cached(self) -> str:
        return "anna"

    def speak(self, text: str) -> str:
        return text

    say_hello = functools.partialmethod(speak, "hello")

    @functools.singledispatchmethod
    def dispatched(self, text: str) -> str:
        return text

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        yield


def of_speaker(name: str) -> Any:
    return vars(UnsupportedSpeaker)[name]


UNSUITABLE: list[tuple[Any, str]] = [
    (None, "not a function"),
    ("speak", "not a function"),
    (5, "not a function"),
    ([plain], "not a function"),
    (UnsupportedSpeaker, "a class"),
    (of_speaker("voice"), "a property"),
    (of_speaker("cached"), "a cached_property"),
    (of_speaker("say_hello"), "a partialmethod"),
    (of_speaker("dispatched"), "a singledispatchmethod"),
    (block, "a context manager"),
    (async_block, "a context manager"),
    (partial(block), "a context manager"),
    (block(), "a context manager"),
    (UnsupportedBlock(), "a context manager"),
    (of_speaker("block"), "a context manager"),
    (UnsupportedSpeaker().block, "a context manager"),
    (staticmethod(block), "a context manager"),
    (staticmethod(property(plain)), "a property"),  # type: ignore[arg-type]
    (generator(), "the result of one"),
    (async_generator(), "the result of one"),
    (functools.cache(coroutine), "a cache of a coroutine function"),
    (functools.lru_cache(maxsize=5)(generator), "a cache of a generator function"),
    (CircuitBreaker("other"), "another circuit"),
]


@pytest.mark.parametrize(("thing", "reason"), UNSUITABLE, ids=stable_repr)
def test_unsupported_object_is_refused_at_decoration(breaker: CircuitBreaker, thing: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=f"^circuit 'voice' cannot guard .*{reason}"):
        breaker(thing)


def test_coroutine_object_cannot_be_decorated(breaker: CircuitBreaker) -> None:
    begun: Any = coroutine()
    with pytest.raises(TypeError, match="the result of one; decorate the function"):
        breaker(begun)
    begun.close()


def test_functions_of_many_kinds_can_be_decorated(breaker: CircuitBreaker) -> None:
    cached = functools.cache(plain)
    anything: list[Callable[..., Any]] = [
        plain,
        cached,
        UnsupportedSpeaker().speak,
        str.upper,
        len,
        partial(UnsupportedSpeaker().speak, "a"),
    ]
    for fn in anything:
        arguments = () if fn in (plain, cached) or isinstance(fn, partial) else ("spoken",)
        assert breaker(fn)(*arguments) == fn(*arguments)
    assert breaker.snapshot().totals.successes == len(anything)


@pytest.mark.parametrize("thing", [None, "speak", 5], ids=stable_repr)
def test_calling_a_value_that_is_not_callable_is_no_failure(breaker: CircuitBreaker, thing: Any) -> None:
    with pytest.raises(TypeError, match="not callable"):
        breaker.call(thing)
    with pytest.raises(TypeError, match="not callable"):
        run_coroutine(breaker.call_async(thing))
    with pytest.raises(TypeError, match="not callable"):
        breaker.stream(thing)
    with pytest.raises(TypeError, match="not callable"):
        breaker.stream_async(thing)
    assert breaker.snapshot().totals.failures == 0


def test_coroutine_in_place_of_its_function_is_no_failure(breaker: CircuitBreaker) -> None:
    begun: Any = coroutine()
    with pytest.raises(TypeError, match="pass the function itself"):
        run_coroutine(breaker.call_async(begun))
    begun.close()
    assert breaker.snapshot().totals.failures == 0


@pytest.mark.parametrize("answer", [None, 5, "spoken"], ids=stable_repr)
def test_result_that_is_not_awaitable_is_no_failure(breaker: CircuitBreaker, answer: object) -> None:
    fn: Any = lambda: answer  # noqa: E731
    with pytest.raises(TypeError, match="await"):
        run_coroutine(breaker.call_async(fn))
    totals = breaker.snapshot().totals
    assert (totals.failures, totals.ignored) == (0, 1)


def drained(breaker: CircuitBreaker, fn: Any) -> object:
    return list(breaker.stream(fn))


def drained_async(breaker: CircuitBreaker, fn: Any) -> object:
    async def drain() -> list[Any]:
        return [item async for item in breaker.stream_async(fn)]

    return run_coroutine(drain())


@pytest.mark.parametrize("answer", [None, 5, object()], ids=stable_repr)
@pytest.mark.parametrize("drain", [drained, drained_async])
def test_result_that_is_not_iterable_is_no_failure(breaker: CircuitBreaker, drain: Any, answer: object) -> None:
    with pytest.raises(TypeError, match="iter"):
        drain(breaker, lambda: answer)
    totals = breaker.snapshot().totals
    assert (totals.failures, totals.ignored) == (0, 1)


@pytest.mark.parametrize("drain", [drained, drained_async])
def test_type_error_of_the_function_that_opens_a_stream_is_a_failure(breaker: CircuitBreaker, drain: Any) -> None:
    def broken() -> Any:
        raise TypeError("of its own")

    with pytest.raises(TypeError, match="of its own"):
        drain(breaker, broken)
    assert breaker.snapshot().totals.failures == 1


def test_type_error_before_anything_is_awaited_is_a_failure(breaker: CircuitBreaker) -> None:
    def broken() -> Any:
        raise TypeError("of its own")

    with pytest.raises(TypeError, match="of its own"):
        run_coroutine(breaker.call_async(broken))
    assert breaker.snapshot().totals.failures == 1


def test_sequence_with_getitem_only_can_be_streamed(breaker: CircuitBreaker) -> None:
    class Pages:
        def __getitem__(self, index: int) -> int:
            return [1, 2][index]

    pages: Any = Pages
    assert list(breaker.stream(pages)) == [1, 2]
    assert breaker.snapshot().totals.successes == 1


@pytest.mark.parametrize(("fn", "method"), [(generator, r"stream\(\)"), (async_generator, r"stream_async\(\)")])
def test_call_refuses_a_generator_function(breaker: CircuitBreaker, fn: Callable[[], Any], method: str) -> None:
    with pytest.raises(TypeError, match=f"use {method} instead of call"):
        breaker.call(fn)
    assert breaker.snapshot().totals.successes == 0


def test_plain_function_that_returns_a_generator_is_a_success(breaker: CircuitBreaker) -> None:
    def rows() -> Iterator[int]:
        return (row for row in [1, 2, 3])

    assert list(breaker.call(rows)) == [1, 2, 3]
    assert list(breaker(rows)()) == [1, 2, 3]
    assert breaker.snapshot().totals.successes == 2


# ---- Futures and Tasks


async def settled(breaker: CircuitBreaker) -> tuple[int, int, int]:
    await asyncio.sleep(0)
    totals = breaker.snapshot().totals
    return totals.successes, totals.failures, totals.ignored


@pytest.mark.parametrize("how", ["call", "decorated"])
async def test_task_is_one_call_until_it_is_done(breaker: CircuitBreaker, how: str) -> None:
    go_on = asyncio.Event()

    async def work(error: Exception | None) -> str:
        await go_on.wait()
        if error is not None:
            raise error
        return "spoken"

    def start(error: Exception | None) -> asyncio.Task[str]:
        return asyncio.ensure_future(work(error))

    guarded = breaker(start)

    def begin(error: Exception | None) -> asyncio.Task[str]:
        return guarded(error) if how == "decorated" else breaker.call(start, error)

    good, bad, gone = begin(None), begin(ProviderDownError()), begin(None)
    assert await settled(breaker) == (0, 0, 0)
    gone.cancel()
    go_on.set()
    assert await good == "spoken"
    with pytest.raises(ProviderDownError):
        await bad
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await settled(breaker) == (1, 1, 1)


async def test_futures_of_every_standard_module_are_recognised(breaker: CircuitBreaker) -> None:
    loop = asyncio.get_running_loop()
    bare: Any = breaker.call(lambda: loop.create_future())
    bare_too: Any = breaker.call(lambda: concurrent.futures.Future[str]())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        submitted: Any = breaker.call(pool.submit, plain)
        executed: Any = breaker.call(loop.run_in_executor, pool, plain)
        gathered: Any = breaker.call(lambda: asyncio.gather(coroutine(), coroutine()))
        started: Any = breaker.call(asyncio.ensure_future, coroutine())
        assert (await settled(breaker))[1:] == (0, 0)
        await asyncio.gather(asyncio.wrap_future(submitted), executed, gathered, started)
    assert await settled(breaker) == (4, 0, 0)
    bare.set_exception(ProviderDownError())
    bare_too.cancel()
    bare_too.set_running_or_notify_cancel()
    assert await settled(breaker) == (4, 1, 1)


async def test_result_and_error_of_a_future_are_classified(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(failure_result=lambda value: value is None, ignore=ProviderDownError)
    breaker = CircuitBreaker("voice", config, clock=clock)
    empty: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    down: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for future in (empty, down):
        assert breaker.call(lambda future=future: future) is future  # type: ignore[misc]
    empty.set_result(None)
    down.set_exception(ProviderDownError())
    assert await settled(breaker) == (0, 1, 1)


async def test_garbage_collected_future_releases_its_permit(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1, cooldown_period=0), clock=clock)
    breaker.acquire().failure()
    loop = asyncio.get_running_loop()
    future: Any = breaker.call(loop.create_future)
    assert breaker.try_acquire() is None
    del future
    assert breaker.try_acquire() is not None


async def test_task_that_hangs_counts_as_hanging(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(hung_after=5, minimum_calls=1), clock=clock)
    future: Any = breaker.call(asyncio.get_running_loop().create_future)
    clock.advance(5)
    assert breaker.try_acquire() is None
    assert breaker.state == "open"
    future.cancel()
