"""Report of `steadyvoice check`: findings and the preview of failures, as a table or as JSON, and the exit status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum, IntEnum
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steadyvoice.service.failure_preview import FailurePreview, ServicePreview, VoicePreview
from steadyvoice.wire.error_response import redact


class Verdict(Enum):
    """Result of one check. Only `FAILED` and `INVALID` make the command fail."""

    OK = "ok"
    UNKNOWN = "not checked"
    WARNING = "warning"
    FAILED = "failed"
    INVALID = "invalid"  # the configuration itself


class CheckExit(IntEnum):
    """Exit statuses of `steadyvoice check`, besides the general ones."""

    WELL = 0
    FAILED = 1
    INVALID = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check: its subject, such as a provider's name, what was checked, and what to do about it."""

    subject: str
    check: str
    verdict: Verdict
    message: str
    advice: str = ""
    line: int | None = None  # of the configuration file

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON-ready values, without anything that looks like a key."""
        document = {**asdict(self), "verdict": self.verdict.value}
        return {name: redact(value) if isinstance(value, str) else value for name, value in document.items()}


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything that was found, in the order in which it is shown.

    `source` names the configuration. `preview` is None where the configuration is invalid.
    """

    source: str
    findings: Sequence[Finding]
    format: str = ""
    preview: ServicePreview | None = field(default=None)

    @property
    def exit_status(self) -> CheckExit:
        """Exit status of the command."""
        verdicts = {finding.verdict for finding in self.findings}
        if Verdict.INVALID in verdicts:
            return CheckExit.INVALID
        return CheckExit.FAILED if Verdict.FAILED in verdicts else CheckExit.WELL

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        preview = self.preview
        return {
            "source": self.source,
            "status": self.exit_status.name.lower(),
            "findings": [finding.as_dict() for finding in self.findings],
            "format": self.format,
            "voices": [asdict(voice) for voice in preview.voices] if preview else [],
            "failures": [asdict(failure) for failure in preview.failures] if preview else [],
        }

    def show(self, console: Console) -> None:
        """Print the report for people."""
        if self.exit_status is CheckExit.INVALID:
            for finding in self.findings:
                where = self.source if finding.line is None else f"{self.source}:{finding.line}"
                message = redact(finding.message).removeprefix(f"{self.source}: ")
                console.print(Text(f"{where}: {message}"), soft_wrap=True)
        else:
            console.print(Text(f"configuration: {self.source}"), soft_wrap=True)
            console.print(self._findings_table())
        if self.preview:
            console.print(Text(f"When providers fail ({self.format}):"))
            console.print(_failures_table(self.preview))
        console.print(Text(self._summary), soft_wrap=True)

    def _findings_table(self) -> Table:
        table = _table("", "of", "check", "result")
        for finding in self.findings:
            result = Text(redact(finding.message))
            if finding.advice:
                result.append(f"\n{redact(finding.advice)}", "italic")
            verdict = Text(finding.verdict.value, _STYLES[finding.verdict])
            table.add_row(verdict, Text(finding.subject), Text(finding.check), result)
        return table

    @property
    def _summary(self) -> str:
        counts = {verdict: sum(each.verdict is verdict for each in self.findings) for verdict in Verdict}
        if counts[Verdict.INVALID]:
            errors = "1 error" if counts[Verdict.INVALID] == 1 else f"{counts[Verdict.INVALID]} errors"
            return f"{errors} in the configuration; nothing else was checked"
        return ", ".join(f"{counts[each]} {each.value}" for each in Verdict if counts[each])


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


_STYLES = {
    Verdict.OK: "green",
    Verdict.UNKNOWN: "dim",
    Verdict.WARNING: "yellow",
    Verdict.FAILED: "bold red",
    Verdict.INVALID: "bold red",
}


def _failures_table(preview: ServicePreview) -> Table:
    table = _table("failed", "then", "asked after at most", "a broken stream goes on", "passed over after")
    for failure in preview.failures:
        failed = failure.failed[-1] if len(failure.failed) == 1 else f"and {failure.failed[-1]}"
        opens = f"{failure.opens_after} failures in a row" if failure.opens_after else ""
        table.add_row(*map(Text, (failed, _sequel(failure), _delay(failure), RESUME[failure.resume], opens)))
    return table


RESUME = {
    "word": "at the next word",
    "sentence": "at the next sentence: each is sent once it is complete",
    "restart": "from its start",
    "error": "nowhere: it ends with an error",
}
"""Place at which a stream that breaks off goes on, by `FailurePreview.resume`."""

_INSTEAD = {
    "silence": "muted: silence of the text's length",
    "recorded": "the recorded message",
    "error": "an error",
}

_TOO_LITTLE = 1.0
"""Seconds that are left for a vendor's answer, below which it will hardly come."""


def _sequel(failure: FailurePreview) -> str:
    if failure.speaks is None:
        return _INSTEAD[failure.otherwise or "error"]
    return voice_text(failure.speaks)


def voice_text(voice: VoicePreview) -> str:
    """Return a provider with its voice in one line."""
    facts = ["with word times" if voice.word_times else "without word times"]
    if voice.converted:
        facts.append(f"converted from {voice.format}")
    if not voice.knows_voice:
        facts.append("in place of the requested voice")
    return f"{voice.provider} speaks: voice {voice.voice}, {', '.join(facts)}"


def _delay(failure: FailurePreview) -> str:
    text = f"{failure.after_hang:.3g} s (no answer), {failure.after_error:.3g} s (errors)"
    left = failure.time_left
    if left is not None and left < _TOO_LITTLE and failure.speaks and not failure.speaks.local:
        text += f"; only {left:.2g} s are left for its answer then: lower first_audio_timeout or raise total_timeout"
    return text
