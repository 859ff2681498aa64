"""`steadyvoice replay`: what callers would have met with under other settings, from a journal of what happened."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steadyvoice.cli.errors import ExitStatus, UsageError
from steadyvoice.service.config_file import load_arguments
from steadyvoice.service.journal.records import Journal, read_journal
from steadyvoice.service.replay.alternatives import Alternative, parse_changes, settings_of_file, with_circuit_fields
from steadyvoice.service.replay.report import ReplayReport, ReplayTimeoutError, replay_journal

_MAX_DAMAGED = 10  # lines that are named

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names of the alternatives in the table."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Options of the command line."""

    paths: Sequence[Path]
    config: Path | None = None
    changes: Sequence[str] = ()
    circuit: str | None = None
    slow: float = 2.0
    last: int | None = None
    seconds: float | None = None
    as_json: bool = False


def replay(options: ReplayOptions) -> ExitStatus:
    """Replay a journal and print the report. Raises UsageError and TTSConfigurationError."""
    journal = _read(options.paths)
    try:
        with _without_logs():
            report = replay_journal(
                journal, _alternatives(options), slow=options.slow, last=options.last, seconds=options.seconds
            )
    except ReplayTimeoutError as error:
        raise UsageError(str(error)) from None
    if options.as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        console = Console()
        console.print(_table(report))
        for line in _remarks(report):
            console.print(line)
    return ExitStatus.SPOKEN


@contextmanager
def _without_logs() -> Iterator[None]:
    """Log nothing inside the block: what happens to circuits and providers in a replay happens to nobody."""
    logger = logging.getLogger("steadyvoice")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _read(paths: Sequence[Path]) -> Journal:
    try:
        journal = read_journal(paths)
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from None
    if not any(run.utterances and run.settings for run in journal.runs):
        damaged, named = "", ", ".join(map(str, paths))
        if journal.damaged:
            damaged = f"; {len(journal.damaged)} lines cannot be read, the first: {journal.damaged[0]}"
        raise UsageError(f"{named}: no utterances of a journal in {journal.files} files{damaged}")
    return journal


def _alternatives(options: ReplayOptions) -> list[Alternative]:
    found: list[Alternative] = []
    if len(options.changes) + 2 > len(_LETTERS):
        raise UsageError(f"--set: at most {len(_LETTERS) - 2} alternatives at once")
    if options.config:
        found.append(settings_of_file(options.config.name, load_arguments(options.config, os.environ)))
    if options.circuit:
        found += _circuit_alternatives(options.circuit)
    return [*found, *map(parse_changes, options.changes)]


def _circuit_alternatives(text: str) -> list[Alternative]:
    """Return the alternatives that a gateway asks for, as JSON: a provider, and settings of its circuit."""
    try:
        request = json.loads(text)
        name: str = request["provider"]
        circuits = enumerate(request["circuits"], 1)
        return [with_circuit_fields(f"{name}: {number}", name, fields) for number, fields in circuits]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"--circuit: must be a JSON object with provider and circuits: {error}") from None


_ROWS: Sequence[tuple[str, str]] = (
    ("callers", "callers"),
    ("failed", "silence or an error"),
    ("refused", "  of them: all circuits open"),
    ("another_voice", "heard another voice"),
    ("waited", "waited longer than {slow:g} s"),
    ("p50", "first audio, s: median"),
    ("p95", "  95 %"),
    ("p99", "  99 %"),
    ("attempts", "requests sent"),
    ("refusals", "requests refused by circuits"),
    ("openings", "circuits opened"),
    ("seconds_open", "seconds open, all circuits"),
    ("billed", "characters billed"),
    ("perhaps_billed", "  perhaps billed"),
    ("wasted", "  wasted"),
)


def _table(report: ReplayReport) -> Table:
    columns = [report.happened, *report.replays.values()]
    slow = report.happened["slow"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("happened", "recorded", *_LETTERS[: len(columns) - 2]):
        table.add_column(Text(name), justify="right")
    for key, title in _ROWS:
        table.add_row(title.format(slow=slow), *(_cell(values, key) for values in columns))
    return table


def _cell(values: Mapping[str, Any], key: str) -> str:
    value = (values["first_audio"] or {}).get(key) if key in ("p50", "p95", "p99") else values[key]
    if value is None:
        return "–"
    return f"{value:.2f}" if key in ("p50", "p95", "p99") else f"{value:,.0f}"


def _remarks(report: ReplayReport) -> list[str]:
    """Return what a reader has to know: how well the past is met, how much is modelled, what is missing."""
    journal, fidelity = report.journal, report.fidelity
    lines = [
        f"Under the recorded settings the replay meets {fidelity['utterances_met']:,} of {fidelity['utterances']:,} "
        f"utterances call for call, and {fidelity['transitions_met']:,} of {fidelity['transitions']:,} transitions.",
    ]
    for letter, (name, values) in zip(_LETTERS, list(report.replays.items())[1:], strict=False):
        coverage = values["coverage"]
        text = f"{letter}, {name}: {coverage['as_recorded']:,} of {values['callers']:,} utterances as recorded"
        if modelled := coverage["modelled_attempts"]:
            text += (
                f"; {modelled:,} attempts modelled by the recorded attempt of the provider nearest in time: "
                f"{coverage['evidence_within_1_s']:,} of them within 1 s, {coverage['evidence_within_10_s']:,} within "
                f"10 s, the farthest {coverage['farthest_evidence']:.0f} s away"
            )
        if assumed := coverage["without_evidence"]:
            text += f"; {assumed:,} at providers without any recorded attempt were assumed to speak"
        if censored := coverage["given_up_before_an_answer"]:
            text += f"; {censored:,} had been given up earlier, and are taken to hang"
        lines.append(f"{text}.")
    missing = [
        f"{words}: {journal[key]:,}"
        for key, words in (
            ("damaged_lines", "lines that cannot be read"),
            ("incomplete", "utterances whose end is missing"),
            ("missing_files", "missing files"),
            ("without_settings", "utterances without settings"),
        )
        if journal[key]
    ]
    if missing:
        lines.append(f"Left out: {', '.join(missing)}.")
        lines += [f"  {each}" for each in journal["damaged"][:_MAX_DAMAGED]]
    return lines
