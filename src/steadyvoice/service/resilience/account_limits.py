"""Limits of one credential: concurrent requests, remaining credit, and the hold after its quota is exceeded.

Providers that use the same credential share them.
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
from steadyvoice.service.resilience.vendor_request_ids import VendorRequestIds
from steadyvoice.speech.failure_kinds import FailureKind

CREDIT_CHECK_INTERVAL = 15 * 60.0
"""Seconds between two credit checks, while the credit is exhausted and while it is spent."""

_MIN_CHECK_INTERVAL = 60.0  # seconds, however often the vendor refuses
_CREDIT_TIMEOUT = 10.0  # seconds for the vendor's answer

CreditQuery = Callable[[], Awaitable[Credit]]


class AccountLimits:
    """Limits of one credential. `query` requests its remaining credit for free; None if the vendor does not state it.

    The first check comes when the vendor refuses for lack of credit, or 15 minutes after the first billed request: a
    process that speaks a few words and exits makes none.
    """

    def __init__(
        self,
        name: str,
        credential: Credential | None,
        query: CreditQuery | None,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        request_ids: VendorRequestIds | None = None,
    ) -> None:
        self.name = name  # of the first provider that uses the credential, for messages
        credential = credential or Credential(f"only {name}")
        self.account = credential.id
        self.request_ids = request_ids or VendorRequestIds()
        self.queue = ConcurrencyQueue(
            ConcurrencyLimit(credential.initial_concurrency, credential.max_concurrency), clock
        )
        self.meter = CreditMeter()
        self.holds: SharedHold = {}
        self._query, self._clock, self._wall_clock = query, clock, wall_clock
        self._checked: float | None = None
        self._task: asyncio.Task[None] | None = None
        register_fork_aware(self)

    fork_lock = None

    def after_fork(self) -> None:
        """Forget the parent's requests and its credit check: neither ends in this process."""
        self.queue.reset()
        self._task = None

    def set_users(self, users: Sequence[Provider]) -> None:
        """Set the providers that use the credential: the least of their limits holds, and the first one checks."""
        self._query = users[0].credit if isinstance(users[0], ReportsCredit) else None
        limits = [user.credential.max_concurrency if isinstance(user, HasCredential) else None for user in users]
        self.queue.notify(self.queue.limiter.set_user_limits(limits, self._clock()))

    def accepted(self, accepted: Accepted, characters: int, model: str | None) -> None:
        """Note that a request was accepted, and perhaps billed."""
        if accepted.request_id:
            self.request_ids.record(accepted.request_id, self.account)
        if accepted.characters_billed is None:
            return
        now = self._clock()
        self.meter.add_spending(accepted.characters_billed, characters, model, now)
        if (hold := self.holds.get(CREDENTIAL)) and (credit := hold.remaining_credit) is not None:
            self.holds[CREDENTIAL] = replace(hold, remaining_credit=max(0.0, credit - accepted.characters_billed))
        self._warn(now)
        if self._checked is None:
            self._checked = now
        elif now - self._checked >= CREDIT_CHECK_INTERVAL:
            self._start_checking()

    def quota_exceeded(self) -> None:
        """Check the credit, and again while it is exhausted, because the vendor refused for lack of it."""
        if self._checked is not None and self._clock() - self._checked >= _MIN_CHECK_INTERVAL:
            self._stop_checking()
        self._start_checking()

    async def check(self) -> Credit | None:
        """Request the credit now; None if the vendor does not state it. Raises TTSError."""
        if self._query is None:
            return None
        self._checked = self._clock()
        try:
            async with asyncio.timeout(_CREDIT_TIMEOUT):
                credit = await self._query()
        except Exception as error:
            raise classify(error, self.name) from error
        self._update(credit)
        return credit

    async def aclose(self) -> None:
        """Stop checking."""
        if task := self._stop_checking():
            await asyncio.wait([task])

    @property
    def _exhausted(self) -> bool:
        hold = self.holds.get(CREDENTIAL)
        return hold is not None and hold.kind is FailureKind.QUOTA_EXCEEDED and hold.until > self._clock()

    def _start_checking(self) -> None:
        if self._query and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._keep_checking())

    def _stop_checking(self) -> asyncio.Task[None] | None:
        task, self._task = self._task, None
        if task is None or task.done():
            return None
        task.cancel()
        return task

    async def _keep_checking(self) -> None:
        while True:
            try:
                await self.check()
            except Exception as error:  # counts against nothing: a key may be forbidden to read its account
                log_credit_unknown(self.name, classify(error, self.name))
            if self._exhausted:
                await asyncio.sleep(CREDIT_CHECK_INTERVAL)
            if not self._exhausted:
                return

    def _update(self, credit: Credit) -> None:
        now, time_of_day = self._clock(), datetime.fromtimestamp(self._wall_clock(), UTC)
        self.meter.update(credit, now, time_of_day)
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
