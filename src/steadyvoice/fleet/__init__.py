"""Fleet: circuits of several processes with one truth, over a shared store. Works with any circuit breaker registry."""

from __future__ import annotations

from steadyvoice.fleet.announcements import Announcement
from steadyvoice.fleet.fleet import Fleet, FleetConfig, FleetHold, FleetStatus
from steadyvoice.fleet.heartbeat import FleetState
from steadyvoice.fleet.shared_circuit import SharedCircuitStatus
from steadyvoice.fleet.shared_limits import SharedSlotsStatus, SlotAccount, SlotUsage
from steadyvoice.fleet.store import (
    BeatReply,
    FleetStore,
    FleetStoreError,
    FleetURLError,
    LeaseClaim,
    ReceivedRecord,
)

__all__ = [
    "Announcement",
    "BeatReply",
    "Fleet",
    "FleetConfig",
    "FleetHold",
    "FleetState",
    "FleetStatus",
    "FleetStore",
    "FleetStoreError",
    "FleetURLError",
    "LeaseClaim",
    "ReceivedRecord",
    "SharedCircuitStatus",
    "SharedSlotsStatus",
    "SlotAccount",
    "SlotUsage",
]
