"""How soon a provider's first audio usually comes: what a probe is given, while somebody else stands ready."""

from __future__ import annotations

from collections import deque

UNKNOWN = 3.0
"""Seconds for a provider that has not spoken yet."""

LEAST, MOST = 1.0, 15.0

_MARGIN = 2.0  # times the slowest of the last few
_REMEMBERED = 20
_GROWTH = 1.5
_MOST_LENIENT = 4.0


class Promptness:
    """Learnt from every answer. Each probe that was given up in silence gets the next one half as long again.

    Without that, a provider that has become slower than its own past would never be believed again; and with no
    end to it, one that hangs for hours would cost the callers more and more.
    """

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_REMEMBERED)
        self._lenience = 1.0

    def spoke(self, after: float) -> None:
        """Its first audio came so many seconds after the request."""
        self._seen.append(after)
        self._lenience = 1.0

    def missed(self) -> None:
        """A probe was given up before it had said a word."""
        self._lenience = min(_MOST_LENIENT, self._lenience * _GROWTH)

    @property
    def allowance(self) -> float:
        """Seconds that a probe may take for its first audio."""
        usual = max(LEAST, _MARGIN * max(self._seen)) if self._seen else UNKNOWN
        return min(MOST, usual * self._lenience)
