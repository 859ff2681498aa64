"""State file: circuits and holds survive a restart, written atomically."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

from steadyvoice.breaker import Event, StateChanged
from steadyvoice.breaker.persistence import age_exported_state
from steadyvoice.gateway.request_context import RequestContext
from steadyvoice.gateway.speech_request import SpeechOrder
from steadyvoice.providers.base import Provider
from steadyvoice.service.error_state import to_iso8601
from steadyvoice.service.resilience.holds import credential_fingerprint, export_holds, restore_holds
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.speech.failure_kinds import FailureScope
from steadyvoice.wire.text_file import read_text_file

log = logging.getLogger("steadyvoice.gateway")

Content = Callable[[], Any]
"""Makes what is to be written: JSON-ready values, which no event loop changes any more."""


class AtomicWriter:
    """One file's. Trouble with it is logged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers, self._written = count(1), 0
        self._lock = Lock()

    def write_soon(self, content: Content) -> None:
        """Write it without keeping an event loop; at once, where there is none."""
        number = next(self._numbers)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write(number, content)
        else:
            loop.run_in_executor(None, self._write, number, content)

    def write(self, content: Content) -> None:
        """Write it now: nothing that was to be written before comes after it."""
        self._write(next(self._numbers), content)

    def _write(self, number: int, content: Content) -> None:
        with self._lock:
            if number < self._written:
                return  # something newer is there already
            self._written = number
            part = self._path.with_name(f"{self._path.name}.part")
            try:
                part.write_text(json.dumps(content(), indent=1), encoding="utf-8")
                os.replace(part, self._path)
            except OSError as error:
                log.warning("state file %s: not written: %s", self._path, error.strerror)
                with suppress(OSError):
                    part.unlink()


_MAX_BYTES = 16 * 1024 * 1024

_READ_ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a file raises that somebody else has written. None of it is a reason not to start."""


class StateFile:
    """Written whenever a circuit changes its state or a vendor refuses a credential, and at the end.

    Trouble with it is logged, and the voice goes on.

    `wall_clock` is the time of day in seconds: the only clock that goes on while nobody runs. Of a credential the file
    holds a mark by which to know it again; from that nobody can tell the key.
    """

    def __init__(self, path: Path, service: AsyncTTSService, wall_clock: Callable[[], float] = time.time) -> None:
        self._path, self._service, self._wall_clock = path.expanduser(), service, wall_clock
        self._scribe = AtomicWriter(self._path)
        self._salt = os.urandom(16)
        self._unsubscribe: Callable[[], None] | None = None

    def open(self) -> None:
        """Go on from where the last process stopped, less the time that has passed since; and watch."""
        self._restore()
        self._unsubscribe = self._service.subscribe(self._moved)

    def close(self) -> None:
        """Write it for the last time."""
        if self._unsubscribe:
            self._unsubscribe()
        self._scribe.write(self._content())

    def speech_finished(
        self, request: RequestContext, door: str, order: SpeechOrder, account: ReportedUtterance
    ) -> None:
        """An utterance is over, as a watcher is told: see whether it is to be remembered how."""
        for attempt in account.report.attempts:
            if attempt.error and attempt.error.meaning.scope is FailureScope.CREDENTIAL and not attempt.refused:
                self._scribe.write_soon(self._content())

    def request_finished(self, request: RequestContext) -> None:
        """Of no interest here."""

    def _moved(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self._scribe.write_soon(self._content())

    def _content(self) -> Callable[[], dict[str, Any]]:
        """All of it, as it is now; what takes its time is left to whoever writes it."""
        circuits = {name: circuit.export() for name, circuit in self._service.circuits.items()}
        held = [(provider, self._holds_of(provider)) for provider in self._service.providers]
        told = {"saved_at": to_iso8601(datetime.fromtimestamp(self._wall_clock(), UTC)), "circuits": circuits}
        return lambda: {**told, "holds": self._marked([(provider, holds) for provider, holds in held if holds])}

    def _holds_of(self, provider: Provider) -> list[dict[str, Any]]:
        handler = self._service.handler(provider.name)
        return export_holds(handler.holds, handler.clock())

    def _marked(self, held: list[tuple[Provider, list[dict[str, Any]]]]) -> dict[str, Any]:
        providers = {
            each.name: {"credential": credential_fingerprint(each, self._salt), "holds": holds} for each, holds in held
        }
        return {"salt": self._salt.hex(), "providers": providers}

    def _restore(self) -> None:
        try:
            document = json.loads(read_text_file(self._path, _MAX_BYTES))
            passed = max(0.0, self._wall_clock() - datetime.fromisoformat(document["saved_at"]).timestamp())
            circuits, holds = dict[str, Any](document["circuits"]), dict[str, Any](document["holds"])
        except FileNotFoundError:
            return
        except _READ_ERRORS as error:
            told = "nested too deeply" if isinstance(error, RecursionError) else f"{error!r:.200}"
            log.warning("state file %s: not read: %s; circuits begin closed, with nothing on hold", self._path, told)
            return
        self._restore_circuits(circuits, passed)
        self._restore_holds(holds, passed)

    def _restore_circuits(self, circuits: dict[str, Any], passed: float) -> None:
        for name, circuit in self._service.circuits.items():
            if name in circuits:
                try:
                    circuit.restore(age_exported_state(circuits[name], passed))
                except _READ_ERRORS as error:
                    log.warning("state file %s: %s: %.200s; it begins closed", self._path, name, error)

    def _restore_holds(self, told: dict[str, Any], passed: float) -> None:
        for provider in self._service.providers:
            try:
                if state := told["providers"].get(provider.name):
                    self._take_up(provider, state, bytes.fromhex(told["salt"]), passed)
            except _READ_ERRORS as error:
                log.warning("state file %s: %s: %.200s; nothing is on hold", self._path, provider.name, error)

    def _take_up(self, provider: Provider, state: dict[str, Any], salt: bytes, passed: float) -> None:
        """With another credential, what was on hold is tried anew."""
        if state["credential"] == credential_fingerprint(provider, salt):
            handler = self._service.handler(provider.name)
            restore_holds(handler.holds, state["holds"], handler.clock(), passed)
