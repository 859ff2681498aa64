"""Relay of a usual request whose whole audio is waited for, and the caller that waits for it.

Nothing is delivered before the end, so nothing has to be done for each chunk: what has come is read ten times a
second. Everything unusual goes to the pipeline, as from the other relays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import BytesIO
from typing import Any

from steadyvoice.audio.wav import wav_bytes
from steadyvoice.providers.base import Accepted
from steadyvoice.service.fast_lane.output_relay import READ_INTERVAL, ResumeRelay
from steadyvoice.service.fast_lane.relay import Relay
from steadyvoice.service.fast_lane.stream_relay import RelayWatcher
from steadyvoice.service.pipeline.audio_validation import MAX_LEADING_SILENCE
from steadyvoice.service.pipeline.response_call import InFlightRequest
from steadyvoice.service.result import RelayedSpeech, UtteranceReport
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError, TTSNotAudioError
from steadyvoice.speech.format import Codec

_SAMPLES = (Codec.PCM, Codec.WAV)


class CollectingRelay(ResumeRelay):
    """Relay of one request whose audio is delivered once it is complete."""

    __slots__ = ("_collected",)

    MIN_RATE = 0.0  # as nothing is listened to yet
    FLUSHES = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._begun = True
        # BytesIO shares its buffer with the bytes it returns: joined at the end, 64 MiB would be copied at once.
        self._collected = BytesIO()

    def _begin_output(self) -> None:
        """Do nothing: only the pipeline needs an output."""

    @property
    def _extends(self) -> bool:
        # A complete answer that arrives faster than it is played is healthy, however long; a caller's own deadline is
        # absolute.
        return not self._choice.own_deadline

    def _pass_on(self, data: bytes) -> bool:
        """Hold the audio of what was read; return whether all of it is usual. Raises TTSError."""
        decoder, validator, audio = self._decoder, self._validator, self._collected
        assert decoder is not None  # noqa: S101 - the response was accepted
        self._received += len(data)
        for chunk in decoder.feed(data):
            if problem := self._words.times.take(self._text, chunk.alignment, chunk.normalized):
                raise self._errors(TTSNotAudioError, problem)
            if not chunk.data:
                continue
            valid = validator.take(chunk.data)
            if valid is None:
                valid = validator.evaluate_nowait()
            self._add_audio()
            if valid:
                audio.write(valid)
        error, decoder.error = decoder.error, None
        if error:
            raise error  # its traceback is dropped where it is handed over
        if audio.tell() and self._first_sound is None:
            self._first_sound = self._waited
            self._set_due()
            self._start_watching()
        if self._first_sound is not None:
            self._unread_until = self._since + READ_INTERVAL
        # Long silence has to be decoded, and the pipeline judges what is too much to be held.
        begun = self._first_sound is not None or validator.seconds < MAX_LEADING_SILENCE
        return begun and audio.tell() <= self._plan.template.policy.max_audio_bytes

    def _start_watching(self) -> None:
        """Have the caller check the timeouts that apply from now on."""
        assert self._accepted is not None  # noqa: S101 - audio has come
        name = self._choice.candidate.name
        self._client.begin(name, name, self._accepted)

    def _ends_well(self, seconds: float) -> bool:
        is_odd = self._collected.tell() % 2 == 1 and self._plan.template.request.format.codec in _SAMPLES
        is_plain = not is_odd and not self._validator.misreports_length(sole=True)
        return self._first_sound is not None and is_plain and super()._ends_well(seconds)

    def _end_audio(self, seconds: float) -> Alignment | None:
        """Give the caller all of the audio, and return the times of the text."""
        self._services.on_muted(False)
        audio, format = self._collected.getvalue(), self._plan.template.request.format
        self._client.write(wav_bytes(audio, format.sample_rate) if format.codec is Codec.WAV else audio)
        return self._words.complete_times(seconds)

    def _in_flight(self, error: TTSError | None) -> InFlightRequest:
        super()._begin_output()
        if self._collected.tell():
            self._held.append(self._collected.getvalue())
        in_flight = super()._in_flight(error)
        assert in_flight.delivered is not None  # noqa: S101 - it always is by these relays
        in_flight.delivered.has_delivered = False
        return in_flight


class SpeechCollector(RelayWatcher):
    """Caller that waits for the whole speech of a relay: its client.

    `continue_in_pipeline` makes the stream with which the pipeline goes on. Await `ended()` once; then there is either
    a `report` with the `audio`, or a `stream` to read.
    """

    __slots__ = ("_continue", "_ended", "audio", "report", "stream")

    def __init__(self, continue_in_pipeline: Callable[[InFlightRequest], AsyncSpeechStream]) -> None:
        super().__init__()
        self.audio = b""
        self.report: UtteranceReport | None = None
        self.stream: AsyncSpeechStream | None = None
        self._continue = continue_in_pipeline
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ended(self, relay: Relay) -> None:
        """Wait until the relay has ended or was handed over."""
        if not self._ended.done():
            self._watch(relay)
        try:
            await self._ended
        except asyncio.CancelledError:
            if self._relay:
                self._relay.hand_over()
            if self.stream:
                await _leave(self.stream)
            raise
        finally:
            self._release()

    # ---------------------------------------------------------------- client of the relay

    def begin(self, first_choice: str, provider: str, accepted: Accepted) -> None:
        """Check the timeouts that apply from now on."""
        self._check()

    def write(self, data: bytes) -> None:
        """Take the audio."""
        self.audio = data

    def flush(self) -> None:
        """Do nothing: nothing is sent."""

    def write_now(self, data: bytes) -> None:
        """Take the audio."""
        self.audio = data

    def end(self, speech: RelayedSpeech, text: str, alignment: Alignment | None) -> None:
        """Take the report of a complete response."""
        self.report = speech.report(text, alignment)
        self._finish()

    def hand_over(self, request: InFlightRequest) -> None:
        """Have the pipeline go on with the request."""
        self.stream = self._continue(request)
        self._finish()

    def _finish(self) -> None:
        self._release()
        if not self._ended.done():
            self._ended.set_result(None)


async def _leave(stream: AsyncSpeechStream) -> None:
    """End a stream as one whose reader is cancelled: it is begun, and cancelled where it waits first."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - coroutines run in tasks
    task.cancel()
    try:
        async with stream:
            async for _ in stream:
                pass
            await asyncio.sleep(0)  # it did not wait
    except (asyncio.CancelledError, TTSError):
        pass
    finally:
        task.uncancel()
        del task
