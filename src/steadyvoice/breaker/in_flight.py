"""The calls of one era that are out: which are running, which have been silent for too long, which are held.

It is the order of the last sign of life that they are kept in, so the next to fall silent is always the first. A sign
of life that comes in time takes no lock: it is written on the call, and its place is found when somebody has to know.
As signs of life only make a call younger, that is when the first of them is not where it belongs: with thousands of
calls in flight, sorting them whenever one falls silent would take longer than the calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from steadyvoice.breaker.era import Flight


class InFlight:
    """Requires external locking, as the machine does whose calls these are."""

    __slots__ = ("held", "in_a_row", "running", "silent")

    def __init__(self) -> None:
        self.running: dict[Flight, float] = {}  # with the `since` by which each has its place
        self.silent: dict[Flight, None] = {}
        self.in_a_row: dict[Flight, None] = {}  # those of the silent that no success came after
        self.held: dict[Flight, None] = {}  # their consumers have the word: no clock runs

    def __len__(self) -> int:
        return len(self.running) + len(self.silent) + len(self.held)

    def oldest(self) -> Flight | None:
        """Return the running call that showed no sign of life for the longest time."""
        for flight, placed_by in self.running.items():
            if flight.since == placed_by and not flight.lent:
                return flight
            self._catch_up()
            return next(iter(self.running), None)
        return None

    def remove(self, flight: Flight) -> None:
        """It has ended."""
        if flight in self.running:
            del self.running[flight]
        else:
            self.silent.pop(flight, None)
            self.in_a_row.pop(flight, None)
            self.held.pop(flight, None)

    def fall_silent(self, flight: Flight) -> None:
        """It has been running without a sign of life for too long."""
        del self.running[flight]
        self.silent[flight] = self.in_a_row[flight] = None

    def sort_anew(self, now: float, patience: float | None) -> None:
        """Who is silent by another patience? None: nobody."""
        excused = [flight for flight in self.silent if flight not in self.in_a_row]
        self.held = {flight: None for flight in self.held if not flight.settled}
        self.running = _in_order(flight for flight in (*self.silent, *self.running) if not flight.settled)
        self.silent, self.in_a_row = {}, {}
        for flight in [f for f in self.running if patience is not None and f.since + patience <= now]:
            self.fall_silent(flight)
        for flight in excused:
            self.in_a_row.pop(flight, None)

    def ends_of_probes(self, lease: float, probe_after: float) -> Iterator[tuple[float, Flight]]:
        """When each probe is decided without a further word, the first one first.

        One whose clocks stand still before anything useful came is not: it waits for something of the caller's own.
        """
        ends = [(flight.since + lease, flight) for flight in self.running]
        ends += [(flight.useful_at + probe_after, flight) for flight in self.held if flight.useful_at is not None]
        return iter(sorted(ends, key=lambda end: end[0]))

    def _catch_up(self) -> None:
        """Put those that have shown life since in their places."""
        held = {flight: None for flight in self.running if flight.lent}
        # First: in neither, a call does no harm; in both, it would stay in one.
        self.running = _in_order(flight for flight in self.running if not flight.lent)
        self.held |= held


def _in_order(flights: Iterable[Flight]) -> dict[Flight, float]:
    return {flight: flight.since for flight in sorted(flights, key=lambda flight: flight.since)}
