"""`steadyvoice demo`: an outage, lived through before your eyes, that ends in a file to listen to and a picture."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from steadyvoice.cli.complaint import MachineProblem, Status, UsageProblem
from steadyvoice.cli.demo.play import Played, play
from steadyvoice.cli.demo.record import joined
from steadyvoice.cli.demo.story import Story, untold
from steadyvoice.cli.demo.tell import Teller
from steadyvoice.cli.demo.timeline import drawn

AUDIO, CAPTIONS, TIMELINE = "steadyvoice-demo.wav", "steadyvoice-demo.vtt", "timeline.svg"


def demo(out: Path, *, seed: int = 1, story: Story | None = None) -> Status:
    """Tell the story, and write down what became of it. Raises MachineProblem if it did not go as it should."""
    story = story or Story.usual()
    teller = Teller()
    with _folder(out):
        teller.begin(story)
        played = asyncio.run(play(story, teller.watch, seed=seed))
        _write(out, played)
    teller.sum_up(played.chronicle)
    teller.end([(out / AUDIO, "what was heard"), (out / CAPTIONS, "its captions"), (out / TIMELINE, "what happened")])
    if missing := untold(played.chronicle):
        raise MachineProblem(
            f"the story did not go as it should: {'; '.join(missing)} (did not happen). If this machine was very "
            "busy, try again; if not, please report it with the output above"
        )
    return Status.SPOKEN


def _write(out: Path, played: Played) -> None:
    audio, captions = joined(played.speeches)
    (out / AUDIO).write_bytes(audio)
    (out / CAPTIONS).write_text(captions, encoding="utf-8")
    (out / TIMELINE).write_text(drawn(played.chronicle), encoding="utf-8")


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
        raise UsageProblem(f"{out} cannot be written to: {error.strerror}; name another folder with --out") from None
    try:
        yield
    except BaseException:
        if not there:
            with suppress(OSError):
                out.rmdir()
        raise
