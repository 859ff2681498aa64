"""Streams: one call over its life."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import ProviderDownError, run_coroutine


class StreamingSpeaker:
    """Listens to a stream of chunks through one of the doors: step by step, or leaving early."""

    def __init__(self, breaker: CircuitBreaker, method: str, script: str) -> None:
        def chunks() -> Iterator[str]:
            for letter in script:
                if letter == "!":
                    raise ProviderDownError
                yield letter

        async def chunks_async() -> AsyncIterator[str]:
            for chunk in chunks():
                yield chunk

        streams: dict[str, Any] = {
            "decorated": lambda: breaker(chunks)(),
            "decorated_async": lambda: breaker(chunks_async)(),
            "stream": lambda: breaker.stream(chunks),
            "stream_async": lambda: breaker.stream_async(chunks_async),
        }
        self._stream: Any = streams[method]()
        self._is_async = method.endswith("async")

    def next(self) -> str:
        item: str = run_coroutine(anext(self._stream)) if self._is_async else next(self._stream)
        return item

    def leave(self) -> None:
        if self._is_async:
            run_coroutine(self._stream.aclose())
        else:
            self._stream.close()

    def rest(self) -> str:
        received = ""
        while True:
            try:
                received += self.next()
            except (StopIteration, StopAsyncIteration):
                return received


@pytest.fixture(params=["decorated", "decorated_async", "stream", "stream_async"])
def listen(request: pytest.FixtureRequest) -> Any:
    return lambda breaker, script: StreamingSpeaker(breaker, request.param, script)


@pytest.fixture
def breaker(clock: VirtualClock) -> CircuitBreaker:
    return CircuitBreaker("voice", CircuitBreakerConfig(window_size=2, success_threshold=1), clock=clock)


def test_stream_that_ends_is_one_success(breaker: CircuitBreaker, listen: Any) -> None:
    assert listen(breaker, "abc").rest() == "abc"
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.calls) == (1, 1)


def test_stream_that_fails_after_its_first_chunk_is_a_failure(breaker: CircuitBreaker, listen: Any) -> None:
    stream = listen(breaker, "ab!")
    stream.next()
    assert breaker.snapshot().totals.calls == 0
    with pytest.raises(ProviderDownError):
        stream.rest()
    assert breaker.state == "open"


def test_open_circuit_refuses_with_the_first_chunk(breaker: CircuitBreaker, listen: Any) -> None:
    breaker.acquire().failure()
    with pytest.raises(CircuitOpenError):
        listen(breaker, "abc").next()


def test_stream_that_is_never_iterated_holds_no_permit(
    breaker: CircuitBreaker, clock: VirtualClock, listen: Any
) -> None:
    breaker.acquire().failure()
    clock.advance(60)
    never_asked = listen(breaker, "abc")
    assert listen(breaker, "abc").rest() == "abc"
    never_asked.leave()
    assert breaker.state == "closed"


def test_consumer_that_leaves_after_a_chunk_is_a_success(breaker: CircuitBreaker, listen: Any) -> None:
    stream = listen(breaker, "abc")
    stream.next()
    stream.leave()
    assert breaker.snapshot().totals.successes == 1


def test_consumers_that_always_leave_close_a_half_open_circuit(
    breaker: CircuitBreaker, clock: VirtualClock, listen: Any
) -> None:
    breaker.acquire().failure()
    clock.advance(60)
    stream = listen(breaker, "abc")
    stream.next()
    stream.leave()
    assert breaker.state == "closed"


def test_dropped_stream_releases_its_permit(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.acquire().failure()
    clock.advance(60)
    permit = breaker.acquire()
    permit.progress()
    del permit
    gc.collect()
    assert breaker.acquire().settled is False


def test_streaming_probe_succeeds_after_the_configured_time_of_progress(
    breaker: CircuitBreaker, clock: VirtualClock, listen: Any
) -> None:
    breaker.acquire().failure()
    clock.advance(60)
    stream = listen(breaker, "abcdef")
    for _ in range(3):
        stream.next()
        assert breaker.state == "half_open"
        clock.advance(1)
    stream.next()
    assert breaker.state == "closed"
    stream.rest()
    assert breaker.snapshot().totals.successes == 1


def test_paused_consumer_does_not_block_a_half_open_circuit(
    breaker: CircuitBreaker, clock: VirtualClock, listen: Any
) -> None:
    breaker.acquire().failure()
    clock.advance(60)
    stream = listen(breaker, "abc")
    stream.next()
    clock.advance(2.9)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    clock.advance(0.1)
    breaker.acquire().success()
    assert breaker.state == "closed"
    stream.leave()


def test_stream_is_slow_if_its_first_chunk_is_slow(clock: VirtualClock, listen: Any) -> None:
    config = CircuitBreakerConfig(window_size=2, slow_call_duration=4, slow_call_threshold=1.0)
    breaker = CircuitBreaker("voice", config, clock=clock)
    stream = listen(breaker, "abc")
    stream.next()
    clock.advance(100)
    stream.rest()
    assert breaker.snapshot().slow_calls == 0


def test_clock_stands_still_while_the_consumer_has_a_chunk(clock: VirtualClock, listen: Any) -> None:
    config = CircuitBreakerConfig(window_size=4, minimum_calls=1, hung_after=5)
    breaker = CircuitBreaker("voice", config, clock=clock)
    stream = listen(breaker, "abc")
    stream.next()
    clock.advance(100)
    breaker.acquire().success()
    assert stream.rest() == "bc"
    assert breaker.snapshot().failures == 0


def test_consumer_that_leaves_before_the_first_chunk_is_ignored(breaker: CircuitBreaker) -> None:
    breaker.acquire().abandon()
    assert breaker.snapshot().totals.ignored == 1


def test_consumer_that_leaves_a_hanging_stream_is_no_success(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(window_size=10, hung_after=5)
    breaker = CircuitBreaker("voice", config, clock=clock)
    permit = breaker.acquire()
    permit.progress()
    clock.advance(6)
    permit.abandon()
    totals = breaker.snapshot().totals
    assert (totals.failures, totals.ignored, totals.successes) == (1, 0, 0)


def test_generator_passes_on_send_throw_and_return(breaker: CircuitBreaker) -> None:
    @breaker
    def echo() -> Any:
        received: list[str] = []
        while len(received) < 2:
            try:
                received.append((yield len(received)))
            except LookupError:
                received.append("excuse me")
        return received

    talk = echo()
    assert next(talk) == 0
    assert talk.send("hello") == 1
    with pytest.raises(StopIteration) as end:
        talk.throw(LookupError())
    assert end.value.value == ["hello", "excuse me"]
    assert breaker.snapshot().totals.successes == 1


async def test_async_generator_passes_on_asend_and_athrow(breaker: CircuitBreaker) -> None:
    received: list[str] = []

    @breaker
    async def echo() -> Any:
        while len(received) < 2:
            try:
                received.append((yield len(received)))
            except LookupError:
                received.append("excuse me")

    talk = echo()
    assert await anext(talk) == 0
    assert await talk.asend("hello") == 1
    with pytest.raises(StopAsyncIteration):
        await talk.athrow(LookupError())
    assert received == ["hello", "excuse me"]
    assert breaker.snapshot().totals.successes == 1


def test_error_of_the_consumer_is_no_failure(breaker: CircuitBreaker) -> None:
    @contextmanager
    @breaker
    def session() -> Iterator[str]:
        yield "session"

    with pytest.raises(LookupError), session():
        raise LookupError
    assert breaker.snapshot().totals.failures == 0


async def test_error_of_the_async_consumer_is_no_failure(breaker: CircuitBreaker) -> None:
    @breaker
    async def chunks() -> AsyncIterator[str]:
        yield "a"

    stream: Any = chunks()
    await anext(stream)
    with pytest.raises(LookupError):
        await stream.athrow(LookupError())
    assert breaker.snapshot().totals.failures == 0


def test_providers_stream_is_closed_when_the_consumer_leaves(breaker: CircuitBreaker) -> None:
    closed = []

    def chunks() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    stream = breaker.stream(chunks)
    next(stream)
    stream.close()
    assert closed == [True]


async def test_providers_async_stream_is_closed_when_the_consumer_leaves(breaker: CircuitBreaker) -> None:
    closed = []

    async def chunks() -> AsyncIterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    async with aclosing(breaker.stream_async(chunks)) as stream:
        await anext(stream)
    assert closed == [True]


async def test_stream_can_be_awaited_first(breaker: CircuitBreaker) -> None:
    async def chunks() -> AsyncIterator[str]:
        yield "a"

    async def open_stream() -> AsyncIterator[str]:
        return chunks()

    assert [chunk async for chunk in breaker.stream_async(open_stream)] == ["a"]


def test_plain_iterators_can_be_streamed(breaker: CircuitBreaker) -> None:
    stream = breaker.stream(lambda: [1, 2])
    assert next(stream) == 1
    stream.close()
    stream = breaker.stream(lambda: [1, 2])
    next(stream)
    with pytest.raises(LookupError):
        stream.throw(LookupError())
    assert breaker.snapshot().totals.failures == 0
