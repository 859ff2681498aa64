"""Two askings for the same words: the second begins when the first is late, and who is heard first goes on alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from steadyvoice.service.asking import Asking
from steadyvoice.service.plan import GRAIN
from steadyvoice.speech.errors import TTSCancelledError, TTSError, TTSHedgedError


@dataclass(frozen=True, slots=True)
class Rival:
    """Who may be asked as well: `ask` is called after `delay` seconds of silence, and may think better of it.

    Whoever was not heard is among `leaving` until nothing is left of it, for that may take longer than the race.
    """

    delay: float
    ask: Callable[[], Asking | None]
    leaving: set[asyncio.Task[None]]


class Race:
    """Use it as `async with`, and in there `winner()`: however that ends, all others have been hung up on.

    `failed` hears of an asking that ended in an error of its own, and may raise to end it all; `withdrawn` of one that
    was hung up on, and why. Without a rival, the first has won.
    """

    def __init__(
        self,
        first: Asking,
        rival: Rival | None,
        *,
        failed: Callable[[Asking, Exception], None],
        withdrawn: Callable[[Asking, TTSError], None],
    ) -> None:
        self._first, self._rival, self._failed, self._withdrawn = first, rival, failed, withdrawn
        self._running: dict[Asking, asyncio.Task[None]] = {}
        self._leaving = rival.leaving if rival else set()

    async def winner(self) -> Asking | None:
        """Give the one that is to be heard, the other withdrawn; None when none of them is."""
        if self._rival is None:
            return self._first
        self._begin(self._first)
        if await self._late(self._rival.delay) and (second := self._rival.ask()):
            self._begin(second)
        while self._running:
            await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
            if heard := self._heard():
                self._withdraw_all(lambda asking: TTSHedgedError("another was heard first", provider=asking.part.name))
                return heard
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leaving = self._withdraw_all(left_alone)
        if leaving:
            await asyncio.wait(leaving)

    def _begin(self, asking: Asking) -> None:
        self._running[asking] = asyncio.create_task(asking.open())

    async def _late(self, delay: float) -> bool:
        """Wait, and tell whether the first is silent for longer, its time in the queue not counted."""
        task = self._running[self._first]
        while not task.done() and (left := delay - self._first.call.waited) >= 0:
            await asyncio.wait([task], timeout=max(left, GRAIN))
        return not task.done()

    def _heard(self) -> Asking | None:
        """Whoever is to be heard by now. Those that have failed are told of, and are out."""
        over = {asking: task for asking, task in self._running.items() if task.done()}
        for asking, task in over.items():
            if isinstance(error := task.exception(), Exception):
                del self._running[asking]
                self._failed(asking, error)
        for asking, task in over.items():
            if asking in self._running:
                del self._running[asking]
                task.result()
                return asking
        return None

    def _withdraw_all(self, why: Callable[[Asking], TTSError]) -> set[asyncio.Task[None]]:
        """Hang up on all who are still asked. Gives the tasks that see them off."""
        leaving = set()
        for asking, task in self._running.items():
            asking.withdraw()
            task.cancel()
            self._withdrawn(asking, why(asking))
            leaving.add(asyncio.create_task(_see_off(asking, task)))
        self._running.clear()
        self._leaving |= leaving
        for each in leaving:
            each.add_done_callback(self._leaving.discard)
        return leaving


def left_alone(asking: Asking) -> TTSError:
    """Make the error of a call whose caller has left."""
    return asking.abandoned or TTSCancelledError("nobody listens any more", provider=asking.part.name)


async def _see_off(asking: Asking, task: asyncio.Task[None]) -> None:
    """See it through that nothing of it is left. How a provider takes being hung up on is its own affair."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
    with suppress(Exception, asyncio.CancelledError):
        await asking.aclose()
