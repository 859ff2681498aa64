"""Local speech engines: the child process of one, the queue in front of it, and the audio and times of its jobs.

A child reads requests from stdin and writes replies to stdout until stdin is closed:

    request   encoded by the provider, in the form that its worker reads
    reply     REPLY header, WORD entries, samples (signed 16-bit little-endian, mono)

It is reached over a blocking pipe by one thread, not by asyncio's subprocesses: this works under any event loop, in any
thread and on any platform, and several loops can share one child.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from struct import Struct
from typing import IO, ClassVar, Protocol, cast

from steadyvoice.breaker.fork_safety import register_fork_aware
from steadyvoice.providers.base import AudioChunk, Queued
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSLocalCrashError, TTSVoiceUnknownError
from steadyvoice.speech.sentences import LOOK_AHEAD, leading_piece

REPLY = Struct("<BII")  # whether it could speak, words, bytes of samples
WORD = Struct("<ii")  # its first character, counted from 0; its first sample

_EXIT_TIMEOUT = 1.0  # seconds for a child to exit after its stdin is closed


class EngineRequest(Protocol):
    """Text of one job, and how to speak it. The child holds all of its audio at once, so keep it short."""

    @property
    def voice(self) -> str:
        """Id of the voice, for error messages."""
        ...

    def encode(self) -> bytes:
        """Return the request as the worker reads it."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSpeech:
    """Audio of one job: signed 16-bit samples, and for each word its first character and its start in seconds."""

    samples: bytes
    words: tuple[tuple[int, float], ...]
    sample_rate: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / 2 / self.sample_rate


class EngineProcess:
    """Child process and its queue. A child that has died is replaced for the next job.

    After `os.fork()`, the forked process starts a child of its own; the parent's child continues to serve the parent.

    A job that is abandoned while it runs is finished, and its audio discarded, for `patience` seconds from its start:
    a child that is slow to start is not worth killing for a job of a few milliseconds. One that runs longer is stuck,
    and killed.
    """

    def __init__(
        self,
        start: Callable[[], subprocess.Popen[bytes]],
        *,
        name: str,
        sample_rate: int,
        patience: float = 0.0,
    ) -> None:
        self._start = start
        self._name, self._sample_rate, self._patience = name, sample_rate, patience
        self._child: subprocess.Popen[bytes] | None = None
        self._reset()
        register_fork_aware(self)

    def _reset(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        self._lock = threading.Lock()
        self.fork_lock = threading.Lock()
        """Held while a child starts: a fork in the middle would inherit pipes that no object owns."""
        self._running: EngineJob | None = None
        self._unfinished = 0  # jobs that were submitted and are not finished
        self._waiting: OrderedDict[EngineJob, float] = OrderedDict()  # queued jobs, and when they came
        self._stopped: Future[str] | None = None

    def after_fork(self) -> None:
        """Close the copies of the pipes to the parent's child: it exits only when no process holds one."""
        child, self._child = self._child, None
        if child is not None:
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
            child.returncode = 0  # keeps its finalizer from waiting for a process that is not a child of this one
        self._reset()

    @property
    def process_id(self) -> int | None:
        """Process id of the child; None until it has started."""
        return child.pid if (child := self._child) else None

    @property
    def queue_wait(self) -> float:
        """Seconds for which the next job has waited; 0.0 when the queue is empty."""
        with self._lock:
            return time.monotonic() - next(iter(self._waiting.values())) if self._waiting else 0.0

    async def speak(self, request: EngineRequest) -> EngineSpeech:
        """Queue a job and return its audio.

        Raises TTSLocalCrashError when the child dies, TTSVoiceUnknownError when it has no such voice.
        """
        job = self.submit(request)
        try:
            return await job.result()
        except asyncio.CancelledError:
            job.abandon()
            raise

    async def speak_jobs(self, jobs: Iterable[tuple[str, EngineRequest]]) -> AsyncGenerator[AudioChunk, None]:
        """Yield the audio of a text whose parts are jobs, a second at a time, with its times, and `Queued` events.

        The next job is queued when the audio of the one before was taken, so that other callers' jobs come in between.
        """
        offset = 0.0
        for text, request in jobs:
            job = self.submit(request)
            try:
                if job.waits:
                    yield Queued(waits=True)
                    await job.wait_until_started()
                    yield Queued(waits=False)
                speech = await job.result()
            except BaseException:
                job.abandon()
                raise
            for audio in audio_chunks(text, speech, offset):
                yield audio
            offset += speech.duration

    def submit(self, request: EngineRequest) -> EngineJob:
        """Queue a job, which has to be awaited or abandoned."""
        with self._lock:
            self._kill_if_stuck()
            job = EngineJob(self, request, waits=self._unfinished > 0)
            self._unfinished += 1
            self._waiting[job] = time.monotonic()
        try:
            job.done = self._thread.submit(self._run, job)
        except BaseException:
            self._finish(job)
            raise
        return job

    async def aclose(self) -> None:
        """End the child and wait until it has exited. The running job fails. No more jobs can be submitted."""
        if self._stopped is None:
            self._stopped = self._thread.submit(self._stop)
            self._thread.shutdown(wait=False)
        with self._lock:
            if job := self._running:
                job.abandoned = job.killed = True
                if child := self._child:
                    child.kill()
        await asyncio.wrap_future(self._stopped)

    def warm_up(self) -> None:
        """Start the child, unless it runs, without waiting for it. One that cannot start fails its first job."""
        if self._child is None and self._unfinished == 0 and self._stopped is None:
            self._thread.submit(self._try_to_start)

    def _try_to_start(self) -> None:
        with suppress(OSError):
            self._running_child()

    def _abandon(self, job: EngineJob) -> None:
        """Discard what a job brings. Kill the child if it runs an abandoned job for too long."""
        with self._lock:
            job.abandoned = True
            self._kill_if_stuck()

    def _kill_if_stuck(self) -> None:
        """Kill the child if its job was abandoned and takes too long. The lock is held.

        The rest of its reply must not be read as that to the next job. A stuck child ends in the same way, once its
        caller times out, or the next one comes.
        """
        running = self._running
        if running and running.abandoned and time.monotonic() - running.began >= self._patience:
            running.killed = True
            if child := self._child:
                child.kill()

    def _finish(self, job: EngineJob) -> None:
        """Count a job as finished, whether or not it started."""
        with self._lock:
            self._unfinished -= 1
            self._waiting.pop(job, None)
        if not job.started.done():
            job.started.set_result(None)

    def _run(self, job: EngineJob) -> EngineSpeech:
        try:
            return self._speak(job)
        finally:
            self._finish(job)
            del job  # the job holds the error, whose traceback holds this frame: a cycle

    def _speak(self, job: EngineJob) -> EngineSpeech:
        try:
            child = self._running_child()
        except OSError as error:
            raise TTSLocalCrashError(f"child process does not start: {error}", provider=self._name) from error
        with self._lock:
            if job.abandoned:
                return EngineSpeech(b"", (), self._sample_rate)  # its caller has left
            self._running, job.began = job, time.monotonic()
            self._waiting.pop(job, None)
        job.started.set_result(None)
        try:
            return self._exchange(child, job.request)
        except (OSError, EOFError) as error:
            raise TTSLocalCrashError(f"child process died ({self._stop()})", provider=self._name) from error
        finally:
            with self._lock:
                self._running, killed = None, job.killed
            del job
            if killed:
                # A child that was killed as its reply ended still looks alive for a moment. About once in a thousand
                # killed jobs, the next one wrote to it and failed.
                self._stop()

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child and self._child.poll() is not None:
            self._stop()  # it died between two jobs: none has failed
        if not self._child:
            with self.fork_lock:
                self._child = self._start()
        return self._child

    def _exchange(self, child: subprocess.Popen[bytes], request: EngineRequest) -> EngineSpeech:
        requests, replies = cast(IO[bytes], child.stdin), cast(IO[bytes], child.stdout)
        _write(requests, request.encode())
        succeeded, words, size = REPLY.unpack(_read(replies, REPLY.size))
        entries = _read(replies, words * WORD.size)
        samples = _read(replies, size)
        if not succeeded:
            raise TTSVoiceUnknownError(f"{self._name} has no voice {request.voice!r}", provider=self._name)
        starts = ((place, sample / self._sample_rate) for place, sample in WORD.iter_unpack(entries))
        return EngineSpeech(samples, tuple(starts), self._sample_rate)

    def _stop(self) -> str:
        """Close the child's stdin, wait or kill it, and return how it ended."""
        child = self._child
        if child is None:
            return "not started"
        try:
            _, stderr = child.communicate(timeout=_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            _, stderr = child.communicate()
        finally:
            self._child = None  # not sooner: a process forked meanwhile has to find the pipes
        lines = stderr.decode(errors="replace").strip().splitlines()
        return ": ".join([_exit_cause(child.returncode), *lines[-1:]])


class EngineJob:
    """Job in the queue of the child. It `waits` when there are others before it."""

    def __init__(self, process: EngineProcess, request: EngineRequest, *, waits: bool) -> None:
        self.request, self.waits = request, waits
        self.abandoned = self.killed = False
        self.began = 0.0
        """Time at which the child got it, by the monotonic clock."""
        self.started: Future[None] = Future()
        self.started.set_running_or_notify_cancel()  # keeps a cancelled caller from cancelling the future
        self.done: Future[EngineSpeech]
        self._process = process

    async def wait_until_started(self) -> None:
        """Wait until the job runs, or is dropped."""
        await asyncio.wrap_future(self.started)

    async def result(self) -> EngineSpeech:
        """Wait for the audio, once. Raises TTSLocalCrashError and TTSVoiceUnknownError."""
        done = asyncio.wrap_future(self.done)
        try:
            return await done
        finally:
            if not done.cancelled():
                self.done = _FINISHED  # an error's traceback holds its readers, and they hold this job: a cycle
            del done

    def abandon(self) -> None:
        """Leave the queue, or have the audio discarded. Does nothing once it is finished."""
        if self.done.cancel() and not self.abandoned:
            self._process._finish(self)
        self._process._abandon(self)


_FINISHED: Future[EngineSpeech] = Future()
_FINISHED.set_result(EngineSpeech(b"", (), 1))


class EngineProvider:
    """Provider whose child process is started by a command, and makes all of its audio.

    `sample_rate` is that of the child; for `patience` see `EngineProcess`.
    """

    local: ClassVar[bool] = True

    def __init__(self, name: str, command: Sequence[str], *, sample_rate: int, patience: float = 0.0) -> None:
        self.name = name
        self._new_process = partial(
            EngineProcess, partial(start_child, command), name=name, sample_rate=sample_rate, patience=patience
        )
        self._process = self._new_process()

    @property
    def process_id(self) -> int | None:
        """Process id of the child; None until it has started."""
        return self._process.process_id

    @property
    def queue_wait(self) -> float:
        """Seconds for which the next job in the child's queue has waited; 0.0 when the queue is empty."""
        return self._process.queue_wait

    async def aclose(self) -> None:
        """End the child process and wait until it has exited. The next request starts a new one."""
        process, self._process = self._process, self._new_process()
        await process.aclose()


def _write(pipe: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest) :]


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        count: int = pipe.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise EOFError(f"{size - len(rest)} bytes of {size}")
        rest = rest[count:]
    return bytes(data)


def _exit_cause(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def start_child(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a child with three pipes. It exits when its stdin is closed. Raises OSError."""
    # Ctrl-C at the terminal does not reach a session of its own. The pipes are unbuffered: closing a buffered one in a
    # forked process would write the contents of the parent's buffer.
    pipe = subprocess.PIPE
    return subprocess.Popen(  # noqa: S603 - no part of the command comes from a caller
        command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )


def split_into_jobs(text: str, size: int) -> Iterator[tuple[str, bool]]:
    """Yield pieces of at most `size` characters, split at sentences where possible, and whether each is the last."""
    begin = 0
    while begin < len(text):
        window = text[begin : begin + size + LOOK_AHEAD]
        piece = leading_piece(window, size)
        begin += len(piece)
        yield piece, begin >= len(text)


def audio_chunks(text: str, speech: EngineSpeech, offset: float) -> Iterator[AudioChunk]:
    """Yield speech a second at a time, each with the characters that begin in it, from `offset` seconds on."""
    alignment = character_times(text, speech)
    second = 2 * speech.sample_rate  # bytes
    done = 0
    for begin in range(0, len(speech.samples), second):
        end = begin + second
        last = end >= len(speech.samples)
        stop = len(alignment.starts) if last else bisect_left(alignment.starts, end / second)
        part = Alignment(alignment.characters[done:stop], alignment.starts[done:stop], alignment.ends[done:stop])
        yield AudioChunk(speech.samples[begin:end], Alignment.joined([(offset, part)]))
        done = stop


def character_times(text: str, speech: EngineSpeech) -> Alignment:
    """Return the time of every character: a word's characters, and those up to the next word, share its time evenly."""
    # eSpeak reports some words twice ("1,234" is five words to it) or out of order. Times here
    # rise from zero to the end of the audio, without a gap, whatever it reports.
    edges = [
        start + (end - start) * index / (after - before)
        for (before, start), (after, end) in pairwise(_anchors(len(text), speech))
        for index in range(after - before)
    ]
    edges.append(speech.duration)
    return Alignment(tuple(text), tuple(edges[:-1]), tuple(edges[1:]))


def _anchors(size: int, speech: EngineSpeech) -> Iterator[tuple[int, float]]:
    """Yield (character, seconds) of the beginning, of each word that continues in order, and of the end."""
    place, clock = 0, 0.0
    yield place, clock
    for begin, seconds in speech.words:
        if place < begin < size and clock <= seconds <= speech.duration:
            place, clock = begin, seconds
            yield place, clock
    yield size, speech.duration
