"""One call to one provider, under its clocks. What comes out is audio of the offered format, or an error."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Self

from steadyvoice.providers.provider import Accepted, Audio, Offer, Provider
from steadyvoice.service.alarm import Alarm
from steadyvoice.service.hearing import Hearing
from steadyvoice.service.listener import Listener
from steadyvoice.service.timeouts import Patience, TimeoutConfig
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import (
    TTSCutError,
    TTSDeadlineError,
    TTSError,
    TTSReadTimeoutError,
    TTSStaleConnectionError,
    TTSStalledError,
    TTSTooSlowError,
    TTSTotalTimeoutError,
)
from steadyvoice.speech.request import SpeechRequest

HANGING = 5.0
"""Seconds without a sound after which a provider is at fault even if the caller's own deadline ended the wait.

A healthy vendor's first audio comes well within one.
"""

NOT_IN_A_HURRY = 0.5
"""Seconds of silence that tell something of the vendor, once several callers in a row have met with them."""

SILENT = "silent"
"""The `code` of a deadline that passed without a sound, though it was no unreasonable one."""


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
        self.first_audio: float | None = None
        self.sounded: float | None = None
        """Seconds from the request to its first sound: audio that is believed, and was not just a pause."""
        self._waited = 0.0
        self._waits_since: float | None = None
        self._timeouts, self._clock, self._tell = timeouts, clock, tell
        self._patience, self._whole, self._own_deadline = patience, whole, own_deadline
        self._hearing = Hearing(request, offer.format, self._said)
        self._alignments: list[tuple[float, Alignment]] = []
        self._silence = 0.0  # seconds waited since the last audio
        self._given: float | None = None  # when the listener was given what it still reads
        self._unread = 0.0  # seconds at most that the listener took for what came
        self._over = False
        self._source: AsyncGenerator[Accepted | Audio, None]
        self._listener = Listener(pace)
        self._alarm = Alarm()

    @property
    def waited(self) -> float:
        """Seconds of waiting for the provider so far."""
        return self._waited + (0.0 if self._waits_since is None else self._clock() - self._waits_since)

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
        limit = self._timeouts.connection_timeout
        self._source = self.provider.speak(self.request, self.offer, connection_timeout=limit)
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
        silence, left = self._silence_left, self._patience.left
        self._waits_since = before = self._clock()
        try:
            return await self._alarm.within(min(silence, left), anext(source, None))
        except TimeoutError as error:
            if self._alarm.rang and not isinstance(error, TTSError):
                raise (self._silent() if silence <= left else self._out_of_time()) from None
            raise
        except TTSCutError as error:
            if self._unread < LEFT_ALONE:
                raise
            told = f"hung up behind {self.seconds:.1f} s of audio, when nobody had read on for {self._unread:.0f} s"
            raise self._said(TTSStaleConnectionError, told) from error
        finally:
            self._spend(self._clock() - before)

    @property
    def _silence_left(self) -> float:
        """Seconds for which nothing may come from here on."""
        if self.first_audio is None:
            return self._timeouts.first_audio - self.waited
        return self._timeouts.stall - self._silence

    def _silent(self) -> TTSError:
        name = self.provider.name
        if self.first_audio is None:
            return TTSReadTimeoutError(f"no audio within {self._timeouts.first_audio:g} s", provider=name)
        told = f"nothing for {self._timeouts.stall:g} s after {self.seconds:.1f} s of audio"
        return TTSStalledError(told, provider=name)

    def _out_of_time(self) -> TTSError:
        name, had = self.provider.name, self._patience.given
        about = f"within {had:g} s and the {self.seconds:.1f} s of audio that came"
        if not self._own_deadline:
            return TTSTotalTimeoutError(f"not finished {about}", provider=name)
        if self._silence + self._patience.left < HANGING:
            unheard = self.first_audio is None and had >= NOT_IN_A_HURRY
            told = f"not finished {about}, all that this call's deadline left it"
            return TTSDeadlineError(told, provider=name, code=SILENT if unheard else None)
        silent = TTSReadTimeoutError if self.first_audio is None else TTSStalledError
        return silent(f"no audio for {HANGING:g} s and more when the call's deadline came", provider=name)

    def _spend(self, waited: float) -> None:
        self._waits_since = None
        self._waited += waited
        self._silence += waited
        self._patience.spent += waited
        self._whole.spent += waited

    async def _hear(self, data: bytes) -> bytes:
        hearing = self._hearing
        before = hearing.seconds
        believed = hearing.take(data)
        if believed is None:
            believed = await hearing.judge()
        gained = hearing.seconds - before
        self._patience.delivered += gained
        self._whole.delivered += gained
        # Playing starts with the first audio, so the wait for that is not missed.
        self._listener.waited(self._silence if self.first_audio is not None else 0.0, gained=gained)
        if self.first_audio is None and self._hearing.begun:
            self.first_audio = self.waited
        self._silence = 0.0
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
        starved = self._listener.starved_for
        if starved >= self._timeouts.slow_timeout:
            told = f"slower than it is played for {starved:.1f} s, after {self.seconds:.1f} s of audio"
            raise self._said(TTSTooSlowError, told)

    def _said(self, kind: type[TTSError], message: str) -> TTSError:
        return kind(message, provider=self.provider.name, request_id=self.accepted.request_id)
