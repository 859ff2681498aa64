"""Timeouts of a request that was relayed before: made from a few numbers, they are those of the whole history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.service.pipeline.attempt_timeouts import REAL_TIME, AttemptTimeouts
from steadyvoice.service.pipeline.timeouts import Deadline, Stopwatch, TimeoutConfig
from steadyvoice.service.resilience.latency import FirstAudioTimes, SilenceLimits

TICK = 1 / 64  # seconds; sums of these are exact

ticks = st.integers(min_value=0, max_value=200).map(TICK.__mul__)
arrivals = st.lists(st.tuples(ticks, ticks), max_size=12)
"""Seconds of waiting, and seconds of audio that came then, none for bytes without a whole frame."""


def new_timeouts() -> AttemptTimeouts:
    stopwatch = Stopwatch(lambda: 0.0)
    stopwatch.since = 0.0
    return AttemptTimeouts(
        TimeoutConfig(first_audio_timeout=8.0, stall_timeout=5.0, slow_timeout=1.0),
        Deadline(30.0, stopwatch, 0.0),
        Deadline(45.0, stopwatch, 0.0),
        own_deadline=False,
        min_rate=REAL_TIME,
        usual=FirstAudioTimes(SilenceLimits()),
        first_audio=8.0,
        extra=0.0,
    )


def seen(timeouts: AttemptTimeouts, now: float) -> tuple[object, ...]:
    """Return everything that the timeouts decide."""
    slow, left = timeouts.slow_error("vendor", 1.0), timeouts.abandonment_error("vendor")
    remaining = timeouts.utterance_deadline.remaining_at(now)
    return (
        timeouts.waited, timeouts.silence, timeouts.first_audio, timeouts.underrun, timeouts.limit(now), remaining,
        slow and str(slow), left and str(left),
    )  # fmt: skip


@given(before=arrivals, after=arrivals, last=ticks)
def test_resumed_timeouts_are_those_of_the_whole_history(
    before: list[tuple[float, float]], after: list[tuple[float, float]], last: float
) -> None:
    whole, now = new_timeouts(), 0.0
    arrived = heard = audio = 0.0
    first_audio: float | None = None
    for wait, gained in before:
        if first_audio is not None and now + wait - first_audio > audio:
            break  # nothing was left to play: from here on, whole timeouts are kept
        now += wait
        whole.add_wait(wait)
        audio += gained
        whole.add_audio(gained, has_audio=audio > 0)
        arrived = now
        if first_audio is None and audio > 0:
            first_audio = heard = now
        elif gained > 0:
            heard = now

    whole.add_wait(last)
    now += last
    resumed = new_timeouts()
    resumed.resume(now, arrived, heard, first_audio, audio)

    assert seen(resumed, now) == seen(whole, now)
    for wait, gained in after:
        now += wait
        for each in (whole, resumed):
            each.add_wait(wait)
            each.add_audio(gained, has_audio=gained > 0)
        assert seen(resumed, now) == seen(whole, now)
