"""Calls as readers of the journal see them: each one while they are few, and a summary of every second.

Of more than `SHOWN` calls in one second the others are only counted; what did not go well is shown before what did.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from steadyvoice.gateway.calls import Call
from steadyvoice.gateway.hour import percentiles
from steadyvoice.gateway.journal import Journal

SHOWN = 20
"""Calls in one second that are shown by themselves; and as many again of those that went wrong."""

_WELL = frozenset({"spoken", "cached"})
_TICK = 1.0


class Pulse:
    """Sums up what happens within a second, and writes it into the journal when it is over."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._second: list[Call] = []
        self._shown: Counter[bool] = Counter()
        self._clock: asyncio.TimerHandle | None = None

    def beat(self, call: Call) -> None:
        """A call is over."""
        if self._clock is None:
            self._clock = asyncio.get_running_loop().call_later(_TICK, self._tick)
        self._second.append(call)
        well = call.outcome in _WELL
        if self._shown[well] < SHOWN:
            self._shown[well] += 1
            self._journal.note("call", call.as_dict())

    def stop(self) -> None:
        """The gateway closes."""
        if self._clock:
            self._clock.cancel()
            self._tick()

    def _tick(self) -> None:
        shown = sum(self._shown.values())
        self._journal.note("calls", {"seconds": _TICK, "shown": shown, **summary(self._second)})
        self._second, self._clock = [], None
        self._shown.clear()


def summary(calls: Sequence[Call]) -> dict[str, Any]:
    """How many there were, how they ended, who spoke, and how soon."""
    providers = Counter(call.provider or "none" for call in calls)
    return {
        "calls": len(calls),
        "outcomes": Counter(call.outcome for call in calls),
        "providers": providers,
        "first_audio": percentiles(call.first_audio for call in calls if call.first_audio is not None),
    }
