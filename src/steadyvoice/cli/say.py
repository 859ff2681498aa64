"""`steadyvoice say`: one text, spoken into a file, down a pipe or aloud."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from steadyvoice.cli.account import account
from steadyvoice.cli.choose import chosen_plan
from steadyvoice.cli.complaint import Status, UsageProblem
from steadyvoice.cli.player import PlayerSink, find_player, names
from steadyvoice.cli.progress import Progress
from steadyvoice.cli.sinks import FileSink, Sink, StreamSink, check_target, into
from steadyvoice.cli.streams import MOST_TEXT, is_closed, read_text, tell
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.service.style import Style
from steadyvoice.service.wishes import Plan, Wishes
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.text import clean_text

STDIN = STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line says."""

    text: str
    output: Path | None = None
    voice: str = "default"
    provider: str | None = None
    format: str | None = None
    config: Path | None = None
    play: bool = False


def say(order: Order) -> Status:
    """Speak. Whatever can be refused is refused before anything is spent: raises UsageProblem and TTSError."""
    text = _text(order.text)
    to_stdout = order.output is None and not order.play
    if order.output and not (to_stdout := str(order.output) == STDOUT):
        check_target(order.output)
    if to_stdout and is_closed(1):
        raise UsageProblem("standard output is closed, so there is no place for the audio; write a file: -o speech.mp3")
    heard = order.play or _is_for_ears(order)
    format = _format(order, heard=heard)
    plan = chosen_plan(order.config, order.provider, os.environ)
    return asyncio.run(_spoken(order, text, format, plan, heard=heard))


async def _spoken(order: Order, text: str, format: AudioFormat, plan: Plan, *, heard: bool) -> Status:
    _stop_when_told()
    async with AsyncTTSService(**plan) as tts:
        # A file that nobody hears yet need not go on in another voice when the first one breaks off.
        hold = order.output is not None and not heard
        stream = tts.open_stream(text, Style.of(Wishes(voice=order.voice, format=format)), hold=hold)
        sinks = _sinks(order, format, heard=heard)
        async with into(sinks), stream:
            with Progress(stream, len(text)) as progress:
                async for chunk in stream:
                    progress.heard(chunk)
                    for sink in sinks:
                        await sink.write(chunk)
    tell(account(stream, order.output))
    return Status.MUTED if stream.outcome == "muted" else Status.SPOKEN


def _text(argument: str) -> str:
    """Take the text from the command line or standard input. Raises UsageProblem when there is nothing to say."""
    text = clean_text(_read() if argument == STDIN else _checked(argument))
    if not text:
        raise UsageProblem("there is nothing to say: the text is empty; give some, or - and text on standard input")
    return text


def _read() -> str:
    if sys.stdin.isatty():
        tell("Type the text, and end it with Ctrl-D.")
    if is_closed(0):
        raise UsageProblem("standard input is closed, so there is no text to read; give one on the command line")
    data = read_text()
    if len(data) > MOST_TEXT:
        raise UsageProblem(f"standard input has more than {MOST_TEXT} bytes of text; split it into several files")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise UsageProblem(
            f"standard input is not UTF-8 ({byte}); convert it, for example with: iconv -f latin1 -t utf-8"
        ) from None


def _checked(argument: str) -> str:
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise UsageProblem("the text on the command line is not UTF-8; give it on standard input instead") from None
    return argument


def _is_for_ears(order: Order) -> bool:
    return order.output is None and sys.stdout.isatty()


def _format(order: Order, *, heard: bool) -> AudioFormat:
    """What was asked for; else what the file's name promises; else what fits. Raises TTSUnsupportedFormatError."""
    if order.format:
        return AudioFormat.parse(order.format)
    if order.output is None or str(order.output) == STDOUT:
        return AudioFormat.parse("wav" if heard else "mp3")
    return AudioFormat.of_file(order.output)


def _sinks(order: Order, format: AudioFormat, *, heard: bool) -> list[Sink]:
    """Open them all. The file comes first: it is complete before the last of it has been heard."""
    ears: list[Sink] = [_player(format, asked=order.play)] if heard else []
    if order.output is None:
        return ears or [StreamSink(sys.stdout.buffer)]
    return [_file(order.output, format), *ears]


def _file(path: Path, format: AudioFormat) -> Sink:
    if str(path) == STDOUT:
        return StreamSink(sys.stdout.buffer)
    if path.exists() and not (path.is_file() or path.is_dir()):
        return StreamSink(path.open("wb"))  # /dev/null and the like are not for renaming over
    return FileSink(path, format)


def _player(format: AudioFormat, *, asked: bool) -> PlayerSink:
    player = find_player()
    if player is None:
        where = "" if asked else "standard output is a terminal, and "
        raise UsageProblem(f"{where}there is no player here ({names()}); install one, or write a file: -o speech.mp3")
    return PlayerSink(player, format)


def _stop_when_told() -> None:
    """End on SIGTERM as tidily as on Ctrl-C."""
    task = asyncio.current_task()
    if task:
        with suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
