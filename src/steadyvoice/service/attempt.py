"""One call to one provider, under its clocks. What comes out is audio of the offered format, or an error."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Self

from steadyvoice.providers.provider import Accepted, Audio, Offer, Provider
from steadyvoice.service.alarm import Alarm
from steadyvoice.service.clocks import Clocks
from steadyvoice.service.hearing import Hearing
from steadyvoice.service.timeouts import Patience, TimeoutConfig
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSCutError, TTSError, TTSStaleConnectionError
from steadyvoice.speech.request import SpeechRequest

LEFT_ALONE = 30.0
"""Seconds that a listener may leave a stream unread. Servers and proxies hang up on who does so for about a minute."""


class Call:
    """One request to one provider. Enter it once, and there ask for the `next()` until there is none.

    The rest can be read at any time.

    `patience` is the attempt's own share of time, `whole` the utterance's; `own_deadline` tells that the caller
    gave less time than the configuration allows. `pace` is the least that will do, in seconds of audio a second.
    `tell` is called when the vendor has accepted.
    """

    def __init__(
        self,
        provider: Provider,
        request: SpeechRequest,
        offer: Offer,
        *,
        timeouts: TimeoutConfig,
        patience: Patience,
        whole: Patience,
        own_deadline: bool,
        pace: float,
        clock: Callable[[], float],
        tell: Callable[[Accepted], None] = lambda _: None,
    ) -> None:
        self.provider, self.request, self.offer = provider, request, offer
        self.accepted = Accepted()
        self.sent = self.taken = False  # to the vendor; by the vendor: from there on it may be billed
        self.answered: float | None = None
        self.sounded: float | None = None
        """Seconds from the request to its first sound: audio that is believed, and was not just a pause."""
        self._waits_since: float | None = None
        self._connecting, self._clock, self._tell = timeouts.connection_timeout, clock, tell
        self._clocks = Clocks(timeouts, patience, whole, own_deadline=own_deadline, pace=pace)
        self._hearing = Hearing(request, offer.format, self._said)
        self._alignments: list[tuple[float, Alignment]] = []
        self._given: float | None = None  # when the listener was given what it still reads
        self._unread = 0.0  # seconds at most that the listener took for what came
        self._over = False
        self._source: AsyncGenerator[Accepted | Audio, None]
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

    async def __aenter__(self) -> Self:
        self.sent = True
        self._source = self.provider.speak(self.request, self.offer, connection_timeout=self._connecting)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._alarm.close()
        await self._source.aclose()

    async def next(self) -> bytes | None:
        """The next audio, from the moment that it is known to be audio; None at the end. Raises TTSError."""
        self._note_reading()
        self._refuse_slowness()
        while (event := await self._next(self._source)) is not None:
            if isinstance(event, Accepted):
                self.accepted, self.taken, self.answered = event, True, self.waited
                self._tell(event)
                continue
            if event.alignment:
                self._alignments.append((0.0, event.alignment))
            if event.data and (believed := await self._hear(event.data)):
                return self._sound(believed)
            self._refuse_slowness()
        if self._over:
            return None
        self._over = True
        rest = await self._hearing.end()
        return self._sound(rest) if rest else None

    async def _next(self, source: AsyncGenerator[Accepted | Audio, None]) -> Accepted | Audio | None:
        """Wait for what comes next, no longer than the shortest clock allows. None at the end."""
        self._waits_since = before = self._clock()
        try:
            return await self._alarm.within(self._clocks.limit, anext(source, None))
        except TimeoutError as error:
            if self._alarm.rang and not isinstance(error, TTSError):
                raise self._clocks.overdue(self.provider.name, self.seconds) from None
            raise
        except TTSCutError as error:
            if self._unread < LEFT_ALONE:
                raise
            told = f"hung up behind {self.seconds:.1f} s of audio, when nobody had read on for {self._unread:.0f} s"
            raise self._said(TTSStaleConnectionError, told) from error
        finally:
            self._waits_since = None
            self._clocks.spend(self._clock() - before)

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

    def _said(self, kind: type[TTSError], message: str) -> TTSError:
        return kind(message, provider=self.provider.name, request_id=self.accepted.request_id)
