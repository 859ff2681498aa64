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


class AudioOutput(Protocol):
    """Sink for audio as it is synthesized. Ended once: finished when it is complete, abandoned otherwise."""

    async def write(self, data: bytes) -> None:
        """Take a chunk of audio."""

    async def finish(self) -> None:
        """End after complete audio."""

    async def abandon(self) -> None:
        """End after incomplete audio."""


@asynccontextmanager
async def finishing(sinks: Sequence[AudioOutput]) -> AsyncIterator[None]:
    """Finish all sinks when the body completes, abandon them all when it raises."""
    try:
        yield
        for sink in sinks:
            await sink.finish()
    except BaseException:
        for sink in sinks:
            await sink.abandon()
        raise


class FileSink:
    """File that appears only when complete. Until then its audio is in a hidden file beside it.

    A former file stays if the new one cannot be completed. Raises UsageError if the file cannot be written.
    """

    def __init__(self, path: Path, format: AudioFormat) -> None:
        # A symbolic link is kept, and its target replaced.
        self._path, self._format = path.resolve(), format
        check_target(self._path)
        # In the same directory, because a rename across file systems is not atomic. The process id keeps two commands
        # apart.
        self._part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        self._file = _open_part(self._part, path)
        self._count = FlacSampleCounter() if format.codec is Codec.FLAC else None

    async def write(self, data: bytes) -> None:
        """Write a chunk to the hidden file."""
        self._file.write(data)
        if self._count:
            self._count.feed(data)

    async def finish(self) -> None:
        """Correct the header, and rename the hidden file."""
        if self._format.codec is Codec.WAV:
            _fix_wav_header(self._file)
        if self._count:
            self._file.seek(0)
            head = with_sample_count(self._file.read(_FLAC_HEADER_BYTES), self._count.finish())
            self._file.seek(0)
            self._file.write(head)
        self._file.close()
        # A replaced file keeps its permissions, which the rename would otherwise change to those of a new file.
        if self._path.exists():
            self._part.chmod(self._path.stat().st_mode)
        self._part.replace(self._path)

    async def abandon(self) -> None:
        """Delete the hidden file."""
        with suppress(OSError):  # on a full disk, closing fails again
            self._file.close()
        self._part.unlink(missing_ok=True)


class StreamSink:
    """Open binary stream such as standard output, flushed after every chunk."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    async def write(self, data: bytes) -> None:
        """Write and flush a chunk, so that a program behind a pipe can play it at once."""
        self._stream.write(data)
        self._stream.flush()

    async def finish(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    async def abandon(self) -> None:
        """Do nothing: bytes that were read cannot be taken back."""


def check_target(path: Path, example: str = "speech.mp3") -> None:
    """Check that a file can be written at a path, without writing it. Raises UsageError, with an example of a name."""
    path = path.absolute()
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"{path} is a directory; give a file in it, such as {path / example}")
    if not folder.is_dir():
        raise UsageError(f"the directory {folder} does not exist; create it first: mkdir -p {folder}")
    if path.exists() and not os.access(path, os.W_OK):
        raise UsageError(f"{path} is write-protected; choose another file, or allow it: chmod u+w {path}")


def fix_wav_sizes(head: bytes, size: int) -> bytes:
    """Return the beginning of a WAV file of `size` bytes with correct lengths.

    The header of a stream is written before its length is known.
    """
    at = 12
    while at + 8 <= len(head):
        declared = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"data":
            available = size - at - 8
            if declared <= available and declared:
                return head
            return head[:4] + _uint32(size - 8) + head[8 : at + 4] + _uint32(available) + head[at + 8 :]
        at += 8 + declared + declared % 2
    return head


def _open_part(part: Path, path: Path) -> BinaryIO:
    try:
        return part.open("w+b")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another file, or fix the cause") from None


def _fix_wav_header(file: BinaryIO) -> None:
    size = file.tell()
    file.seek(0)
    head = file.read(4096)  # much longer than the chunks that precede the audio
    file.seek(0)
    file.write(fix_wav_sizes(head, size))


def _uint32(value: int) -> bytes:
    return min(value, 0xFFFFFFFF).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Player:
    """Program that plays 16-bit mono samples: raw or with a WAV header, from its standard input or from a file."""

    command: tuple[str, ...]
    raw: bool = False
    from_file: bool = False


def find_player(which: Callable[[str], str | None] = shutil.which) -> Player | None:
    """Return the first player that is installed, or None."""
    return next((player for player in _PLAYERS if which(player.command[0])), None)


def player_names() -> str:
    """Return the names of all supported players."""
    return ", ".join(player.command[0] for player in _PLAYERS)


# In order of preference: players that need no sample rate on their command line come first.
_PLAYERS = (
    Player(("ffplay", "-loglevel", "error", "-nodisp", "-autoexit", "-")),
    Player(("mpv", "--no-video", "--really-quiet", "-")),
    Player(("aplay", "-q", "-")),
    Player(("paplay", "--raw", "--format=s16le", "--channels=1", "--rate={rate}"), raw=True),
    Player(("play", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", "{rate}", "-"), raw=True),
    Player(("afplay", "{file}"), from_file=True),
)


class PlayerSink:
    """Sink that plays audio of any format, and waits until it has been played."""

    def __init__(self, player: Player, format: AudioFormat) -> None:
        self._player, self._rate = player, format.sample_rate
        self._converter = Converter(format, AudioFormat(Codec.PCM, format.sample_rate))
        self._process: Process | None = None
        self._samples = b""  # for a player that needs a complete file

    async def write(self, data: bytes) -> None:
        """Convert a chunk to samples, and pass them to the player."""
        await self._play(self._converter.feed(data))

    async def finish(self) -> None:
        """Pass on the last samples, and wait until the player has ended."""
        await self._play(self._converter.finish())
        if self._player.from_file:
            await self._play_file()
        elif self._process and self._process.stdin:
            self._process.stdin.close()
            await self._wait(self._process)

    async def abandon(self) -> None:
        """Kill the player."""
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _play(self, samples: bytes) -> None:
        if self._player.from_file:
            self._samples += samples
            return
        if self._process is None:
            self._process = await self._start()
            samples = (b"" if self._player.raw else wav_header(self._rate)) + samples
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it was started with a pipe
        try:
            stdin.write(samples)
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            await self._wait(self._process)
            raise self._problem("stopped before the end") from None

    async def _play_file(self) -> None:
        with tempfile.TemporaryDirectory(prefix="steadyvoice-") as folder:
            file = Path(folder) / "speech.wav"
            file.write_bytes(wav_bytes(self._samples, self._rate))
            self._process = await self._start(str(file))
            await self._wait(self._process)

    async def _start(self, file: str = "") -> Process:
        command = [word.format(rate=self._rate, file=file) for word in self._player.command]
        return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=DEVNULL)

    async def _wait(self, process: Process) -> None:
        if status := await process.wait():
            raise self._problem(f"failed with status {status}")

    def _problem(self, what: str) -> MachineError:
        return MachineError(f"the player {self._player.command[0]} {what}; write a file with -o instead")
