"""Call of a provider: one request, under its timeouts, with its audio validated.

`AudioSink` is where audio may be written without waking the task that reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from steadyvoice.breaker import Permit
from steadyvoice.providers.base import (
    CHUNK_SIZE,
    STEP_COST,
    Accepted,
    AudioChunk,
    Provider,
    Queued,
    SynthesisOffer,
    WorkBudget,
)
from steadyvoice.service.pipeline.attempt_timeouts import AttemptTimeouts
from steadyvoice.service.pipeline.audio_validation import AudioValidator
from steadyvoice.service.pipeline.timeouts import WaitTimer
from steadyvoice.service.pipeline.word_delivery import ReceivedTimes
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.duration_estimate import is_pronounceable
from steadyvoice.speech.errors import (
    TTSConnectTimeoutError,
    TTSCutError,
    TTSEmptyAudioError,
    TTSError,
    TTSNotAudioError,
    TTSStaleConnectionError,
)
from steadyvoice.speech.request import SpeechRequest


class AudioSink(Protocol):
    """Destination that takes audio at once while it is open, without waking the task that reads the stream."""

    def open(self) -> bool:
        """Return whether it takes more now."""
        ...

    def write(self, data: bytes) -> None:
        """Send the bytes."""
        ...


T = TypeVar("T")

_NOT_ACCEPTED = Accepted()

_NOTICEABLE_LAG = 0.25
"""Seconds lost by the event loop during a wait, and share of that wait, above which the rest of it is no measurement.

Less than that has been subtracted, to within one heartbeat of the loop.
"""

UNREAD_LIMIT = 30.0
"""Seconds that a consumer may leave a stream unread before a cut is no longer the provider's fault.

Servers and proxies close connections that nothing was read from for about a minute.
"""


class ProviderCall:
    """Call of one provider: begin it once, read with `next()` until it returns None, and close it.

    The other properties can be read at any time. `connection_timeout` is in seconds; `on_accepted` is called when the
    vendor has accepted the request.

    Its timeouts run from the moment that `next()` is called until it returns, whatever arrives meanwhile; only what the
    event loop lost (`lag`) while it waited is not the provider's. So a provider whose bytes keep this process busy
    answers for the time that takes, and one whose bytes there was no time to read does not.
    """

    def __init__(
        self,
        provider: Provider,
        request: SpeechRequest,
        offer: SynthesisOffer,
        timeouts: AttemptTimeouts,
        *,
        connection_timeout: float,
        clock: Callable[[], float],
        lag: LoopLag,
        on_accepted: Callable[[Accepted], None],
    ) -> None:
        self.provider, self.request, self.offer = provider, request, offer
        self.accepted = _NOT_ACCEPTED
        self.sent = self.was_accepted = False  # to the vendor; accepted by it: from there on it may be billed
        self.answered: float | None = None
        self.first_sound: float | None = None
        """Seconds from the request to its first sound: audio that is valid and not just a pause."""
        self.lost = 0.0
        """Seconds that the event loop lost while this call waited for the provider."""
        self._since: float | None = None  # start of the time not counted yet; None while the consumer has its audio
        # Seconds that the event loop had lost by `_since`, during a wait for the provider.
        self._lost: float | None = None
        self._beat: tuple[float, float] | None = None  # heartbeat of the event loop at the end of the last wait
        self._limit_moved = False  # whether the end of the present wait moved: time was lost, or audio went to the sink
        self._timeouts, self._connection_timeout = timeouts, connection_timeout
        self._clock, self._on_accepted = clock, on_accepted
        self._lag = lag
        self._make_error = CallErrors(provider.name)
        self.validator = AudioValidator(request, offer.format, self._make_error)
        """Validator of the audio, which knows its seconds and its last sound."""
        self.times = ReceivedTimes()
        """Vendor's timestamps as they arrived."""
        self._budget = WorkBudget()
        self.permit: Permit | None = None  # suspended while the request waits for a local engine
        self._backlog = memoryview(b"")  # rest of a large read, which is handled in pieces
        self._given_at: float | None = None  # when the consumer was given the audio that it still reads
        self._unread = 0.0  # most seconds that the consumer took for what it was given
        self._over = False
        self._timer = WaitTimer()

    @property
    def waited(self) -> float:
        """Seconds that the provider has taken so far."""
        waited, since = self._timeouts.waited, self._since
        if since is None:
            return waited
        now = self._clock()
        return waited + now - since - (0.0 if self._lost is None else self._lag.lost_at(now) - self._lost)

    @property
    def timing_unreliable(self) -> bool:
        """True if so much time was lost in this process that the measured latency is not worth learning from."""
        return is_unreliable(self.lost, self._timeouts.waited)

    @property
    def first_audio(self) -> float | None:
        """Seconds until the first audio that can be decoded, or None."""
        return self._timeouts.first_audio

    @property
    def seconds(self) -> float:
        """Seconds of audio so far."""
        return self.validator.seconds

    def misreports_length(self, *, sole: bool) -> bool:
        """Return whether a header in the audio states another length than it has. See AudioMeter.misreports_length."""
        return self.validator.misreports_length(sole=sole)

    def abandonment_error(self) -> TTSError | None:
        """Return the error that counts against the provider when the caller leaves now, or None.

        It is None as well while too little is known. When the caller merely leaves early, the silence until now is
        recorded as a lower bound of the provider's latency.
        """
        now = self._clock() if self._since is None else self._count_time()
        if not self.sent or self.timing_unreliable or self._timeouts.starved(now):
            return None
        error = None if self._over else self._timeouts.abandonment_error(self.provider.name)
        if error:
            error.request_id = self.accepted.request_id
        self.learn(given_up=error is None)
        return error

    def learn(self, *, given_up: bool = False) -> None:
        """Record when the first audio came, or that the caller left before it did (`given_up`)."""
        if not self.timing_unreliable:
            self._timeouts.learn(given_up=given_up)

    @property
    def alignment(self) -> Alignment | None:
        """Vendor's own timestamps, if it sent any."""
        alignments = self.times.alignments
        return Alignment.joined([(0.0, each) for each in alignments]) if alignments else None

    def begin(self) -> None:
        """Send the request."""
        self.sent = True
        self._timeouts.begin()
        self._begin()

    async def aclose(self) -> None:
        """Close the request. Has no effect the second time."""
        self._timer.close()
        self._backlog = memoryview(b"")
        await self._aclose()

    async def next(self, sink: AudioSink | None = None) -> bytes | None:
        """Return the next audio once it is valid; None at the end. Raises TTSError.

        What arrives meanwhile may go to the `sink` instead, once some of the audio is valid.
        """
        self._since = now = self._clock()
        if self._given_at is not None:
            self._unread, self._given_at = max(self._unread, now - self._given_at), None
        try:
            while True:
                if (left := self._timeouts.limit(now)) <= 0:
                    raise self._timeout_error(now)
                if self._timeouts.underrun:
                    self._raise_if_slow()
                # A provider that always has bytes ready would never let the event loop run.
                if self._budget.remaining <= 0:
                    await self._in_time(self._budget.yield_to_loop(), left)
                    left = self._timeouts.limit(self._count_time())
                data = self._piece(self._backlog) if self._backlog else await self._read(sink, left)
                if data is None:
                    break
                if len(data) > CHUNK_SIZE:
                    data = self._piece(data)
                self._budget.remaining -= len(data) + STEP_COST
                if data and (valid := await self._validate(data)):
                    return self._deliver(valid)
                now = self._count_time()
            if self._over:
                return None
            self._over = True
            rest = await self.validator.end()
            return self._deliver(rest) if rest else None
        except TTSError as error:
            # Vendors quote the text in their errors: validators all of it, filters the part that they object to.
            error.hide_text(self.request.text)
            raise
        finally:
            if self._since is not None:
                self._count_time()
                self._since = None

    # ---------------------------------------------------------------- input

    def _piece(self, data: bytes | memoryview) -> bytes:
        """Return the first piece of a large read and keep the rest, so that the event loop runs in between."""
        self._backlog = memoryview(data)[CHUNK_SIZE:]
        return bytes(data[:CHUNK_SIZE])

    def _begin(self) -> None:
        timeout = self._connection_timeout
        self._source = self.provider.speak(self.request, self.offer, connection_timeout=timeout)

    async def _aclose(self) -> None:
        if self.sent:
            await self._source.aclose()

    async def _read(self, sink: AudioSink | None, left: float) -> bytes | None:
        """Return the next bytes within `left` seconds, empty for an event without audio; None at the end."""
        event = await self._in_time(anext(self._source, None), left)
        if isinstance(event, AudioChunk):
            if isinstance(event, Queued):
                self._timeouts.queued = event.waits
                if self.permit:
                    self.permit.suspend() if event.waits else self.permit.resume()
            return self._audio_of(event)
        if event is None:
            return None
        self._accept(event)
        return b""

    def _audio_of(self, chunk: AudioChunk) -> bytes:
        """Return the audio of a chunk, and keep its timestamps."""
        if (chunk.alignment or chunk.normalized) and (
            problem := self.times.take(self.request.text, chunk.alignment, chunk.normalized)
        ):
            raise self._make_error(TTSNotAudioError, problem)
        return chunk.data

    # ---------------------------------------------------------------- timeouts and validation

    def _accept(self, accepted: Accepted) -> None:
        self.accepted, self.was_accepted, self.answered = accepted, True, self.waited
        self._make_error.request_id = accepted.request_id
        self._on_accepted(accepted)

    async def _in_time(self, awaited: Awaitable[T], left: float) -> T | None:
        """Wait for the next event for the `left` seconds of the shortest timeout, which is evaluated again when it
        fires.

        Returns None when a text without anything to pronounce was answered with no bytes.
        """
        since = self._since
        assert since is not None  # noqa: S101 - the timeouts run while next() is being awaited
        # Inlined from LoopLag.lost_at(), because this runs for each chunk.
        lost, due = self._lag.beat
        self._lost, self._limit_moved = lost if since <= due else lost + since - due, False
        try:
            return await self._timer.wait(left, awaited, self._remaining)
        except TimeoutError as error:
            if self._timer.expired and not isinstance(error, TTSError):
                raise self._timeout_error(self._clock()) from None
            # The transport's own connect timer fired, which knows nothing of the loop's lag.
            if isinstance(error, TTSConnectTimeoutError):
                error.starved = self._timeouts.starved(self._count_time())
            raise
        except TTSCutError as error:
            raise self._cut_error(error) from error.__cause__
        except TTSEmptyAudioError:
            if is_pronounceable(self.request.text):
                raise
            return None  # nothing to pronounce, and nothing was sent: that is the end
        finally:
            self._count_time()
            self._lost, self._beat = None, self._lag.beat

    def _count_time(self) -> float:
        """Count the time since the last call of this. Return the present time."""
        now = self._clock()
        since, self._since = self._since, now
        if since is not None:
            lost = 0.0
            # If the loop has had no turn since the last wait, the provider kept it busy with bytes that were ready: no
            # lag.
            if self._lost is not None and self._lag.beat is not self._beat:
                lost = self._lag.lost_at(now) - self._lost
            if lost:
                self.lost += lost
                self._lost, self._limit_moved = self._lag.lost_at(now), True
            self._timeouts.add_wait(now - since - lost)
        return now

    def _remaining(self) -> float:
        """Return the seconds for which nothing may arrive from now on, when the timer of the present wait has fired.

        Negative when the deadline has passed, whatever lies in the socket.
        """
        self._beat = None  # a timer has fired, so the loop has had a turn
        now = self._count_time()
        # The loop's clock and this one may differ, which is no reason to wait longer.
        if not self._limit_moved:
            return 0.0
        self._limit_moved = False
        left = self._timeouts.limit(now)
        return left if left > 0 or self._timeouts.out_of_time(now) else 0.0

    def _raise_if_expired(self, now: float) -> None:
        """Raise the TTSError of an expired timeout, or of audio that is too slow."""
        if self._timeouts.limit(now) <= 0:
            raise self._timeout_error(now)
        if self._timeouts.underrun:
            self._raise_if_slow()

    def _timeout_error(self, now: float) -> TTSError:
        error = self._timeouts.timeout_error(self.provider.name, self.seconds, now)
        error.request_id = self.accepted.request_id
        return error

    def _cut_error(self, error: TTSCutError) -> TTSError:
        """Return the error of a cut stream. It is not the provider's fault when the consumer had not read for long."""
        # A vendor that closes a connection nobody reads from has done nothing wrong.
        if self._unread < UNREAD_LIMIT:
            return error
        unread = f"after the stream was left unread for {self._unread:.0f} s"
        message = f"connection closed after {self.seconds:.1f} s of audio, {unread}"
        return self._make_error(TTSStaleConnectionError, message)

    async def _validate(self, data: bytes) -> bytes:
        validator = self.validator
        before = validator.seconds
        valid = validator.take(data)
        if valid is None:
            valid = await validator.evaluate()
        self._timeouts.add_audio(validator.seconds - before, has_audio=validator.has_audio)
        return valid

    def _deliver(self, valid: bytes) -> bytes:
        self._given_at, self._since = self._since, None  # when it arrived; the consumer's time from here on is no wait
        if self.first_sound is None:
            self.first_sound = self._timeouts.waited
        return valid

    def _raise_if_slow(self) -> None:
        if slow := self._timeouts.slow_error(self.provider.name, self.seconds):
            slow.request_id = self.accepted.request_id
            raise slow


def is_unreliable(lost: float, waited: float) -> bool:
    """Return whether so many seconds were lost in this process that a wait is not worth learning from."""
    return lost > _NOTICEABLE_LAG * max(1.0, waited)


class CallErrors(msgspec.Struct):
    """Factory of a provider's errors about one request.

    It holds no reference to the call: a call held by its validator would be a cycle that only the garbage collector
    ends. It is a structure, because it is made for each request.
    """

    provider: str
    request_id: str | None = None

    def __call__(self, kind: type[TTSError], message: str) -> TTSError:
        """Return an error of this class."""
        return kind(message, provider=self.provider, request_id=self.request_id)
