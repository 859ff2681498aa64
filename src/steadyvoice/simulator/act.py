"""What all acts have in common: where they can happen, and how a wrong one is refused."""

from __future__ import annotations

import math
from enum import Enum


class Door(Enum):
    """Where a fault can happen."""

    HTTP = "http"  # to one request
    WEBSOCKET = "websocket"  # to one connection of ElevenLabs' websockets, from its upgrade to its close
    CONNECTION = "connection"  # to a connection, before anything is asked on it


Doors = frozenset[Door]

HTTP: Doors = frozenset({Door.HTTP})
WEBSOCKET: Doors = frozenset({Door.WEBSOCKET})
SPEECH: Doors = HTTP | WEBSOCKET
CONNECTION: Doors = frozenset({Door.CONNECTION})


class FaultError(ValueError):
    """A fault that cannot be. `key` names the field, where it is one that is wrong."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


def check_seconds(act: object, *names: str) -> None:
    """Refuse fields that are no time to wait. Raises FaultError."""
    for name in names:
        seconds = getattr(act, name)
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise FaultError(f"{name}: seconds, 0 or more, got {seconds}", name)


def check_bytes(count: int) -> None:
    """Refuse a size of nothing. Raises FaultError."""
    if count < 1:
        raise FaultError(f"bytes: at least 1, got {count}", "bytes")
