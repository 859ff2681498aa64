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
# Never through a proxy from the environment, which would see the admin token.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class GatewayUnreachableError(MachineError):
    """No gateway answers at the address, or the answer is not that of a gateway."""


def fetch_json(url: str, path: str, token: str | None) -> Any:
    """Return the JSON document at a path of the gateway.

    Raises UsageError for an invalid URL or token, GatewayUnreachableError otherwise.
    """
    request = urllib.request.Request(_validate_url(url) + path)  # noqa: S310 - of http and https only
    if token:
        if not (token.isascii() and token.isprintable()):
            raise UsageError("STEADYVOICE_ADMIN_TOKEN: has characters that are invalid in a header")
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with _OPENER.open(request, timeout=_TIMEOUT) as answer:
            return json.loads(_read_response(answer))
    except urllib.error.HTTPError as error:
        raise _http_error(url, error) from None
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", None) or error
        message = f"cannot reach a gateway at {url}: {why}; start one with `steadyvoice serve`, or set --url"
        raise GatewayUnreachableError(message) from None
    except (ValueError, RecursionError):
        raise GatewayUnreachableError(f"{url} is not a steadyvoice gateway: the answer is not JSON") from None


def _read_response(answer: IO[bytes]) -> bytes:
    """Read an answer to its end. Raises ValueError if it is too large or takes too long."""
    # The timeout of `open` bounds each read only: a server that drips bytes would keep the command forever.
    data, end = bytearray(), time.monotonic() + _TIMEOUT
    while part := answer.read1(64 * 1024):  # type: ignore[attr-defined]  # http.client.HTTPResponse has it
        data += part
        if len(data) > _MAX_RESPONSE or time.monotonic() > end:
            raise ValueError("too large or too slow for a gateway")
    return bytes(data)


def printable(document: Any) -> Any:
    """Return a JSON document without characters that a terminal would execute or cannot show.

    Such are escape sequences and lone surrogates: what answers may not be a gateway.
    """
    match document:
        case str():
            return document if document.isprintable() else "".join(c if c.isprintable() else " " for c in document)
        case dict():
            return {printable(name): printable(each) for name, each in document.items()}
        case list():
            return [printable(each) for each in document]
        case _:
            return document


def _validate_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = url.isascii() and url.isprintable() and " " not in url
        valid = valid and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(f"--url: must be like http://127.0.0.1:8040, got {url!r}")
    return url.rstrip("/")


def _http_error(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code in (401, 403):
        return UsageError(
            f"the gateway at {url} requires its admin token ({_error_reason(error)}); set STEADYVOICE_ADMIN_TOKEN"
        )
    return GatewayUnreachableError(f"{url} is not a steadyvoice gateway: HTTP {error.code}")


def _error_reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(printable(str(json.loads(_read_response(error))["error"]["message"])))[:200]
    except (OSError, HTTPException, ValueError, LookupError, TypeError, RecursionError):
        return f"HTTP {error.code}"


STATE, OVERVIEW = "/admin/state", "/admin/overview"
_REFRESH_INTERVAL = 1.0  # seconds between requests
_RESIZE_INTERVAL = 0.1  # seconds between checks of the terminal's size


class StatusExit(IntEnum):
    """Exit statuses of `steadyvoice status`, besides the general ones."""

    WELL = 0
    OPEN = 1


def status(url: str, *, as_json: bool) -> StatusExit:
    """Show the state of a gateway. Raises UsageError and GatewayUnreachableError."""
    try:
        return _show(url, as_json=as_json)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):  # JSON of another program
        raise GatewayUnreachableError(f"{url} is not a steadyvoice gateway: unexpected JSON") from None


def _show(url: str, *, as_json: bool) -> StatusExit:
    token = os.environ.get("STEADYVOICE_ADMIN_TOKEN")
    if token and (problem := token_problem(token)):
        raise UsageError(f"the environment variable STEADYVOICE_ADMIN_TOKEN {problem}")
    if as_json:
        state = fetch_json(url, STATE, token)
        standing = _exit_for(state)
        # ASCII only, so that no name or message can contain a terminal's escape sequence.
        print(json.dumps(state, indent=2))
        return standing
    overview = printable(fetch_json(url, OVERVIEW, token))
    console = Console()
    if console.is_terminal and not console.is_dumb_terminal and sys.stdin.isatty():
        watch = _LiveView(console, url, token, overview)
        watch.until_interrupted()
        overview, unreachable = watch.overview, watch.unreachable
        if unreachable:
            raise unreachable
    console.print(render(overview, console.width))
    return _exit_for(_states(overview))


class _LiveView:
    """Live view on the alternate screen of the terminal, which keeps the content of the main screen."""

    def __init__(self, console: Console, url: str, token: str | None, overview: Any) -> None:
        self._console, self._url, self._token = console, url, token
        self.overview = overview
        self.unreachable: GatewayUnreachableError | None = None  # why the gateway cannot be reached now

    def until_interrupted(self) -> None:
        """Refresh the view until Ctrl-C. Raises UsageError when the gateway rejects the token."""
        with (
            suppress(KeyboardInterrupt),
            _restore_terminal_on_sigterm(),
            Live(self, console=self._console, auto_refresh=False, screen=True) as live,
        ):
            while True:
                self._wait(live)
                self._refresh()
                live.refresh()

    def __rich__(self) -> RenderableType:
        """Last known state, at the present size of the terminal."""
        width, height = self._console.size
        shown = render(self.overview, width, height - (_ERROR_LINES if self.unreachable else 0))
        if not self.unreachable:
            return shown
        notice = f"{self.unreachable}\nRetrying. Last known state, from {self.overview['at'][11:19]} UTC:"
        return Group(Text(notice, style="bold red"), shown)

    def _wait(self, live: Live) -> None:
        """Wait for the next request. A resized terminal is redrawn at once."""
        end, size = time.monotonic() + _REFRESH_INTERVAL, self._console.size
        while time.monotonic() < end:
            time.sleep(_RESIZE_INTERVAL)
            if size != self._console.size:
                size = self._console.size
                live.refresh()

    def _refresh(self) -> None:
        try:
            self.overview, self.unreachable = printable(fetch_json(self._url, OVERVIEW, self._token)), None
        except GatewayUnreachableError as error:
            self.unreachable = error


_ERROR_LINES = 4  # lines


@contextmanager
def _restore_terminal_on_sigterm() -> Iterator[None]:
    """Exit through the context managers on SIGTERM, so that the terminal is restored."""

    def end(number: int, frame: FrameType | None) -> None:
        raise typer.Exit(ExitStatus.TERMINATED)

    # Rich restores the terminal when its context ends, which SIGTERM's default action would skip.
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _states(overview: Any) -> dict[str, Any]:
    return {"providers": {name: each["state"] for name, each in overview["providers"].items()}}


def _exit_for(state: Any) -> StatusExit:
    return StatusExit.OPEN if needs_attention(state) else StatusExit.WELL
