"""The circuits' states in a file, so that a restart does not send everybody to a provider that is known to be down."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from steadyvoice.breaker import Event, StateChanged
from steadyvoice.breaker.saved import aged
from steadyvoice.service.service import AsyncTTSService

log = logging.getLogger("steadyvoice.gateway")


class StateFile:
    """Written whenever a circuit changes its state, and at the end. Trouble with it is logged, and the voice goes on.

    `wall` is the time of day in seconds: the only clock that goes on while nobody runs.
    """

    def __init__(self, path: Path, service: AsyncTTSService, wall: Callable[[], float] = time.time) -> None:
        self._path, self._service, self._wall = path.expanduser(), service, wall
        self._unsubscribe: Callable[[], None] | None = None

    def open(self) -> None:
        """Go on from where the last process stopped, less the time that has passed since; and watch."""
        self._restore()
        self._unsubscribe = self._service.subscribe(self._moved)

    def _restore(self) -> None:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            passed = max(0.0, self._wall() - float(document["saved_at"]))
            circuits: dict[str, Any] = dict(document["circuits"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("state file %s: not read: %s; circuits begin closed", self._path, error)
            return
        for name, circuit in self._service.circuits.items():
            if name in circuits:
                try:
                    circuit.restore(aged(circuits[name], passed))
                except ValueError as error:
                    log.warning("state file %s: %s: %s; it begins closed", self._path, name, error)

    def save(self) -> None:
        """Write all of it, at once or not at all."""
        circuits = {name: circuit.export() for name, circuit in self._service.circuits.items()}
        document = json.dumps({"saved_at": self._wall(), "circuits": circuits}, indent=1)
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            part.write_text(document, encoding="utf-8")
            os.replace(part, self._path)
        except OSError as error:
            log.warning("state file %s: not written: %s", self._path, error.strerror)
            with suppress(OSError):
                part.unlink()

    def close(self) -> None:
        """Write it for the last time."""
        if self._unsubscribe:
            self._unsubscribe()
        self.save()

    def _moved(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self.save()
