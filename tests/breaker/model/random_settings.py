"""Random settings of a circuit."""

from __future__ import annotations

from hypothesis import strategies as st

from steadyvoice.breaker import (
    CircuitBreakerConfig,
    ConsecutiveFailures,
    FailureRate,
    Rule,
    SlowCallRate,
    UnlikelyFailures,
)
from tests.breaker.entry_points import CallerError


@st.composite
def rules(draw: st.DrawFn, most: int, slow: bool) -> Rule:
    """Return a combination of up to four simple rules."""
    minimum = st.integers(1, most)
    simple: list[st.SearchStrategy[Rule]] = [
        st.builds(FailureRate, st.sampled_from([0.25, 0.5, 1.0]), minimum),
        st.builds(ConsecutiveFailures, st.integers(1, 4)),
        st.builds(UnlikelyFailures, st.sampled_from([0.3, 0.02])),
    ]
    if slow:
        simple.append(st.builds(SlowCallRate, st.sampled_from([0.5, 1.0]), minimum))
    whole: Rule = draw(st.one_of(simple))
    for other in draw(st.lists(st.one_of(simple), max_size=3)):
        whole = draw(st.sampled_from([whole & other, whole | other, other & whole, other | whole]))
    return whole


@st.composite
def configs(draw: st.DrawFn) -> CircuitBreakerConfig:
    window_size = draw(st.integers(1, 6))
    # None stands twice among the choices where a setting is off by default, to keep most draws usual.
    window_seconds = draw(st.sampled_from([None, None, 5.0, 20.0, 100.0]))
    consecutive = draw(st.sampled_from([None, None, 2, 3]))
    slow = draw(st.sampled_from([None, None, 2.0]))
    significance = draw(st.sampled_from([None, None, 0.3, 0.02, 1e-4]))
    # At least one rule has to remain.
    no_rate = consecutive is not None or slow is not None or significance is not None
    most = 6 if window_seconds else window_size
    own = draw(st.sampled_from([False, False, True]))
    schedule = draw(st.sampled_from([None, None, (1.0, 10.0, 2.0), (0.0, 10.0)]))
    return CircuitBreakerConfig(
        failure_threshold=draw(st.sampled_from([0.25, 0.5, 0.5, 0.75, 1.0, None] if no_rate else [0.25, 0.5, 1.0])),
        window_size=window_size,
        window_seconds=window_seconds,
        minimum_calls=None if own else draw(st.none() | st.integers(1, most)),
        consecutive_failures=None if own else consecutive,
        significance=None if own else significance,
        slow_call_duration=slow,
        slow_call_threshold=draw(st.sampled_from([None, 0.5, 1.0])) if slow and not own else None,
        opens_when=draw(rules(most, slow is not None)) if own else None,
        hung_after=draw(st.sampled_from([None, None, 1.0, 5.0])),
        cooldown_period=draw(st.sampled_from([0.0, 1.0, 10.0, 10.0])),
        cooldown_backoff=1.0 if schedule else draw(st.sampled_from([1.0, 1.5, 2.0])),
        cooldown_schedule=schedule,
        cooldown_jitter=draw(st.sampled_from([0.0, 0.25, 1.0])),
        max_cooldown=None if schedule else draw(st.sampled_from([None, 12.0, 60.0])),
        ramp_up=draw(st.sampled_from([None, None, 5.0, 20.0])),
        success_threshold=draw(st.integers(1, 3)),
        half_open_max_calls=draw(st.integers(1, 3)),
        half_open_failures=draw(st.sampled_from([0, 0, 1, 2])),
        half_open_timeout=draw(st.sampled_from([2.0, 10.0])),
        stream_probe_success_after=draw(st.sampled_from([0.0, 1.0, 3.0])),
        ignore=CallerError,
    )
