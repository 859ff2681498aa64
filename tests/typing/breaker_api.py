"""The breaker's public types, checked by the type checker; nothing here is run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import assert_type

from steadyvoice.breaker import CircuitBreaker, CircuitState, Event, Permit, Snapshot

breaker = CircuitBreaker("voice")


def speak(text: str, *, voice: str = "anna") -> bytes:
    return b""


async def speak_async(text: str, *, voice: str = "anna") -> bytes:
    return b""


@breaker
def guarded(text: str, *, voice: str = "anna") -> bytes:
    return b""


@breaker
async def guarded_async(text: str) -> bytes:
    return b""


@breaker
def guarded_stream(text: str) -> Iterator[bytes]:
    yield b""


@breaker
async def guarded_stream_async(text: str) -> AsyncIterator[bytes]:
    yield b""


class Speaker:
    @breaker
    def method(self, text: str) -> bytes:
        return b""


def listener(event: Event) -> None: ...


async def doors() -> None:
    assert_type(breaker.call(speak, "hello", voice="maria"), bytes)
    assert_type(await breaker.call_async(speak_async, "hello"), bytes)
    assert_type(breaker.stream(guarded_stream, "hello"), Generator[bytes, None, None])
    assert_type(breaker.stream_async(guarded_stream_async, "hello"), AsyncGenerator[bytes, None])
    assert_type(guarded("hello", voice="maria"), bytes)
    assert_type(await guarded_async("hello"), bytes)
    assert_type(guarded_stream("hello"), Iterator[bytes])
    assert_type(guarded_stream_async("hello"), AsyncIterator[bytes])
    assert_type(Speaker().method("hello"), bytes)
    assert_type(breaker.acquire(), Permit)
    with breaker as permit:
        assert_type(permit, Permit)


def wrong_arguments() -> None:
    breaker.call(speak, 5)  # type: ignore[arg-type]
    breaker.call(speak, "hello", speed=2)  # type: ignore[call-arg]
    guarded(5)  # type: ignore[arg-type]
    guarded("hello", speed=2)  # type: ignore[call-arg]


def looks() -> None:
    assert_type(breaker.state, CircuitState)
    assert_type(breaker.snapshot(), Snapshot)
    assert_type(breaker.subscribe(listener), Callable[[], None])
