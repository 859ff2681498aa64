"""How far a long text has come, for a person who watches: on stderr, and only when that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from steadyvoice.audio.meter import Meter
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.speech.text import SECONDS_PER_CHARACTER

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LONG = 400
"""Characters from which on a text takes long enough to be watched: about half a minute of speech."""


class Progress:
    """A bar for texts of `LONG` characters and more. Use it as `with`."""

    def __init__(self, stream: AsyncSpeechStream, characters: int) -> None:
        self._stream, self._characters = stream, characters
        self._meter = Meter(stream.format)
        self._bar: Bar | None = None
        if characters >= LONG and sys.stderr.isatty():
            self._bar = _bar()

    def heard(self, chunk: bytes) -> None:
        """Some audio came."""
        if self._bar:
            seconds = self._meter.feed(chunk)
            part = share(seconds, self._stream.duration, self._said, self._characters)
            self._bar.update(self._bar.task_ids[0], completed=part, heard=f"{seconds:.0f} s of speech")

    @property
    def _said(self) -> int:
        spans = self._stream.spoken.spans
        return spans[-1].end if spans else 0

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self._bar.add_task("speaking", total=1.0, heard="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()


def share(seconds: float, said_seconds: float, said: int, characters: int) -> float:
    """Estimate which part of a text is spoken: `seconds` were heard, `said_seconds` of them for `said` characters.

    What has not been said yet is taken to go at the pace of what has, or an average one. Never 1 before the end.
    """
    if said >= characters:
        return 1.0
    pace = said_seconds / said if said and said_seconds else SECONDS_PER_CHARACTER
    guess = said + max(0.0, seconds - said_seconds) / pace
    return min(0.99, guess / characters)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[heard]}"))
    return Progress(*columns, console=Console(stderr=True), transient=True)
