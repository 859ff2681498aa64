"""Membership of a service in a fleet, which may change at run time, or that there is none.

Only services of a fleet load `steadyvoice.fleet`, so that it is imported where one is joined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from steadyvoice.service.provider_set import ProviderSet

if TYPE_CHECKING:
    from steadyvoice.fleet import Announcement, Fleet, FleetConfig, FleetStore
    from steadyvoice.service.fleet_member import FleetMember


class FleetMembership:
    """Current membership of a service, and the listeners to its fleet, which stay when it joins another one.

    `clock` is that of its requests, `circuit_clock` that of its circuits.
    """

    def __init__(
        self, providers: ProviderSet, *, clock: Callable[[], float], circuit_clock: Callable[[], float]
    ) -> None:
        self._providers, self._clock, self._circuit_clock = providers, clock, circuit_clock
        self._listeners: list[_FleetListener] = []
        self.member: FleetMember | None = None
        """Member that this process is; None without a fleet."""

    @property
    def fleet(self) -> Fleet | None:
        """Fleet that this process belongs to; None without one."""
        return self.member.fleet if self.member else None

    def join(self, setting: FleetConfig | FleetStore | str | None) -> None:
        """Begin to share circuits and accounts with other processes, if there is a fleet."""
        if setting is None:
            return
        from steadyvoice.service.fleet_member import FleetMember

        self.member = FleetMember(setting, self._providers, clock=self._clock, circuit_clock=self._circuit_clock)
        for listener in self._listeners:
            listener.follow(self.member.fleet)

    async def leave(self) -> None:
        """Leave the fleet, if there is one."""
        member, self.member = self.member, None
        if member is not None:
            await member.leave()

    async def change(self, setting: FleetConfig | FleetStore | str | None) -> None:
        """Leave the fleet, and join another one from the running event loop."""
        await self.leave()
        self.join(setting)
        if self.member:
            self.member.attach()

    def follow(self, listener: Callable[[Announcement], object]) -> Callable[[], None]:
        """Call `listener` with the announcements of other replicas, those in force included; return its end."""
        follower = _FleetListener(listener)
        self._listeners.append(follower)
        if self.member:
            follower.follow(self.member.fleet)

        def unsubscribe() -> None:
            if follower in self._listeners:
                self._listeners.remove(follower)
                follower.stop()

        return unsubscribe

    def status(self) -> dict[str, Any] | None:
        """Return the fleet as this process has it, JSON-ready; None without one."""
        return self.member.fleet.status().as_dict() if self.member else None


class _FleetListener:
    """Listener to the fleet of a service, which may be replaced by another one."""

    def __init__(self, listener: Callable[[Announcement], object]) -> None:
        self._listener = listener
        self.stop: Callable[[], None] = lambda: None

    def follow(self, fleet: Fleet) -> None:
        """Listen to a fleet from now on, and take up what is in force there."""
        self.stop()
        self.stop = fleet.subscribe(self._listener)
        for key in fleet.announcements.records():
            if found := fleet.announcements.find(key):
                self._listener(found)
