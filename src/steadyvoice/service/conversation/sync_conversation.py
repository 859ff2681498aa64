"""Synchronous conversations: the same turns for threads, run by the event loop of the synchronous service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Protocol, Self, TypeVar, Unpack

from steadyvoice.service.conversation.conversation import AsyncConversation, ConversationOptions
from steadyvoice.service.conversation.events import Heard, TurnEvent
from steadyvoice.service.conversation.turn import AsyncTurn
from steadyvoice.service.result import ReportedUtterance

T = TypeVar("T")


class Runner(Protocol):
    """Function that awaits `function()` in the service's event loop and returns its result to another thread.

    If a signal handler raises meanwhile, `interrupted()` is awaited there, because the result may be lost.
    """

    def __call__(
        self, function: Callable[[], Awaitable[T]], *, interrupted: Callable[[], Awaitable[object]] | None = None
    ) -> T: ...


class _ClosedOnExit:
    """Context manager that closes itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release what was opened."""
        raise NotImplementedError


class Conversation(_ClosedOnExit):
    """Session of one listener for code without an event loop: see `AsyncConversation`. Threads may share it."""

    def __init__(self, run: Runner, conversation: AsyncConversation) -> None:
        self._run, self._conversation = run, conversation

    def turn(self, id: str | None = None) -> Turn:
        """Open a turn: see AsyncConversation.turn."""
        return Turn(self._run, self._run(lambda: _call(lambda: self._conversation.turn(id))))

    def prewarm(self) -> None:
        """Open the connection to the first provider: see AsyncConversation.prewarm."""
        self._run(self._conversation.prewarm)

    def update(self, **options: Unpack[ConversationOptions]) -> None:
        """Change options from the next turn on: see AsyncConversation.update."""
        self._run(lambda: _call(lambda: self._conversation.update(**options)))

    def close(self) -> None:
        """End the turns that are open, with the outcome `interrupted`."""
        self._run(self._conversation.aclose)


class Turn(_ClosedOnExit, ReportedUtterance):
    """Turn for code without an event loop: see `AsyncTurn`.

    One thread may push while another one iterates and a third interrupts. An exception that a signal handler raises
    during a read ends the turn, with the outcome `interrupted`.
    """

    def __init__(self, run: Runner, turn: AsyncTurn) -> None:
        self._run, self._turn = run, turn
        self.id, self.report, self.format = turn.id, turn.report, turn.format

    @property
    def text(self) -> str:
        """Text pushed so far."""
        return self._run(lambda: _call(lambda: self._turn.text))

    def push(self, text: str) -> None:
        """Add text: see AsyncTurn.push."""
        self._run(lambda: _call(lambda: self._turn.push(text)))

    def flush(self) -> int:
        """Speak all text so far without waiting for more: see AsyncTurn.flush."""
        return self._run(lambda: _call(self._turn.flush))

    def end(self) -> None:
        """Speak all text, then end the turn. Calling it again changes nothing."""
        self._run(lambda: _call(self._turn.end))

    def feed(self, source: Iterable[str]) -> None:
        """Push every piece of text of an iterable, then end the turn: see AsyncTurn.feed."""
        for text in source:
            if not self._run(lambda text=text: _call(lambda: self._push_unless_interrupted(text))):  # type: ignore[misc]
                return
        self.end()

    def _push_unless_interrupted(self, text: str) -> bool:
        """Push text in the loop's thread, where no other thread interrupts in between. Return whether it was."""
        if not self.report.interrupted:
            self._turn.push(text)
        return not self.report.interrupted

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TurnEvent:
        event = self._run(lambda: anext(self._turn, None), interrupted=self._turn.aclose)
        if event is None:
            raise StopIteration
        return event

    def interrupt(self, played: float | None = None) -> Heard:
        """End the turn because its listener interrupts: see AsyncTurn.interrupt."""
        return self._run(lambda: self._turn.interrupt(played))

    def close(self) -> None:
        """End the turn. If it has not ended by itself, its outcome is `interrupted`."""
        self._run(self._turn.aclose)


async def _call(function: Callable[[], T]) -> T:
    return function()
