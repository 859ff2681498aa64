"""What a service has learnt of lateness, what it may spend on hedges, and how they went."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from steadyvoice.service.attempt import Call
from steadyvoice.service.hedge import Budget, HedgeConfig, Suspicion
from steadyvoice.service.lateness import Lateness, alike


class Hedging:
    """One service's. `clock` gives seconds that never go back."""

    def __init__(self, config: HedgeConfig, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._budget = Budget(config.budget, config.window_seconds)
        self._lateness = Lateness(config.percentile, config.minimum_samples)
        self._suspicions: defaultdict[str, Suspicion] = defaultdict(Suspicion)  # by provider
        counts = ("started", "won", "lost", "refused_for_budget", "nobody_free", "left_to_the_circuit")
        self._counts = dict.fromkeys(counts, 0)
        self.leaving: set[asyncio.Task[None]] = set()
        """Those who are being hung up on. A provider that takes long for that keeps no listener waiting."""

    def patience(self, call: Call) -> float | None:
        """Seconds that this call may be silent before another provider is asked as well. None: not known yet."""
        return self._lateness.limit(_kind(call))

    def asked(self, characters: int) -> None:
        """So many are asked for, for the first time."""
        self._budget.asked(characters, self._clock())

    def spares(self, call: Call) -> bool:
        """Whether this call, which is late, may be overtaken: its provider is not plainly out of order."""
        spared = self._suspicions[call.provider.name].spares()
        self._counts["left_to_the_circuit"] += not spared
        return spared

    def affords(self, call: Call) -> bool:
        """Whether a call may be made as a hedge. It is counted as made."""
        afforded = self._budget.spend(len(call.request.text), self._clock())
        self._counts["started" if afforded else "refused_for_budget"] += 1
        return afforded

    def nobody_free(self) -> None:
        """A hedge was due, and nobody could be asked."""
        self._counts["nobody_free"] += 1

    def over(self, *, won: bool) -> None:
        """A hedge was heard, or it was not: the first spoke after all, or it failed, or the listener left."""
        self._counts["won" if won else "lost"] += 1

    def learn(self, call: Call, *, overtaken: bool = False) -> None:
        """Remember when its first sound came, or that it did not as long as it was waited for."""
        if call.lagged:
            return
        if call.sounded is not None:
            self._lateness.spoke(_kind(call), call.sounded)
            self._suspicions[call.provider.name].heard()
        elif overtaken and self._lateness.withdrawn(_kind(call), call.waited):
            self._suspicions[call.provider.name].overtaken()

    def forget(self) -> None:
        """Wait for no call that is being withdrawn: its task did not come along into a forked child."""
        self.leaving = set()

    async def aclose(self) -> None:
        """Wait until everybody who was hung up on is gone."""
        if self.leaving:
            await asyncio.wait(self.leaving)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: hedges by how they went, and characters of the last while."""
        asked, twice = self._budget.counted(self._clock())
        return {**self._counts, "characters": asked, "hedged_characters": twice}


def _kind(call: Call) -> object:
    return alike(call.provider.name, call.request, call.offer)
