"""Decorated functions keep their kind, signature and name."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig
from steadyvoice.breaker.testing import VirtualClock


@pytest.fixture
def breaker(clock: VirtualClock) -> CircuitBreaker:
    return CircuitBreaker("voice", CircuitBreakerConfig(), clock=clock)


def plain(text: str, /, *, voice: str = "anna") -> str:
    """Says it."""
    return f"{voice}: {text}"


async def coroutine(text: str, /, *, voice: str = "anna") -> str:
    """Says it."""
    return plain(text, voice=voice)


def generator(text: str, /, *, voice: str = "anna") -> Iterator[str]:
    """Says it."""
    yield plain(text, voice=voice)


async def async_generator(text: str, /, *, voice: str = "anna") -> AsyncIterator[str]:
    """Says it."""
    yield plain(text, voice=voice)


KINDS = [plain, coroutine, generator, async_generator]
QUESTIONS = [inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction]


@pytest.mark.parametrize("fn", KINDS, ids=lambda fn: fn.__name__)
def test_decorated_function_keeps_kind_name_and_signature(breaker: CircuitBreaker, fn: Any) -> None:
    guarded = breaker(fn)
    assert [ask(guarded) for ask in QUESTIONS] == [ask(fn) for ask in QUESTIONS]
    assert inspect.signature(guarded) == inspect.signature(fn)
    assert (guarded.__name__, guarded.__doc__) == (fn.__name__, "Says it.")


async def hear(answer: Any) -> Any:
    """Return the text, whatever the kind of function."""
    if inspect.isawaitable(answer):
        return await answer
    if inspect.isasyncgen(answer):
        return next(iter([item async for item in answer]))
    return next(iter(list(answer))) if inspect.isgenerator(answer) else answer


class DecoratedSpeaker:
    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)


class AsyncSpeaker:
    async def __call__(self, text: str, voice: str = "anna") -> str:
        return plain(text, voice=voice)


@pytest.mark.parametrize("fn", KINDS, ids=lambda fn: fn.__name__)
async def test_partials_and_methods_can_be_decorated(breaker: CircuitBreaker, fn: Any) -> None:
    class Service:
        spoken = breaker(staticmethod(fn))

        @classmethod
        def name(cls) -> str:
            return cls.__name__

        guarded_name = breaker(name)

        @breaker
        def method(self, text: str) -> Any:
            return plain(text, voice="maria")

    assert await hear(breaker(fn)("hello")) == "anna: hello"
    assert await hear(breaker(partial(fn, voice="maria"))("hello")) == "maria: hello"
    assert await hear(Service.spoken("hello")) == "anna: hello"
    assert Service.guarded_name() == "Service"
    assert Service().method("hello") == "maria: hello"
    assert breaker.snapshot().totals.successes == 5


@pytest.mark.parametrize("fn", KINDS, ids=lambda fn: fn.__name__)
def test_decorated_partial_has_the_signature_of_the_partial(breaker: CircuitBreaker, fn: Any) -> None:
    partial_function = partial(fn, "hello")
    guarded: Any = breaker(partial_function)
    assert inspect.signature(guarded) == inspect.signature(partial_function)
    assert guarded.__name__ == fn.__name__


async def test_callable_objects_are_decorated_by_their_kind(breaker: CircuitBreaker) -> None:
    assert breaker(DecoratedSpeaker(plain))("hello") == "anna: hello"
    assert await breaker(AsyncSpeaker())("hello") == "anna: hello"
    assert breaker.snapshot().totals.successes == 2


def test_call_refuses_a_coroutine_function_instead_of_counting_it(breaker: CircuitBreaker) -> None:
    for config in (CircuitBreakerConfig(), CircuitBreakerConfig.adaptive()):
        breaker.update(config)
        with pytest.raises(TypeError, match="call_async"):
            _ = breaker.call(coroutine, "hello")
    snapshot = breaker.snapshot()
    assert (snapshot.totals.successes, snapshot.in_flight) == (0, 0)


def test_plain_function_that_returns_a_coroutine_is_refused(breaker: CircuitBreaker) -> None:
    guarded: Any = breaker(lambda text: coroutine(text))
    for config in (CircuitBreakerConfig(), CircuitBreakerConfig.adaptive()):
        breaker.update(config)
        with pytest.raises(TypeError, match=r"coroutine is a coroutine: .*decorate the `async def` itself"):
            guarded("hello")
    assert breaker.snapshot().totals.successes == 0


def test_repr_names_circuit_and_state(breaker: CircuitBreaker) -> None:
    assert repr(breaker) == "<CircuitBreaker 'voice' closed>"
    assert breaker.name == "voice"
