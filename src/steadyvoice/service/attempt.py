"""One call to one provider, under its clocks. What comes out is audio of the offered format, or an error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from steadyvoice.providers.provider import Accepted, Audio, Offer, Provider
from steadyvoice.service.alarm import Alarm
from steadyvoice.service.clocks import Clocks
from steadyvoice.service.hearing import Hearing
from steadyvoice.service.outlet import Outlet
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSCutError, TTSError, TTSStaleConnectionError
from steadyvoice.speech.request import SpeechRequest

T = TypeVar("T")

_NOTHING = Accepted()

LEFT_ALONE = 30.0
"""Seconds that a listener may leave a stream unread. Servers and proxies hang up on who does so for about a minute."""


class Call:
    """One request to one provider. Begin it once, ask for the `next()` until there is none, and hang up.

    The rest can be read at any time.

    `connecting` bounds that, in seconds; `tell` is called when the vendor has accepted.
    """

    def __init__(
        self,
        provider: Provider,
        request: SpeechRequest,
        offer: Offer,
        clocks: Clocks,
        *,
        connecting: float,
        clock: Callable[[], float],
        tell: Callable[[Accepted], None],
    ) -> None:
        self.provider, self.request, self.offer = provider, request, offer
        self.accepted = _NOTHING
        self.sent = self.taken = False  # to the vendor; by the vendor: from there on it may be billed
        self.answered: float | None = None
        self.sounded: float | None = None
        """Seconds from the request to its first sound: audio that is believed, and was not just a pause."""
        self._waits_since: float | None = None
        self._clocks, self._connecting, self._clock, self._tell = clocks, connecting, clock, tell
        self._said = Complaint(provider.name)
        self._hearing = Hearing(request, offer.format, self._said)
        self._alignments: list[tuple[float, Alignment]] = []
        self._given: float | None = None  # when the listener was given what it still reads
        self._unread = 0.0  # seconds at most that the listener took for what came
        self._over = False
        self._alarm = Alarm()

    @property
    def waited(self) -> float:
        """Seconds of waiting for the provider so far."""
        return self._clocks.waited + (0.0 if self._waits_since is None else self._clock() - self._waits_since)

    @property
    def first_audio(self) -> float | None:
        """Seconds of that until the first audio that can be decoded."""
        return self._clocks.first_audio

    @property
    def seconds(self) -> float:
        """Seconds of audio so far."""
        return self._hearing.seconds

    @property
    def last_sound(self) -> float:
        """Seconds into the audio at which something was heard last, as far as its bytes tell."""
        return self._hearing.last_sound

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
        self._begin()

    async def hang_up(self) -> None:
        """Nobody wants more of it. Hanging up twice changes nothing."""
        self._alarm.close()
        await self._hang_up()

    async def next(self, outlet: Outlet | None = None) -> bytes | None:
        """The next audio, from the moment that it is known to be audio; None at the end. Raises TTSError.

        What comes meanwhile may go to the `outlet` instead, once some of it is believed.
        """
        self._note_reading()
        self._refuse_slowness()
        while (data := await self._more(outlet)) is not None:
            if data and (believed := await self._hear(data)):
                return self._sound(believed)
            self._refuse_slowness()
        if self._over:
            return None
        self._over = True
        rest = await self._hearing.end()
        return self._sound(rest) if rest else None

    # ---------------------------------------------------------------- where it comes from

    def _begin(self) -> None:
        connecting = self._connecting
        self._source = self.provider.speak(self.request, self.offer, connection_timeout=connecting)

    async def _hang_up(self) -> None:
        if self.sent:
            await self._source.aclose()

    async def _more(self, outlet: Outlet | None) -> bytes | None:
        """Some bytes, or none but something else that was told; None at the end."""
        event = await self._in_time(anext(self._source, None))
        if isinstance(event, Audio):
            if event.alignment:
                self._alignments.append((0.0, event.alignment))
            return event.data
        if event is None:
            return None
        self._accept(event)
        return b""

    # ---------------------------------------------------------------- what is made of it

    def _accept(self, told: Accepted) -> None:
        self.accepted, self.taken, self.answered = told, True, self.waited
        self._said.request_id = told.request_id
        self._tell(told)

    async def _in_time(self, awaited: Awaitable[T], left: Callable[[], float] | None = None) -> T:
        """Wait for what comes next, no longer than the shortest clock allows, or has come to allow by then (`left`)."""
        self._waits_since = self._clock()
        try:
            return await self._alarm.within(self._clocks.limit, awaited, left)
        except TimeoutError as error:
            if self._alarm.rang and not isinstance(error, TTSError):
                raise self._clocks.overdue(self.provider.name, self.seconds) from None
            raise
        except TTSCutError as error:
            raise self._cut(error) from error.__cause__
        finally:
            self._spend()
            self._waits_since = None

    def _spend(self) -> None:
        """Something has come, or it is over with waiting."""
        before, self._waits_since = self._waits_since, self._clock()
        if before is not None:
            self._clocks.spend(self._waits_since - before)

    def _cut(self, error: TTSCutError) -> TTSError:
        """It is no fault of the provider's when nobody had read on for long."""
        if self._unread < LEFT_ALONE:
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
        if self.sounded is None:
            self.sounded = self.waited
        self._given = self._clock()
        return believed

    def _note_reading(self) -> None:
        if self._given is not None:
            self._unread = max(self._unread, self._clock() - self._given)
            self._given = None

    def _refuse_slowness(self) -> None:
        if slow := self._clocks.slow(self.provider.name, self.seconds):
            slow.request_id = self.accepted.request_id
            raise slow


class Complaint:
    """Makes errors of a provider's, about one request. It knows nothing of the call, which would never be let go of."""

    __slots__ = ("_provider", "request_id")

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self.request_id: str | None = None

    def __call__(self, kind: type[TTSError], message: str) -> TTSError:
        """An error of this kind."""
        return kind(message, provider=self._provider, request_id=self.request_id)
