"""Output of one utterance: joins pieces of audio from several providers into one stream of the requested format.

A piece may be emitted immediately, word by word, or as a whole. Bytes that are already right are not touched. Where one
voice breaks off and another goes on, the two are joined as samples, and encoded from there.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from threading import Lock
from typing import ParamSpec, TypeVar, cast

from steadyvoice.audio import crossfade
from steadyvoice.audio.buffers import (
    AudioBuffer,
    ByteBuffer,
    CompandedBuffer,
    Mp3FrameBuffer,
    RecentOutput,
    SampleBuffer,
)
from steadyvoice.audio.codec import Encoder, encoder_for
from steadyvoice.audio.thread_pool import AudioThreadPool
from steadyvoice.service.pipeline.audio_limits import MAX_AUDIO_BYTES, true_header
from steadyvoice.service.pipeline.timeouts import Deadline
from steadyvoice.speech.errors import TTSTotalTimeoutError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.word_timing import WordBoundary

P = ParamSpec("P")
T = TypeVar("T")

_ENCODER_CONTEXT = 2304  # samples: whole frames of every MP3, and as many as an encoder needs to continue
_FIRST_SOUNDS = 2.0  # seconds in which the loudness and the first sound of a new voice are measured
_LAST_SOUNDS = 3.0  # seconds that tell how loud the end is
_UNNOTED_BYTES = 16 * 1024  # of output that are noted together
_PAUSE_BEFORE_REPETITION = 0.25  # seconds, as between two sentences: half a word runs into the next one otherwise
_BLOCK_SECONDS = 10.0  # seconds of samples that are amplified and encoded at once; more than _FIRST_SOUNDS
_UNCOMPRESSED = (Codec.PCM, Codec.WAV)


@dataclass(frozen=True, slots=True)
class _Pause:
    """Pause behind the last word of a voice that broke off: its samples so far, and its full length in samples."""

    samples: array[int]
    length: int


_SLOW_JOB = 0.25  # seconds of a recent job from which on the threads count as slow
_BUSY_QUEUE_WAIT = 0.1  # seconds of waiting for a thread from which on the threads count as busy


class Output:
    """Joined audio of one utterance: bytes of any format in, bytes of one format out.

    With `remembers` the last seconds of the output are kept, in case another voice has to continue it. At most
    `max_bytes` of a piece are held, as they came or as samples; beyond them BufferLimitError is raised. The owner has
    to close it, because it may hold an encoder. Expensive work runs in the `workers`, which are waited for no longer
    than until the `deadline`, if there is one.
    """

    def __init__(
        self,
        target: AudioFormat,
        workers: AudioThreadPool,
        *,
        remembers: bool = True,
        max_bytes: int = MAX_AUDIO_BYTES,
        deadline: Deadline | None = None,
    ) -> None:
        self.target = target
        self._workers = workers
        self.deadline = deadline
        self._lock = Lock()
        self._submitted = self._finished = 0  # number of jobs for a thread: submitted, and finished
        self._closed = False
        self.has_output = False  # whether audio of any piece was emitted
        self.starved = False
        """Whether a job was given up because of the deadline: output from then on would have a hole."""
        self.shift = 0.0
        """Seconds by which this piece's timestamps begin later than the piece; negative if its silence was cut."""
        self._emitted = 0  # samples of all pieces that were emitted, or given to the encoder
        self._rate = target.sample_rate
        self._encoder: Encoder | None = None
        self._buffer: AudioBuffer | None = None
        self._has_input = False  # whether this piece has any bytes
        self._misleading_header = False  # whether a header in it states a wrong length
        self._at_start = True  # whether nothing of this piece was emitted
        self.counts_as_validated = False
        """Whether a piece that may break off has received as many seconds as were validated of it."""
        self._half_sample = False  # whether the output ends in half a sample
        self._voice: str | None = None
        self._gain = 1.0  # as declared
        self._gains: dict[str, float] = {}  # of the voices that were emitted
        self._remembers = remembers
        self._max_bytes = max_bytes
        self._pause: _Pause | None = None
        self._unnoted: list[bytes] = []  # output in the target format that the recent output does not have yet
        self._unnoted_bytes = 0

    @cached_property
    def _samples(self) -> AudioFormat:
        return AudioFormat(Codec.PCM, self._rate)

    @property
    def _recent(self) -> RecentOutput:
        """Last seconds of the output."""
        self._note_unnoted()
        return self._echo

    @cached_property
    def _echo(self) -> RecentOutput:
        return RecentOutput()

    @property
    def threads_busy(self) -> bool:
        """True if jobs have waited so long for a thread that turns of threads are worth saving."""
        return self._workers.queue_wait >= _BUSY_QUEUE_WAIT

    @property
    def threads_slow(self) -> bool:
        """True if a recent job took so long that the next one may outlast a deadline."""
        return self._workers.slowest_recent_job >= _SLOW_JOB

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of the methods below: in a thread if it is expensive, because the event loop is shared."""
        if self.is_trivial:
            return work(*args, **kwargs)
        return await self.run_in_thread(work, *args, **kwargs)

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of the methods below in a thread, after the job of a cancelled caller that may still be running.

        Raises TTSTotalTimeoutError, marked as `starved`, when the work is not done before the deadline.
        """
        self._submitted += 1
        job = partial(work, *args, **kwargs)
        remaining = self.deadline.remaining if self.deadline else None
        # Other jobs cannot outlast the deadline, and need no timer. A queue may be short while each thread gets little
        # processor time: at twice the capacity, a whole answer was encoded 1.2 s late. What is spoken behind the
        # deadline, such as silence, is not late by its conversion.
        if remaining is None or not (self.threads_busy or (remaining > 0 and self.threads_slow)):
            return await self._workers.run(self._exclusively, job)
        try:
            async with asyncio.timeout(max(0.0, remaining)):
                return await self._workers.run(self._exclusively, job)
        except TimeoutError:
            self.starved = True
            error = TTSTotalTimeoutError("no processor was free to convert the audio before the deadline")
            error.starved = True
            raise error from None

    def close(self) -> None:
        """Release everything, once the thread that works on it has finished. Nothing may be called afterwards."""
        # A thread may still work for a cancelled caller. Its end releases the encoder: under a flapping vendor,
        # encoders that were left to the garbage collector took 2.3 GB and 2,315 threads (decision 27).
        self._closed = True
        if self._submitted == self._finished:
            self._release()

    def begin(
        self,
        source: AudioFormat,
        *,
        sole: bool = False,
        breakable: bool = False,
        voice: str | None = None,
        gain: float = 1.0,
    ) -> bytes:
        """Begin a piece, `sole` when it is the whole utterance. Return what was pending before it.

        A `breakable` piece can be emitted in parts, and broken off. A `voice` other than the one before is made as
        loud; the first one, or one without a name, is multiplied by `gain`.
        """
        self._has_input, self._at_start, self.shift, self._voice, self._gain = False, True, 0.0, voice, gain
        self._misleading_header = False
        if voice is not None and not self.has_output:
            self._gains = {voice: gain}
        self._buffer = buffer = self._buffer_for(source, sole, breakable)
        plain = isinstance(buffer, SampleBuffer) and buffer.is_plain_pcm and source.sample_rate == self._rate
        self.counts_as_validated = plain or isinstance(buffer, Mp3FrameBuffer | CompandedBuffer)
        return self._flush() if self._encoder and buffer.unmodified else b""

    def rewrite(self) -> None:
        """Rewrite this piece from its samples or frames, because a header in it would mislead players."""
        self._misleading_header = isinstance(self._buffer, ByteBuffer) and self._at_start

    def received(self, validated: float) -> float:
        """Return the seconds received of a piece that may break off, of which so many were validated."""
        # To count the seconds of frames again would mean to cut them.
        return validated if self.counts_as_validated or self._buffer is None else self._buffer.received

    @property
    def _usual_bytes_per_second(self) -> float:
        return self.target.bytes_per_second or 125 * (self.target.bitrate or 128)

    @property
    def total_seconds(self) -> float:
        """Seconds emitted of all pieces, as far as their samples or frames were counted."""
        return self._emitted / self._rate

    @property
    def emitted_seconds(self) -> float:
        """Seconds emitted of a piece that may break off, and has not yet."""
        return self._buffer.released / self._rate if self._buffer else 0.0

    def note_passthrough(self, data: bytes) -> None:
        """Record audio that was passed through, which no other voice will continue."""
        self.has_output = True
        self._half_sample ^= self.target.codec is Codec.PCM and len(data) % 2 == 1

    def feed_and_emit(self, data: bytes, seconds: float) -> bytes:
        """Add bytes to the piece, and return it up to so many seconds of its own time."""
        buffer = self._buffer
        if not isinstance(buffer, Mp3FrameBuffer):
            self.feed(data)
            return self.emit(seconds)
        self._has_input, before = True, buffer.released
        buffer.feed(data)
        if ready := buffer.release(seconds):
            self.has_output, self._at_start = True, False
            self._emitted += buffer.released - before
            self._unnoted.append(ready)
            self._unnoted_bytes += len(ready)
            if self._unnoted_bytes > _UNNOTED_BYTES:
                self._note_unnoted()
        return ready

    def feed(self, data: bytes) -> None:
        """Add bytes to the piece."""
        assert self._buffer is not None  # noqa: S101 - a piece has begun
        self._has_input = True
        self._buffer.feed(data)

    def emit(self, seconds: float | None = None) -> bytes:
        """Return the piece up to so many seconds of its own time, or all that was received."""
        buffer = self._buffer
        if buffer is None:
            return b""
        before = buffer.released
        data = buffer.release(seconds)
        if not data:
            return b""
        if not buffer.unmodified:
            return self._level_and_join(array("h", data))
        if isinstance(buffer, ByteBuffer):  # which does not count
            self._emitted += round(len(data) / self._usual_bytes_per_second * self._rate)
        else:
            self._emitted += buffer.released - before
        self._note_output(self.target, data)
        return data

    def end(self, last: bool = False) -> bytes:
        """End the piece and return the rest of it; after the `last` one, what the encoder holds as well."""
        if self._misleading_header and isinstance(self._buffer, ByteBuffer):
            data = self._buffer.release()
            mp3 = self.target.codec is Codec.MP3  # whose whole frames are kept as they are
            max_bytes = self._max_bytes
            self._buffer = (
                Mp3FrameBuffer(self.target, max_bytes) if mp3 else SampleBuffer(self.target, self._rate, max_bytes)
            )
            self._buffer.feed(data)
        if last and (self._buffer is None or self._buffer.unmodified):
            self._remembers = False  # nothing continues it
        if self._buffer and self._has_input:
            self._buffer.finish()
        data, self._buffer = self._emit_all(), None
        if self._half_sample:  # half a sample would shift all that follow
            data += b"\0"
            self._half_sample = False
        return data + self.finish() if last and self.has_output else data

    def _emit_all(self) -> bytes:
        """Return all that was received, a block of samples at a time, since each block is copied several times on its
        way.
        """
        buffer = self._buffer
        if buffer is None or buffer.unmodified:
            return self.emit()
        pieces, released = list[bytes](), -1
        while released != buffer.released:
            released = buffer.released
            pieces.append(self.emit(released / self._rate + _BLOCK_SECONDS))
        return b"".join(pieces)

    def ends_quietly(self) -> bool:
        """Return whether the piece so far ends in silence, not in the middle of a sound."""
        return crossfade.ends_quietly(self._last_sounds(), self._rate)

    def breaks_off(self) -> bool:
        """Return whether the piece so far seems to be cut off in the middle of a sound."""
        return crossfade.ends_abruptly(self._last_sounds(), self._rate)

    def _last_sounds(self) -> array[int]:
        match self._buffer:
            case ByteBuffer() | Mp3FrameBuffer() | CompandedBuffer() as buffer:
                audio = self._recent.samples(self._rate, buffer.tail(_LAST_SOUNDS), self.target, last=_LAST_SOUNDS)
            case SampleBuffer() as buffer:
                audio = self._recent.samples(self._rate, buffer.tail(_LAST_SOUNDS), self._samples, last=_LAST_SOUNDS)
            case _:
                audio = b""
        return _samples_of(audio)

    def drop(self) -> None:
        """Forget a piece that broke off without a word from which another voice could go on.

        What was emitted of it is followed by a pause, because its words are spoken again.
        """
        if not self._at_start:
            self._pause = _Pause(array("h"), round(_PAUSE_BEFORE_REPETITION * self._rate))
        self._buffer = None

    def break_off(self, boundary: WordBoundary) -> bytes:
        """Break the piece off: return its words up to the boundary, and forget the rest.

        The pause behind the last word, up to its quietest place, is kept for the voice that continues.
        """
        data = self.emit(boundary.end)
        buffer, self._buffer = self._buffer, None
        pause = round((boundary.start - boundary.end) * self._rate)
        if isinstance(buffer, Mp3FrameBuffer):
            word, left = self._continue_mp3(buffer, round(boundary.end * self._rate))
            data += self._encode(word)
        else:
            left = _samples_of(buffer.head(pause) if isinstance(buffer, SampleBuffer | CompandedBuffer) else b"")
        left = left[:pause]
        self._pause = _Pause(left[: crossfade.quietest_position(left, self._rate)], pause)
        return data

    def finish(self) -> bytes:
        """Finish the utterance. Without any audio, this returns a valid empty file, where the format has one."""
        if pause := self._pause:
            self._pause = None
            return (self._encode(pause.samples) if pause.samples else b"") + self._flush()
        if not self.has_output:
            self._encoder = encoder_for(self.target)
        return self._flush()

    @property
    def is_trivial(self) -> bool:
        """True if the next job only moves bytes."""
        buffer = self._buffer
        if buffer is None:
            return self._encoder is None or self.target.codec in _UNCOMPRESSED
        if self._misleading_header:
            return False
        plain = isinstance(buffer, SampleBuffer) and buffer.is_plain_pcm and self.target.codec in _UNCOMPRESSED
        return buffer.unmodified or (plain and not (self._at_start and self._must_join))

    @property
    def _must_join(self) -> bool:
        return self._pause is not None or self._known_gain != 1.0

    @property
    def _known_gain(self) -> float | None:
        """Factor on the voice's loudness; None until it is measured."""
        return self._gain if self._voice is None else self._gains.get(self._voice)

    def _buffer_for(self, source: AudioFormat, sole: bool, breakable: bool) -> AudioBuffer:
        same = source == self.target
        encoding = breakable and self._encoder is not None
        if self._must_join or encoding:
            return SampleBuffer(source, self._rate, self._max_bytes)
        if breakable:
            if same and source.codec is Codec.MP3:
                return Mp3FrameBuffer(source, self._max_bytes)
            if same and source.codec in (Codec.ULAW, Codec.ALAW):
                return CompandedBuffer(source, self._max_bytes)
            return SampleBuffer(source, self._rate, self._max_bytes)
        # A vendor's WAV or FLAC is parsed and written again: its header may be wrong about its length and its samples.
        whole = sole and not self.has_output and source.codec not in (Codec.WAV, Codec.FLAC)
        untouched = same and (source.is_concatenable or whole)
        return ByteBuffer(source, self._max_bytes) if untouched else SampleBuffer(source, self._rate, self._max_bytes)

    def _level_and_join(self, samples: array[int]) -> bytes:
        """Return samples made as loud as the audio before, and joined to it if they are the first of their voice."""
        gain = self._gain_of(samples)
        if self._at_start and self._pause:
            samples = self._joined(self._pause, samples, gain)
        else:
            samples = crossfade.apply_gain(samples, gain)
        self._note_output(self._samples, samples.tobytes())
        return self._encode(samples)

    def _gain_of(self, samples: array[int]) -> float:
        if self._voice is None:
            return self._gain
        if self._voice not in self._gains:
            audio = _samples_of(self._recent.samples(self._rate))
            gain = crossfade.matching_gain(
                crossfade.speech_level(audio, self._rate),
                crossfade.speech_level(self._first_sounds(samples), self._rate),
            )
            self._gains[self._voice] = gain
        return self._gains[self._voice]

    def _first_sounds(self, samples: array[int]) -> array[int]:
        """Return the first samples of a new voice, whether emitted or not."""
        first = samples[: round(_FIRST_SOUNDS * self._rate)]
        if isinstance(self._buffer, SampleBuffer):
            first += array("h", self._buffer.head(round(_FIRST_SOUNDS * self._rate) - len(first)))
        return first

    def _joined(self, pause: _Pause, samples: array[int], gain: float) -> array[int]:
        onset = min(crossfade.leading_silence(self._first_sounds(samples), self._rate), len(samples))
        samples = crossfade.apply_gain(samples, gain)
        joint = crossfade.crossfade(pause.samples, samples, onset=onset, pause=pause.length, rate=self._rate)
        self._pause = None
        self.shift = joint.shift / self._rate
        return joint.samples

    def _continue_mp3(self, buffer: Mp3FrameBuffer, end: int) -> tuple[array[int], array[int]]:
        """Continue in samples where MP3 frames were emitted: return the rest of the last word, and the audio behind it.

        A new encoder takes over from the last emitted frame.
        """
        held, count = buffer.pending
        decoded = _samples_of(bytes(2 * _ENCODER_CONTEXT) + self._recent.samples(self._rate, held, self.target))
        here = max(_ENCODER_CONTEXT, len(decoded) - count)
        self._encoder = encoder_for(self.target, after=decoded[here - _ENCODER_CONTEXT : here].tobytes())
        word = max(0, end - buffer.released)
        return decoded[here : here + word], decoded[here + word :]

    def _note_output(self, format: AudioFormat, data: bytes) -> None:
        self.has_output = True
        self._at_start = False
        self._half_sample ^= format.codec is Codec.PCM and len(data) % 2 == 1
        if self._remembers:
            self._remember(format, data)

    def _remember(self, format: AudioFormat, data: bytes) -> None:
        """Keep the last seconds, in case another voice has to continue them."""
        if format.is_concatenable:
            self._note_unnoted()
            self._echo.add(format, data)

    def _note_unnoted(self) -> None:
        if self._unnoted:
            data, self._unnoted, self._unnoted_bytes = b"".join(self._unnoted), [], 0
            if self._remembers:
                self._remember(self.target, data)

    def _encode(self, samples: array[int]) -> bytes:
        if self._encoder is None:
            self._encoder = encoder_for(self.target)
        self._emitted += len(samples)
        return self._encoder.feed(samples.tobytes())

    def _exclusively(self, work: Callable[[], T]) -> T:
        # An encoder that is closed, or fed, while another thread feeds it crashes the process.
        with self._lock:
            try:
                # Once closed, nothing waits for this job any more; an exception would keep this frame, and all that it
                # holds.
                return cast(T, None) if self._closed else work()
            finally:
                self._finished += 1
                if self._closed and self._submitted == self._finished:
                    self._release()

    def _release(self) -> None:
        encoder, self._encoder, self._buffer, self._pause = self._encoder, None, None, None
        if encoder:
            encoder.close()

    def _flush(self) -> bytes:
        encoder, self._encoder = self._encoder, None
        return encoder.finish() if encoder else b""


def _samples_of(pcm: bytes) -> array[int]:
    return array("h", pcm[: len(pcm) // 2 * 2])


def with_true_size(wav: bytes) -> bytes:
    """Return a finished WAV with its true length, if its header was written while that was unknown."""
    header = true_header(wav, len(wav))
    return b"".join((header, memoryview(wav)[44:])) if header else wav
