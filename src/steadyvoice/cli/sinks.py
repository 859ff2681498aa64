"""Where audio goes: a file that is whole or not there at all, a pipe, or somebody's ears."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from steadyvoice.audio.flac import SampleCount, with_length
from steadyvoice.cli.complaint import UsageProblem
from steadyvoice.speech.format import AudioFormat, Codec

_FLAC_HEAD = 42  # bytes up to the end of the STREAMINFO


class Sink(Protocol):
    """Takes audio as it is made. Ended once: finished when all of it came, abandoned when it did not."""

    async def write(self, data: bytes) -> None: ...

    async def finish(self) -> None: ...

    async def abandon(self) -> None: ...


@asynccontextmanager
async def into(sinks: Sequence[Sink]) -> AsyncIterator[None]:
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
        self._file = _opened(self._part, path)
        self._count = SampleCount() if format.codec is Codec.FLAC else None

    async def write(self, data: bytes) -> None:
        self._file.write(data)
        if self._count:
            self._count.feed(data)

    async def finish(self) -> None:
        if self._format.codec is Codec.WAV:
            _patch(self._file)
        if self._count:
            self._file.seek(0)
            head = with_length(self._file.read(_FLAC_HEAD), self._count.finish())
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
        raise UsageProblem(f"{path} is a folder; name a file in it, such as {path / 'speech.mp3'}")
    if not folder.is_dir():
        raise UsageProblem(f"the folder {folder} does not exist; make it first: mkdir -p {folder}")
    if path.exists() and not os.access(path, os.W_OK):
        raise UsageProblem(f"{path} is write-protected; name another file, or allow it: chmod u+w {path}")


def true_sizes(head: bytes, size: int) -> bytes:
    """Correct the beginning of a WAV file of `size` bytes whose header was written before its length was known."""
    at = 12
    while at + 8 <= len(head):
        declared = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"data":
            there = size - at - 8
            if declared <= there and declared:
                return head
            return head[:4] + _number(size - 8) + head[8 : at + 4] + _number(there) + head[at + 8 :]
        at += 8 + declared + declared % 2
    return head


def _opened(part: Path, path: Path) -> BinaryIO:
    try:
        return part.open("w+b")
    except OSError as error:
        raise UsageProblem(f"{path} cannot be written: {error.strerror}; name another file, or mend that") from None


def _patch(file: BinaryIO) -> None:
    size = file.tell()
    file.seek(0)
    head = file.read(4096)  # far more than the chunks that anybody puts before the audio
    file.seek(0)
    file.write(true_sizes(head, size))


def _number(value: int) -> bytes:
    return min(value, 0xFFFFFFFF).to_bytes(4, "little")
