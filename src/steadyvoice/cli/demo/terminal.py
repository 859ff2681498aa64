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
    """Says everything once on standard output, in the order in which it happens. Raises BrokenPipeError."""

    def __init__(self) -> None:
        self._console = _Console(highlight=False)

    def begin(self, story: Scenario) -> None:
        """What will be seen, and how the circuit is set."""
        circuit = story.circuit
        self._say(
            _OPENING.format(
                rate=f"{circuit.failure_threshold:.0%}",
                window=circuit.window_size,
                cooldown=f"{circuit.cooldown_period:g}",
                probes=circuit.success_threshold,
                patience=f"{story.timeouts.first_audio:g}",
            )
        )

    def watch(self, happened: ProviderChange | CircuitChange | UtteranceRequested | UtteranceResult) -> None:
        """Tell one thing."""
        match happened:
            case UtteranceRequested():
                self._say(f"{_timestamp(happened.asked)} [bold]{happened.number:>2}[/bold] “{escape(happened.text)}”")
            case ProviderChange():
                style = "green" if happened.well else "red"
                self._say(f"{_timestamp(happened.at)}    [{style}]{happened.who} {happened.now}[/{style}]")
            case CircuitChange():
                self._moved(happened)
            case UtteranceResult():
                self._answered(happened)

    def sum_up(self, chronicle: DemoRecord) -> None:
        """The two of them side by side, and how that was measured."""
        table = Table(title="What the callers lived through", title_justify="left", show_edge=False, pad_edge=False)
        for column in ("", "with steadyvoice", "elevenlabs alone"):
            table.add_column(column)
        for row in comparison_rows(chronicle):
            table.add_row(*row)
        self._say("")
        self._console.print(table)
        self._say("")
        self._say(_MEASURED.format(timeout=f"{TIMEOUT:g}"))

    def end(self, files: Sequence[tuple[Path, str]]) -> None:
        """Where to find what is left of it."""
        self._say("")
        for path, what in files:
            self._say(f"{path}  [dim]{what}[/dim]")

    def _moved(self, move: CircuitChange) -> None:
        wait = f"; it refuses for {move.retry_after:.1f} s" if move.retry_after else ""
        style = _STATES[move.after]
        states = f"{state_label(move.before)} → {state_label(move.after)}"
        because = f"because {escape(move.reason)}{wait}"
        self._say(f"{_timestamp(move.at)}    [{style}]circuit of {move.circuit}: {states}[/{style}], {because}")

    def _answered(self, answer: UtteranceResult) -> None:
        for told, times in Counter((*answer.failures, *answer.refusals)).items():
            again = f" ({times} times)" if times > 1 else ""
            self._say(f"            [dim]{escape(told)}{again}[/dim]")
        style = _OUTCOMES.get(answer.outcome, "blue")
        who = f"by {answer.provider}" if answer.provider else "with silence, and it says so,"
        heard = f"[{style}]{answer.outcome} {who}[/{style}]"
        self._say(f"{_timestamp(answer.answered)}    {heard} [dim]after {answer.waited:.2f} s[/dim]")

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


class _Console(Console):
    """Leaves it to the command how to end when nobody reads on."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def comparison_rows(chronicle: DemoRecord) -> list[tuple[str, str, str]]:
    """Count both sides by the same rules."""
    with_us, without, charged = chronicle.answers, chronicle.bare, chronicle.charged
    outcomes = Counter(_effective_outcome(answer) for answer in with_us)
    bare = Counter(answer.outcome for answer in without)
    heard = outcomes.total() - outcomes["muted"] - outcomes["cut short"]
    return [
        ("heard whole", f"{heard} of {outcomes.total()}", f"{bare['spoken']} of {bare.total()}"),
        ("by another voice", str(outcomes["substituted"] + outcomes["resumed"]), "0"),
        ("silence that says so", str(outcomes["muted"]), "0"),
        ("cut short, called a success", str(outcomes["cut short"]), str(bare["cut short"])),
        ("failed", "0", str(bare["failed"])),
        ("still waiting at the end", "0", str(bare["still waiting"])),
        ("longest wait", _longest_wait(with_us), _longest_wait(without)),
        ("waited in all", _total_wait(with_us), _total_wait(without)),
        ("characters charged", str(charged.with_us), str(charged.without)),
    ]


def _effective_outcome(answer: UtteranceResult) -> str:
    """What an answer was; half a sentence is none, whatever it calls itself."""
    return answer.outcome if is_long_enough(answer.text, answer.duration) else "cut short"


def _longest_wait(side: Sequence[UtteranceResult] | Sequence[DirectResult]) -> str:
    return f"{max((one.waited for one in side), default=0.0):.1f} s"


def _total_wait(side: Sequence[UtteranceResult] | Sequence[DirectResult]) -> str:
    return f"{sum(one.waited for one in side):.1f} s"


def _timestamp(second: float) -> str:
    return f"[dim]{second:5.1f} s[/dim]"


_OPENING = """\
[bold]An outage, lived through.[/bold] Two voices: [bold]elevenlabs[/bold], a simulated vendor on this machine, and
[bold]backup[/bold], a voice of this machine's own. The circuit of elevenlabs opens when {rate} of its last {window}
calls failed, refuses for {cooldown} s at first and twice as long the next time, and closes after {probes} good probes.
A voice that says nothing for {patience} s is given up, and the next one speaks.
"""

_MEASURED = """[dim]\
Measured, not estimated: each utterance was also asked, at the same moment, of a second simulator with the
same faults, by a plain HTTP client that believes every answer and waits for up to {timeout} s, as the vendor's
own SDK does. Its clocks were stopped when the story was over.[/dim]"""

_STATES = {CircuitState.CLOSED: "bold green", CircuitState.OPEN: "bold red", CircuitState.HALF_OPEN: "bold yellow"}
_OUTCOMES = {"spoken": "green", "substituted": "blue", "muted": "magenta"}
