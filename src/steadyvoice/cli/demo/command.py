"""`steadyvoice demo`: an outage, lived through before your eyes, that ends in a file to listen to and a picture."""

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


def demo(out: Path, *, seed: int = 1, story: Scenario | None = None) -> ExitStatus:
    """Tell the story, and write down what became of it. Raises MachineProblem if it did not go as it should."""
    story = story or Scenario.usual()
    teller = TerminalReporter()
    with _folder(out):
        teller.begin(story)
        played = asyncio.run(run_scenario(story, teller.watch, seed=seed))
        _write(out, played)
    teller.sum_up(played.chronicle)
    teller.end([(out / AUDIO, "what was heard"), (out / CAPTIONS, "its captions"), (out / TIMELINE, "what happened")])
    if missing := missing_events(played.chronicle):
        raise MachineError(
            f"the story did not go as it should: {'; '.join(missing)} (did not happen). If this machine was very "
            "busy, try again; if not, please report it with the output above"
        )
    return ExitStatus.SPOKEN


def _write(out: Path, played: DemoRun) -> None:
    audio, captions = join_speeches(played.speeches)
    (out / AUDIO).write_bytes(audio)
    (out / CAPTIONS).write_text(captions, encoding="utf-8")
    (out / TIMELINE).write_text(render_timeline(played.chronicle), encoding="utf-8")


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make it before the story begins, and leave none behind if it does not end."""
    there = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".{AUDIO}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"{out} cannot be written to: {error.strerror}; name another folder with --out") from None
    try:
        yield
    except BaseException:
        if not there:
            with suppress(OSError):
                out.rmdir()
        raise
