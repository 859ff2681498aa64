"""Shows it, once or again and again, and says with its exit status whether anything is wrong."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from types import FrameType
from typing import Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from steadyvoice.cli.complaint import Status, UsageProblem
from steadyvoice.cli.status.ask import NobodyAnswersError, asked, printable
from steadyvoice.cli.status.view import anything_open, view
from steadyvoice.providers.api_keys import problem_with_token

STATE, BOARD = "/admin/state", "/admin/board"
_EVERY = 1.0  # seconds until it is asked again
_TICK = 0.1  # and until it is seen that the terminal has another size


class Standing(IntEnum):
    """Exit statuses of its own."""

    WELL = 0
    OPEN = 1


def status(url: str, *, as_json: bool) -> Standing:
    """Show how a gateway is doing. Raises UsageProblem and NobodyAnswersError."""
    try:
        return _shown(url, as_json=as_json)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):  # JSON, but of some other program
        raise NobodyAnswersError(f"what answers at {url} is no gateway: it says something else") from None


def _shown(url: str, *, as_json: bool) -> Standing:
    token = os.environ.get("STEADYVOICE_ADMIN_TOKEN")
    if token and (problem := problem_with_token(token)):
        raise UsageProblem(f"the environment variable STEADYVOICE_ADMIN_TOKEN {problem}")
    if as_json:
        state = asked(url, STATE, token)
        standing = _standing(state)
        print(json.dumps(state, indent=2))  # in ASCII: there is no character in it that a terminal would obey
        return standing
    board = printable(asked(url, BOARD, token))
    console = Console()
    if console.is_terminal and not console.is_dumb_terminal and sys.stdin.isatty():
        watch = _Watch(console, url, token, board)
        watch.until_interrupted()
        board, gone = watch.board, watch.gone
        if gone:
            raise gone
    console.print(view(board, console.width))
    return _standing(_states(board))


class _Watch:
    """Shows it again and again, on the terminal's other screen, which leaves what was on it as it was."""

    def __init__(self, console: Console, url: str, token: str | None, board: Any) -> None:
        self._console, self._url, self._token = console, url, token
        self.board = board
        self.gone: NobodyAnswersError | None = None  # why nobody answers now

    def until_interrupted(self) -> None:
        """Until Ctrl-C. Raises UsageProblem when the gateway does not let us look any more."""
        with (
            suppress(KeyboardInterrupt),
            _ended_in_order(),
            Live(self, console=self._console, auto_refresh=False, screen=True) as live,
        ):
            while True:
                self._wait(live)
                self._ask()
                live.refresh()

    def __rich__(self) -> RenderableType:
        """What is known now, as it fits into the terminal now."""
        width, height = self._console.size
        shown = view(self.board, width, height - (_OF_TROUBLE if self.gone else 0))
        if not self.gone:
            return shown
        told = f"{self.gone}\nTrying again. Below is how it was at {self.board['at'][11:19]} UTC."
        return Group(Text(told, style="bold red"), shown)

    def _wait(self, live: Live) -> None:
        """A resized terminal is drawn anew at once."""
        end, size = time.monotonic() + _EVERY, self._console.size
        while time.monotonic() < end:
            time.sleep(_TICK)
            if size != self._console.size:
                size = self._console.size
                live.refresh()

    def _ask(self) -> None:
        try:
            self.board, self.gone = printable(asked(self._url, BOARD, self._token)), None
        except NobodyAnswersError as error:
            self.gone = error


_OF_TROUBLE = 4  # lines


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Who is told to end, or whose terminal is closed, puts it in order first."""

    def end(number: int, frame: FrameType | None) -> None:
        raise typer.Exit(Status.TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _states(board: Any) -> dict[str, Any]:
    return {"providers": {name: each["state"] for name, each in board["providers"].items()}}


def _standing(state: Any) -> Standing:
    return Standing.OPEN if anything_open(state) else Standing.WELL
