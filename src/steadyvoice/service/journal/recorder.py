"""Recorder of a service: makes the lines of the journal of what ends, and of what circuits do."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Protocol

from msgspec.structs import replace

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitBreakerConfig, CircuitReset, ConfigChanged, Event, Listener, StateChanged
from steadyvoice.providers.base import Provider
from steadyvoice.service.journal.records import (
    FORMAT,
    AttemptLine,
    HeaderLine,
    JournalLine,
    ProviderSettings,
    ResetLine,
    SettingsLine,
    TransitionLine,
    UtteranceLine,
    encode_line,
)
from steadyvoice.service.journal.writer import JournalConfig, JournalFiles, JournalWriter
from steadyvoice.service.observers import EndedUtterance, UtteranceObserver
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.retry import RetryConfig
from steadyvoice.service.result import Attempt
from steadyvoice.speech.errors import TTSError


class ObservedService(Protocol):
    """Service, as its recorder sees it."""

    @property
    def providers(self) -> list[Provider]:
        """Providers in order of preference."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings in force."""
        ...

    @property
    def circuits(self) -> Mapping[str, Any]:
        """Circuit breakers by name of the provider."""
        ...

    def timeouts(self, name: str) -> TimeoutConfig:
        """Return the timeouts of a provider."""
        ...

    def observe(self, observer: UtteranceObserver) -> Callable[[], None]:
        """Tell an observer of each utterance that ends; return a function that ends it."""
        ...

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call a listener with every event of every circuit; return a function that ends it."""
        ...


class JournalRecorder:
    """Recorder of one service, from its construction until `aclose()`. `clock` is that of the circuits."""

    def __init__(
        self,
        config: JournalConfig,
        service: ObservedService,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.config, self._service, self._clock, self._wall_clock = config, service, clock, wall_clock
        self._number = 0
        self._begin_run()
        self._unsubscribe = [service.observe(self), service.subscribe(self._circuit_event)]

    def _begin_run(self) -> None:
        # Read here: the thread that writes must not ask a clock that may belong to the event loop.
        wall_time, clock = self._wall_clock(), self._clock()
        began = datetime.fromtimestamp(wall_time, UTC)
        run = f"{began:%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(3)}"

        def header(part: int) -> bytes:
            line = HeaderLine(
                format=FORMAT, steadyvoice=__version__, run=run, part=part, wall_time=wall_time, clock=clock
            )
            return encode_line(line) + b"\n"

        self._is_inherited = False
        self._settings: SettingsLine | None = None  # as they were noted last
        self._writer = JournalWriter(JournalFiles(self.config, run, header), self.config.folder)

    def after_fork(self) -> None:
        """Have the next line begin a run of its own in a forked child: the file and its thread are the parent's.

        Not at once: the clocks may be those of an event loop, and none runs in the child yet.
        """
        self._is_inherited = True
        self._writer.leave_behind()

    def state(self) -> dict[str, Any]:
        """Return the state of the journal as a JSON-ready value: see JournalWriter.state."""
        return self._writer.state()

    def settings_changed(self) -> None:
        """Note the settings in force, unless they are the last that were noted."""
        if self._is_inherited:
            self._begin_run()
        line, last = self._settings_in_force(), self._settings
        if last is None or line != replace(last, at=line.at):
            self._writer.put([line])
            self._settings = line

    def detach(self) -> None:
        """Observe the service no more."""
        while self._unsubscribe:
            self._unsubscribe.pop()()

    async def aclose(self) -> None:
        """Write what is left, without keeping the event loop, and end."""
        self.detach()
        await asyncio.to_thread(self._writer.close)

    # ---------------------------------------------------------------- what happened

    def utterance_ended(self, ended: EndedUtterance) -> None:
        """Note an utterance and its attempts."""
        if self._settings is None or self._is_inherited:
            self.settings_changed()
        self._number += 1
        report = ended.report
        lines: list[JournalLine] = []
        failed: set[str] = set()
        for attempt in sorted(report.attempts, key=_began):
            lines.append(_attempt_line(attempt, self._number, is_retry=attempt.provider in failed))
            if attempt.error and not attempt.refused:
                failed.add(attempt.provider)
        self._writer.put([*lines, self._utterance_line(ended)])

    def _utterance_line(self, ended: EndedUtterance) -> UtteranceLine:
        report, facts = ended.report, ended.report.facts
        names = [provider.name for provider in self._service.providers]
        candidates = list(facts.candidates) if facts else names
        error = report.error
        return UtteranceLine(
            number=self._number,
            wall_time=ended.wall_time - ended.seconds,
            began=ended.began,
            ended=ended.circuit_time,
            outcome=report.outcome,
            characters=ended.characters,
            audio=report.duration,
            provider=report.provider,
            voice=report.voice,
            first_audio=ended.first_audio,
            deadline=facts.deadline if facts else None,
            candidates=None if candidates == names else candidates,
            holds=facts.holds if facts else False,
            turn=ended.is_turn,
            error=None if error is None else error.kind.value if isinstance(error, TTSError) else "unexpected",
        )

    def _circuit_event(self, event: Event) -> None:
        """Note a change of a circuit. A fleet's thread calls this, too."""
        if self._settings is None or self._is_inherited:
            self.settings_changed()
        at, wall_time, name = event.at, event.wall_time.timestamp(), event.name
        match event:
            case StateChanged():
                line = TransitionLine(
                    at=at,
                    wall_time=wall_time,
                    provider=name,
                    from_state=event.from_state.value,
                    to_state=event.to_state.value,
                    cause=event.cause.value,
                    retry_after=event.retry_after,
                    jitter=event.jitter,
                )
                self._writer.put([line])
            case CircuitReset():
                self._writer.put([ResetLine(at=at, wall_time=wall_time, provider=name)])
            case ConfigChanged():
                self.settings_changed()

    def _settings_in_force(self) -> SettingsLine:
        service = self._service
        retry, settings = service.settings["retry"], service.settings
        return SettingsLine(
            at=self._clock(),
            providers=[
                ProviderSettings(
                    name=each.name,
                    local=each.local,
                    circuit=_circuit_fields(service.circuits[each.name].config),
                    timeouts=_timeout_fields(service.timeouts(each.name)),
                )
                for each in service.providers
            ],
            retry={field.name: getattr(retry, field.name) for field in fields(RetryConfig)},
            muted=settings["muted"],
        )


def _attempt_line(attempt: Attempt, number: int, *, is_retry: bool) -> AttemptLine:
    timing, error, bill = attempt.timing, attempt.error, attempt.bill
    return AttemptLine(
        utterance=number,
        provider=attempt.provider,
        wall_time=attempt.at.timestamp(),
        outcome=error.kind.value if error else "ok",
        voice=attempt.voice,
        began=timing.began if timing else None,
        first=timing.first_output if timing else None,
        last=timing.last_progress if timing and timing.first_output is not None else None,
        settled=timing.settled if timing else None,
        ended=timing.read_at if timing else None,
        refused=attempt.refused,
        probe=timing.is_probe if timing else False,
        retry=is_retry and not attempt.refused,
        hedge=attempt.hedge,
        resume=attempt.begin > 0,
        left=attempt.left,
        starved=error.starved if error else False,
        retry_after=error.retry_after if error else None,
        begin=attempt.begin,
        end=attempt.end,
        first_audio=attempt.first_audio,
        audio=attempt.audio,
        charge=bill.charge.value,
        characters=bill.characters,
        wasted=bill.wasted,
    )


def _began(attempt: Attempt) -> float:
    return attempt.at.timestamp()


_CIRCUIT_FIELDS = {field.name: field.default for field in fields(CircuitBreakerConfig)}


def _circuit_fields(config: CircuitBreakerConfig) -> dict[str, Any]:
    """Return the fields of a circuit that differ from the default; those that only code can set as True."""
    given = {name: getattr(config, name) for name in _CIRCUIT_FIELDS}
    return {
        name: value if isinstance(value, float | int | tuple | None) else True
        for name, value in given.items()
        if value != _CIRCUIT_FIELDS[name]
    }


def _timeout_fields(timeouts: TimeoutConfig) -> dict[str, float | None]:
    """Return the timeouts that differ from the default."""
    given = {
        field.name: getattr(timeouts, field.name)
        for field in fields(TimeoutConfig)
        if getattr(timeouts, field.name) != field.default
    }
    if timeouts.read_timeout_is_set:
        given["read_timeout"] = float(timeouts.read_timeout)
    return given
