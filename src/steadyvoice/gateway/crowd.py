"""All the connections of a gateway, and in which order those wait for whom nothing is being done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from uvicorn.server import ServerState

from steadyvoice.gateway.limits import Limits, Refusal


class Guest(Protocol):
    """A connection, as the crowd sees it."""

    @property
    def busy(self) -> bool:
        """Whether an answer is not yet over, or not yet read."""
        ...

    def look_after(self, now: float) -> None:
        """End what has lasted too long."""
        ...

    def leave(self) -> None:
        """End it, without a word."""
        ...

    def shutdown(self) -> None:
        """End it at once when it is idle, else behind its answer."""
        ...

    def reset(self) -> None:
        """End it now, and let the other side notice."""
        ...


class TurnedAway(NamedTuple):
    """Somebody whose request did not get as far as the doors, and what they were told, in so many `bytes`."""

    request_id: str
    client: tuple[str, int] | None
    refusal: Refusal
    bytes: int
    seconds: float  # since they began


@dataclass
class Crowd:
    """`waiting` has the longest waiting first. Who asks for nothing makes room for who comes."""

    limits: Limits
    state: ServerState = field(default_factory=ServerState)
    waiting: dict[Guest, None] = field(default_factory=dict)
    closing: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # somebody has left
    turned_away: Callable[[TurnedAway], None] = lambda who: None  # whom to tell of it

    @property
    def guests(self) -> list[Guest]:
        """Everybody who is here now."""
        connections: Any = self.state.connections
        return list(connections)

    def is_full(self) -> bool:
        """Whether one too many is here."""
        return len(self.state.connections) > self.limits.connections

    def is_packed(self) -> bool:
        """Whether there is not even room to say that there is none."""
        return len(self.state.connections) > self.limits.connections + self.limits.latecomers

    def make_room(self, newcomer: Guest) -> bool:
        """Send away who has asked for nothing for the longest time, if that is anybody but the newcomer."""
        longest = next(iter(self.waiting))
        if longest is newcomer:
            return False
        longest.leave()
        return True
