"""Timeouts of one request to one provider: first audio, stall, slow audio and deadline.

Pure decisions: durations and clock readings come in as arguments.
"""

from __future__ import annotations

import math

from steadyvoice.service.pipeline.timeouts import Deadline, TimeoutConfig
from steadyvoice.service.resilience.latency import FirstAudioTimes
from steadyvoice.speech.errors import (
    TTSAbandonedInSilenceError,
    TTSDeadlineError,
    TTSError,
    TTSReadTimeoutError,
    TTSStalledError,
    TTSTooSlowError,
    TTSTotalTimeoutError,
)

REAL_TIME = 0.9
"""Seconds of audio a second that are enough to listen to. A vendor that sends at the very pace of speech jitters around
one.
"""

DRIP = 0.1
"""Less than this is no speech in the making, even to somebody who waits for the whole."""


class PlaybackBuffer:
    """Plays from the first audio on, and waits when there is none. Knows no clock: it is told how long things took.

    One long gap is a stall, which has a clock of its own; slow is what goes on and on below `pace`, in seconds of
    audio a second.
    """

    def __init__(self, pace: float = REAL_TIME) -> None:
        self._pace = pace
        self._ahead = 0.0  # seconds of audio in hand; what is missing when negative
        self.underrun: _Underrun | None = None
        """Since it ran out of audio; None while it has some in hand."""

    def waited(self, seconds: float, *, gained: float) -> None:
        """So much audio came after so long a wait."""
        self._ahead -= seconds
        if self._ahead < 0:
            self.underrun = self.underrun or _Underrun()
            self.underrun.add(min(seconds, -self._ahead), gained)
        self._ahead += gained
        if self._ahead >= 0:
            self.underrun = None  # it has caught up

    @property
    def buffered(self) -> float:
        """Seconds of audio that were not played yet when the last came. Whoever waits for the whole plays nothing."""
        return self._ahead if self._pace > DRIP else 0.0

    @property
    def underrun_seconds(self) -> float:
        """Seconds for which audio has come slower than it is played, to somebody with nothing in hand."""
        if self.underrun is None:
            return 0.0
        return self.underrun.lasted if self.underrun.gained < self._pace * self.underrun.lasted else 0.0


class _Underrun:
    """From the moment the listener ran dry until all that was missing has come."""

    def __init__(self) -> None:
        self._waited = self._longest = self.gained = 0.0

    def add(self, waited: float, gained: float) -> None:
        self._waited += waited
        self._longest = max(self._longest, waited)
        self.gained += gained

    @property
    def lasted(self) -> float:
        return self._waited - self._longest


HANG_LIMIT = 5.0
"""Seconds without a sound after which a provider is at fault even if the caller's own deadline ended the wait.

A healthy vendor's first audio comes well within one.
"""

STARVED_SHARE = 0.25
"""Share of a call's time that our own lack of processor time may take before the call's deadline says nothing about the
provider.
"""


class AttemptTimeouts:
    """Clocks of one request. `patience` is its own share of time, `whole` the utterance's; both go by the wall clock.

    What the provider answers for, `waited` and `silence`, is told: without the time that our own event loop lost.
    `own_deadline` tells that the caller gave less time than the configuration allows. `pace` is the least that will
    do, in seconds of audio a second. `usual` are the voice's recent first audios. The first audio may take so many
    seconds, and `extra` for the length of the text.
    """

    __slots__ = (
        "_began", "_extra", "_first_audio", "_gap", "_listener", "_own_deadline", "_patience", "_stall",
        "_timeouts", "_usual", "_whole", "behind", "first_audio", "queued", "silence", "waited",
    )  # fmt: skip

    def __init__(
        self,
        timeouts: TimeoutConfig,
        patience: Deadline,
        whole: Deadline,
        *,
        own_deadline: bool,
        pace: float,
        usual: FirstAudioTimes,
        first_audio: float,
        extra: float,
    ) -> None:
        self._timeouts, self._patience, self._whole = timeouts, patience, whole
        self._own_deadline, self._usual = own_deadline, usual
        self._first_audio, self._extra, self._stall = first_audio + extra, extra, timeouts.stall
        self._listener = PlaybackBuffer(pace)
        self._began = 0.0  # seconds of patience that were spent before the request was made
        self._gap = 0.0  # seconds since anything came
        self.behind = False  # whether whoever listens has nothing left to play: only then it may be too slow
        self.waited = 0.0  # seconds, for the provider
        self.silence = 0.0  # since the last audio
        self.first_audio: float | None = None  # seconds until it came
        self.queued = False
        """Whether the request waits for its turn at an engine of ours: the provider answers for none of that."""

    def begin(self) -> None:
        """Note that the request is made now."""
        self._began = self._patience.spent

    def limit(self, now: float) -> float:
        """Seconds for which nothing may come from `now` on; 0.0 or less when a clock has run out."""
        left = self._patience.left_at(now)
        if self.queued:
            return left
        silence = self._first_audio - self.waited if self.first_audio is None else self._stall - self.silence
        return silence if silence < left else left

    def out_of_time(self, now: float) -> bool:
        """Whether the share of time that was given is used up."""
        return self._patience.left_at(now) <= 0

    def spend(self, seconds: float) -> None:
        """Count seconds that the provider answers for."""
        if self.queued:
            return
        self.waited += seconds
        self.silence += seconds
        self._gap += seconds

    def gain(self, seconds: float, *, begun: bool) -> None:
        """Count so many seconds of audio that came; `begun` once any of it can be decoded.

        Bytes without any audio, such as tags, stop neither the clock of the first audio nor that of silence.
        """
        self._patience.delivered += seconds
        self._whole.delivered += seconds
        # Playing starts with the first audio, so the wait for that is not missed.
        listener = self._listener
        listener.waited(self._gap if self.first_audio is not None else 0.0, gained=seconds)
        self.behind = listener.underrun is not None
        self._gap = 0.0
        if begun and self.first_audio is None:
            self.first_audio = self.waited
            self.silence = 0.0
        elif seconds > 0:
            self.silence = 0.0

    def slow(self, provider: str, audio: float) -> TTSError | None:
        """What it means that audio comes slower than it is played, if it does for too long."""
        starved = self._listener.underrun_seconds
        if starved < self._timeouts.slow_timeout:
            return None
        told = f"slower than it is played for {starved:.1f} s, after {audio:.1f} s of audio"
        return TTSTooSlowError(told, provider=provider)

    def overdue(self, provider: str, audio: float, now: float) -> TTSError:
        """Make the error of the clock that has run out by `now`, after so many seconds of audio.

        It is marked as `starved` when a substantial part of the time was lost here, not at the provider.
        """
        error = self._overdue(provider, audio, now)
        error.starved = self.starved(now)
        return error

    def abandoned(self, provider: str) -> TTSError | None:
        """Return what it means for the provider that the caller leaves now; None if it was not overdue."""
        if not self._is_overdue(self.silence):
            return None
        usual = f"overdue after {self._limit:.3g} s"
        told = f"silent for {self.silence:.1f} s when its caller left ({usual})"
        return TTSAbandonedInSilenceError(told, provider=provider)

    def learn(self, *, given_up: bool) -> None:
        """Remember when the first audio came, or that a caller has `given_up` before it did."""
        if self.first_audio is not None:
            self._usual.heard(max(0.0, self.first_audio - self._extra))
        elif given_up:
            self._usual.given_up(max(0.0, self.waited - self._extra))

    @property
    def _limit(self) -> float:
        """Seconds of silence after which the provider is overdue."""
        cold = self._timeouts.overdue_after
        limit = self._usual.limit(cold) + self._extra
        # Between two chunks there is nothing to compare with, and a vendor that sends in bursts is not silent.
        return limit if self.first_audio is None else max(limit, cold)

    def _is_overdue(self, silence: float) -> bool:
        if silence <= self._limit:
            return False
        return self.first_audio is None or silence > self._listener.buffered

    def starved(self, now: float) -> bool:
        """Whether a substantial part of the time since the request was lost here, not at the provider."""
        spent = self._patience.spent_at(now) - self._began
        return spent > 0 and spent - self.waited >= STARVED_SHARE * spent

    def _overdue(self, provider: str, audio: float, now: float) -> TTSError:
        left = self._patience.left_at(now)
        if self._silence_left > left:
            return self._out_of_time(provider, audio, left)
        if self.first_audio is None:
            return TTSReadTimeoutError(f"no audio within {self._first_audio:g} s", provider=provider)
        told = f"nothing for {self._timeouts.stall:g} s after {audio:.1f} s of audio"
        return TTSStalledError(told, provider=provider)

    @property
    def _silence_left(self) -> float:
        if self.queued:
            return math.inf
        return self._first_audio - self.waited if self.first_audio is None else self._stall - self.silence

    def _out_of_time(self, provider: str, audio: float, left: float) -> TTSError:
        had = self._patience.given
        about = f"within {had:g} s and the {audio:.1f} s of audio that came"
        if not self._own_deadline:
            return TTSTotalTimeoutError(f"not finished {about}", provider=provider)
        silence, told = self.silence + max(left, 0.0), f"not finished {about}, all that this call's deadline left it"
        if not self._is_overdue(silence):
            return TTSDeadlineError(told, provider=provider)
        if silence < HANG_LIMIT:
            told = f"{told}: silent for {silence:.1f} s (overdue after {self._limit:.3g} s)"
            return TTSAbandonedInSilenceError(told, provider=provider)
        silent = TTSReadTimeoutError if self.first_audio is None else TTSStalledError
        return silent(f"no audio for {HANG_LIMIT:g} s and more when the call's deadline came", provider=provider)
