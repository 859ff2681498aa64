"""Somebody's ears: a player that is already on this machine, fed while the audio is made."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from steadyvoice.audio.convert import Converter
from steadyvoice.audio.wav import wav_bytes, wav_header
from steadyvoice.cli.complaint import MachineProblem
from steadyvoice.speech.format import AudioFormat, Codec


@dataclass(frozen=True, slots=True)
class Player:
    """A program that plays 16-bit mono samples: raw or behind a WAV header, from its input or from a finished file."""

    command: tuple[str, ...]
    raw: bool = False
    from_file: bool = False


def find_player(which: Callable[[str], str | None] = shutil.which) -> Player | None:
    """Choose the first that is installed."""
    return next((player for player in _PLAYERS if which(player.command[0])), None)


def names() -> str:
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

    def _problem(self, what: str) -> MachineProblem:
        return MachineProblem(f"the player {self._player.command[0]} {what}; write a file with -o instead")
