"""Announcements: facts and orders that one replica states for all, such as a hold of an account, or a reset everywhere.

Each has a key, and of two with the same key the one of the higher revision counts. Replicas that adopted one state it
again, so that it outlives the replica that it came from, and reaches those that join later or were cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import NamedTuple

from steadyvoice.fleet.records import (
    MAX_ANNOUNCEMENTS,
    MAX_BODY_LENGTH,
    MAX_NAME_LENGTH,
    MAX_REVISION,
    AnnouncementRecord,
)


class Announcement(NamedTuple):
    """Fact or order of the replica `origin`, made at the time `at` and valid until `until`, on the fleet's clock.

    `kind` and `body` mean what those who use the key have agreed on.

    - `other`: announcement of the same key, or None.
    """

    key: str  # subject; a later announcement of the same key replaces this one
    kind: str
    reason: str  # sentence for people
    body: str
    revision: int  # number that grows with each announcement of the key
    origin: str
    at: float
    until: float

    def supersedes(self, other: Announcement | None) -> bool:
        """Return whether this one counts, and not another of the same key."""
        return other is None or (self.revision, self.origin) > (other.revision, other.origin)


Listener = Callable[[Announcement], object]


class Announcements:
    """Announcements that count at this replica, its own included. Safe from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._current: dict[str, Announcement] = {}

    def announce(self, origin: str, key: str, kind: str, reason: str, body: str, seconds: float) -> Announcement:
        """Make an announcement that supersedes all that this replica knows of its key. Raises ValueError if too long.

        A reason that is too long is cut. With too many announcements, the one that ends first is dropped.
        """
        for name, text, longest in (
            ("key", key, MAX_NAME_LENGTH), ("kind", kind, MAX_NAME_LENGTH), ("body", body, MAX_BODY_LENGTH)
        ):  # fmt: skip
            if len(text) > longest:
                raise ValueError(f"{name}: must have at most {longest} characters, got {len(text)}")
        now = self._clock()
        with self._lock:
            former = self._current.get(key)
            revision = min(MAX_REVISION, former.revision + 1 if former else 1)
            made = Announcement(key, kind, reason[:MAX_NAME_LENGTH], body, revision, origin, now, now + seconds)
            self._keep(made, now)
        return made

    def find(self, key: str) -> Announcement | None:
        """Return the announcement of a key; None if there is none, or it is over."""
        found = self._current.get(key)
        return found if found and found.until > self._clock() else None

    def adopt(self, stated: Iterable[tuple[float, Mapping[str, AnnouncementRecord]]]) -> list[Announcement]:
        """Take over what other replicas stated, each so many seconds ago, and return what is new."""
        now, adopted = self._clock(), []
        with self._lock:
            for delay, records in stated:
                for key, record in records.items():
                    at, until = now - delay - record.age, now - delay + record.remaining
                    found = Announcement(
                        key, record.kind, record.reason, record.body, record.revision, record.origin, at, until
                    )
                    if until > now and found.supersedes(self._current.get(key)):
                        self._keep(found, now)
                        adopted.append(found)
        return adopted

    def records(self) -> dict[str, AnnouncementRecord]:
        """Return what counts, for the others."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            return {
                key: AnnouncementRecord(
                    revision=each.revision,
                    origin=each.origin,
                    age=max(0.0, now - each.at),
                    remaining=each.until - now,
                    kind=each.kind,
                    reason=each.reason,
                    body=each.body,
                )
                for key, each in self._current.items()
            }

    def _keep(self, announcement: Announcement, now: float) -> None:
        self._current[announcement.key] = announcement
        if len(self._current) > MAX_ANNOUNCEMENTS:
            self._forget(now)
        while len(self._current) > MAX_ANNOUNCEMENTS:
            others = (each for each in self._current.values() if each is not announcement)
            del self._current[min(others, key=lambda each: each.until).key]

    def _forget(self, now: float) -> None:
        self._current = {key: each for key, each in self._current.items() if each.until > now}
