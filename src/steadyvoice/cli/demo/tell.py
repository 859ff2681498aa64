"""The story in a terminal, as it happens, and what it comes to in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from steadyvoice.audio.accept import plausible
from steadyvoice.breaker import CircuitState
from steadyvoice.cli.demo.bare import TIMEOUT
from steadyvoice.cli.demo.chronicle import Answer, BareAnswer, Chronicle, Move, Question, Turn, shown
from steadyvoice.cli.demo.story import Story


class Teller:
    """Says everything once on standard output, in the order in which it happens. Raises BrokenPipeError."""

    def __init__(self) -> None:
        self._console = _Terminal(highlight=False)

    def begin(self, story: Story) -> None:
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

    def watch(self, happened: Turn | Move | Question | Answer) -> None:
        """Tell one thing."""
        match happened:
            case Question():
                self._say(f"{_at(happened.asked)} [bold]{happened.number:>2}[/bold] “{escape(happened.text)}”")
            case Turn():
                style = "green" if happened.well else "red"
                self._say(f"{_at(happened.at)}    [{style}]{happened.who} {happened.now}[/{style}]")
            case Move():
                self._moved(happened)
            case Answer():
                self._answered(happened)

    def sum_up(self, chronicle: Chronicle) -> None:
        """The two of them side by side, and how that was measured."""
        table = Table(title="What the callers lived through", title_justify="left", show_edge=False, pad_edge=False)
        for column in ("", "with steadyvoice", "elevenlabs alone"):
            table.add_column(column)
        for row in compared(chronicle):
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

    def _moved(self, move: Move) -> None:
        wait = f"; it refuses for {move.retry_after:.1f} s" if move.retry_after else ""
        style = _STATES[move.after]
        states = f"{shown(move.before)} → {shown(move.after)}"
        because = f"because {escape(move.reason)}{wait}"
        self._say(f"{_at(move.at)}    [{style}]circuit of {move.circuit}: {states}[/{style}], {because}")

    def _answered(self, answer: Answer) -> None:
        for told, times in Counter((*answer.failures, *answer.refusals)).items():
            again = f" ({times} times)" if times > 1 else ""
            self._say(f"            [dim]{escape(told)}{again}[/dim]")
        style = _OUTCOMES.get(answer.outcome, "blue")
        who = f"by {answer.provider}" if answer.provider else "with silence, and it says so,"
        heard = f"[{style}]{answer.outcome} {who}[/{style}]"
        self._say(f"{_at(answer.answered)}    {heard} [dim]after {answer.waited:.2f} s[/dim]")

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


class _Terminal(Console):
    """Leaves it to the command how to end when nobody reads on."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def compared(chronicle: Chronicle) -> list[tuple[str, str, str]]:
    """Count both sides by the same rules."""
    with_us, without, charged = chronicle.answers, chronicle.bare, chronicle.charged
    outcomes = Counter(_judged(answer) for answer in with_us)
    bare = Counter(answer.outcome for answer in without)
    heard = outcomes.total() - outcomes["muted"] - outcomes["cut short"]
    return [
        ("heard whole", f"{heard} of {outcomes.total()}", f"{bare['spoken']} of {bare.total()}"),
        ("by another voice", str(outcomes["substituted"] + outcomes["resumed"]), "0"),
        ("silence that says so", str(outcomes["muted"]), "0"),
        ("cut short, called a success", str(outcomes["cut short"]), str(bare["cut short"])),
        ("failed", "0", str(bare["failed"])),
        ("still waiting at the end", "0", str(bare["still waiting"])),
        ("longest wait", _longest(with_us), _longest(without)),
        ("waited in all", _in_all(with_us), _in_all(without)),
        ("characters charged", str(charged.with_us), str(charged.without)),
    ]


def _judged(answer: Answer) -> str:
    """What an answer was; half a sentence is none, whatever it calls itself."""
    return answer.outcome if plausible(answer.text, answer.duration) else "cut short"


def _longest(side: Sequence[Answer] | Sequence[BareAnswer]) -> str:
    return f"{max((one.waited for one in side), default=0.0):.1f} s"


def _in_all(side: Sequence[Answer] | Sequence[BareAnswer]) -> str:
    return f"{sum(one.waited for one in side):.1f} s"


def _at(second: float) -> str:
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
