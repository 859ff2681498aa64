"""Calls that read the vendor's response directly, so that not every chunk has to wake a task."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from steadyvoice.breaker import Permit
from steadyvoice.providers.base import (
    AudioChunk,
    AudioResponse,
    PreparedRequest,
    Provider,
    StartedRequest,
    SupportsPrepare,
    SynthesisOffer,
)
from steadyvoice.service.pipeline.attempt_timeouts import AttemptTimeouts
from steadyvoice.service.pipeline.audio_validation import AudioValidator
from steadyvoice.service.pipeline.delivery import Delivery
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.provider_call import AudioSink, CallErrors, ProviderCall
from steadyvoice.service.pipeline.timeouts import Deadline, Stopwatch
from steadyvoice.service.pipeline.word_delivery import WordProgress
from steadyvoice.service.resilience.concurrency import QueueSlot
from steadyvoice.service.resilience.failover import TryProvider
from steadyvoice.speech.errors import TTSError, TTSRequestError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest


def is_as_asked(offer: SynthesisOffer, format: AudioFormat) -> bool:
    """Return whether the audio of an offer is what a caller of this format wants, but perhaps for a header."""
    # A vendor's FLAC has to be decoded and encoded again: its header may be wrong about its length and its samples.
    is_format = offer.format in (format, format.samples) and format.codec is not Codec.FLAC
    return is_format and offer.gain == 1.0 and offer.speed is None


def is_rewritten(format: AudioFormat) -> bool:
    """Return whether audio as asked is written behind a header of our own: a vendor's may be wrong about its length and
    its samples.
    """
    return format.codec is Codec.WAV


def prepare_request(provider: Provider, request: SpeechRequest, offer: SynthesisOffer) -> PreparedRequest | None:
    """Return the prepared request of a provider whose audio comes with timestamps, or as the caller wants it; else
    None.
    """
    usable = offer.timed or is_as_asked(offer, request.format)
    if not (usable and offer.for_any_text and isinstance(provider, SupportsPrepare)):
        return None
    try:
        return provider.prepare(request, offer)
    except TTSRequestError:  # the same error is raised where the request is made in earnest
        return None


@dataclass(slots=True)
class DeliveryState:
    """State of a delivery by way of an output: that, the words so far, and whether any audio was delivered.

    `held_back` is the number of seconds that the first audio waited to be delivered. `offer` is the one that was made.
    """

    words: WordProgress
    output: Output
    offer: SynthesisOffer
    has_delivered: bool
    held_back: float


@dataclass(slots=True)
class InFlightRequest:
    """State of a request that was sent before its utterance was made, to be adopted at whatever point it is.

    - `step`: decision by which the candidate was chosen; `refusals`: those of the candidates before it,
      counted by their circuits; None for one that did not refuse any more.
    - `deadline`, `timeouts`, `validator`: those of the request, with all that they have seen; `stopwatch` runs.
    - `at`: time of day of the request, in seconds since 1970.
    - `lost`: seconds that the event loop lost while it waited for the provider.
    - `response`, `answered`: accepted response, and the seconds until it was accepted; None before.
    - `first_sound`: seconds until the first valid audio; None before. What is passed through is sent from there on.
    - `odd_bytes`: whether an odd number of bytes was sent to the caller.
    - `error`: error of a chunk that was read and not sent.
    - `delivered`: delivery by way of an output; None if the vendor's bytes are passed through.
    - `unread`: most seconds for which the caller left the response unread.
    """

    started: StartedRequest
    permit: Permit
    slot: QueueSlot
    step: TryProvider
    refusals: Sequence[TTSError | None]
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
    delivered: DeliveryState | None = None
    unread: float = 0.0

    @property
    def has_delivered(self) -> bool:
        """True if the caller has received audio."""
        return self.delivered.has_delivered if self.delivered else self.first_sound is not None

    def abandon(self) -> None:
        """Close a request that no utterance goes on with."""
        (self.response or self.started).close()
        self.permit.ignore()
        self.slot.release()
        if self.delivered:
            self.delivered.output.close()


class ResponseCall(ProviderCall):
    """Call that reads the response itself, and may go on with a request that was sent already."""

    prepared: PreparedRequest | None = None
    _started: StartedRequest | None = None
    _reply: AudioResponse | None = None
    _error: TTSError | None = None  # behind the audio that was read
    _closed = False

    def adopt(self, request: InFlightRequest) -> None:
        """Go on with a request that was sent already."""
        self.sent, self.permit, self._started = True, request.permit, request.started
        self._timeouts, self.validator, self._make_error = request.timeouts, request.validator, request.errors
        self.lost, self._error, self._unread = request.lost, request.error, request.unread
        if request.delivered:
            self.times = request.delivered.words.times
        if request.response:
            self._reply, self.accepted = request.response, request.response.accepted
            self.was_accepted, self.answered, self.first_sound = True, request.answered, request.first_sound

    def _begin(self) -> None:
        """Do nothing: the request is sent with the first read."""

    async def _aclose(self) -> None:
        self._error = None  # whose traceback keeps this call
        reply = self._reply or self._started
        if reply and not self._closed:
            self._closed = True
            reply.close()

    async def _open(self, left: float) -> AudioResponse | None:
        """Return the response within `left` seconds; None if there was nothing to pronounce."""
        if self._started:
            opening = self._started.response(connection_timeout=self._connection_timeout)
        else:
            assert self.prepared is not None  # noqa: S101 - only requests that can be prepared are read like this
            opening = self.prepared.send(self.request.text, connection_timeout=self._connection_timeout)
        self._reply = reply = await self._in_time(opening, left)
        if reply is not None:
            self._accept(reply.accepted)
        return reply


class PackedCall(ResponseCall):
    """Call whose response packs its audio, with or without timestamps.

    While all of it is held, each chunk from the first valid sound on is decoded, validated and held within the read
    callback of its connection.
    """

    _decoded = _finished = False
    _sink: AudioSink | None = None
    _chunks: deque[AudioChunk] | None = None  # decoded, and not read yet

    def adopt(self, request: InFlightRequest) -> None:
        """Go on with a request that was sent already."""
        super().adopt(request)
        self._decoded = request.response is not None

    async def _read(self, sink: AudioSink | None, left: float) -> bytes | None:
        if not self._chunks and not self._error:
            data = await self._read_response(sink, left)
            if not data and (self._finished or not self._decoded):
                return None
            self._decode(data)
        if self._chunks:
            return self._audio_of(self._chunks.popleft())
        error, self._error = self._error, None
        if error is None:
            return None if self._finished else b""
        try:
            raise error
        finally:
            del error

    async def _read_response(self, sink: AudioSink | None, left: float) -> bytes | None:
        reply = self._reply
        if reply is None:
            reply = await self._open(left)
            if reply is None:
                return None
            left = self._timeouts.limit(self._count_time())
        # Only validated audio goes to the sink, so the first chunks always take the usual way.
        self._sink = sink if self.first_sound is not None else None
        try:
            data = await self._in_time(reply.read(self._write_to_sink if self._sink else None), left)
        finally:
            self._sink = None  # it refers to the delivery, which refers to this call
        self._decoded |= bool(data)
        return data

    def _decode(self, data: bytes | None) -> None:
        """Decode the next bytes, or the rest after the end. An error is raised behind the audio before it."""
        assert self._reply is not None  # noqa: S101 - it has been read
        decoder = self._reply.decoder
        assert decoder is not None  # noqa: S101 - see SupportsPrepare
        self._chunks = deque(decoder.feed(data) if data else decoder.finish())
        self._finished = not data
        self._error, decoder.error = decoder.error, None

    def _write_to_sink(self, data: bytes) -> bool:
        """Hold valid audio without waking the reader. Raises TTSError, in the task that reads."""
        reply, sink = self._reply, self._sink
        if reply is None or reply.decoder is None or sink is None or self._timer.expired or not sink.open():
            return False
        now = self._count_time()
        self._decoded = True
        for chunk in reply.decoder.feed(data):
            self._hold(chunk)
        error, reply.decoder.error = reply.decoder.error, None
        if error:
            try:
                raise error
            finally:
                del error  # its traceback keeps this frame
        self._limit_moved = True
        self._raise_if_expired(now)
        return True

    def _hold(self, chunk: AudioChunk) -> None:
        data, sink, validator = self._audio_of(chunk), self._sink, self.validator
        if not data or sink is None:
            return
        before = validator.seconds
        validator.take(data)
        self._timeouts.add_audio(validator.seconds - before, has_audio=True)
        sink.write(data)


class HeldSink:
    """Sink of audio that is held by its delivery, and reported to the permit of the call."""

    __slots__ = ("_hold", "_progress", "open")

    def __init__(self, delivery: Delivery, permit: Permit) -> None:
        self.open, self._hold, self._progress = delivery.holds_at_once, delivery.hold, permit.progress

    def write(self, data: bytes) -> None:
        """Hold the bytes."""
        self._hold(data)
        self._progress()
