"""How long one request to one provider may take: until its first audio, between two chunks, and in all.

Decided from what it is told; it reads no clock of its own.
"""

from __future__ import annotations

from steadyvoice.service.listener import Listener
from steadyvoice.service.timeouts import Patience, TimeoutConfig
from steadyvoice.speech.errors import (
    TTSDeadlineError,
    TTSError,
    TTSReadTimeoutError,
    TTSStalledError,
    TTSTooSlowError,
    TTSTotalTimeoutError,
)

HANGING = 5.0
"""Seconds without a sound after which a provider is at fault even if the caller's own deadline ended the wait.

A healthy vendor's first audio comes well within one.
"""

NOT_IN_A_HURRY = 0.5
"""Seconds of silence that tell something of the vendor, once several callers in a row have met with them."""

SILENT = "silent"
"""The `code` of a deadline that passed without a sound, though it was no unreasonable one."""


class Clocks:
    """Of one request. `patience` is its own share of time, `whole` the utterance's; both are spent as it waits.

    `own_deadline` tells that the caller gave less time than the configuration allows. `pace` is the least that will
    do, in seconds of audio a second.
    """

    __slots__ = ("_listener", "_own_deadline", "_patience", "_timeouts", "_whole", "first_audio", "silence", "waited")

    def __init__(
        self, timeouts: TimeoutConfig, patience: Patience, whole: Patience, *, own_deadline: bool, pace: float
    ) -> None:
        self._timeouts, self._patience, self._whole = timeouts, patience, whole
        self._own_deadline = own_deadline
        self._listener = Listener(pace)
        self.waited = 0.0  # seconds, for the provider
        self.silence = 0.0  # since the last audio
        self.first_audio: float | None = None  # seconds until it came

    @property
    def limit(self) -> float:
        """Seconds for which nothing may come from here on."""
        silence, left = self._silence_left, self._patience.left
        return silence if silence < left else left

    def spend(self, seconds: float) -> None:
        """So long it took until something came, or nothing."""
        self.waited += seconds
        self.silence += seconds
        self._patience.spent += seconds
        self._whole.spent += seconds

    def gain(self, seconds: float, *, begun: bool) -> None:
        """What came has so many seconds of audio; `begun` once any of it can be decoded."""
        self._patience.delivered += seconds
        self._whole.delivered += seconds
        # Playing starts with the first audio, so the wait for that is not missed.
        self._listener.waited(self.silence if self.first_audio is not None else 0.0, gained=seconds)
        if begun and self.first_audio is None:
            self.first_audio = self.waited
        self.silence = 0.0

    def slow(self, provider: str, audio: float) -> TTSError | None:
        """What it means that audio comes slower than it is played, if it does for too long."""
        starved = self._listener.starved_for
        if starved < self._timeouts.slow_timeout:
            return None
        told = f"slower than it is played for {starved:.1f} s, after {audio:.1f} s of audio"
        return TTSTooSlowError(told, provider=provider)

    def overdue(self, provider: str, audio: float) -> TTSError:
        """What it means that nothing came within the limit, after so many seconds of audio."""
        if self._silence_left > self._patience.left:
            return self._out_of_time(provider, audio)
        if self.first_audio is None:
            return TTSReadTimeoutError(f"no audio within {self._timeouts.first_audio:g} s", provider=provider)
        told = f"nothing for {self._timeouts.stall:g} s after {audio:.1f} s of audio"
        return TTSStalledError(told, provider=provider)

    @property
    def _silence_left(self) -> float:
        if self.first_audio is None:
            return self._timeouts.first_audio - self.waited
        return self._timeouts.stall - self.silence

    def _out_of_time(self, provider: str, audio: float) -> TTSError:
        had = self._patience.given
        about = f"within {had:g} s and the {audio:.1f} s of audio that came"
        if not self._own_deadline:
            return TTSTotalTimeoutError(f"not finished {about}", provider=provider)
        if self.silence + self._patience.left < HANGING:
            unheard = self.first_audio is None and had >= NOT_IN_A_HURRY
            told = f"not finished {about}, all that this call's deadline left it"
            return TTSDeadlineError(told, provider=provider, code=SILENT if unheard else None)
        silent = TTSReadTimeoutError if self.first_audio is None else TTSStalledError
        return silent(f"no audio for {HANGING:g} s and more when the call's deadline came", provider=provider)
