"""Shows it, once or again and again, and says with its exit status whether anything is wrong."""

from __future__ import annotations

import json
import os
import sys
import time
from enum import IntEnum
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from steadyvoice.cli.status.ask import NobodyAnswersError, asked
from steadyvoice.cli.status.view import anything_open, view

STATE, BOARD = "/admin/state", "/admin/board"
_EVERY = 1.0  # seconds


class Standing(IntEnum):
    """Exit statuses of its own."""

    WELL = 0
    OPEN = 1


def status(url: str, *, as_json: bool) -> Standing:
    """Show how a gateway is doing. Raises UsageProblem and NobodyAnswersError."""
    token = os.environ.get("STEADYVOICE_ADMIN_TOKEN")
    if as_json:
        state = asked(url, STATE, token)
        print(json.dumps(state, indent=2, ensure_ascii=False))
        return _standing(state)
    board = asked(url, BOARD, token)
    console = Console()
    if console.is_terminal and sys.stdin.isatty():
        board = _watched(console, url, token, board)
    else:
        console.print(view(board, console.width))
    return _standing(_states(board))


def _watched(console: Console, url: str, token: str | None, board: Any) -> Any:
    """Show it again and again, until Ctrl-C; what was known last is given back."""
    with Live(view(board, console.width), console=console, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(_EVERY)
                try:
                    board = asked(url, BOARD, token)
                except NobodyAnswersError as error:
                    live.update(Group(Text(f"{error}", style="bold red"), view(board, console.width)), refresh=True)
                else:
                    live.update(view(board, console.width), refresh=True)
        except KeyboardInterrupt:
            return board


def _states(board: Any) -> dict[str, Any]:
    return {"providers": {name: each["state"] for name, each in board["providers"].items()}}


def _standing(state: Any) -> Standing:
    return Standing.OPEN if anything_open(state) else Standing.WELL
