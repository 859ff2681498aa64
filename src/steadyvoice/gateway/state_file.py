"""State file: circuits and holds survive a restart, written atomically."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from steadyvoice.breaker import CircuitState, Event, StateChanged
from steadyvoice.breaker.persistence import age_exported_state
from steadyvoice.gateway.context import FinishedCall, RequestObserver, Workers
from steadyvoice.gateway.request_context import RequestContext
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.providers.base import Provider
from steadyvoice.service.error_state import to_iso8601
from steadyvoice.service.resilience.holds import credential_fingerprint, export_holds, restore_holds
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.speech.failure_kinds import FailureScope
from steadyvoice.wire.text_file import read_text_file

log = logging.getLogger("steadyvoice.gateway")

Content = Callable[[], Any]
"""Function that returns the content of a file: values for JSON, which the event loop no longer changes."""


class Writer(Protocol):
    """Writer of states, wherever they go."""

    def write_soon(self, content: Content) -> None:
        """Write without blocking the event loop."""
        ...

    def write(self, content: Content) -> None:
        """Write now."""
        ...


class AtomicWriter:
    """Writer of one file: completely or not at all, the latest content last, in a thread if an event loop runs.

    Errors are logged, and not raised.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers, self._written = count(1), 0
        self._lock = Lock()

    def write_soon(self, content: Content) -> None:
        """Write without blocking the event loop; at once, where none runs."""
        number = next(self._numbers)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write(number, content)
        else:
            loop.run_in_executor(None, self._write, number, content)

    def write(self, content: Content) -> None:
        """Write now. Earlier content that is still waiting for a thread will not overwrite it."""
        self._write(next(self._numbers), content)

    def _write(self, number: int, content: Content) -> None:
        # Threads may run in any order; the numbers, drawn in the event loop's order, decide which content is newer.
        with self._lock:
            if number < self._written:
                return
            self._written = number
            part = self._path.with_name(f"{self._path.name}.part")
            try:
                # Readable by its owner only, because reasons of holds quote the vendors.
                with open(part, "w", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
                    part.chmod(0o600)  # one that a crash left behind may have another mode
                    json.dump(content(), file, indent=1)
                # Atomic on one file system: a reader, or a restart after a crash, sees the old or the new file.
                os.replace(part, self._path)
            except OSError as error:
                log.warning("state file %s: not written: %s", self._path, error.strerror)
                with suppress(OSError):
                    part.unlink()


class WorkerWriter:
    """Writer of one worker: its supervisor writes the states of all workers into one file."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def write_soon(self, content: Content) -> None:
        """Send the states without blocking the event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.write(content)
        else:
            loop.run_in_executor(None, self.write, content)

    def write(self, content: Content) -> None:
        """Send the states now."""
        self._workers.save_state(content())


class WorkerStates:
    """States of all workers, written into one file as that of one process."""

    def __init__(self, path: Path) -> None:
        self._writer = AtomicWriter(path.expanduser())
        self._states: dict[int, dict[str, Any]] = {}

    def save(self, worker: int, state: dict[str, Any] | None) -> None:
        """Keep the states of a worker, and write those of all; None for one that ended, if there are others."""
        if state is None:
            if len(self._states) > 1:
                self._states.pop(worker, None)
            return
        self._states[worker] = state
        states = sorted(self._states.values(), key=lambda each: str(each["saved_at"]))
        self._writer.write_soon(lambda: merged_worker_states(states))


def merged_worker_states(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the contents of several workers, the newest last, as one: of each circuit the worst state, and all holds.

    Fingerprints of credentials are alike: workers use the same salt.
    """
    newest = states[-1]
    saved_at = datetime.fromisoformat(newest["saved_at"])
    circuits: dict[str, Any] = {}
    providers: dict[str, dict[str, Any]] = {}
    for state in states:
        elapsed = max(0.0, (saved_at - datetime.fromisoformat(state["saved_at"])).total_seconds())
        for name, circuit in state["circuits"].items():
            aged = age_exported_state(circuit, elapsed)
            if name not in circuits or _rank(aged) >= _rank(circuits[name]):
                circuits[name] = aged
        for name, saved in state["holds"]["providers"].items():
            known = providers.setdefault(name, {**saved, "holds": []})
            aged_holds = [{**hold, "remaining": hold["remaining"] - elapsed} for hold in saved["holds"]]
            known["holds"] = _longest_holds([*known["holds"], *aged_holds])
    return {**newest, "circuits": circuits, "holds": {**newest["holds"], "providers": providers}}


def _rank(circuit: dict[str, Any]) -> tuple[int, float]:
    refuses = (CircuitState.OPEN, CircuitState.HALF_OPEN)
    order = (CircuitState.CLOSED, CircuitState.MONITORING, CircuitState.DISABLED, *refuses, CircuitState.FORCED_OPEN)
    return order.index(CircuitState(circuit["state"])), circuit["remaining"] or 0.0


def _longest_holds(holds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    by_key = {hold["key"]: hold for hold in sorted(holds, key=lambda hold: float(hold["remaining"]))}
    return [hold for hold in by_key.values() if hold["remaining"] > 0]


_MAX_BYTES = 16 * 1024 * 1024

_READ_ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""Exceptions from reading a file with unexpected content. None of them prevents the start."""


class StateFile(RequestObserver):
    """File with the states of all circuits and holds, so that a restart does not send calls to providers that are down.

    It is written when a circuit changes its state, when a vendor refuses a credential, and at the end. Errors are
    logged, and the gateway works without the file.

    `wall_clock` is the time of day in seconds since 1970, the only clock that runs on between two processes. Several
    `workers` read the file, and leave the writing to their supervisor. Of a
    credential the file holds a salted fingerprint, from which the key cannot be derived.
    """

    def __init__(
        self,
        path: Path,
        service: AsyncTTSService,
        wall_clock: Callable[[], float] = time.time,
        workers: Workers | None = None,
    ) -> None:
        self._path, self._service, self._wall_clock, self._workers = path.expanduser(), service, wall_clock, workers
        self._writer: Writer = WorkerWriter(workers) if workers else AtomicWriter(self._path)
        self._salt = workers.salt if workers else os.urandom(16)
        self._unsubscribe: Callable[[], None] | None = None

    def open(self) -> None:
        """Restore the saved states, less the time that has passed since, and begin to save changes."""
        self._restore()
        self._unsubscribe = self._service.subscribe(self._circuit_event)

    def close(self) -> None:
        """Save the states for the last time."""
        if self._unsubscribe:
            self._unsubscribe()
        self._writer.write(self._content())

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
    ) -> None:
        """Save the states when a vendor has refused a credential during the call."""
        for attempt in utterance.report.attempts:
            if attempt.error and attempt.error.meaning.scope is FailureScope.CREDENTIAL and not attempt.refused:
                self._writer.write_soon(self._content())

    def usual_calls_finished(self, calls: Sequence[FinishedCall]) -> None:
        """Ignore calls in which no vendor has refused anything."""

    def _circuit_event(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self._writer.write_soon(self._content())

    def _content(self) -> Callable[[], dict[str, Any]]:
        """Copy the present states; the slow fingerprints are computed later, by the thread that writes."""
        circuits = {name: circuit.export() for name, circuit in self._service.circuits.items()}
        held = [(provider, self._holds_of(provider)) for provider in self._service.providers]
        saved_state = {"saved_at": to_iso8601(datetime.fromtimestamp(self._wall_clock(), UTC)), "circuits": circuits}
        return lambda: {
            **saved_state,
            "holds": self._with_fingerprints([(provider, holds) for provider, holds in held if holds]),
        }

    def _holds_of(self, provider: Provider) -> list[dict[str, Any]]:
        handler = self._service.handler(provider.name)
        return export_holds(handler.holds, handler.clock())

    def _with_fingerprints(self, held: list[tuple[Provider, list[dict[str, Any]]]]) -> dict[str, Any]:
        providers = {
            each.name: {"credential": credential_fingerprint(each, self._salt), "holds": holds} for each, holds in held
        }
        return {"salt": self._salt.hex(), "providers": providers}

    def _restore(self) -> None:
        try:
            # Any program may have written this file; nothing in it is used before its type is checked.
            document = json.loads(read_text_file(self._path, _MAX_BYTES))
            elapsed = max(0.0, self._wall_clock() - datetime.fromisoformat(document["saved_at"]).timestamp())
            circuits, holds = dict[str, Any](document["circuits"]), dict[str, Any](document["holds"])
        except FileNotFoundError:
            return
        except _READ_ERRORS as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else f"{error!r:.200}"
            log.warning("state file %s: not read: %s; circuits start closed, without holds", self._path, reason)
            return
        self._restore_circuits(circuits, elapsed)
        self._restore_holds(holds, elapsed)

    def _restore_circuits(self, circuits: dict[str, Any], elapsed: float) -> None:
        for name, circuit in self._service.circuits.items():
            if name in circuits:
                try:
                    state = age_exported_state(circuits[name], elapsed)
                    # Workers share their results: were each to restore the same ones, they would count several times.
                    is_first = not self._workers or (self._workers.number == 1 and not self._workers.is_restarted)
                    circuit.restore(state if is_first else {**state, "window": []})
                except _READ_ERRORS as error:
                    log.warning("state file %s: %s: %.200s; the circuit starts closed", self._path, name, error)

    def _restore_holds(self, saved_holds: dict[str, Any], elapsed: float) -> None:
        for provider in self._service.providers:
            try:
                if state := saved_holds["providers"].get(provider.name):
                    self._restore_provider(provider, state, bytes.fromhex(saved_holds["salt"]), elapsed)
            except _READ_ERRORS as error:
                log.warning("state file %s: %s: %.200s; no holds are restored", self._path, provider.name, error)

    def _restore_provider(self, provider: Provider, state: dict[str, Any], salt: bytes, elapsed: float) -> None:
        """Restore the holds of a provider, if its credential is still the same."""
        if state["credential"] == credential_fingerprint(provider, salt):
            handler = self._service.handler(provider.name)
            restore_holds(handler.holds, state["holds"], handler.clock(), elapsed)
