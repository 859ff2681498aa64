"""The streams that may still be heard: held weakly, and safe to be looked at while other threads begin new ones."""

from __future__ import annotations

from typing import Generic, TypeVar
from weakref import ref

T = TypeVar("T")


class OpenStreams(Generic[T]):
    """A set of what is alive and not over. No other thread can be in the middle of a step on the dictionary."""

    def __init__(self) -> None:
        self._refs: dict[int, ref[T]] = {}

    def add(self, stream: T) -> None:
        """One more; when it is forgotten, it is gone from here."""
        key, refs = id(stream), self._refs
        refs[key] = ref(stream, lambda _: refs.pop(key, None))

    def discard(self, stream: T) -> bool:
        """This one is over. Tell whether it was here."""
        return self._refs.pop(id(stream), None) is not None

    def all(self) -> list[T]:
        """Those that there are now."""
        return [stream for each in list(self._refs.values()) if (stream := each()) is not None]
