"""`steadyvoice say`: synthesize one text to a file, a pipe or a player."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from steadyvoice.audio.framing import AudioMeter
from steadyvoice.cli.audio_output import (
    AudioSink,
    FileSink,
    PlayerSink,
    StreamSink,
    check_target,
    find_player,
    finishing,
    player_names,
)
from steadyvoice.cli.errors import ExitStatus, UsageError
from steadyvoice.cli.provider_selection import load_plan
from steadyvoice.cli.standard_streams import MAX_STDIN_BYTES, print_error, read_stdin, was_closed
from steadyvoice.service.options import ResolvedOptions, ServiceArguments, SynthesisOptions
from steadyvoice.service.result import Attempt, ReportedUtterance
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.text import SECONDS_PER_CHARACTER, clean_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


def summary(spoken: ReportedUtterance, output: Path | None) -> str:
    """Say who spoke, and why it was not the first choice if it was not."""
    where = f" in {output}" if output else ""
    length = f"{spoken.duration:.1f} s"
    match spoken.outcome:
        case "muted":
            return f"muted: {_silence_summary(spoken)}{where}, because {failure_reasons(spoken.attempts)}"
        case "substituted":
            return f"substituted: {length} by {spoken.provider}{where}, because {failure_reasons(spoken.attempts)}"
        case "resumed":
            voices = ", then ".join(_provider_sequence(spoken))
            return f"resumed: {length} by {voices}{where}, because {failure_reasons(spoken.attempts)}"
        case outcome:
            return f"{outcome}: {length} by {spoken.provider}{where}"


def failure_reasons(attempts: Iterable[Attempt]) -> str:
    """Give the last failure of each provider."""
    last = {attempt.provider: attempt.error for attempt in attempts if attempt.error}
    return "; ".join(str(error) for error in last.values()) or "there was no time to ask anybody"


def _silence_summary(spoken: ReportedUtterance) -> str:
    silence = sum(span.stop - span.start for span in spoken.report.spans if span.provider is None)
    if silence == spoken.duration:
        return f"nobody could speak, so there are {silence:.1f} s of silence"
    return f"nobody could speak to the end, so {silence:.1f} of {spoken.duration:.1f} s are silence"


def _provider_sequence(spoken: ReportedUtterance) -> list[str]:
    """Who spoke, each turn once."""
    voices: list[str] = []
    for span in spoken.report.spans:
        name = span.provider or "silence"
        if not voices or voices[-1] != name:
            voices.append(name)
    return voices


PROGRESS_FROM_CHARACTERS = 400
"""Characters from which on a text takes long enough to be watched: about half a minute of speech."""


class SpeechProgress:
    """A bar for texts of `LONG` characters and more. Use it as `with`."""

    def __init__(self, stream: AsyncSpeechStream, characters: int) -> None:
        self._stream, self._characters = stream, characters
        self._meter = AudioMeter(stream.format)
        self._bar: RichProgress | None = None
        if characters >= PROGRESS_FROM_CHARACTERS and sys.stderr.isatty():
            self._bar = _progress_bar()

    def heard(self, chunk: bytes) -> None:
        """Some audio came."""
        if self._bar:
            seconds = self._meter.feed(chunk)
            part = estimate_progress(seconds, self._stream.duration, self._said, self._characters)
            self._bar.update(self._bar.task_ids[0], completed=part, heard=f"{seconds:.0f} s of speech")

    @property
    def _said(self) -> int:
        spans = self._stream.report.spans
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


def estimate_progress(seconds: float, said_seconds: float, said: int, characters: int) -> float:
    """Estimate which part of a text is spoken: `seconds` were heard, `said_seconds` of them for `said` characters.

    What has not been said yet is taken to go at the pace of what has, or an average one. Never 1 before the end.
    """
    if said >= characters:
        return 1.0
    pace = said_seconds / said if said and said_seconds else SECONDS_PER_CHARACTER
    guess = said + max(0.0, seconds - said_seconds) / pace
    return min(0.99, guess / characters)


def _progress_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[heard]}"))
    return RichProgress(*columns, console=Console(stderr=True), transient=True)


STDIN = STDOUT = "-"


@dataclass(frozen=True, slots=True)
class SayOptions:
    """What the command line says."""

    text: str
    output: Path | None = None
    voice: str = "default"
    provider: str | None = None
    format: str | None = None
    config: Path | None = None
    play: bool = False


def say(order: SayOptions) -> ExitStatus:
    """Speak. Whatever can be refused is refused before anything is spent: raises UsageProblem and TTSError."""
    text = _text(order.text)
    to_stdout = order.output is None and not order.play
    if order.output and not (to_stdout := str(order.output) == STDOUT):
        check_target(order.output)
    if to_stdout and was_closed(1):
        raise UsageError("standard output is closed, so there is no place for the audio; write a file: -o speech.mp3")
    heard = order.play or _plays_by_default(order)
    format = _format(order, heard=heard)
    plan = load_plan(order.config, order.provider, os.environ)
    return asyncio.run(_synthesize(order, text, format, plan, heard=heard))


async def _synthesize(
    order: SayOptions, text: str, format: AudioFormat, plan: ServiceArguments, *, heard: bool
) -> ExitStatus:
    _cancel_on_sigterm()
    async with AsyncTTSService(**plan) as tts:
        # A file that nobody hears yet need not go on in another voice when the first one breaks off.
        hold = order.output is not None and not heard
        stream = tts.open_stream(
            text, ResolvedOptions.of(SynthesisOptions(voice=order.voice, format=format)), hold=hold
        )
        sinks = _open_sinks(order, format, heard=heard)
        async with finishing(sinks), stream:
            with SpeechProgress(stream, len(text)) as progress:
                async for chunk in stream:
                    progress.heard(chunk)
                    for sink in sinks:
                        await sink.write(chunk)
    print_error(summary(stream, order.output))
    return ExitStatus.MUTED if stream.outcome == "muted" else ExitStatus.SPOKEN


def _text(argument: str) -> str:
    """Take the text from the command line or standard input. Raises UsageProblem when there is nothing to say."""
    text = clean_text(_read_stdin() if argument == STDIN else _validate_argument(argument))
    if not text:
        raise UsageError("there is nothing to say: the text is empty; give some, or - and text on standard input")
    return text


def _read_stdin() -> str:
    if sys.stdin.isatty():
        print_error("Type the text, and end it with Ctrl-D.")
    if was_closed(0):
        raise UsageError("standard input is closed, so there is no text to read; give one on the command line")
    data = read_stdin()
    if len(data) > MAX_STDIN_BYTES:
        raise UsageError(f"standard input has more than {MAX_STDIN_BYTES} bytes of text; split it into several files")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise UsageError(
            f"standard input is not UTF-8 ({byte}); convert it, for example with: iconv -f latin1 -t utf-8"
        ) from None


def _validate_argument(argument: str) -> str:
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise UsageError("the text on the command line is not UTF-8; give it on standard input instead") from None
    return argument


def _plays_by_default(order: SayOptions) -> bool:
    return order.output is None and sys.stdout.isatty()


def _format(order: SayOptions, *, heard: bool) -> AudioFormat:
    """What was asked for; else what the file's name promises; else what fits. Raises TTSUnsupportedFormatError."""
    if order.format:
        return AudioFormat.parse(order.format)
    if order.output is None or str(order.output) == STDOUT:
        return AudioFormat.parse("wav" if heard else "mp3")
    return AudioFormat.of_file(order.output)


def _open_sinks(order: SayOptions, format: AudioFormat, *, heard: bool) -> list[AudioSink]:
    """Open them all. The file comes first: it is complete before the last of it has been heard."""
    ears: list[AudioSink] = [_player_sink(format, asked=order.play)] if heard else []
    if order.output is None:
        return ears or [StreamSink(sys.stdout.buffer)]
    return [_file_sink(order.output, format), *ears]


def _file_sink(path: Path, format: AudioFormat) -> AudioSink:
    if str(path) == STDOUT:
        return StreamSink(sys.stdout.buffer)
    if path.exists() and not (path.is_file() or path.is_dir()):
        return StreamSink(path.open("wb"))  # /dev/null and the like are not for renaming over
    return FileSink(path, format)


def _player_sink(format: AudioFormat, *, asked: bool) -> PlayerSink:
    player = find_player()
    if player is None:
        where = "" if asked else "standard output is a terminal, and "
        raise UsageError(
            f"{where}there is no player here ({player_names()}); install one, or write a file: -o speech.mp3"
        )
    return PlayerSink(player, format)


def _cancel_on_sigterm() -> None:
    """End on SIGTERM as tidily as on Ctrl-C."""
    task = asyncio.current_task()
    if task:
        with suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
