"""Passthrough of an answer whose bytes are sent on as they arrive: only what proves them to be audio is parsed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steadyvoice.breaker import Permit
from steadyvoice.providers.base import (
    AudioResponse,
    PreparedRequest,
    Provider,
    StartedRequest,
    SupportsPrepare,
    SynthesisOffer,
)
from steadyvoice.service.pipeline.attempt_timeouts import AttemptTimeouts
from steadyvoice.service.pipeline.audio_validation import AudioValidator
from steadyvoice.service.pipeline.delivery import DeliveredSpeech, Delivery
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.provider_call import AudioSink, CallErrors, ProviderCall
from steadyvoice.service.pipeline.timeouts import Deadline, Stopwatch
from steadyvoice.service.resilience.concurrency import QueueSlot
from steadyvoice.service.resilience.failover import TryProvider
from steadyvoice.speech.alignment import EstimatedAlignment
from steadyvoice.speech.duration_estimate import is_pronounceable
from steadyvoice.speech.errors import TTSCutError, TTSEmptyAudioError, TTSError, TTSRequestError
from steadyvoice.speech.format import Codec
from steadyvoice.speech.request import SpeechRequest


def prepare_passthrough(provider: Provider, request: SpeechRequest, offer: SynthesisOffer) -> PreparedRequest | None:
    """Return the prepared request of a provider whose answer is the very bytes that the caller wants; else None."""
    # A vendor's WAV and FLAC have to be parsed: their headers may be wrong about their length and their samples.
    as_asked = offer.format == request.format and offer.gain == 1.0 and offer.speed is None
    as_asked = as_asked and request.format.codec not in (Codec.WAV, Codec.FLAC)
    if not (as_asked and offer.for_any_text and isinstance(provider, SupportsPrepare)):
        return None
    try:
        return provider.prepare(request, offer)
    except TTSRequestError:  # the same error is raised where the request is made in earnest
        return None


@dataclass(slots=True)
class InFlightRequest:
    """State of a request that was sent before its utterance was made, to be adopted at whatever point it is.

    - `step`: decision by which the candidate was chosen; `refusals`: recorded refusals of the candidates before it.
    - `deadline`, `timeouts`, `validator`: those of the request, with all that they have seen; `stopwatch` runs.
    - `at`: time of day of the request, in seconds since 1970.
    - `lost`: seconds that the event loop lost while it waited for the provider.
    - `response`, `answered`: accepted response, and the seconds until it was accepted; None before.
    - `first_sound`: seconds until the caller was sent the first audio; None before.
    - `odd_bytes`: whether an odd number of bytes was sent to the caller.
    - `error`: error of a chunk that was read and not sent.
    """

    started: StartedRequest
    permit: Permit
    slot: QueueSlot
    step: TryProvider
    refusals: Sequence[TTSError]
    deadline: Deadline
    stopwatch: Stopwatch
    timeouts: AttemptTimeouts
    validator: AudioValidator
    errors: CallErrors
    at: float
    lost: float
    response: AudioResponse | None = None
    answered: float | None = None
    first_sound: float | None = None
    odd_bytes: bool = False
    error: TTSError | None = None


class PassthroughCall(ProviderCall):
    """Call with the same timeouts and validation, and fewer steps from the socket to the consumer."""

    prepared: PreparedRequest
    _started: StartedRequest | None = None
    _error: TTSError | None = None
    _reply: AudioResponse | None = None
    _closed = False
    _sink: AudioSink | None = None

    def adopt(self, request: InFlightRequest) -> None:
        """Go on with a request that was sent already."""
        self.sent, self.permit, self._started = True, request.permit, request.started
        self._timeouts, self.validator, self._make_error = request.timeouts, request.validator, request.errors
        self.lost, self._error = request.lost, request.error
        if request.response:
            self._reply, self.accepted = request.response, request.response.accepted
            self.was_accepted, self.answered, self.first_sound = True, request.answered, request.first_sound

    def _begin(self) -> None:
        """Do nothing: the request is sent with the first read."""

    async def _aclose(self) -> None:
        reply = self._reply or self._started
        if reply and not self._closed:
            self._closed = True
            reply.close()

    async def _read(self, sink: AudioSink | None, left: float) -> bytes | None:
        if self._error:
            raise self._error
        reply = self._reply
        if reply is None:
            if self._started:
                request = self._started.response()
            else:
                request = self.prepared.send(self.request.text, connection_timeout=self._connecting)
            self._reply = reply = await self._in_time(request, left)
            if reply is None:
                return None
            self._accept(reply.accepted)
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
