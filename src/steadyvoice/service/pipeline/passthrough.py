"""Passthrough of an answer whose bytes are sent on as they arrive: only what proves them to be audio is parsed."""

from __future__ import annotations

from collections.abc import Callable

from steadyvoice.breaker import Permit
from steadyvoice.service.pipeline.delivery import DeliveredSpeech, Delivery
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.provider_call import AudioSink
from steadyvoice.service.pipeline.response_call import ResponseCall
from steadyvoice.speech.alignment import EstimatedAlignment
from steadyvoice.speech.duration_estimate import is_pronounceable
from steadyvoice.speech.errors import TTSCutError, TTSEmptyAudioError


class PassthroughCall(ResponseCall):
    """Call with the same timeouts and validation, and fewer steps from the socket to the consumer."""

    _sink: AudioSink | None = None

    async def _read(self, sink: AudioSink | None, left: float) -> bytes | None:
        if self._error:
            raise self._error
        reply = self._reply
        if reply is None:
            reply = await self._open(left)
            if reply is None:
                return None
            left = self._timeouts.limit(self._count_time())
        try:
            data = reply.read_nowait()
        except TTSCutError as error:
            raise self._cut_error(error) from error.__cause__
        except TTSEmptyAudioError:
            if is_pronounceable(self.request.text):
                raise
            return None
        if data is None:
            # Only validated audio goes to the sink, so the first chunks always take the usual way.
            self._sink = sink if self.first_sound is not None else None
            if self._sink:
                data = await self._in_time(reply.read(self._write_to_sink), left)
            else:
                data = await self._in_time(reply.read(), left)
        return data or None

    def _write_to_sink(self, data: bytes) -> bool:
        """Write valid audio to the sink without waking the reader. Raises TTSError, in the task that reads."""
        sink, validator = self._sink, self.validator
        if sink is None or self._timer.expired or not sink.open():
            return False
        # The same validation and timeouts as on the usual way, only without a turn of the event loop: 99 of 100 among
        # 2,000 slow streams got their first byte after 0.06 s instead of 2.6 s (decision 23).
        now = self._count_time()
        before = validator.seconds
        validator.take(data)
        self._timeouts.add_audio(validator.seconds - before, has_audio=True)
        sink.write(data)
        self._limit_moved = True
        self._raise_if_expired(now)
        return True


class PassthroughSink:
    """Sink that reports what passes to the output and to the permit of the call."""

    __slots__ = ("_passed", "_progress", "_write", "open")

    def __init__(self, sink: AudioSink, output: Output, permit: Permit) -> None:
        self.open, self._write = sink.open, sink.write
        self._passed, self._progress = output.note_passthrough, permit.progress

    def write(self, data: bytes) -> None:
        """Send the bytes."""
        self._passed(data)
        self._write(data)
        self._progress()


class PassthroughDelivery(Delivery):
    """Delivery of audio as it arrives. Only a failure makes it work out how much was delivered."""

    def begin(self) -> None:
        """Do nothing: there is nothing to prepare."""

    async def take(self, data: bytes) -> bytes:
        """Return the bytes unchanged."""
        self._output.note_passthrough(data)
        if not self.has_delivered:
            self._note_delivered(data)
        return data

    async def end(self, on_validated: Callable[[], None]) -> None:
        """Validate the length of the whole, and end. Raises TTSError."""
        self._check_length()
        on_validated()
        self.rest = self._output.end()

    @property
    def completed(self) -> DeliveredSpeech:
        """Speech delivered by a successful call: all of it."""
        text, seconds = self._call.request.text, self._call.seconds
        return DeliveredSpeech(len(text), seconds, EstimatedAlignment(text, seconds))
