"""Service as a member of a fleet: its circuits, and the accounts of its providers, shared with other processes.

The fleet beats on a thread of its own. What it decides about accounts takes effect on the service's event loop, to
which they belong; until then it counts on what was in force before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock

from steadyvoice.breaker.fork_safety import register_fork_aware
from steadyvoice.fleet import Fleet, FleetConfig, FleetStore, SlotUsage
from steadyvoice.providers.base import HasCredential
from steadyvoice.service.pipeline.candidates import GuardedProvider
from steadyvoice.service.provider_set import CurrentCircuits, ProviderSet
from steadyvoice.service.resilience.account_limits import AccountLimits


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
        self._accounts = CurrentAccounts(providers, _LoopLink(clock))
        self.fleet = Fleet(setting, CurrentCircuits(providers), accounts=self._accounts, clock=circuit_clock)
        self._accounts.link.hurry = self.fleet.hurry.set
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

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
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

    def __iter__(self) -> Iterator[MemberAccount]:
        users: dict[int, list[GuardedProvider]] = {}
        for guarded in self._providers.by_name.copy().values():
            if isinstance(guarded.provider, HasCredential) and guarded.provider.credential.fingerprint:
                users.setdefault(id(guarded.handler.account_limits), []).append(guarded)
        with self._lock:
            for key in self._accounts.keys() - users.keys():
                self._accounts.pop(key).end()
            for key, guards in users.items():
                if key not in self._accounts:
                    self._accounts[key] = MemberAccount(self.link, guards[0].handler.account_limits)
                self._accounts[key].users = guards
            return iter(list(self._accounts.values()))


class MemberAccount:
    """Account of one credential, for the fleet. The event loop applies what the thread that beats decides."""

    def __init__(self, link: _LoopLink, limits: AccountLimits) -> None:
        self.limits = limits
        self.users: list[GuardedProvider] = []
        self._link = link
        self._queue = limits.queue
        self._limiter = limits.queue.limiter
        # Decisions that the loop has not applied yet. It removes each one after it has, never before.
        self._pending: deque[tuple[int | None, int]] = deque()
        self._queue.on_wait = link.hurry

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
        provider = self.users[0].provider if self.users else None
        credential = provider.credential if isinstance(provider, HasCredential) else None
        if credential is None or credential.fingerprint is None:
            return None
        return credential.fingerprint(b"steadyvoice fleet " + fleet_name.encode())

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
