"""What is not used by anybody new any more, kept until the last who may need it is through."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from weakref import WeakSet

from steadyvoice.service.roster import Closable

log = logging.getLogger("steadyvoice.calls")


class Retired:
    """One service's. Everything in it belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Closable, WeakSet[object]]] = []
        self._closing: set[asyncio.Task[None]] = set()

    def add(self, closables: Iterable[Closable], users: Iterable[object]) -> None:
        """Close these when none of the users is left, whether they say goodbye or are just forgotten."""
        self._waiting += [(each, WeakSet(users)) for each in closables]
        self.look()

    def left(self, user: object) -> None:
        """This one is through."""
        if self._waiting:
            for _, users in self._waiting:
                users.discard(user)
            self.look()

    def look(self) -> None:
        """Begin to close what nobody needs any more."""
        for closable, users in list(self._waiting):
            if not users:
                self._waiting.remove((closable, users))
                task = asyncio.get_running_loop().create_task(_closed(closable))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    async def settled(self) -> None:
        """Wait until everything is closed that can be."""
        if self._closing:
            await asyncio.wait(set(self._closing))

    async def aclose(self) -> None:
        """Close all of it now."""
        for _, users in self._waiting:
            users.clear()
        self.look()
        await self.settled()


async def _closed(closable: Closable) -> None:
    try:
        await closable.aclose()
    except Exception as error:
        log.warning("what is not used any more could not be closed: %s", error, exc_info=error)
