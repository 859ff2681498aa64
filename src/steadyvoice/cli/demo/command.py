"""`steadyvoice demo`: run a simulated outage, and write its audio, captions and timeline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from steadyvoice.cli.demo.runner import DemoRun, join_speeches, run_scenario
from steadyvoice.cli.demo.scenario import Scenario, missing_events
from steadyvoice.cli.demo.terminal import TerminalReporter
from steadyvoice.cli.demo.timeline_svg import render_timeline
from steadyvoice.cli.errors import ExitStatus, MachineError, UsageError

AUDIO, CAPTIONS, TIMELINE = "steadyvoice-demo.wav", "steadyvoice-demo.vtt", "timeline.svg"


def demo(out: Path, *, seed: int = 1, scenario: Scenario | None = None) -> ExitStatus:
    """Run the scenario, and write its results to a directory. Raises MachineError if it did not go as expected."""
    scenario = scenario or Scenario.usual()
    reporter = TerminalReporter()
    with _output_directory(out):
        reporter.print_introduction(scenario)
        run = asyncio.run(run_scenario(scenario, reporter.report, seed=seed))
        _write(out, run)
    reporter.print_comparison(run.record)
    reporter.print_files([(out / AUDIO, "audio"), (out / CAPTIONS, "captions"), (out / TIMELINE, "timeline")])
    if missing := missing_events(run.record):
        raise MachineError(
            f"the demo did not go as expected; missing: {'; '.join(missing)}. If this machine was very busy, try "
            "again; otherwise please report it with the output above"
        )
    return ExitStatus.SPOKEN


def _write(out: Path, run: DemoRun) -> None:
    audio, captions = join_speeches(run.speeches)
    (out / AUDIO).write_bytes(audio)
    (out / CAPTIONS).write_text(captions, encoding="utf-8")
    (out / TIMELINE).write_text(render_timeline(run.record), encoding="utf-8")


@contextmanager
def _output_directory(out: Path) -> Iterator[None]:
    """Create the directory before the run, and remove it if the run does not complete."""
    existed = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".{AUDIO}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another directory with --out") from None
    try:
        yield
    except BaseException:
        if not existed:
            with suppress(OSError):
                out.rmdir()
        raise
