"""`steadyvoice status`: fetch the state of a gateway, show it once or live, and report it in the exit status.

The text view is pure: providers that are down, since when and why, and their next probe.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum
from http.client import HTTPException
from types import FrameType
from typing import IO, Any
from urllib.parse import urlsplit

import typer
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from steadyvoice.cli.errors import ExitStatus, MachineError, UsageError
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


# Each state has a shape, a word and a color, and any one of them identifies it.
_STATE_STYLES: Mapping[str, tuple[str, str, str]] = {
    "closed": ("●", "closed", "green"),
    "open": ("✖", "open", "bold red"),
    "half_open": ("◐", "half-open", "yellow"),
    "forced_open": ("■", "forced open", "bold magenta"),
    "disabled": ("○", "disabled", "blue"),
    "monitoring": ("◌", "monitoring", "cyan"),
}
REFUSING_STATES = frozenset({"open", "half_open", "forced_open"})
_SPARK_CHARACTERS = "·▁▂▃▄▅▆▇█"


_MIN_WIDTHS = {  # columns, and the width of the terminal from which each is shown
    "provider": 0,
    "circuit": 0,
    "failure rate": 0,
    "window": 140,
    "calls/s": 80,
    "first audio": 80,
    "concurrency": 100,
    "credit": 120,
}


def needs_attention(states: Mapping[str, Any]) -> bool:
    """Return whether any provider's circuit refuses calls, or its credential is on hold."""
    return any(each["circuit_state"] in REFUSING_STATES or each["is_muted"] for each in states["providers"].values())


def render(overview: Mapping[str, Any], width: int = 160, height: int | None = None) -> RenderableType:
    """Return the overview for a terminal of `width` columns and `height` lines.

    A narrow terminal shows fewer columns of numbers. Providers beyond the height are only counted.
    """
    providers = overview["providers"]
    reasons = [_reason(name, each) for name, each in providers.items() if _needs_reason(each)]
    if fleet := overview.get("fleet"):  # absent without a fleet, and from older gateways
        reasons.insert(0, _fleet(fleet))
    if workers := overview.get("workers"):  # absent with one process, and from older gateways
        reasons.insert(0, _workers(workers["workers"]))
    room = (
        len(providers)
        if height is None
        else max(1, height - _FIXED_LINES - sum(_wrapped_lines(each, width) for each in reasons))
    )
    shown = dict(list(providers.items())[:room])
    parts: list[RenderableType] = [_headline(overview), *reasons, _table(shown, width)]
    if left := len(providers) - len(shown):
        parts.append(Text(f"and {left} more; enlarge the terminal to see them", style="dim"))
    return Group(*parts)


_FIXED_LINES = 6  # the headline, the table's frame, and the count of providers that do not fit


def _wrapped_lines(text: Text, width: int) -> int:
    return sum(1 + len(line) // width for line in text.plain.splitlines())


def _table(providers: Mapping[str, Any], width: int) -> Table:
    shown = [name for name, needs in _MIN_WIDTHS.items() if width >= needs]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in shown:
        table.add_column(name, no_wrap=name != "provider", overflow="fold" if name == "provider" else "ellipsis")
    for name, provider in providers.items():
        row = dict(zip(_MIN_WIDTHS, _row(name, provider), strict=True))
        table.add_row(*(row[column] for column in shown))
    return table


def _headline(overview: Mapping[str, Any]) -> Text:
    down = [name for name, each in overview["providers"].items() if _is_down(each)]
    if overview["is_muted"]:
        return Text("Muted: no provider is available, and callers hear silence.", style="bold red")
    overload = overview.get("overload") or {}  # absent from older gateways
    if overload.get("overloaded"):
        counts = f"{overload['active']} utterances active, {overload['queued']} queued"
        return Text(f"Overloaded: {counts}; new requests are queued or refused.", style="bold yellow")
    if down:
        return Text(f"Down: {', '.join(down)}. Other providers are available.", style="bold yellow")
    return Text("All providers are available.", style="bold green")


def _workers(workers: Sequence[Mapping[str, Any]]) -> Text:
    """Return one line: how many workers, and those that are not ready, with the reason of their last end."""
    line = Text(f"Workers: {len(workers)}", style="dim")
    for worker in workers:
        if worker["state"] != "ready":
            wait = "" if worker["restart_in"] is None else f" in {worker['restart_in']:.0f} s"
            reason = f" ({worker['last_exit']})" if worker["last_exit"] else ""
            line.append(f"; worker {worker['worker']} {worker['state']}{wait}{reason}", style="bold yellow")
        elif worker["restarts"]:
            line.append(f"; worker {worker['worker']} restarted {worker['restarts']} times ({worker['last_exit']})")
    return line


def _fleet(fleet: Mapping[str, Any]) -> Text:
    """Return one line: together with how many, or alone and why, and the circuits that others have in another state."""
    if fleet["state"] != "together":
        return Text(f"Fleet: {fleet['state']}; {fleet['last_error'] or 'no beat came back yet'}", style="bold yellow")
    count = len(fleet["replicas"])
    line = Text(f"Fleet: together with {count} other replica{'' if count == 1 else 's'}", style="dim")
    for name, circuit in fleet["circuits"].items():
        elsewhere = list(circuit["states_elsewhere"].values())
        if circuit["is_outlier"]:
            line.append(f"; {name} fails only here: look at this machine's own network", style="bold yellow")
        elif others := sum(state != circuit["state"] for state in elsewhere):
            line.append(f"; {name} differs at {others} of them")
    for name, slots in fleet.get("slots", {}).items():
        lent = slots["block"] + sum(block for block, _, _ in slots["elsewhere"].values())
        used = slots["used"] + sum(used for _, used, _ in slots["elsewhere"].values())
        line.append(f"; {name}: {used} of {lent} slots used, {slots['used']} of {slots['block']} here")
    apart = [name for name, state in fleet.get("replica_states", {}).items() if state not in ("", "together")]
    if apart:
        line.append(f"; not together: {', '.join(apart)}", style="bold yellow")
    return line


def _row(name: str, provider: Mapping[str, Any]) -> Sequence[RenderableType]:
    state, circuit = provider["state"], provider["circuit"]
    return (
        Text(name, style="bold"),
        _circuit(state),
        _failures(state, circuit),
        _window_sparkline(circuit["dots"]),
        _rate(provider),
        _first_audio(provider),
        _concurrency(state["concurrency"]),
        _credit(state["credit"]),
    )


def _circuit(state: Mapping[str, Any]) -> Text:
    shape, word, colour = _STATE_STYLES.get(state["circuit_state"], ("?", state["circuit_state"], "white"))
    wait = state["retry_after"]
    again = f", tried in {format_duration(wait)}" if wait and state["circuit_state"] in REFUSING_STATES else ""
    return Text(f"{shape} {word}{again}", style=colour)


def _failures(state: Mapping[str, Any], circuit: Mapping[str, Any]) -> Text:
    rate, threshold = state["failure_rate"], circuit["threshold"]
    if rate is None:
        return Text("–", style="dim")
    calls = state["window"]["calls"]
    if threshold is not None and calls < circuit["minimum"]:
        # No rate of so few calls opens the circuit: with the threshold, 100 % and closed looks like a defect.
        return Text(f"{rate:.0%} of {calls:g} {'call' if calls == 1 else 'calls'}")
    limit = "" if threshold is None else f", opens at {threshold:.0%}"
    style = "red" if threshold is not None and rate >= threshold else ""
    return Text(f"{rate:.0%}{limit}", style=style)


def _window_sparkline(dots: Sequence[Sequence[float]]) -> Text:
    """Return the window as a sparkline of failure rates, oldest first."""
    line = Text()
    for calls, failures in dots[-30:]:
        share = failures / calls if calls else 0.0
        mark = (
            _SPARK_CHARACTERS[min(len(_SPARK_CHARACTERS) - 1, round(share * (len(_SPARK_CHARACTERS) - 1)))]
            if calls
            else " "
        )
        line.append(mark, style="red" if share else "green")
    return line


def _rate(provider: Mapping[str, Any]) -> str:
    return f"{provider['rate']:.1f}"


def _first_audio(provider: Mapping[str, Any]) -> str:
    latency = provider.get("first_audio") or {}
    if latency.get("p50") is None:
        return "–"
    return f"{1000 * latency['p50']:.0f} / {1000 * latency['p95']:.0f} ms"


def _concurrency(concurrency: Mapping[str, Any]) -> str:
    limit = "∞" if concurrency["limit"] is None else concurrency["limit"]
    waiting = f" +{concurrency['waiting']}" if concurrency["waiting"] else ""
    return f"{concurrency['in_use']}/{limit}{waiting}"


def _credit(credit: Mapping[str, Any] | None) -> str:
    if not credit or credit["remaining"] is None:
        return "–"
    ends = f", {format_duration(credit['ends_in'])} left" if credit["ends_in"] is not None else ""
    return f"{credit['remaining']:,.0f}{ends}"


def _is_down(provider: Mapping[str, Any]) -> bool:
    state = provider["state"]
    return bool(state["circuit_state"] in REFUSING_STATES or state["is_muted"])


def _needs_reason(provider: Mapping[str, Any]) -> bool:
    return _is_down(provider) or provider["state"]["circuit_state"] != "closed" or bool(provider["state"]["holds"])


def _reason(name: str, provider: Mapping[str, Any]) -> Text:
    """Return why a provider is down or on hold, since when, and its next step."""
    state, text = provider["state"], Text()
    text.append(f"{name}: ", style="bold")
    text.append(provider["circuit"]["reason"])
    if (opened := state["circuit_opened_at"]) and state["circuit_state"] in REFUSING_STATES:
        text.append(f", since {opened[11:19]} UTC")
    if following := provider["circuit"]["next"]:
        text.append(f"; {following}")
    for hold in state["holds"]:
        text.append(f"\n  on hold until {hold['until'][11:19]} UTC: {hold['key']}: {hold['reason']}", style="yellow")
    return text


def format_duration(seconds: float) -> str:
    """Return a duration in a unit that keeps two digits: "42 s", "12 min", "2 h", "5 d"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 100 * 3600 else f"{seconds / 86_400:.0f} d"
