"""Settings of circuits that were changed at run time, at all replicas of a fleet.

Each replica applies the changes that are in force when it joins, and new ones as they come. They last until the file is
reloaded there, and no longer than a day; those of a replica that restarts come back to it from the others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from steadyvoice.gateway.admin.request import AdminRequestError
from steadyvoice.gateway.admin.views import apply_changes
from steadyvoice.gateway.context import GatewayContext, log
from steadyvoice.gateway.request_context import Actor, acting_as

if TYPE_CHECKING:
    from steadyvoice.fleet import Announcement, Fleet

KEY = "settings/"
KIND = "changed"
LIFE = 24 * 3600.0
"""Seconds for which changed settings reach replicas that join."""


def announce_settings(fleet: Fleet, circuit: str, changes: Mapping[str, Any]) -> int:
    """Have all replicas change settings of a circuit, in addition to former changes, and return the revision."""
    former = {} if changes.get("preset") is not None else _changes_in(fleet.announcements.find(f"{KEY}{circuit}"))
    body = json.dumps({**former, **changes})
    return fleet.announce(f"{KEY}{circuit}", KIND, reason="settings changed", body=body, seconds=LIFE)


class SettingsFollower:
    """Follower of one gateway, which applies what other replicas have announced."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def follow(self, announcement: Announcement) -> None:
        """Apply an announcement, in the event loop; those of other kinds are ignored. Called by any thread."""
        if announcement.key.startswith(KEY) and self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._apply, announcement)

    def _apply(self, announcement: Announcement) -> None:
        circuit = self._context.service.circuits.get(announcement.key.removeprefix(KEY))
        if circuit is None:
            return
        try:
            changed = apply_changes(circuit.config, _changes_in(announcement))
        except (AdminRequestError, TypeError) as error:
            # Written by a replica of another version, or by another program.
            log.warning("%s: settings of replica %s not applied: %s", circuit.name, announcement.origin, error)
            return
        if changed != circuit.config:
            with acting_as(Actor(None, f"replica {announcement.origin}")):
                circuit.update(changed)
            log.info("%s: settings changed by replica %s", circuit.name, announcement.origin)


def _changes_in(announcement: Announcement | None) -> dict[str, Any]:
    """Return the changes of an announcement; none for one that is not about settings."""
    if announcement is None or announcement.kind != KIND:
        return {}
    try:
        changes = json.loads(announcement.body)
    except (ValueError, RecursionError):
        return {}
    return changes if isinstance(changes, dict) else {}
