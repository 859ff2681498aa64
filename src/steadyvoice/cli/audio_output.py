"""Audio sinks: a file that appears only when complete, a pipe, or a local player."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from steadyvoice.audio.conversion import Converter
from steadyvoice.audio.flac import FlacSampleCounter, with_sample_count
from steadyvoice.audio.wav import wav_bytes, wav_header
from steadyvoice.cli.errors import MachineError, UsageError
from steadyvoice.speech.format import AudioFormat, Codec

_FLAC_HEADER_BYTES = 42  # bytes up to the end of the STREAMINFO


class AudioSink(Protocol):
    """Takes audio as it is made. Ended once: finished when all of it came, abandoned when it did not."""

    async def write(self, data: bytes) -> None: ...

    async def finish(self) -> None: ...

    async def abandon(self) -> None: ...


@asynccontextmanager
async def finishing(sinks: Sequence[AudioSink]) -> AsyncIterator[None]:
    """Finish them all if the body ends well; abandon them all if not."""
    try:
        yield
        for sink in sinks:
            await sink.finish()
    except BaseException:
        for sink in sinks:
            await sink.abandon()
        raise


class FileSink:
    """A file that appears when it is complete: until then its audio is in a hidden file beside it.

    What was there before stays if it cannot be completed. Raises UsageProblem when nothing can be written there.
    """

    def __init__(self, path: Path, format: AudioFormat) -> None:
        self._path, self._format = path.resolve(), format  # a link stays one, and what it points to is replaced
        check_target(self._path)
        self._part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        self._file = _open_part(self._part, path)
        self._count = FlacSampleCounter() if format.codec is Codec.FLAC else None

    async def write(self, data: bytes) -> None:
        self._file.write(data)
        if self._count:
            self._count.feed(data)

    async def finish(self) -> None:
        if self._format.codec is Codec.WAV:
            _fix_wav_header(self._file)
        if self._count:
            self._file.seek(0)
            head = with_sample_count(self._file.read(_FLAC_HEADER_BYTES), self._count.finish())
            self._file.seek(0)
            self._file.write(head)
        self._file.close()
        if self._path.exists():
            self._part.chmod(self._path.stat().st_mode)
        self._part.replace(self._path)

    async def abandon(self) -> None:
        with suppress(OSError):  # a full disk complains once more
            self._file.close()
        self._part.unlink(missing_ok=True)


class StreamSink:
    """Something already open that takes bytes as they come, such as standard output."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    async def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()

    async def finish(self) -> None:
        self._stream.flush()

    async def abandon(self) -> None:
        """What was read cannot be taken back."""


def check_target(path: Path) -> None:
    """Raise UsageProblem if no file can appear there, as far as one can tell by looking."""
    path = path.absolute()
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it, such as {path / 'speech.mp3'}")
    if not folder.is_dir():
        raise UsageError(f"the folder {folder} does not exist; make it first: mkdir -p {folder}")
    if path.exists() and not os.access(path, os.W_OK):
        raise UsageError(f"{path} is write-protected; name another file, or allow it: chmod u+w {path}")


def fix_wav_sizes(head: bytes, size: int) -> bytes:
    """Correct the beginning of a WAV file of `size` bytes whose header was written before its length was known."""
    at = 12
    while at + 8 <= len(head):
        declared = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"data":
            there = size - at - 8
            if declared <= there and declared:
                return head
            return head[:4] + _uint32(size - 8) + head[8 : at + 4] + _uint32(there) + head[at + 8 :]
        at += 8 + declared + declared % 2
    return head


def _open_part(part: Path, path: Path) -> BinaryIO:
    try:
        return part.open("w+b")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; name another file, or mend that") from None


def _fix_wav_header(file: BinaryIO) -> None:
    size = file.tell()
    file.seek(0)
    head = file.read(4096)  # far more than the chunks that anybody puts before the audio
    file.seek(0)
    file.write(fix_wav_sizes(head, size))


def _uint32(value: int) -> bytes:
    return min(value, 0xFFFFFFFF).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Player:
    """A program that plays 16-bit mono samples: raw or behind a WAV header, from its input or from a finished file."""

    command: tuple[str, ...]
    raw: bool = False
    from_file: bool = False


def find_player(which: Callable[[str], str | None] = shutil.which) -> Player | None:
    """Choose the first that is installed."""
    return next((player for player in _PLAYERS if which(player.command[0])), None)


def player_names() -> str:
    """Those that could be installed."""
    return ", ".join(player.command[0] for player in _PLAYERS)


_PLAYERS = (
    Player(("ffplay", "-loglevel", "error", "-nodisp", "-autoexit", "-")),
    Player(("mpv", "--no-video", "--really-quiet", "-")),
    Player(("aplay", "-q", "-")),
    Player(("paplay", "--raw", "--format=s16le", "--channels=1", "--rate={rate}"), raw=True),
    Player(("play", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", "{rate}", "-"), raw=True),
    Player(("afplay", "{file}"), from_file=True),
)


class PlayerSink:
    """Plays audio of any format, and waits until it has been heard."""

    def __init__(self, player: Player, format: AudioFormat) -> None:
        self._player, self._rate = player, format.sample_rate
        self._converter = Converter(format, AudioFormat(Codec.PCM, format.sample_rate))
        self._process: Process | None = None
        self._kept = b""  # for a player that wants a file

    async def write(self, data: bytes) -> None:
        await self._play(self._converter.feed(data))

    async def finish(self) -> None:
        await self._play(self._converter.finish())
        if self._player.from_file:
            await self._play_file()
        elif self._process and self._process.stdin:
            self._process.stdin.close()
            await self._heard(self._process)

    async def abandon(self) -> None:
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _play(self, samples: bytes) -> None:
        if self._player.from_file:
            self._kept += samples
            return
        if self._process is None:
            self._process = await self._started()
            samples = (b"" if self._player.raw else wav_header(self._rate)) + samples
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it was started with a pipe
        try:
            stdin.write(samples)
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            await self._heard(self._process)
            raise self._problem("stopped before the end") from None

    async def _play_file(self) -> None:
        with tempfile.TemporaryDirectory(prefix="steadyvoice-") as folder:
            file = Path(folder) / "speech.wav"
            file.write_bytes(wav_bytes(self._kept, self._rate))
            self._process = await self._started(str(file))
            await self._heard(self._process)

    async def _started(self, file: str = "") -> Process:
        command = [word.format(rate=self._rate, file=file) for word in self._player.command]
        return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=DEVNULL)

    async def _heard(self, process: Process) -> None:
        if status := await process.wait():
            raise self._problem(f"failed with status {status}")

    def _problem(self, what: str) -> MachineError:
        return MachineError(f"the player {self._player.command[0]} {what}; write a file with -o instead")
