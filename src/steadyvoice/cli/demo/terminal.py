"""Terminal output of the demo: events as they happen, and a comparison at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from steadyvoice.audio.validation import is_long_enough
from steadyvoice.breaker import CircuitState
from steadyvoice.cli.demo.results import (
    CircuitChange,
    DemoRecord,
    DirectResult,
    ProviderChange,
    UtteranceRequested,
    UtteranceResult,
    state_label,
)
from steadyvoice.cli.demo.runner import TIMEOUT
from steadyvoice.cli.demo.scenario import Scenario


class TerminalReporter:
    """Reporter that prints every event to standard output when it happens. Raises BrokenPipeError."""

    def __init__(self) -> None:
        self._console = _Console(highlight=False)

    def print_introduction(self, scenario: Scenario) -> None:
        """Print the setup and the settings of the circuit."""
        circuit = scenario.circuit
        self._print(
            _OPENING.format(
                rate=f"{circuit.failure_threshold:.0%}",
                window=circuit.window_size,
                cooldown=f"{circuit.cooldown_period:g}",
                probes=circuit.success_threshold,
                timeout=f"{scenario.timeouts.first_audio:g}",
            )
        )

    def report(self, event: ProviderChange | CircuitChange | UtteranceRequested | UtteranceResult) -> None:
        """Print one event."""
        match event:
            case UtteranceRequested():
                self._print(f"{_timestamp(event.requested_at)} [bold]{event.number:>2}[/bold] “{escape(event.text)}”")
            case ProviderChange():
                style = "green" if event.well else "red"
                self._print(f"{_timestamp(event.at)}    [{style}]{event.provider} {event.now}[/{style}]")
            case CircuitChange():
                self._print_transition(event)
            case UtteranceResult():
                self._print_result(event)

    def print_comparison(self, record: DemoRecord) -> None:
        """Print the results of both clients side by side, and how they were measured."""
        table = Table(title="Results", title_justify="left", show_edge=False, pad_edge=False)
        for column in ("", "with steadyvoice", "elevenlabs alone"):
            table.add_column(column)
        for row in comparison_rows(record):
            table.add_row(*row)
        self._print("")
        self._console.print(table)
        self._print("")
        self._print(_MEASURED.format(timeout=f"{TIMEOUT:g}"))

    def print_files(self, files: Sequence[tuple[Path, str]]) -> None:
        """Print the paths of the output files."""
        self._print("")
        for path, what in files:
            self._print(f"{path}  [dim]{what}[/dim]")

    def _print_transition(self, change: CircuitChange) -> None:
        wait = f"; it refuses for {change.retry_after:.1f} s" if change.retry_after else ""
        style = _STATES[change.after]
        states = f"{state_label(change.before)} → {state_label(change.after)}"
        because = f"because {escape(change.reason)}{wait}"
        self._print(f"{_timestamp(change.at)}    [{style}]circuit of {change.circuit}: {states}[/{style}], {because}")

    def _print_result(self, answer: UtteranceResult) -> None:
        for error, times in Counter((*answer.failures, *answer.refusals)).items():
            again = f" ({times} times)" if times > 1 else ""
            self._print(f"            [dim]{escape(error)}{again}[/dim]")
        style = _OUTCOMES.get(answer.outcome, "blue")
        provider = f"by {answer.provider}" if answer.provider else "with silence"
        complete = f"[{style}]{answer.outcome} {provider}[/{style}]"
        self._print(f"{_timestamp(answer.answered_at)}    {complete} [dim]after {answer.waited:.2f} s[/dim]")

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


class _Console(Console):
    """Console that raises BrokenPipeError, so that the command decides how to exit."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def comparison_rows(record: DemoRecord) -> list[tuple[str, str, str]]:
    """Return the rows of the comparison. Both sides are counted by the same rules."""
    with_us, without, charged = record.results, record.direct_results, record.charged
    outcomes = Counter(_effective_outcome(answer) for answer in with_us)
    direct = Counter(answer.outcome for answer in without)
    complete = outcomes.total() - outcomes["muted"] - outcomes["cut short"]
    return [
        ("complete", f"{complete} of {outcomes.total()}", f"{direct['spoken']} of {direct.total()}"),
        ("by another provider", str(outcomes["substituted"] + outcomes["resumed"]), "0"),
        ("muted, and reported", str(outcomes["muted"]), "0"),
        ("cut short, reported as success", str(outcomes["cut short"]), str(direct["cut short"])),
        ("failed", "0", str(direct["failed"])),
        ("still waiting at the end", "0", str(direct["still waiting"])),
        ("longest wait", _longest_wait(with_us), _longest_wait(without)),
        ("total wait", _total_wait(with_us), _total_wait(without)),
        ("characters charged", str(charged.with_us), str(charged.without)),
    ]


def _effective_outcome(answer: UtteranceResult) -> str:
    """Return the outcome of an answer, or "cut short" if its audio is too short for the text."""
    return answer.outcome if is_long_enough(answer.text, answer.duration) else "cut short"


def _longest_wait(side: Sequence[UtteranceResult] | Sequence[DirectResult]) -> str:
    return f"{max((one.waited for one in side), default=0.0):.1f} s"


def _total_wait(side: Sequence[UtteranceResult] | Sequence[DirectResult]) -> str:
    return f"{sum(one.waited for one in side):.1f} s"


def _timestamp(second: float) -> str:
    return f"[dim]{second:5.1f} s[/dim]"


_OPENING = """\
[bold]Simulated outage.[/bold] Two providers: [bold]elevenlabs[/bold], a simulator on this machine, and
[bold]backup[/bold], a local voice. The circuit of elevenlabs opens when {rate} of its last {window} calls have failed,
refuses calls for {cooldown} s at first and twice as long the next time, and closes after {probes} successful probes.
A provider that sends no audio for {timeout} s is abandoned, and the next one is asked.
"""

_MEASURED = """[dim]\
Each utterance was also requested, at the same moment, from a second simulator with the same faults, by a plain
HTTP client that accepts every answer and has a timeout of {timeout} s, the default of the vendor's own SDK.
Requests without an answer were cancelled at the end of the demo.[/dim]"""

_STATES = {CircuitState.CLOSED: "bold green", CircuitState.OPEN: "bold red", CircuitState.HALF_OPEN: "bold yellow"}
_OUTCOMES = {"spoken": "green", "substituted": "blue", "muted": "magenta"}
