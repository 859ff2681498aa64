"""Who hangs up is not spoken to any longer: the work for them is cancelled at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from steadyvoice.gateway.reply import ClientGoneError, Receive, Scope

TOLD = "steadyvoice.told_of_hangup"
"""In a request's scope, of a server that can: what takes a function to be called when the client leaves, or None."""


class UntilHangup:
    """Cancel the task inside when its client leaves, and raise ClientGoneError in its stead.

    The body must have been read; what a client sends behind it is of no interest. Where the server does not tell by
    itself (see TOLD), a task waits for it to.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._told: Callable[[Callable[[], None] | None], None] | None = scope.get(TOLD)
        self._receive = receive
        self._gone = False
        self._watch: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        self._task, self._before = task, task.cancelling()
        if self._told:
            self._told(self._leave)
        else:
            self._watch = asyncio.get_running_loop().create_task(self._wait())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._told:
            self._told(None)
        if self._watch:
            self._watch.cancel()
        # As asyncio.timeout() does: a cancellation of our own making is taken back and told as what it is.
        if self._gone and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise ClientGoneError from None

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._gone = True
        self._task.cancel()
