"""Latency statistics of providers: first audio by voice, probe timeouts and percentiles for hedging."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.speech.request import SpeechRequest

SILENCE_FACTOR = 1.5
"""Times the slowest of the recent first audios, where the circuit's settings name no `hung_factor`."""

MIN_SAMPLES = 5
"""First audios of a voice that must be known; until then its limit is `overdue_after`, or more where it was slower."""

MIN_SILENCE_LIMIT = 0.5
"""Seconds of silence that are never overdue, however soon the provider answers as a rule."""

MAX_SAMPLES = 50
_MAX_VOICES = 200


class FirstAudioTimes:
    """Seconds that one voice of one provider lately took to its first audio."""

    __slots__ = ("_given_up", "_heard", "_owner", "heard")

    def __init__(self, owner: SilenceLimits) -> None:
        self._owner = owner
        self._heard: deque[float] = deque(maxlen=MAX_SAMPLES)
        self.heard = self._heard.append
        """Record the seconds that a call took to its first audio."""
        self._given_up: deque[float] = deque(maxlen=MAX_SAMPLES)

    @property
    def known(self) -> bool:
        """Whether there are enough of them to judge by."""
        return len(self._heard) >= MIN_SAMPLES

    def given_up(self, seconds: float) -> None:
        """Record that a caller left after so many seconds, when the provider was not overdue.

        Its first audio would have taken longer. Were that left out, only the quick answers of a provider whose callers
        are impatient would be known, and all others would look overdue.
        """
        self._given_up.append(seconds)

    def limit(self, cold: float) -> float:
        """Return the seconds of silence after which a call is overdue; `cold` while too little is known."""
        factor = self._owner.factor
        usual = factor * max(self._heard, default=0.0)
        if not self.known:
            return max(cold, usual)
        # Of those who left not more than `cold` is taken: callers in less and less of a hurry would raise it for ever.
        return max(MIN_SILENCE_LIMIT, usual, min(cold, factor * max(self._given_up, default=0.0)))


class SilenceLimits:
    """First audios of one provider, by voice and model. `hung_factor` gives the circuit's own factor, or None."""

    def __init__(self, hung_factor: Callable[[], float | None] = lambda: None) -> None:
        self._hung_factor = hung_factor
        self._voices: dict[tuple[str, str | None], FirstAudioTimes] = {}
        self.cold = 3.0
        """Seconds of `overdue_after`, by the settings in force: for the limits that are shown."""

    @property
    def factor(self) -> float:
        """Times the slowest of the recent first audios after which a call is overdue."""
        return self._hung_factor() or SILENCE_FACTOR

    def of(self, offer: SynthesisOffer) -> FirstAudioTimes:
        """Return the first audios of the voice and model that are offered."""
        key = offer.voice, offer.model
        found = self._voices.get(key)
        if found is None:
            if len(self._voices) >= _MAX_VOICES:
                del self._voices[next(iter(self._voices))]
            found = self._voices[key] = FirstAudioTimes(self)
        return found

    def limits(self) -> dict[str, float]:
        """Return the seconds of silence after which a call is overdue, by voice; for several models, the most."""
        limits: dict[str, float] = {}
        for (voice, _), times in self._voices.items():
            if times.known:
                limits[voice] = max(limits.get(voice, 0.0), times.limit(self.cold))
        return limits


DEFAULT_PROBE_TIMEOUT = 3.0
"""Seconds for a provider that has not spoken yet."""

MIN_PROBE_TIMEOUT, MAX_PROBE_TIMEOUT = 1.0, 15.0

_PROBE_FACTOR = 2.0  # times the slowest of the last few
_PROBE_SAMPLES = 20
_BACKOFF = 1.5
_MAX_BACKOFF = 4.0


class ProbeTimeout:
    """Learnt from every answer. Each probe that was given up in silence gets the next one half as long again.

    Without that, a provider that has become slower than its own past would never be believed again; and with no
    end to it, one that hangs for hours would cost the callers more and more.
    """

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_PROBE_SAMPLES)
        self._lenience = 1.0

    def spoke(self, after: float) -> None:
        """Its first audio came so many seconds after the request."""
        self._seen.append(after)
        self._lenience = 1.0

    def missed(self) -> None:
        """A probe was given up before it had said a word."""
        self._lenience = min(_MAX_BACKOFF, self._lenience * _BACKOFF)

    @property
    def allowance(self) -> float:
        """Seconds that a probe may take for its first audio."""
        usual = max(MIN_PROBE_TIMEOUT, _PROBE_FACTOR * max(self._seen)) if self._seen else DEFAULT_PROBE_TIMEOUT
        return min(MAX_PROBE_TIMEOUT, usual * self._lenience)


_CLASS_SAMPLES = 200  # answers of each kind
_MAX_CLASSES = 100


def latency_class(provider: str, request: SpeechRequest, offer: SynthesisOffer) -> Hashable:
    """What has to be the same for two first sounds to be compared.

    Models differ, and so do formats (an encoder fills its first frame) and doors (with times or without). Some servers
    say the whole text before they send any of it, so its length counts: within a factor of four, for finer classes
    take longer to learn.
    """
    return provider, offer.model, offer.format.codec, offer.timed, len(request.text).bit_length() // 2


class LatencyPercentiles:
    """Learns from every answer. `percentile` of them are in time; until `minimum` are known, nobody is late."""

    def __init__(self, percentile: float, minimum: int) -> None:
        self._percentile, self._minimum = percentile, minimum
        self._seen: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def spoke(self, kind: Hashable, after: float) -> None:
        """A first sound came so many seconds after the request."""
        seen = self._seen.setdefault(kind, deque(maxlen=max(_CLASS_SAMPLES, self._minimum)))
        seen.append(after)
        self._seen.move_to_end(kind)
        if len(self._seen) > _MAX_CLASSES:
            self._seen.popitem(last=False)

    def withdrawn(self, kind: Hashable, after: float) -> bool:
        """It was hung up on after so many seconds, and would have taken longer. Tells whether it was late.

        Those that were late already are counted as that. If they were left out, the rest would look quicker and
        quicker, and more and more of them late; of the others nothing is known.
        """
        limit = self.limit(kind)
        late = limit is not None and after >= limit
        if late:
            self.spoke(kind, after)
        return late

    def limit(self, kind: Hashable) -> float | None:
        """Seconds of silence after which such a request is late. None: not known yet."""
        seen = self._seen.get(kind, ())
        if len(seen) < self._minimum:
            return None
        return sorted(seen)[math.ceil(self._percentile * len(seen)) - 1]
