"""`steadyvoice status`: fetch the state of a gateway, show it once or live, and report it in the exit status."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from http.client import HTTPException
from types import FrameType
from typing import IO, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from steadyvoice.cli.errors import ExitStatus, MachineError, UsageError
from steadyvoice.cli.status_view import needs_attention, render
from steadyvoice.providers.credentials import token_problem

_TIMEOUT = 5.0  # seconds
_MAX_RESPONSE = 32 * 1024 * 1024  # bytes
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a token is for nobody in between


class GatewayUnreachableError(MachineError):
    """There is no gateway, or it does not say what a gateway says."""


def fetch_json(url: str, path: str, token: str | None) -> Any:
    """What it answers. Raises UsageProblem for what only the caller can mend, NobodyAnswersError otherwise."""
    request = urllib.request.Request(_validate_url(url) + path)  # noqa: S310 - of http and https only
    if token:
        if not (token.isascii() and token.isprintable()):
            raise UsageError("STEADYVOICE_ADMIN_TOKEN: has characters that no header can carry")
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with _OPENER.open(request, timeout=_TIMEOUT) as answer:
            return json.loads(_read_response(answer))
    except urllib.error.HTTPError as error:
        raise _http_error(url, error) from None
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", None) or error
        told = f"no gateway answers at {url}: {why}; start one with `steadyvoice serve`, or name another with --url"
        raise GatewayUnreachableError(told) from None
    except (ValueError, RecursionError):
        raise GatewayUnreachableError(f"what answers at {url} is no gateway: it does not speak JSON") from None


def _read_response(answer: IO[bytes]) -> bytes:
    """Read an answer to its end, if that comes soon and it is no larger than a gateway's. Raises ValueError."""
    data, end = bytearray(), time.monotonic() + _TIMEOUT
    while part := answer.read1(64 * 1024):  # type: ignore[attr-defined]  # http.client.HTTPResponse has it
        data += part
        if len(data) > _MAX_RESPONSE or time.monotonic() > end:
            raise ValueError("more than a gateway says")
    return bytes(data)


def printable(told: Any) -> Any:
    """The same without what a terminal would obey or could not show, such as escape sequences and lone surrogates."""
    match told:
        case str():
            return told if told.isprintable() else "".join(c if c.isprintable() else " " for c in told)
        case dict():
            return {printable(name): printable(each) for name, each in told.items()}
        case list():
            return [printable(each) for each in told]
        case _:
            return told


def _validate_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = url.isascii() and url.isprintable() and " " not in url
        sound = sound and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise UsageError(f"--url: must be like http://127.0.0.1:8040, got {url!r}")
    return url.rstrip("/")


def _http_error(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code in (401, 403):
        return UsageError(
            f"the gateway at {url} lets only who has its admin token look ({_error_reason(error)}): "
            "put it in STEADYVOICE_ADMIN_TOKEN"
        )
    return GatewayUnreachableError(f"what answers at {url} is no gateway: HTTP {error.code}")


def _error_reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(printable(str(json.loads(_read_response(error))["error"]["message"])))[:200]
    except (OSError, HTTPException, ValueError, LookupError, TypeError, RecursionError):
        return f"HTTP {error.code}"


STATE, BOARD = "/admin/state", "/admin/overview"
_REFRESH_INTERVAL = 1.0  # seconds until it is asked again
_RESIZE_INTERVAL = 0.1  # and until it is seen that the terminal has another size


class StatusExit(IntEnum):
    """Exit statuses of its own."""

    WELL = 0
    OPEN = 1


def status(url: str, *, as_json: bool) -> StatusExit:
    """Show how a gateway is doing. Raises UsageProblem and NobodyAnswersError."""
    try:
        return _show(url, as_json=as_json)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):  # JSON, but of some other program
        raise GatewayUnreachableError(f"what answers at {url} is no gateway: it says something else") from None


def _show(url: str, *, as_json: bool) -> StatusExit:
    token = os.environ.get("STEADYVOICE_ADMIN_TOKEN")
    if token and (problem := token_problem(token)):
        raise UsageError(f"the environment variable STEADYVOICE_ADMIN_TOKEN {problem}")
    if as_json:
        state = fetch_json(url, STATE, token)
        standing = _exit_for(state)
        print(json.dumps(state, indent=2))  # in ASCII: there is no character in it that a terminal would obey
        return standing
    board = printable(fetch_json(url, BOARD, token))
    console = Console()
    if console.is_terminal and not console.is_dumb_terminal and sys.stdin.isatty():
        watch = _LiveView(console, url, token, board)
        watch.until_interrupted()
        board, gone = watch.board, watch.gone
        if gone:
            raise gone
    console.print(render(board, console.width))
    return _exit_for(_states(board))


class _LiveView:
    """Shows it again and again, on the terminal's other screen, which leaves what was on it as it was."""

    def __init__(self, console: Console, url: str, token: str | None, board: Any) -> None:
        self._console, self._url, self._token = console, url, token
        self.board = board
        self.gone: GatewayUnreachableError | None = None  # why nobody answers now

    def until_interrupted(self) -> None:
        """Until Ctrl-C. Raises UsageProblem when the gateway does not let us look any more."""
        with (
            suppress(KeyboardInterrupt),
            _restore_terminal_on_sigterm(),
            Live(self, console=self._console, auto_refresh=False, screen=True) as live,
        ):
            while True:
                self._wait(live)
                self._ask()
                live.refresh()

    def __rich__(self) -> RenderableType:
        """What is known now, as it fits into the terminal now."""
        width, height = self._console.size
        shown = render(self.board, width, height - (_ERROR_LINES if self.gone else 0))
        if not self.gone:
            return shown
        told = f"{self.gone}\nTrying again. Below is how it was at {self.board['at'][11:19]} UTC."
        return Group(Text(told, style="bold red"), shown)

    def _wait(self, live: Live) -> None:
        """A resized terminal is drawn anew at once."""
        end, size = time.monotonic() + _REFRESH_INTERVAL, self._console.size
        while time.monotonic() < end:
            time.sleep(_RESIZE_INTERVAL)
            if size != self._console.size:
                size = self._console.size
                live.refresh()

    def _ask(self) -> None:
        try:
            self.board, self.gone = printable(fetch_json(self._url, BOARD, self._token)), None
        except GatewayUnreachableError as error:
            self.gone = error


_ERROR_LINES = 4  # lines


@contextmanager
def _restore_terminal_on_sigterm() -> Iterator[None]:
    """Who is told to end, or whose terminal is closed, puts it in order first."""

    def end(number: int, frame: FrameType | None) -> None:
        raise typer.Exit(ExitStatus.TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _states(board: Any) -> dict[str, Any]:
    return {"providers": {name: each["state"] for name, each in board["providers"].items()}}


def _exit_for(state: Any) -> StatusExit:
    return StatusExit.OPEN if needs_attention(state) else StatusExit.WELL
