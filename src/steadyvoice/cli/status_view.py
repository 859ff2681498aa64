"""Text view of a gateway's overview: providers that are down, since when and why, and their next probe. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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
