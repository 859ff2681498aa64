"""Streams: one call over its life, from the first item asked for to the end, a failure, or the consumer leaving.

A stream that is never iterated holds nothing: its permit is acquired with the first item. While the consumer
has an item, the call's clocks stand still: a slow listener is not a slow provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial, wraps
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steadyvoice.breaker.breaker import CircuitBreaker
    from steadyvoice.breaker.permit import Permit


def guard_stream(breaker: CircuitBreaker, fn: Callable[..., Any]) -> Any:
    """A generator function that passes on what `fn(...)` yields, with what is sent and thrown in."""

    @wrapping(fn)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        permit = breaker.acquire()
        thrown: BaseException | None = None
        try:
            source: Any = _iterator(permit, fn(*args, **kwargs))
            item = next(source)
            while True:
                permit.pause()
                try:
                    sent = yield item
                except GeneratorExit:
                    _close(source)
                    raise
                except BaseException as error:
                    thrown = error
                    permit.resume()
                    item = _throw(source, error)
                else:
                    permit.resume()
                    item = next(source) if sent is None else source.send(sent)
        except StopIteration as end:
            permit.success()
            return end.value
        except BaseException as error:
            _settle(permit, error, thrown)
            raise

    return guarded


def guard_stream_async(breaker: CircuitBreaker, fn: Callable[..., Any]) -> Any:
    """The same for `async for`; `fn(...)` may also be awaitable, and then answers with the iterator."""

    @wrapping(fn)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        permit = breaker.acquire()
        thrown: BaseException | None = None
        try:
            source: Any = await _opened(permit, fn(*args, **kwargs))
            item = await anext(source)
            while True:
                permit.pause()
                try:
                    sent = yield item
                except GeneratorExit:
                    await _aclose(source)
                    raise
                except BaseException as error:
                    thrown = error
                    permit.resume()
                    item = await _athrow(source, error)
                else:
                    permit.resume()
                    item = await (anext(source) if sent is None else source.asend(sent))
        except StopAsyncIteration:
            permit.success()
        except BaseException as error:
            _settle(permit, error, thrown)
            raise

    return guarded


def wrapping(fn: Any) -> Callable[[Any], Any]:
    """`functools.wraps`, for partials too: the name is that of the function, the signature that of the partial."""

    def wrap(guarded: Any) -> Any:
        wraps(fn.func if isinstance(fn, partial) else fn)(guarded)
        guarded.__wrapped__ = fn
        return guarded

    return wrap


def _settle(permit: Permit, error: BaseException, thrown: BaseException | None) -> None:
    if error is thrown:
        permit.abandon()  # the consumer's own error came back to it
    else:
        permit.settle(error)


def _iterator(permit: Permit, stream: Iterable[Any]) -> Iterator[Any]:
    """Begin to iterate. What cannot be iterated is the caller's own mistake, and says nothing about the provider."""
    if not (hasattr(type(stream), "__iter__") or hasattr(type(stream), "__getitem__")):
        permit.ignore()
    return iter(stream)


async def _opened(permit: Permit, stream: Awaitable[AsyncIterator[Any]] | AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The same for `async for`, and for what is to be awaited first."""
    opened = await stream if isawaitable(stream) else stream
    if not hasattr(type(opened), "__aiter__"):
        permit.ignore()
    return aiter(opened)


def _close(source: Iterator[Any]) -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()


async def _aclose(source: AsyncIterator[Any]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()


def _throw(source: Iterator[Any], error: BaseException) -> Any:
    throw = getattr(source, "throw", None)
    if throw is None:
        raise error
    return throw(error)


async def _athrow(source: AsyncIterator[Any], error: BaseException) -> Any:
    throw = getattr(source, "athrow", None)
    if throw is None:
        raise error
    return await throw(error)
