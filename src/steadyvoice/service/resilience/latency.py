"""Latency statistics of providers: first audio by voice, overdue silence, probe timeouts, percentiles for hedging."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.speech.request import SpeechRequest

SILENCE_FACTOR = 1.5
"""Factor on the slowest of the recent first audios, unless the circuit's settings name a `hung_factor`."""

MIN_SAMPLES = 5
"""Number of first audios that must be known of a voice; until then its limit is `overdue_after`, or more if it was
slower.
"""

MIN_SILENCE_LIMIT = 0.5
"""Seconds of silence that are never overdue, however fast the provider usually answers."""

MAX_SAMPLES = 50
_MAX_VOICES = 200


class FirstAudioTimes:
    """Recent times to first audio of one voice of one provider, in seconds."""

    __slots__ = ("_abandoned", "_owner", "_recorded", "record")

    def __init__(self, owner: SilenceLimits) -> None:
        self._owner = owner
        self._recorded: deque[float] = deque(maxlen=MAX_SAMPLES)
        self.record = self._recorded.append
        """Record the seconds that a call took to its first audio."""
        self._abandoned: deque[float] = deque(maxlen=MAX_SAMPLES)

    @property
    def known(self) -> bool:
        """True if there are enough of them to judge by."""
        return len(self._recorded) >= MIN_SAMPLES

    def record_abandoned(self, seconds: float) -> None:
        """Record that a caller left after so many seconds, when the provider was not overdue.

        Its first audio would have taken longer. Without these, only the quick answers of a provider with impatient
        callers would be known, and all others would look overdue.
        """
        self._abandoned.append(seconds)

    def limit(self, default: float) -> float:
        """Return the seconds of silence after which a call is overdue; `default` is used while too little is known."""
        factor = self._owner.factor
        usual = factor * max(self._recorded, default=0.0)
        if not self.known:
            return max(default, usual)
        # Callers who left count for no more than the default: callers in less and less of a hurry would raise the limit
        # for ever.
        return max(MIN_SILENCE_LIMIT, usual, min(default, factor * max(self._abandoned, default=0.0)))


class SilenceLimits:
    """Limits on the silence of one provider, by voice and model; a call that exceeds its limit is overdue.

    A caller's hanging up says nothing about the provider unless it was overdue by then. With one limit for all voices,
    callers that give up on a dead vendor would count for nothing, or impatient ones would open the circuit of a vendor
    that is merely slow. `hung_factor` returns the circuit's own factor, or None.
    """

    def __init__(self, hung_factor: Callable[[], float | None] = lambda: None) -> None:
        self._hung_factor = hung_factor
        self._voices: dict[tuple[str, str | None], FirstAudioTimes] = {}
        self.default = 3.0
        """Seconds of `overdue_after` in the settings in force, for the limits that are shown."""

    @property
    def factor(self) -> float:
        """Factor on the slowest of the recent first audios."""
        return self._hung_factor() or SILENCE_FACTOR

    def for_offer(self, offer: SynthesisOffer) -> FirstAudioTimes:
        """Return the first-audio times of the offered voice and model."""
        key = offer.voice, offer.model
        times = self._voices.get(key)
        if times is None:
            if len(self._voices) >= _MAX_VOICES:
                del self._voices[next(iter(self._voices))]
            times = self._voices[key] = FirstAudioTimes(self)
        return times

    def limits(self) -> dict[str, float]:
        """Return the seconds of silence after which a call is overdue, by voice; of several models, the highest."""
        limits: dict[str, float] = {}
        for (voice, _), times in self._voices.items():
            if times.known:
                limits[voice] = max(limits.get(voice, 0.0), times.limit(self.default))
        return limits


DEFAULT_PROBE_TIMEOUT = 3.0
"""Seconds for a provider without any recorded answer."""

MIN_PROBE_TIMEOUT, MAX_PROBE_TIMEOUT = 1.0, 15.0

_PROBE_FACTOR = 2.0  # times the slowest of the recent first audios
_PROBE_SAMPLES = 20
_BACKOFF = 1.5
_MAX_BACKOFF = 4.0


class ProbeTimeout:
    """Timeout for the first audio of a probe, learned from the provider's answers.

    Each probe that timed out makes the next timeout half as long again, up to four times. Without that, a provider that
    has become slower than its own past would never recover; without the bound, one that hangs for hours would cost
    callers more and more.
    """

    def __init__(self) -> None:
        self._recorded: deque[float] = deque(maxlen=_PROBE_SAMPLES)
        self._backoff = 1.0

    def record(self, after: float) -> None:
        """Record a first audio so many seconds after the request."""
        self._recorded.append(after)
        self._backoff = 1.0

    def record_missed(self) -> None:
        """Record that a probe timed out before its first audio."""
        self._backoff = min(_MAX_BACKOFF, self._backoff * _BACKOFF)

    @property
    def seconds(self) -> float:
        """Seconds that a probe may take for its first audio."""
        usual = max(MIN_PROBE_TIMEOUT, _PROBE_FACTOR * max(self._recorded)) if self._recorded else DEFAULT_PROBE_TIMEOUT
        return min(MAX_PROBE_TIMEOUT, usual * self._backoff)


_CLASS_SAMPLES = 200  # answers of each class
_MAX_CLASSES = 100


def latency_class(provider: str, request: SpeechRequest, offer: SynthesisOffer) -> Hashable:
    """Return the class of requests whose times to first sound are compared.

    Models differ, and so do formats (an encoder fills its first frame) and endpoints (with timestamps or without). Some
    servers synthesize the whole text before they send any audio, so its length counts: within a factor of four, because
    finer classes take longer to learn.
    """
    return provider, offer.model, offer.format.codec, offer.timed, len(request.text).bit_length() // 2


class LatencyPercentiles:
    """Percentiles of the time to first sound, by class of requests.

    A request is late when it takes longer than `percentile` of the recorded ones; none is before `minimum` are
    recorded.
    """

    def __init__(self, percentile: float, minimum: int) -> None:
        self._percentile, self._minimum = percentile, minimum
        self._recorded: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def record(self, request_class: Hashable, after: float) -> None:
        """Record a first sound so many seconds after the request."""
        recorded = self._recorded.setdefault(request_class, deque(maxlen=max(_CLASS_SAMPLES, self._minimum)))
        recorded.append(after)
        self._recorded.move_to_end(request_class)
        if len(self._recorded) > _MAX_CLASSES:
            self._recorded.popitem(last=False)

    def record_cancelled(self, request_class: Hashable, after: float) -> bool:
        """Record a request that was cancelled after so many seconds. Return whether it was late.

        It would have taken longer, so a late one is recorded with that time. Without those, the rest would look quicker
        and quicker, and more and more requests late; of requests that were not late nothing is known.
        """
        limit = self.limit(request_class)
        late = limit is not None and after >= limit
        # A true time is unknown, but it was late. Without these samples the percentile would be that of the rest, and
        # sink by a twentieth again and again.
        if late:
            self.record(request_class, after)
        return late

    def limit(self, request_class: Hashable) -> float | None:
        """Return the seconds of silence after which a request of this class is late; None while unknown."""
        recorded = self._recorded.get(request_class, ())
        if len(recorded) < self._minimum:
            return None
        return sorted(recorded)[math.ceil(self._percentile * len(recorded)) - 1]
