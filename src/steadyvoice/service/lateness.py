"""How soon a provider's first sound comes, for texts that are alike: after which it is late."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Hashable

from steadyvoice.providers.provider import Offer
from steadyvoice.speech.request import SpeechRequest

_REMEMBERED = 200  # answers of each kind
_KINDS = 100


def alike(provider: str, request: SpeechRequest, offer: Offer) -> Hashable:
    """What has to be the same for two first sounds to be compared.

    Models differ, and so do formats (an encoder fills its first frame) and doors (with times or without). Some servers
    say the whole text before they send any of it, so its length counts: within a factor of four, for finer classes
    take longer to learn.
    """
    return provider, offer.model, offer.format.codec, offer.timed, len(request.text).bit_length() // 2


class Lateness:
    """Learns from every answer. `percentile` of them are in time; until `minimum` are known, nobody is late."""

    def __init__(self, percentile: float, minimum: int) -> None:
        self._percentile, self._minimum = percentile, minimum
        self._seen: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def spoke(self, kind: Hashable, after: float) -> None:
        """A first sound came so many seconds after the request."""
        seen = self._seen.setdefault(kind, deque(maxlen=max(_REMEMBERED, self._minimum)))
        seen.append(after)
        self._seen.move_to_end(kind)
        if len(self._seen) > _KINDS:
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
