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
"""Seconds of audio per second that are enough to listen to. A vendor that sends at exactly the rate of speech jitters
around one.
"""

DRIP = 0.1
"""Seconds of audio per second below which no speech is in the making, even when the whole is waited for."""


class PlaybackBuffer:
    """Playback on the caller's side: audio is played from the first chunk on, and waits when there is none.

    It reads no clock; durations come in as arguments. One long gap is a stall, which has its own timeout; slow is audio
    that keeps arriving below `min_rate`, in seconds of audio per second.
    """

    def __init__(self, min_rate: float = REAL_TIME) -> None:
        self._min_rate = min_rate
        self.ahead = 0.0  # seconds of audio not yet played; missing audio when negative
        self.underrun: _Underrun | None = None
        """Present underrun; None while there is audio to play."""

    def waited(self, seconds: float, *, gained: float) -> None:
        """Record that `gained` seconds of audio arrived after a wait of so many seconds."""
        self.ahead -= seconds
        if self.ahead < 0:
            self.underrun = self.underrun or _Underrun()
            self.underrun.add(min(seconds, -self.ahead), gained)
        self.ahead += gained
        if self.ahead >= 0:
            self.underrun = None  # it has caught up

    @property
    def buffered(self) -> float:
        """Seconds of audio that were not yet played when the last arrived. None if the whole is waited
        for.
        """
        return self.ahead if self._min_rate > DRIP else 0.0

    @property
    def underrun_seconds(self) -> float:
        """Seconds for which audio has arrived slower than it is played, with nothing left to play."""
        if self.underrun is None:
            return 0.0
        return self.underrun.lasted if self.underrun.gained < self._min_rate * self.underrun.lasted else 0.0


class _Underrun:
    """Underrun of the playback buffer, until all missing audio has arrived."""

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
"""Seconds of silence after which a provider is at fault even if the caller's own deadline ended the wait.

A healthy vendor's first audio comes well within one second.
"""

STARVED_SHARE = 0.25
"""Share of a call's time, lost for want of processor time here, from which on its deadline says nothing about the
provider.
"""


class AttemptTimeouts:
    """Timeouts of one request.

    `deadline` is the attempt's, `utterance_deadline` that of the whole utterance; both go by the wall clock. `waited`
    and `silence`, which the provider answers for, exclude the time that this process's event loop lost. `own_deadline`
    tells that the caller gave less time than the configuration allows. `min_rate` is the least acceptable rate, in
    seconds of audio per second. `usual` are the voice's recent first audios. The first audio may take `first_audio`
    seconds, and `extra` for the length of the text.
    """

    __slots__ = (
        "_ahead", "_began", "_deadline", "_extra", "_first_audio", "_gap", "_min_rate", "_own_deadline", "_playback",
        "_stall", "_timeouts", "_usual", "first_audio", "queued", "silence", "underrun", "utterance_deadline",
        "waited",
    )  # fmt: skip

    def __init__(
        self,
        timeouts: TimeoutConfig,
        deadline: Deadline,
        utterance_deadline: Deadline,
        *,
        own_deadline: bool,
        min_rate: float,
        usual: FirstAudioTimes,
        first_audio: float,
        extra: float,
    ) -> None:
        self._timeouts, self._deadline, self.utterance_deadline = timeouts, deadline, utterance_deadline
        self._own_deadline, self._usual = own_deadline, usual
        self._first_audio, self._extra = first_audio + extra, extra
        self._stall = timeouts.read_timeout if timeouts.stall_timeout is None else timeouts.stall_timeout
        self._min_rate = min_rate
        self._ahead = 0.0  # seconds of audio not yet played, until the first underrun
        self._playback: PlaybackBuffer | None = None  # from then on
        self._began = 0.0  # seconds of the deadline that had passed before the request was made
        self._gap = 0.0  # seconds since anything arrived
        self.underrun = False  # whether the caller has nothing left to play: only then audio may be too slow
        self.waited = 0.0  # seconds that the provider took
        self.silence = 0.0  # seconds since the last audio
        self.first_audio: float | None = None  # seconds until it arrived
        self.queued = False
        """Whether the request waits in the queue of a local engine, which is no time of the provider's."""

    def begin(self) -> None:
        """Record that the request is made now."""
        self._began = self._deadline.elapsed

    def resume(self, waited: float, arrived: float, heard: float, first_audio: float | None, audio: float) -> None:
        """Go on with a request whose audio was always played later than it arrived.

        All are seconds that the provider took: so far, and until the last bytes, the last audio and the first had come;
        `audio` are those of audio. While there is some left to play, what is left is a difference of these.
        """
        self.waited, self.first_audio = waited, first_audio
        self._gap, self.silence = waited - arrived, waited - heard
        self._ahead = audio if first_audio is None else audio - (arrived - first_audio)
        self._deadline.delivered = self.utterance_deadline.delivered = audio

    def restart(self) -> None:
        """Allow as much time for the next audio as for the first, because the provider begins anew."""
        self.silence = min(0.0, self._stall - self._first_audio)

    def limit(self, now: float) -> float:
        """Return the seconds for which nothing may arrive from `now` on; 0.0 or less when a timeout has expired."""
        remaining = self._deadline.remaining_at(now)
        if self.queued:
            return remaining
        silence = self._first_audio - self.waited if self.first_audio is None else self._stall - self.silence
        return silence if silence < remaining else remaining

    def out_of_time(self, now: float) -> bool:
        """Return whether the attempt's deadline has passed."""
        return self._deadline.remaining_at(now) <= 0

    def add_wait(self, seconds: float) -> None:
        """Count seconds that the provider answers for."""
        if self.queued:
            return
        self.waited += seconds
        self.silence += seconds
        self._gap += seconds

    def add_audio(self, seconds: float, *, has_audio: bool) -> None:
        """Count seconds of audio that arrived; `has_audio` once any of it can be decoded.

        Bytes without any audio, such as tags, stop neither the first-audio nor the stall timeout.
        """
        self._deadline.delivered += seconds
        self.utterance_deadline.delivered += seconds
        # Playback starts with the first audio, so the wait for that is no underrun.
        playback, gap = self._playback, self._gap if self.first_audio is not None else 0.0
        # Nearly always there is audio left to play: no object is made for that, and none is called.
        if playback is None and self._ahead >= gap:
            self._ahead += seconds - gap
        elif playback is not None and playback.underrun is None and playback.ahead >= gap:
            playback.ahead += seconds - gap
        else:
            if playback is None:
                playback = self._playback = PlaybackBuffer(self._min_rate)
                playback.ahead = self._ahead
            playback.waited(gap, gained=seconds)
            self.underrun = playback.underrun is not None
        self._gap = 0.0
        if has_audio and self.first_audio is None:
            self.first_audio = self.waited
            self.silence = 0.0
        elif seconds > 0:
            self.silence = 0.0

    def slow_error(self, provider: str, audio: float) -> TTSError | None:
        """Return the error of audio that has arrived slower than it is played for too long, or None."""
        starved = self._playback.underrun_seconds if self._playback else 0.0
        if starved < self._timeouts.slow_timeout:
            return None
        message = f"audio slower than real time for {starved:.1f} s, after {audio:.1f} s of audio"
        return TTSTooSlowError(message, provider=provider)

    def timeout_error(self, provider: str, audio: float, now: float) -> TTSError:
        """Return the error of the timeout that has expired by `now`, after so many seconds of audio.

        It is marked as `starved` when a substantial part of the time was lost in this process, not at the provider.
        """
        error = self._timeout_error(provider, audio, now)
        error.starved = self.starved(now)
        return error

    def abandonment_error(self, provider: str) -> TTSError | None:
        """Return the error that counts against the provider when the caller leaves now; None if it was not overdue."""
        if not self._is_overdue(self.silence):
            return None
        usual = f"overdue after {self._limit:.3g} s"
        message = f"silent for {self.silence:.1f} s when its caller left ({usual})"
        return TTSAbandonedInSilenceError(message, provider=provider)

    def learn(self, *, given_up: bool) -> None:
        """Record when the first audio came, or that the caller left before it did (`given_up`)."""
        if self.first_audio is not None:
            self._usual.record(max(0.0, self.first_audio - self._extra))
        elif given_up:
            self._usual.record_abandoned(max(0.0, self.waited - self._extra))

    @property
    def _limit(self) -> float:
        """Seconds of silence after which the provider is overdue."""
        default = self._timeouts.overdue_after
        limit = self._usual.limit(default) + self._extra
        # Between two chunks there is nothing to compare with, and a vendor that sends in bursts is not silent.
        return limit if self.first_audio is None else max(limit, default)

    def _is_overdue(self, silence: float) -> bool:
        if silence <= self._limit:
            return False
        return self.first_audio is None or silence > self._buffered

    @property
    def _buffered(self) -> float:
        """Seconds of audio that were not yet played when the last arrived."""
        if self._playback is not None:
            return self._playback.buffered
        return self._ahead if self._min_rate > DRIP else 0.0

    def starved(self, now: float) -> bool:
        """Return whether a substantial part of the time since the request was lost in this process."""
        elapsed = self._deadline.elapsed_at(now) - self._began
        return elapsed > 0 and elapsed - self.waited >= STARVED_SHARE * elapsed

    def _timeout_error(self, provider: str, audio: float, now: float) -> TTSError:
        remaining = self._deadline.remaining_at(now)
        # The limit that ends first names the error, since each has its own meaning for the circuit.
        if self._silence_remaining > remaining:
            return self._out_of_time(provider, audio, remaining)
        if self.first_audio is None:
            return TTSReadTimeoutError(f"no audio within {self._first_audio:g} s", provider=provider)
        message = f"stalled for {self._timeouts.stall:g} s after {audio:.1f} s of audio"
        return TTSStalledError(message, provider=provider)

    @property
    def _silence_remaining(self) -> float:
        if self.queued:
            return math.inf
        return self._first_audio - self.waited if self.first_audio is None else self._stall - self.silence

    def _out_of_time(self, provider: str, audio: float, remaining: float) -> TTSError:
        seconds = self._deadline.seconds
        about = f"within {seconds:g} s and the {audio:.1f} s of audio that came"
        if not self._own_deadline:
            return TTSTotalTimeoutError(f"not finished {about}", provider=provider)
        silence = self.silence + max(remaining, 0.0)
        message = f"not finished {about} (deadline of the call)"
        if not self._is_overdue(silence):
            return TTSDeadlineError(message, provider=provider)
        # Voice agents use short deadlines, and a vendor that hangs must not go unnoticed behind them. A deadline that
        # passes before the provider was overdue counts nothing: ten callers with a second each would otherwise open the
        # circuit of a healthy vendor that needs a second and a half.
        if silence < HANG_LIMIT:
            message = f"{message}: silent for {silence:.1f} s (overdue after {self._limit:.3g} s)"
            return TTSAbandonedInSilenceError(message, provider=provider)
        kind = TTSReadTimeoutError if self.first_audio is None else TTSStalledError
        return kind(f"no audio for more than {HANG_LIMIT:g} s when the call's deadline passed", provider=provider)
