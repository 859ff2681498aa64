"""One request to one provider, under its timeouts, with its audio validated.

`AudioSink` is where audio may be written without waking the task that reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from steadyvoice.breaker import Permit
from steadyvoice.providers.base import Accepted, AudioChunk, Provider, Queued, SynthesisOffer
from steadyvoice.providers.cooperative_scheduling import CHUNK_SIZE, STEP_COST, WorkBudget
from steadyvoice.service.pipeline.attempt_timeouts import AttemptTimeouts
from steadyvoice.service.pipeline.audio_validation import AudioValidator
from steadyvoice.service.pipeline.timeouts import WaitTimer
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
from steadyvoice.speech.word_timing import TimestampsEnd


class AudioSink(Protocol):
    """Somewhere that takes bytes at once, while it is `open`."""

    def open(self) -> bool:
        """Whether it takes more now."""
        ...

    def write(self, data: bytes) -> None:
        """Send this on."""
        ...


T = TypeVar("T")

_NOT_ACCEPTED = Accepted()

_NOTICEABLE_LAG = 0.25
"""Seconds lost by the event loop during a wait, and share of that wait, above which the rest of it is no measurement.
Less than that has been subtracted, to within a beat of the loop's.
"""

# Characters with times that are kept: more than the text has, for vendors may spell it in another way.
_MAX_TIMES_PER_CHARACTER, _EXTRA_TIMES = 4, 20_000

UNREAD_LIMIT = 30.0
"""Seconds that a listener may leave a stream unread. Servers and proxies hang up on who does so for about a minute."""


class ProviderCall:
    """One request to one provider. Begin it once, ask for the `next()` until there is none, and hang up.

    The rest can be read at any time.

    `connecting` bounds that, in seconds; `tell` is called when the vendor has accepted.

    Its clocks run from the moment that `next()` is called until it returns, whatever arrives meanwhile; only what the
    event loop lost (`lag`) while it waited is not the provider's. So a provider whose bytes keep us busy answers for
    the time that takes, and one whose bytes we had no time to read does not.
    """

    def __init__(
        self,
        provider: Provider,
        request: SpeechRequest,
        offer: SynthesisOffer,
        clocks: AttemptTimeouts,
        *,
        connecting: float,
        clock: Callable[[], float],
        lag: LoopLag,
        tell: Callable[[Accepted], None],
    ) -> None:
        self.provider, self.request, self.offer = provider, request, offer
        self.accepted = _NOT_ACCEPTED
        self.sent = self.taken = False  # to the vendor; by the vendor: from there on it may be billed
        self.answered: float | None = None
        self.first_sound: float | None = None
        """Seconds from the request to its first sound: audio that is believed, and was not just a pause."""
        self.lost = 0.0
        """Seconds that the event loop lost while this waited for the provider."""
        self._since: float | None = None  # what came before is counted; None while the listener has what it wanted
        self._lost: float | None = None  # by the event loop until then, while this waits for the provider
        self._beat: tuple[float, float] | None = None  # of the event loop, when the last wait was over
        self._moved = False  # the end of the wait at hand, for time was lost, or something came that woke nobody
        self._clocks, self._connecting, self._clock, self._tell = clocks, connecting, clock, tell
        self._lag = lag
        self._said = CallErrors(provider.name)
        self._hearing = AudioValidator(request, offer.format, self._said)
        self._alignments: list[tuple[float, Alignment]] = []
        self._timed = 0  # characters in these
        self.normalized: TimestampsEnd | None = None
        """How far the vendor's times for the text as it is spoken reach, if it sent any."""
        self._budget = WorkBudget()
        self.permit: Permit | None = None  # under which it is made: told when it waits for an engine of ours
        self._backlog = memoryview(b"")  # of what came at once, and is dealt with in pieces
        self._given: float | None = None  # when the listener was given what it still reads
        self._unread = 0.0  # seconds at most that the listener took for what came
        self._over = False
        self._alarm = WaitTimer()

    @property
    def waited(self) -> float:
        """Seconds that the provider took so far."""
        waited, since = self._clocks.waited, self._since
        if since is None:
            return waited
        now = self._clock()
        return waited + now - since - (0.0 if self._lost is None else self._lag.lost_at(now) - self._lost)

    @property
    def timing_unreliable(self) -> bool:
        """Whether so much time was lost here that how long the provider took is not known well enough to learn from."""
        return self.lost > _NOTICEABLE_LAG * max(1.0, self._clocks.waited)

    @property
    def first_audio(self) -> float | None:
        """Seconds of that until the first audio that can be decoded."""
        return self._clocks.first_audio

    @property
    def seconds(self) -> float:
        """Seconds of audio so far."""
        return self._hearing.seconds

    def misleads(self, *, sole: bool) -> bool:
        """Whether a header in the audio tells another length than it has. See AudioMeter.misreports_length."""
        return self._hearing.misleads(sole=sole)

    @property
    def last_sound(self) -> float:
        """Seconds into the audio at which something was heard last, as far as its bytes tell."""
        return self._hearing.last_sound

    def abandoned(self) -> TTSError | None:
        """Return what it means for the provider that the caller leaves it now. None: nothing, or it is not known.

        For a caller who just comes too soon, remember how long the provider is silent at least.
        """
        now = self._clock() if self._since is None else self._spend()
        if not self.sent or self.timing_unreliable or self._clocks.starved(now):
            return None
        error = None if self._over else self._clocks.abandoned(self.provider.name)
        if error:
            error.request_id = self.accepted.request_id
        self.learn(given_up=error is None)
        return error

    def learn(self, *, given_up: bool = False) -> None:
        """Remember when the first audio came, or that a caller has `given_up` before it did."""
        if not self.timing_unreliable:
            self._clocks.learn(given_up=given_up)

    def times(self, after: int = 0) -> Sequence[Alignment]:
        """Give the vendor's own times so far, as they came, without the first so many."""
        return [times for _, times in self._alignments[after:]]

    @property
    def alignment(self) -> Alignment | None:
        """The vendor's own times, if it sent any."""
        return Alignment.joined(self._alignments) if self._alignments else None

    def begin(self) -> None:
        """Make it."""
        self.sent = True
        self._clocks.begin()
        self._begin()

    async def hang_up(self) -> None:
        """Nobody wants more of it. Hanging up twice changes nothing."""
        self._alarm.close()
        self._backlog = memoryview(b"")
        await self._hang_up()

    async def next(self, outlet: AudioSink | None = None) -> bytes | None:
        """The next audio, from the moment that it is known to be audio; None at the end. Raises TTSError.

        What comes meanwhile may go to the `outlet` instead, once some of it is believed.
        """
        self._since = now = self._clock()
        self._note_reading(now)
        try:
            while True:
                if self._clocks.limit(now) <= 0:
                    raise self._overdue(now)
                if self._clocks.behind:
                    self._refuse_slowness()
                if self._budget.remaining <= 0:  # a provider may have everything ready, and never make anybody wait
                    await self._in_time(self._budget.yield_to_loop())
                data = self._piece(self._backlog) if self._backlog else await self._more(outlet)
                if data is None:
                    break
                if len(data) > CHUNK_SIZE:
                    data = self._piece(data)
                self._budget.remaining -= len(data) + STEP_COST
                if data and (believed := await self._hear(data)):
                    return self._sound(believed)
                now = self._spend()
            if self._over:
                return None
            self._over = True
            rest = await self._hearing.end()
            return self._sound(rest) if rest else None
        finally:
            if self._since is not None:
                self._spend()
                self._since = None

    # ---------------------------------------------------------------- where it comes from

    def _piece(self, data: bytes | memoryview) -> bytes:
        """Give the first piece of what came at once, and keep the rest for later: between two, the event loop turns."""
        self._backlog = memoryview(data)[CHUNK_SIZE:]
        return bytes(data[:CHUNK_SIZE])

    def _begin(self) -> None:
        connecting = self._connecting
        self._source = self.provider.speak(self.request, self.offer, connection_timeout=connecting)

    async def _hang_up(self) -> None:
        if self.sent:
            await self._source.aclose()

    async def _more(self, outlet: AudioSink | None) -> bytes | None:
        """Some bytes, or none but something else that was told; None at the end."""
        event = await self._in_time(anext(self._source, None))
        if isinstance(event, AudioChunk):
            if event.alignment:
                self._note_times(event.alignment)
            if event.normalized:
                self.normalized = self.normalized or TimestampsEnd()
                self.normalized.take(event.normalized)
            if isinstance(event, Queued):
                self._clocks.queued = event.waits
                if self.permit:
                    self.permit.suspend() if event.waits else self.permit.resume()
            return event.data
        if event is None:
            return None
        self._accept(event)
        return b""

    def _note_times(self, times: Alignment) -> None:
        """Keep the vendor's times, which without a bound could come for ever beside no audio."""
        self._timed += len(times.characters)
        text = self.request.text
        if self._timed > _MAX_TIMES_PER_CHARACTER * len(text) + _EXTRA_TIMES:
            told = f"{self._timed} characters have been given times, where the text has {len(text)}"
            raise self._said(TTSNotAudioError, told)
        self._alignments.append((0.0, times))

    # ---------------------------------------------------------------- what is made of it

    def _accept(self, told: Accepted) -> None:
        self.accepted, self.taken, self.answered = told, True, self.waited
        self._said.request_id = told.request_id
        self._tell(told)

    async def _in_time(self, awaited: Awaitable[T]) -> T | None:
        """Wait for what comes next, no longer than the shortest clock allows, which is looked at again at the end.

        None when a text without anything to pronounce was answered with no bytes.
        """
        since = self._since
        assert since is not None  # noqa: S101 - the clocks run while somebody waits
        lost, due = self._lag.beat  # as LoopLag.lost_at() does: this is done for each chunk
        self._lost, self._moved = lost if since <= due else lost + since - due, False
        try:
            return await self._alarm.wait(self._clocks.limit(since), awaited, self._left)
        except TimeoutError as error:
            if self._alarm.expired and not isinstance(error, TTSError):
                raise self._overdue(self._clock()) from None
            if isinstance(error, TTSConnectTimeoutError):  # its own timer rang, which knows nothing of any lag
                error.starved = self._clocks.starved(self._spend())
            raise
        except TTSCutError as error:
            raise self._cut(error) from error.__cause__
        except TTSEmptyAudioError:
            if is_pronounceable(self.request.text):
                raise
            return None  # nothing to pronounce, and nothing was: that is the end
        finally:
            self._spend()
            self._lost, self._beat = None, self._lag.beat

    def _spend(self) -> float:
        """Count the time since this was called last. Gives the present time."""
        now = self._clock()
        since, self._since = self._since, now
        if since is not None:
            lost = 0.0
            # If the loop has had no turn since the wait before, the provider has let it have none: it had all ready.
            if self._lost is not None and self._lag.beat is not self._beat:
                lost = self._lag.lost_at(now) - self._lost
            if lost:
                self.lost += lost
                self._lost, self._moved = self._lag.lost_at(now), True
            self._clocks.spend(now - since - lost)
        return now

    def _left(self) -> float:
        """Seconds for which nothing may come from here on, when the wait at hand has taken as long as it might.

        Less than none when time is up, whatever lies in the socket.
        """
        self._beat = None  # a timer has rung, so the loop has had a turn
        now = self._spend()
        if not self._moved:  # that the loop's clock and this one may differ is no reason to wait on
            return 0.0
        self._moved = False
        left = self._clocks.limit(now)
        return left if left > 0 or self._clocks.out_of_time(now) else 0.0

    def _check(self, now: float) -> None:
        """Look at the clocks, and at how slow the provider is. Raises TTSError."""
        if self._clocks.limit(now) <= 0:
            raise self._overdue(now)
        if self._clocks.behind:
            self._refuse_slowness()

    def _overdue(self, now: float) -> TTSError:
        error = self._clocks.overdue(self.provider.name, self.seconds, now)
        error.request_id = self.accepted.request_id
        return error

    def _cut(self, error: TTSCutError) -> TTSError:
        """It is no fault of the provider's when nobody had read on for long."""
        if self._unread < UNREAD_LIMIT:
            return error
        told = f"hung up behind {self.seconds:.1f} s of audio, when nobody had read on for {self._unread:.0f} s"
        return self._said(TTSStaleConnectionError, told)

    async def _hear(self, data: bytes) -> bytes:
        hearing = self._hearing
        before = hearing.seconds
        believed = hearing.take(data)
        if believed is None:
            believed = await hearing.judge()
        self._clocks.gain(hearing.seconds - before, begun=hearing.begun)
        return believed

    def _sound(self, believed: bytes) -> bytes:
        self._given, self._since = self._since, None  # when it came; what was done with it since is no wait
        if self.first_sound is None:
            self.first_sound = self._clocks.waited
        return believed

    def _note_reading(self, now: float) -> None:
        if self._given is not None:
            self._unread = max(self._unread, now - self._given)
            self._given = None

    def _refuse_slowness(self) -> None:
        if slow := self._clocks.slow(self.provider.name, self.seconds):
            slow.request_id = self.accepted.request_id
            raise slow


class CallErrors:
    """Makes errors of a provider's, about one request. It knows nothing of the call, which would never be let go of."""

    __slots__ = ("_provider", "request_id")

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self.request_id: str | None = None

    def __call__(self, kind: type[TTSError], message: str) -> TTSError:
        """An error of this kind."""
        return kind(message, provider=self._provider, request_id=self.request_id)
