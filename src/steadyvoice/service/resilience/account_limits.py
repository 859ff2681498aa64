"""Limits that a vendor sets: concurrent requests, credit and quota of an account, characters of a request.

Providers that use the same credential share the limits of its account. Request ids are remembered with the account
that issued them, because a vendor does not take those of another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from steadyvoice.breaker.fork_safety import register_fork_aware
from steadyvoice.providers.base import Accepted, Credential, Credit, HasCredential, Provider, ReportsCredit
from steadyvoice.service.billing import CreditMeter
from steadyvoice.service.log_messages import log_credit_unknown, log_credit_warning
from steadyvoice.service.resilience.concurrency import ConcurrencyLimit, ConcurrencyQueue
from steadyvoice.service.resilience.error_classification import classify
from steadyvoice.service.resilience.holds import CREDENTIAL, SharedHold, update_quota_hold
from steadyvoice.speech.errors import TTSTextTooLongError
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire.elevenlabs.request_stitching import REQUEST_ID_FIELDS, has_request_ids

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
        if accepted.characters_billed is not None:
            self._spend(accepted.characters_billed, characters, model)

    def record_stream(self, characters: int, model: str | None) -> float:
        """Note the text that a stream has taken, and return its cost.

        Vendors state none on a websocket: it is estimated by what the model's last text cost per character.
        """
        cost = self.meter.cost(characters, model)
        self._spend(cost, characters, model)
        return cost

    def _spend(self, cost: float, characters: int, model: str | None) -> None:
        now = self._clock()
        self.meter.add_spending(cost, characters, model, now)
        if (hold := self.holds.get(CREDENTIAL)) and (credit := hold.remaining_credit) is not None:
            self.holds[CREDENTIAL] = replace(hold, remaining_credit=max(0.0, credit - cost))
        if self.meter.is_stated:
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


LIMIT_LIFETIME = 24 * 3600.0
"""Seconds after which the stated limit is tried again: a refusal costs a request, but no characters."""

MIN_CHARACTERS = 20
"""Number of characters of a text so short that it is not refused for its length."""

_MAX_MODELS = 200  # of one provider; bounded, because callers may invent model names


class _Limit(NamedTuple):
    characters: int
    until: float


class TextLimits:
    """Limits of one provider by model, learned from refusals.

    `clock` returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.learned: dict[str | None, _Limit] = {}
        """Limits that were learned, by model; those that are too old included."""

    def max_characters(self, model: str | None, stated: int | None) -> int | None:
        """Return the most characters that one request may have; None if there is no limit."""
        if not self.learned:
            return stated
        learnt = self._current(model)
        return min(stated or learnt, learnt) if learnt else stated

    def learn(self, model: str | None, sent: int, refusal: TTSTextTooLongError) -> bool:
        """Record that a text of so many characters was refused. Return whether a shorter one is worth another request.

        The first refusal may state the limit; if not, or if a text within it is refused, half of the text is the next
        limit. So a text of 40,000 characters is split eleven times at most. A text longer than a known limit teaches
        nothing: it was sent before the limit became known. A refusal of a text of the minimum length is not about its
        length, and the limits that led to it are forgotten.
        """
        if sent <= MIN_CHARACTERS:
            self.learned.pop(model, None)
            return False
        known = self._current(model)
        if known is not None and sent > known:
            return True
        named = refusal.limit
        characters = max(MIN_CHARACTERS, sent // 2)
        if named is not None and known is None and MIN_CHARACTERS <= named < sent:
            characters = named
        self.learned.pop(model, None)
        self.learned[model] = _Limit(characters, self._clock() + LIMIT_LIFETIME)
        if len(self.learned) > _MAX_MODELS:
            del self.learned[next(iter(self.learned))]
        return True

    def _current(self, model: str | None) -> int | None:
        limit = self.learned.get(model)
        if limit is None or limit.until > self._clock():
            return limit and limit.characters
        del self.learned[model]
        return None


_GENERATION_SIZE = 2_048  # ids of one generation; two generations are kept


class VendorRequestIds:
    """Bounded memory of recently issued request ids: at least the last 2,048.

    Two dictionaries alternate, so that forgetting costs nothing per id. Vendors accept ids for two hours; an id that is
    forgotten by then is sent to any account, like one from before a restart.
    """

    def __init__(self) -> None:
        self._young: dict[str, str] = {}
        self._old: dict[str, str] = {}

    def record(self, request_id: str, account: str) -> None:
        """Record that an account issued this id."""
        if len(self._young) >= _GENERATION_SIZE:
            self._old, self._young = self._young, {}
        self._young[request_id] = account

    def issuer(self, request_id: str) -> str | None:
        """Return the account that issued an id; None if it is unknown."""
        return self._young.get(request_id) or self._old.get(request_id)

    def without_foreign_ids(self, account: str, request: SpeechRequest) -> SpeechRequest:
        """Return the request without ids that another account has issued; the same object if it has none."""
        options = request.options
        if not has_request_ids(options):
            return request
        kept = {name: self._known(account, options[name]) for name in REQUEST_ID_FIELDS if name in options}
        if all(kept[name] is options[name] for name in kept):
            return request
        return replace(request, options={**options, **kept})

    def _known(self, account: str, ids: Any) -> Any:
        """Return the ids that the account may know; the same object if these are all."""
        if not isinstance(ids, list | tuple):
            return ids
        known = [each for each in ids if not isinstance(each, str) or self.issuer(each.strip()) in (None, account)]
        return ids if len(known) == len(ids) else known
