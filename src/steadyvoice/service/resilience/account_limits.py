"""What one credential allows: so many requests at once, so much credit, or nothing until a time.

Providers that use the same credential share this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from steadyvoice.breaker.fork_safety import register_fork_aware
from steadyvoice.providers.base import Accepted, Credential, Credit, HasCredential, Provider, ReportsCredit
from steadyvoice.service.billing import CreditMeter
from steadyvoice.service.log_messages import log_credit_unknown, log_credit_warning
from steadyvoice.service.resilience.concurrency import ConcurrencyLimit, ConcurrencyQueue
from steadyvoice.service.resilience.error_classification import classify
from steadyvoice.service.resilience.holds import CREDENTIAL, SharedHold, update_quota_hold
from steadyvoice.service.resilience.request_ids import RequestIds
from steadyvoice.speech.failure_kinds import FailureKind

CREDIT_CHECK_INTERVAL = 15 * 60.0
"""Seconds between two questions for the credit: while it is exhausted, and while it is being spent."""

_MIN_CHECK_INTERVAL = 60.0  # seconds: however often a vendor refuses
_CREDIT_TIMEOUT = 10.0  # seconds for the answer

CreditQuery = Callable[[], Awaitable[Credit]]


class AccountLimits:
    """One credential's. `ask` is the free question for its credit, None where a vendor has no answer to it.

    The question is first put when the vendor refuses for want of credit, or a quarter of an hour after the first
    request was billed: whoever says a few words and leaves has asked nothing.
    """

    def __init__(
        self,
        name: str,
        credential: Credential | None,
        ask: CreditQuery | None,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        request_ids: RequestIds | None = None,
    ) -> None:
        self.name = name  # of the provider that it was first met with
        credential = credential or Credential(f"only {name}")
        self.account = credential.id
        self.request_ids = request_ids or RequestIds()
        self.queue = ConcurrencyQueue(
            ConcurrencyLimit(credential.initial_concurrency, credential.max_concurrency), clock
        )
        self.meter = CreditMeter()
        self.holds: SharedHold = {}
        self._ask, self._clock, self._wall_clock = ask, clock, wall_clock
        self._asked: float | None = None
        self._task: asyncio.Task[None] | None = None
        register_fork_aware(self)

    fork_lock = None

    def after_fork(self) -> None:
        """Forget the parent's requests and its question for the credit: neither ends in this process."""
        self.queue.forget()
        self._task = None

    def adopt(self, users: Sequence[Provider]) -> None:
        """These use it from now on: the strictest limit among them holds, and the first of them puts the question."""
        self._ask = users[0].credit if isinstance(users[0], ReportsCredit) else None
        mosts = [user.credential.max_concurrency if isinstance(user, HasCredential) else None for user in users]
        self.queue.call(self.queue.limiter.bound(mosts, self._clock()))

    def accepted(self, told: Accepted, characters: int, model: str | None) -> None:
        """A request was taken, and perhaps billed."""
        if told.request_id:
            self.request_ids.record(told.request_id, self.account)
        if told.characters_billed is None:
            return
        now = self._clock()
        self.meter.spent(told.characters_billed, characters, model, now)
        if (hold := self.holds.get(CREDENTIAL)) and hold.room is not None:
            self.holds[CREDENTIAL] = replace(hold, room=max(0.0, hold.room - told.characters_billed))
        self._warn(now)
        if self._asked is None:
            self._asked = now
        elif now - self._asked >= CREDIT_CHECK_INTERVAL:
            self._begin_asking()

    def exhausted(self) -> None:
        """The vendor says that there is not enough credit: see what is left, and look again while it is so."""
        if self._asked is not None and self._clock() - self._asked >= _MIN_CHECK_INTERVAL:
            self._stop_asking()
        self._begin_asking()

    async def check(self) -> Credit | None:
        """Ask now. None if nobody answers such questions. Raises TTSError."""
        if self._ask is None:
            return None
        self._asked = self._clock()
        try:
            async with asyncio.timeout(_CREDIT_TIMEOUT):
                credit = await self._ask()
        except Exception as error:
            raise classify(error, self.name) from error
        self._told(credit)
        return credit

    async def aclose(self) -> None:
        """Ask no more."""
        if task := self._stop_asking():
            await asyncio.wait([task])

    @property
    def _exhausted(self) -> bool:
        hold = self.holds.get(CREDENTIAL)
        return hold is not None and hold.kind is FailureKind.QUOTA_EXCEEDED and hold.until > self._clock()

    def _begin_asking(self) -> None:
        if self._ask and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._keep_asking())

    def _stop_asking(self) -> asyncio.Task[None] | None:
        task, self._task = self._task, None
        if task is None or task.done():
            return None
        task.cancel()
        return task

    async def _keep_asking(self) -> None:
        while True:
            try:
                await self.check()
            except Exception as error:
                log_credit_unknown(self.name, classify(error, self.name))
            if self._exhausted:
                await asyncio.sleep(CREDIT_CHECK_INTERVAL)
            if not self._exhausted:
                return

    def _told(self, credit: Credit) -> None:
        now, time_of_day = self._clock(), datetime.fromtimestamp(self._wall_clock(), UTC)
        self.meter.told(credit, now, time_of_day)
        self._warn(now)
        hold = self.holds.get(CREDENTIAL)
        if hold is None or hold.kind is not FailureKind.QUOTA_EXCEEDED:
            return
        resets_in = (credit.resets_at - time_of_day).total_seconds() if credit.resets_at else None
        del self.holds[CREDENTIAL]
        if kept := update_quota_hold(hold, credit, resets_in, now):
            self.holds[CREDENTIAL] = kept

    def _warn(self, now: float) -> None:
        if forecast := self.meter.warning(now):
            log_credit_warning(self.name, forecast)
