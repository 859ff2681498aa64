"""The wait at the gate: a request stands in line before it is sent, as long as its caller can wait and no longer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType

from steadyvoice.providers.base import Accepted
from steadyvoice.service.gate import Gate, Place
from steadyvoice.speech.errors import TTSConcurrencyError


class Turnstile:
    """One gate, and those who wait at it in one event loop."""

    def __init__(self, gate: Gate, clock: Callable[[], float]) -> None:
        self.gate = gate
        self.clock = clock
        self._calls: dict[Place, asyncio.Future[None]] = {}

    def turn(self, provider: str, limit: float, *, hopeful: bool = False, goes_on: bool = False) -> Turn:
        """Somebody's turn: enter it to wait, for `limit` seconds at most, and to run.

        Who is `hopeful` waits even if it will probably take longer, for there is nowhere else to go. Who `goes_on` is
        being heard already.
        """
        return Turn(self, provider, limit, hopeful, goes_on)

    async def wait(self, place: Place, seconds: float) -> bool:
        """Whether its turn came within so many seconds."""
        if place.running:
            return True
        called = self._calls[place] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds if math.isfinite(seconds) else None):
                await called
        except TimeoutError:
            return False
        finally:
            del self._calls[place]
        return True

    def forget(self) -> None:
        """Empty it without calling anyone: those who run or wait did not come along into a forked child."""
        self.gate.forget()
        self._calls = {}

    def call(self, places: list[Place]) -> None:
        """Tell those whose turn it is."""
        for place in places:
            called = self._calls.get(place)
            if called and not called.done():
                called.set_result(None)


class Turn:
    """One request's way through the turnstile. However it ends, its place is given back."""

    def __init__(
        self,
        turnstile: Turnstile,
        provider: str,
        limit: float,
        hopeful: bool,
        goes_on: bool,
    ) -> None:
        self._turnstile, self._provider, self._limit = turnstile, provider, limit
        self._hopeful, self._goes_on = hopeful, goes_on
        self._place: Place | None = None

    async def __aenter__(self) -> Turn:
        """Wait. Raises TTSConcurrencyError when it takes too long, or plainly would."""
        turnstile = self._turnstile
        if turnstile.gate.expected_wait(goes_on=self._goes_on) > self._limit and not self._hopeful:
            raise self._too_many()
        self._place = turnstile.gate.ask(turnstile.clock(), goes_on=self._goes_on)
        if self._place.running:
            return self
        try:
            in_time = await turnstile.wait(self._place, self._limit)
        except BaseException:
            self._leave()
            raise
        if not in_time:
            self._leave()
            raise self._too_many()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave(error)

    def leave(self, error: BaseException | None = None) -> None:
        """It is over, by this error if any. Leaving twice changes nothing."""
        if self._place and isinstance(error, TTSConcurrencyError):
            self._turnstile.gate.refused(self._place)
        self._leave()

    def accepted(self, told: Accepted) -> None:
        """The vendor took the request: learn what it says of its limit at once, for others wait to know."""
        if self._place:
            turnstile = self._turnstile
            turnstile.call(turnstile.gate.accepted(self._place, told.concurrency_limit, turnstile.clock()))

    def _leave(self) -> None:
        if self._place:
            self._turnstile.call(self._turnstile.gate.leave(self._place, self._turnstile.clock()))

    def _too_many(self) -> TTSConcurrencyError:
        gate = self._turnstile.gate
        told = f"no turn within {self._limit:.3g} s: {gate.running} requests run, {gate.waiting} wait"
        return TTSConcurrencyError(told, provider=self._provider)
