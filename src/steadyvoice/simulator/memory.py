"""What was said lately, ready to be said again: encoding is most of the work, and who tests says the same often."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from steadyvoice.providers.provider import Provider
from steadyvoice.simulator.acts import Act, Sound
from steadyvoice.simulator.order import Order
from steadyvoice.simulator.speaking import Piece, speak

_MOST = 32 * 1024 * 1024  # bytes of audio


class Memory:
    """Speaks orders with an engine, and each that is like one of the last from what it kept of that: `most` bytes."""

    def __init__(self, engine: Provider, most: int = _MOST) -> None:
        self._engine = engine
        self._most = most
        self._kept: OrderedDict[Any, list[Piece]] = OrderedDict()  # least lately wanted first
        self._size = 0

    async def speak(self, order: Order, act: Act | None = None) -> AsyncGenerator[Piece, None]:
        """Say it as `speak` does. Only what was said to its end is kept."""
        key = _sound_of(order, act)
        if known := self._kept.get(key):
            self._kept.move_to_end(key)
            for piece in known:
                yield piece
                await asyncio.sleep(0)  # as speaking does: it is a stream, and others are waiting
            return
        said: list[Piece] = []
        async with aclosing(speak(self._engine, order, act)) as pieces:
            async for piece in pieces:
                said.append(piece)
                yield piece
        self._keep(key, said)

    def _keep(self, key: Any, said: list[Piece]) -> None:
        if key in self._kept or _size(said) > self._most:
            return
        self._kept[key] = said
        self._size += _size(said)
        while self._size > self._most:
            self._size -= _size(self._kept.popitem(last=False)[1])


def _sound_of(order: Order, act: Act | None) -> Any:
    """Everything that can be heard of an order."""
    heard = act if isinstance(act, Sound) else None
    return order.text, order.voice, order.lines, order.seed, order.speed, order.format, heard


def _size(pieces: list[Piece]) -> int:
    return sum(len(piece.data) for piece in pieces)
