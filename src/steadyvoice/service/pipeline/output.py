"""Joins what providers said, piece by piece, into one stream of the format the caller asked for.

A piece may go out as it comes, word by word, or as a whole. Bytes that are already right are not touched. Where one
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
from steadyvoice.audio.buffers import AudioBuffer, ByteBuffer, Mp3FrameBuffer, RecentOutput, SampleBuffer
from steadyvoice.audio.codec import Encoder, encoder_for
from steadyvoice.audio.thread_pool import AudioThreadPool
from steadyvoice.service.pipeline.audio_limits import MAX_AUDIO_BYTES, true_header
from steadyvoice.service.pipeline.timeouts import Deadline
from steadyvoice.speech.errors import TTSTotalTimeoutError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.word_timing import WordBoundary

P = ParamSpec("P")
T = TypeVar("T")

_ENCODER_CONTEXT = 2304  # samples: whole frames of every MP3, and as many as an encoder needs to take over
_FIRST_SOUNDS = 2.0  # seconds in which a newcomer's loudness and first sound are looked for
_LAST_SOUNDS = 3.0  # seconds that tell how loud the end is
_BLOCK_SECONDS = 10.0  # seconds of samples that are made louder and encoded at once; more than _FIRST_SOUNDS
_UNCOMPRESSED = (Codec.PCM, Codec.WAV)


@dataclass(frozen=True, slots=True)
class _Pause:
    """What a voice left behind when it broke off: the samples after its last word, and how many there should be."""

    samples: array[int]
    length: int


_BUSY_QUEUE_WAIT = 0.1  # seconds


class Output:
    """Bytes of any format in, bytes of one format out.

    It `remembers` the last seconds of what went out, for whoever may have to go on in the middle of it. `most` bytes of
    a piece are held, as they came or as samples; beyond them HeldTooMuchError is raised. Whoever makes one closes it:
    it may hold an encoder. What takes its time is done by the `workers`, for which one waits no longer than there is
    `patience`, where it is given.
    """

    def __init__(
        self,
        target: AudioFormat,
        workers: AudioThreadPool,
        *,
        remembers: bool = True,
        most: int = MAX_AUDIO_BYTES,
        patience: Deadline | None = None,
    ) -> None:
        self.target = target
        self._workers, self._patience = workers, patience
        self._lock = Lock()
        self._given = self._done = 0  # pieces of work for a thread: counted here, and there
        self._closed = False
        self.anything = False  # is out, of any piece
        self.starved = False
        """Whether some of the work was not waited for: what would come out from then on has a hole."""
        self.shift = 0.0
        """Seconds by which this piece's own time begins later than the piece; negative if its silence was cut."""
        self._rate = target.sample_rate
        self._encoder: Encoder | None = None
        self._buffer: AudioBuffer | None = None
        self._fed = False  # something came, of this piece
        self._misleads = False  # a header in it, about its length
        self._fresh = True  # nothing of this piece is out
        self._torn = False  # what is out ends in half a sample
        self._voice: str | None = None
        self._gain = 1.0  # as declared
        self._gains: dict[str, float] = {}  # of the voices that were heard
        self._remembers = remembers
        self._most = most
        self._pause: _Pause | None = None

    @cached_property
    def _samples(self) -> AudioFormat:
        return AudioFormat(Codec.PCM, self._rate)

    @cached_property
    def _echo(self) -> RecentOutput:
        return RecentOutput()

    @property
    def behind(self) -> bool:
        """Whether work has waited for a thread for so long that one looks at the clock, and saves turns."""
        return self._workers.queue_wait >= _BUSY_QUEUE_WAIT

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do some of the work below: in a thread when it is heavy, for others share the event loop."""
        if self.light:
            return work(*args, **kwargs)
        return await self.run_in_thread(work, *args, **kwargs)

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do some of the work below in a thread, behind what one is still doing for a caller that was cancelled.

        Raises TTSTotalTimeoutError, as `starved`, when the threads are so far behind that the time is over.
        """
        self._given += 1
        alone = partial(work, *args, **kwargs)
        if self._patience is None or not self.behind:
            return await self._workers.run(self._alone, alone)
        try:
            async with asyncio.timeout(max(0.0, self._patience.left)):
                return await self._workers.run(self._alone, alone)
        except TimeoutError:
            self.starved = True
            error = TTSTotalTimeoutError("no processor was free to convert the audio before the deadline")
            error.starved = True
            raise error from None

    def close(self) -> None:
        """Let go of everything, once the thread that works on it is through; nothing more can be asked of it."""
        self._closed = True
        if self._given == self._done:
            self._let_go()

    def begin(
        self,
        source: AudioFormat,
        *,
        sole: bool = False,
        breakable: bool = False,
        voice: str | None = None,
        gain: float = 1.0,
    ) -> bytes:
        """A piece begins; `sole` when it is the whole utterance. What was pending before it comes out.

        When it is `breakable` it can be given out in parts, and broken off. A `voice` other than the one before is made
        as loud; the first to be heard, or one without a name, is multiplied by `gain`.
        """
        self._fed, self._fresh, self.shift, self._voice, self._gain = False, True, 0.0, voice, gain
        self._misleads = False
        if voice is not None and not self.anything:
            self._gains = {voice: gain}
        self._buffer = self._buffer_for(source, sole, breakable)
        return self._flush() if self._buffer.unmodified else b""

    def read_anew(self) -> None:
        """Do not hand on the bytes of this piece as they are, for a header in them misleads players."""
        self._misleads = isinstance(self._buffer, ByteBuffer) and self._fresh

    @property
    def here(self) -> float:
        """Seconds that came of a piece that may break off."""
        return self._buffer.received if self._buffer else 0.0

    @property
    def gone(self) -> float:
        """Seconds that went out of a piece that may break off, and has not yet."""
        return self._buffer.released / self._rate if self._buffer else 0.0

    def passed(self, data: bytes) -> None:
        """Some of a piece goes out as it came, and nobody will go on in the middle of it."""
        self.anything = True
        self._torn ^= self.target.codec is Codec.PCM and len(data) % 2 == 1

    def feed(self, data: bytes) -> None:
        """Take some of the piece."""
        assert self._buffer is not None  # noqa: S101 - a piece has begun
        self._fed = True
        self._buffer.feed(data)

    def out(self, seconds: float | None = None) -> bytes:
        """Give out the piece up to so many seconds of its own time, or all that is here."""
        buffer = self._buffer
        data = buffer.release(seconds) if buffer else b""
        if not data:
            return b""
        if buffer is None or buffer.unmodified:
            self._note(self.target, data)
            return data
        return self._voiced(array("h", data))

    def end(self, last: bool = False) -> bytes:
        """The piece is over, and all of it goes out; behind the `last` one, what the encoder holds as well."""
        if self._misleads and isinstance(self._buffer, ByteBuffer):
            data = self._buffer.release()
            mp3 = self.target.codec is Codec.MP3  # of which whole frames are left as they are
            most = self._most
            self._buffer = Mp3FrameBuffer(self.target, most) if mp3 else SampleBuffer(self.target, self._rate, most)
            self._buffer.feed(data)
        if self._buffer and self._fed:
            self._buffer.finish()
        data, self._buffer = self._all_out(), None
        if self._torn:  # half a sample would shift all that follow
            data += b"\0"
            self._torn = False
        return data + self.finish() if last and self.anything else data

    def _all_out(self) -> bytes:
        """Give out all that is here, samples a little at a time: each is copied several times on its way."""
        buffer = self._buffer
        if buffer is None or buffer.unmodified:
            return self.out()
        pieces, gone = list[bytes](), -1
        while gone != buffer.released:
            gone = buffer.released
            pieces.append(self.out(gone / self._rate + _BLOCK_SECONDS))
        return b"".join(pieces)

    def ends_quietly(self) -> bool:
        """Whether what came of this piece ends in silence, not in the middle of a sound."""
        return crossfade.ends_quietly(self._last_sounds(), self._rate)

    def breaks_off(self) -> bool:
        """Whether what came of this piece seems to be cut off in the middle of a sound."""
        return crossfade.ends_abruptly(self._last_sounds(), self._rate)

    def _last_sounds(self) -> array[int]:
        match self._buffer:
            case ByteBuffer() | Mp3FrameBuffer() as buffer:
                heard = self._echo.samples(self._rate, buffer.tail(_LAST_SOUNDS), self.target, last=_LAST_SOUNDS)
            case SampleBuffer() as buffer:
                heard = self._echo.samples(self._rate, buffer.tail(_LAST_SOUNDS), self._samples, last=_LAST_SOUNDS)
            case _:
                heard = b""
        return _samples_of(heard)

    def drop(self) -> None:
        """The piece broke off before a word of it was out: it is forgotten."""
        self._buffer = None

    def break_off(self, mark: WordBoundary) -> bytes:
        """The piece broke off: its words up to the mark go out, and the rest is forgotten.

        The pause behind the last word, up to its quietest place, is kept for whoever goes on.
        """
        data = self.out(mark.end)
        buffer, self._buffer = self._buffer, None
        pause = round((mark.start - mark.end) * self._rate)
        if isinstance(buffer, Mp3FrameBuffer):
            word, left = self._taken_over(buffer, round(mark.end * self._rate))
            data += self._encode(word)
        else:
            left = _samples_of(buffer.head(pause) if isinstance(buffer, SampleBuffer) else b"")
        left = left[:pause]
        self._pause = _Pause(left[: crossfade.quietest_position(left, self._rate)], pause)
        return data

    def finish(self) -> bytes:
        """The utterance is over. Without any audio, this is a valid file of no length, where the format has one."""
        if pause := self._pause:
            self._pause = None
            return self._encode(pause.samples) + self._flush()
        if not self.anything:
            self._encoder = encoder_for(self.target)
        return self._flush()

    @property
    def light(self) -> bool:
        """Whether the work at hand is a matter of moving bytes."""
        buffer = self._buffer
        if buffer is None:
            return self._encoder is None or self.target.codec in _UNCOMPRESSED
        if self._misleads:
            return False
        plain = isinstance(buffer, SampleBuffer) and buffer.is_plain_pcm and self.target.codec in _UNCOMPRESSED
        return buffer.unmodified or (plain and not (self._fresh and self._must_join))

    @property
    def _must_join(self) -> bool:
        return self._pause is not None or self._known_gain != 1.0

    @property
    def _known_gain(self) -> float | None:
        """None: it is to be measured."""
        return self._gain if self._voice is None else self._gains.get(self._voice)

    def _buffer_for(self, source: AudioFormat, sole: bool, breakable: bool) -> AudioBuffer:
        same = source == self.target
        encoding = breakable and self._encoder is not None
        if self._must_join or encoding:
            return SampleBuffer(source, self._rate, self._most)
        if breakable:
            mp3 = same and source.codec is Codec.MP3
            return Mp3FrameBuffer(source, self._most) if mp3 else SampleBuffer(source, self._rate, self._most)
        # A vendor's WAV or FLAC is read and written anew: its header may lie about its length and its samples.
        whole = sole and not self.anything and source.codec not in (Codec.WAV, Codec.FLAC)
        untouched = same and (source.is_concatenable or whole)
        return ByteBuffer(source, self._most) if untouched else SampleBuffer(source, self._rate, self._most)

    def _voiced(self, samples: array[int]) -> bytes:
        """Samples as they are heard: as loud as what went before, and joined to it if they are the first."""
        gain = self._gain_of(samples)
        if self._fresh and self._pause:
            samples = self._joined(self._pause, samples, gain)
        else:
            samples = crossfade.apply_gain(samples, gain)
        self._note(self._samples, samples.tobytes())
        return self._encode(samples)

    def _gain_of(self, samples: array[int]) -> float:
        if self._voice is None:
            return self._gain
        if self._voice not in self._gains:
            heard = _samples_of(self._echo.samples(self._rate))
            gain = crossfade.matching_gain(
                crossfade.speech_level(heard, self._rate),
                crossfade.speech_level(self._first_sounds(samples), self._rate),
            )
            self._gains[self._voice] = gain
        return self._gains[self._voice]

    def _first_sounds(self, samples: array[int]) -> array[int]:
        """What is known of the newcomer, out or not."""
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

    def _taken_over(self, buffer: Mp3FrameBuffer, end: int) -> tuple[array[int], array[int]]:
        """Go on in samples where frames went out: the rest of the last word, and what came behind it.

        A new encoder takes over from the frame that is out last.
        """
        held, count = buffer.pending
        decoded = _samples_of(bytes(2 * _ENCODER_CONTEXT) + self._echo.samples(self._rate, held, self.target))
        here = max(_ENCODER_CONTEXT, len(decoded) - count)
        self._encoder = encoder_for(self.target, after=decoded[here - _ENCODER_CONTEXT : here].tobytes())
        word = max(0, end - buffer.released)
        return decoded[here : here + word], decoded[here + word :]

    def _note(self, format: AudioFormat, data: bytes) -> None:
        self.anything = True
        self._fresh = False
        self._torn ^= format.codec is Codec.PCM and len(data) % 2 == 1
        if self._remembers and format.is_concatenable:
            self._echo.add(format, data)

    def _encode(self, samples: array[int]) -> bytes:
        if self._encoder is None:
            self._encoder = encoder_for(self.target)
        return self._encoder.feed(samples.tobytes())

    def _alone(self, work: Callable[[], T]) -> T:
        # An encoder that is closed, or fed, while another thread feeds it takes the process down.
        with self._lock:
            try:
                # Closed, nobody waits for it any more; an exception would keep this frame, and all that it holds.
                return cast(T, None) if self._closed else work()
            finally:
                self._done += 1
                if self._closed and self._given == self._done:
                    self._let_go()

    def _let_go(self) -> None:
        encoder, self._encoder, self._buffer, self._pause = self._encoder, None, None, None
        if encoder:
            encoder.close()

    def _flush(self) -> bytes:
        encoder, self._encoder = self._encoder, None
        return encoder.finish() if encoder else b""


def _samples_of(pcm: bytes) -> array[int]:
    return array("h", pcm[: len(pcm) // 2 * 2])


def with_true_size(wav: bytes) -> bytes:
    """Give a finished WAV its true length, if its header was written while that was unknown."""
    header = true_header(wav, len(wav))
    return b"".join((header, memoryview(wav)[44:])) if header else wav
