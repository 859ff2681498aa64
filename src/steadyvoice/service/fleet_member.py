"""Service as a member of a fleet: its circuits, and the accounts of its providers, shared with other processes.

The fleet beats on a thread of its own. What it decides about accounts takes effect on the service's event loop, to
which they belong; until then it counts on what was in force before.
"""

from __future__ import annotations

import asyncio
import math
import operator
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock

import msgspec

from steadyvoice.breaker.fork_safety import register_fork_aware
from steadyvoice.fleet import Announcement, Fleet, FleetConfig, FleetState, FleetStore, SlotUsage
from steadyvoice.fleet.fleet import CIRCUIT_ORDERS
from steadyvoice.fleet.records import MAX_NAME_LENGTH
from steadyvoice.providers.base import Credential, HasCredential
from steadyvoice.service.log_messages import log_hold
from steadyvoice.service.pipeline.candidates import GuardedProvider
from steadyvoice.service.provider_set import CurrentCircuits, ProviderSet
from steadyvoice.service.resilience.account_limits import AccountLimits
from steadyvoice.service.resilience.holds import CREDENTIAL, Hold, export_hold, parse_hold
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.wire.error_response import MAX_RETRY_AFTER


class FleetMember:
    """Membership of a service. `clock` is that of its requests, `circuit_clock` that of its circuits."""

    def __init__(
        self,
        setting: FleetConfig | FleetStore | str,
        providers: ProviderSet,
        *,
        clock: Callable[[], float],
        circuit_clock: Callable[[], float],
    ) -> None:
        self._accounts = CurrentAccounts(providers, _LoopLink(clock, circuit_clock))
        self.fleet = Fleet(
            setting,
            CurrentCircuits(providers),
            accounts=self._accounts,
            clock=circuit_clock,
            on_beat=self._accounts.share_holds,
        )
        self._accounts.link.hurry = self.fleet.hurry.set
        self.fleet.subscribe(self._accounts.follow)
        for account in self._accounts:
            account.begin()
        register_fork_aware(self)
        self.fleet.start()

    fork_lock = None

    def after_fork(self) -> None:
        """Forget the parent's event loop, and lend nothing of its blocks."""
        self._accounts.link.loop = None
        for account in self._accounts:
            account.begin()

    def attach(self) -> None:
        """Let decisions take effect on the running event loop, on which all requests run."""
        loop = asyncio.get_running_loop()
        if loop is not self._accounts.link.loop:
            self._accounts.link.loop = loop
            for account in self._accounts:
                account.catch_up()

    async def leave(self) -> None:
        """Leave the fleet. In a thread, for it may wait for the store."""
        await asyncio.to_thread(self.fleet.close)
        for account in self._accounts:
            account.end()


class _LoopLink:
    """Way to the event loop of the service, from any thread. `clock` is that of its requests."""

    def __init__(self, clock: Callable[[], float], fleet_clock: Callable[[], float]) -> None:
        self.clock, self.fleet_clock = clock, fleet_clock
        self.loop: asyncio.AbstractEventLoop | None = None
        self.hurry: Callable[[], object] | None = None

    def call(self, action: Callable[[], object]) -> bool:
        """Have the event loop call something soon; return whether there is one."""
        loop = self.loop
        if loop is None or loop.is_closed():
            return False
        with suppress(RuntimeError):  # closed just now
            loop.call_soon_threadsafe(action)
        return True


class CurrentAccounts:
    """Accounts of the providers that a set has whenever they are iterated, without those that name no credential."""

    def __init__(self, providers: ProviderSet, link: _LoopLink) -> None:
        self.link = link
        self._providers = providers
        self._lock = Lock()
        self._accounts: dict[int, MemberAccount] = {}
        self._seen: list[GuardedProvider] = []

    def __iter__(self) -> Iterator[MemberAccount]:
        guards = list(self._providers.by_name.copy().values())
        with self._lock:
            # Each beat iterates several times, and to look for credentials takes longer than all the rest of it.
            if len(guards) != len(self._seen) or not all(map(operator.is_, guards, self._seen)):
                self._update(guards)
                self._seen = guards
            return iter(list(self._accounts.values()))

    def _update(self, guards: list[GuardedProvider]) -> None:
        users: dict[int, list[GuardedProvider]] = {}
        for guarded in guards:
            if isinstance(guarded.provider, HasCredential) and guarded.provider.credential.fingerprint:
                users.setdefault(id(guarded.handler.account_limits), []).append(guarded)
        for key in self._accounts.keys() - users.keys():
            self._accounts.pop(key).end()
        for key, using in users.items():
            if key not in self._accounts:
                self._accounts[key] = MemberAccount(self.link, using[0].handler.account_limits)
            self._accounts[key].set_users(using)

    def follow(self, order: Announcement) -> None:
        """Release all holds of a provider whose circuit another replica has reset everywhere."""
        guarded = self._providers.by_name.get(order.key.removeprefix(CIRCUIT_ORDERS))
        if guarded and order.kind == "reset" and order.key.startswith(CIRCUIT_ORDERS):
            self.link.call(guarded.handler.holds.release)

    def share_holds(self, fleet: Fleet) -> None:
        """Announce the holds that were placed or lifted here, and take over those of other replicas."""
        for account in self:
            for hold in account.holds(fleet.name):
                hold.share(fleet)


class MemberAccount:
    """Account of one credential, for the fleet. The event loop applies what the thread that beats decides."""

    def __init__(self, link: _LoopLink, limits: AccountLimits) -> None:
        self.limits = limits
        self.users: list[GuardedProvider] = []
        self._credential: Credential | None = None
        self._link = link
        self._queue = limits.queue
        self._limiter = limits.queue.limiter
        # Decisions that the loop has not applied yet. It removes each one after it has, never before.
        self._pending: deque[tuple[int | None, int]] = deque()
        self._holds: dict[str, MemberHold] = {}
        self._queue.on_wait = link.hurry

    def set_users(self, users: list[GuardedProvider]) -> None:
        """Set the providers that use the credential."""
        self.users = users
        provider = users[0].provider
        self._credential = provider.credential if isinstance(provider, HasCredential) else None

    @property
    def name(self) -> str:
        """Name of the first provider that uses the credential."""
        return self.limits.name

    @property
    def grace(self) -> float:
        """Longest silence that the timeouts allow."""
        return max((max(user.timeouts.first_audio, user.timeouts.stall) for user in self.users), default=0.0)

    def identity(self, fleet_name: str) -> str | None:
        """Return the credential's fingerprint, slowly derived."""
        credential = self._credential
        if credential is None or credential.fingerprint is None:
            return None
        return credential.fingerprint(b"steadyvoice fleet " + fleet_name.encode())

    def holds(self, fleet_name: str) -> list[MemberHold]:
        """Return the hold of the credential, and those of the whole providers that use it."""
        identity = self.identity(fleet_name)
        if identity is None:
            return []
        credential = f"{self.name}/{CREDENTIAL}"
        sources = [MemberHold(self._link, f"hold/{identity}", self.limits.holds, CREDENTIAL, credential)]
        for user in self.users:
            name, held = user.provider.name, user.handler.holds.provider_holds
            sources.append(MemberHold(self._link, f"hold/{identity}/{name}"[:MAX_NAME_LENGTH], held, name, name))
        self._holds = {each.key: each.successor_of(self._holds.get(each.key)) for each in sources}
        return list(self._holds.values())

    def usage(self) -> SlotUsage:
        """Return the present use."""
        # In this order: the loop puts a share into force before it removes it here, and requests may start up to the
        # share before they are counted.
        pending = [slots for slots, _ in self._pending.copy()]
        # Without a loop nothing runs, and what was decided last is in force before anything does.
        share = 0 if pending and self._link.loop is None else self._limiter.share
        running, waiting, own = self._limiter.running, self._limiter.waiting, self._limiter.own_limit
        stated, maximum, initial = self._limiter.bounds
        since = self._limiter.waiting_since
        return SlotUsage(
            used=running,
            queued=waiting if own is None else max(0, min(waiting, own - running)),
            bound=max(running, share or 0, *(slots or 0 for slots in pending)),
            waited=0.0 if since is None else max(0.0, self._link.clock() - since),
            stated=stated,
            maximum=maximum,
            initial=initial,
            peak=self._limiter.take_peak(),
        )

    def lend(self, slots: int | None, attainable: int) -> None:
        """Let at most so many requests run, from the loop's next turn on."""
        self._pending.append((slots, attainable))
        if not self._link.call(self._apply):
            # No request can have begun: only the last decision counts, once there is a loop.
            with suppress(IndexError):
                while len(self._pending) > 1:
                    self._pending.popleft()

    def begin(self) -> None:
        """Let one request run until the fleet has answered, if there is a limit."""
        self._pending.clear()
        self._limiter.set_share(None if self._limiter.own_limit is None else 1, 1, self._link.clock())

    def catch_up(self) -> None:
        """Apply what was decided before there was an event loop."""
        while self._pending:
            self._apply()
        for hold in self._holds.values():
            hold.catch_up()
        self._queue.on_wait = self._link.hurry

    def end(self) -> None:
        """Give the account back as it was."""
        self._queue.on_wait = None
        self.lend(None, 0)

    def _apply(self) -> None:
        if self._pending:
            started = self._limiter.set_share(*self._pending[0], self._link.clock())
            self._pending.popleft()
            self._queue.notify(started)


class MemberHold:
    """Hold of a credential or a provider, under `name` in the dictionary `place`, which belongs to the event loop.

    The thread that beats compares it with the announcement of the same `key`: the newer one of both counts.
    """

    def __init__(self, link: _LoopLink, key: str, place: dict[str, Hold], name: str, hold_key: str) -> None:
        self.key = key
        self._link, self._place, self._name, self._hold_key = link, place, name, hold_key
        self._announced: tuple[int, str] | None = None  # revision and origin of the announcement that is in force here
        self._mark = _mark(None)  # of the hold that is in force by it
        self._is_first = True
        self._changed_at: float | None = None  # when a hold was seen that is not in force by an announcement
        self._adopted: deque[Announcement] = deque()

    def successor_of(self, former: MemberHold | None) -> MemberHold:
        """Return the former one, unless the hold has moved to another dictionary since."""
        return former if former is not None and former._place is self._place else self

    def share(self, fleet: Fleet) -> None:
        """Announce a change, or take over what another replica has announced."""
        if self._adopted:
            return  # not in force yet
        hold = self._place.get(self._name)
        hold = hold if hold and hold.until > self._link.clock() else None
        if _mark(hold) == self._mark:
            self._changed_at = None
        elif self._changed_at is None:
            # A hold that is there at first was restored from a file: whatever the fleet knows is newer.
            self._changed_at = -math.inf if self._is_first else self._link.fleet_clock()
        self._is_first = False
        if fleet.state is not FleetState.TOGETHER:
            return
        found = fleet.announcements.find(self.key)
        is_news = found is not None and (found.revision, found.origin) != self._announced
        if found is not None and is_news and (self._changed_at is None or self._changed_at < found.at):
            self._adopted.append(found)
            self._link.call(self.catch_up)
        elif self._changed_at is not None:
            self._announce(fleet, hold, found)

    def catch_up(self) -> None:
        """Put what was announced into force, on the event loop."""
        if not self._adopted:
            return
        found = self._adopted[0]
        self._announced = (found.revision, found.origin)
        hold = None
        if found.kind != _LIFTED:
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                hold = self._parse(found)
        if hold is not None:
            self._place[self._name] = hold
            log_hold(self._hold_key.partition("/")[0], hold, is_new=True)
        else:
            self._place.pop(self._name, None)
        self._mark, self._changed_at = _mark(hold), None
        self._adopted.popleft()

    def _parse(self, found: Announcement) -> Hold:
        named = {"key": self._hold_key, "kind": found.kind, "reason": found.reason}
        saved = {**msgspec.json.decode(found.body), **named, "remaining": found.until - self._link.fleet_clock()}
        return parse_hold(saved, self._hold_key.partition("/")[0], self._link.clock(), 0.0)

    def _announce(self, fleet: Fleet, hold: Hold | None, found: Announcement | None) -> None:
        if hold is not None:
            now = self._link.clock()
            body = msgspec.json.encode({name: each for name, each in export_hold(hold, now).items() if name in _SHARED})
            fleet.announce(self.key, hold.kind.value, reason=hold.reason, body=body.decode(), seconds=hold.until - now)
        elif found is not None and found.kind != _LIFTED:
            fleet.announce(self.key, _LIFTED, reason="lifted at another replica", seconds=MAX_RETRY_AFTER)
        if made := fleet.announcements.find(self.key):
            self._announced = (made.revision, made.origin)
        self._mark, self._changed_at = _mark(hold), None


_LIFTED = "lifted"
_SHARED = ("refused_cost", "remaining_credit", "until_from_vendor")


def _mark(hold: Hold | None) -> tuple[FailureKind, float] | None:
    """Return what tells a hold from another one; the credit that remains changes with every text."""
    return None if hold is None else (hold.kind, hold.until)
