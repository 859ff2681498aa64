"""Coordinator of the workers: passes on questions, numbers events, and keeps what new workers must learn."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

from steadyvoice.gateway.workers.channel import Channel, encode_message
from steadyvoice.gateway.workers.worker_statistics import RECORDED_QUESTIONS, WorkerCounts
from steadyvoice.service.error_state import to_iso8601

ANSWER_TIMEOUT = 1.0
"""Seconds after which a worker that has not answered is left out."""
ORDER_TIMEOUT = 30.0
"""Seconds for an order: a reload reads files, and may start local engines."""
_ENTRIES_KEPT = 500  # of calls, and of others: as many as an event log keeps
_CALL_KINDS = frozenset({"call", "calls"})
_SAME_TRANSITION_SECONDS = 5.0
_SUPERVISOR = 0  # in place of a worker's number
_LASTING_ACTIONS = frozenset({"open", "disable", "monitor"})


@dataclass
class Orders:
    """Orders in force that no file holds: settings changed at run time, and manual states, by circuit.

    `revision` counts all that were given.
    """

    clock: Callable[[], float] = time.monotonic
    revision: int = 0
    _settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    _manual: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, argument: dict[str, Any]) -> None:
        """Count an order, and keep it if it lasts."""
        self.revision += 1
        match name:
            case "settings":
                changes = argument["changes"]
                former = {} if "preset" in changes else self._settings.get(argument["circuit"], {}).get("changes", {})
                self._settings[argument["circuit"]] = {**argument, "changes": {**former, **changes}}
            case "act" if argument["action"] in _LASTING_ACTIONS:
                self._manual[argument["circuit"]] = argument
            case "act":
                self._manual.pop(argument["circuit"], None)
            case "reload":
                self._settings.clear()  # the file's settings are in force again

    def in_force(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what a worker must be told that starts now."""
        now = self.clock()
        lasting = [_remaining(each, now) for each in self._manual.values() if (each["until"] or now + 1) > now]
        return [*(("settings", each) for each in self._settings.values()), *(("act", each) for each in lasting)]


def _remaining(order: dict[str, Any], now: float) -> dict[str, Any]:
    return order if order["until"] is None else {**order, "duration": order["until"] - now}


@dataclass
class _Question:
    """Question or order on its way: who asked, and who has not answered yet."""

    asker: int
    number: int
    name: str
    argument: Any
    waiting: set[int]
    timer: asyncio.TimerHandle
    answers: dict[int, Any] = field(default_factory=dict)


class EventNumbers:
    """Numbers of the entries of the event log, and the last entries.

    Circuits of all workers change together: the same change of a circuit at another worker, a moment later, is no
    entry of its own.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.edition = secrets.token_hex(4)
        self.last = 0
        self._clock = clock
        self._calls: deque[tuple[int, str, str]] = deque(maxlen=_ENTRIES_KEPT)
        self._others: deque[tuple[int, str, str]] = deque(maxlen=_ENTRIES_KEPT)
        self._transitions: dict[str, tuple[tuple[str, ...], float, set[int]]] = {}

    def add(self, worker: int, kind: str, data: str, transition: Sequence[str] | None) -> tuple[Any, ...] | None:
        """Return a new entry with its number; None for the same transition as a moment before, at another worker."""
        if transition is not None and self._is_known(worker, transition):
            return None
        self.last += 1
        entry = (self.last, kind, data)
        (self._calls if kind in _CALL_KINDS else self._others).append(entry)
        return entry

    def kept(self) -> list[tuple[int, str, str]]:
        """Return the last entries, in order."""
        return sorted([*self._calls, *self._others])

    def _is_known(self, worker: int, transition: Sequence[str]) -> bool:
        circuit, change, now = transition[0], tuple(transition[1:]), self._clock()
        former, at, workers = self._transitions.get(circuit, ((), 0.0, set()))
        if former == change and now - at < _SAME_TRANSITION_SECONDS and worker not in workers:
            workers.add(worker)
            return True
        self._transitions[circuit] = (change, now, {worker})
        return False


class Coordinator:
    """Coordinator of the workers. `saved` is called with each worker's number and its states of circuits and holds."""

    def __init__(
        self,
        saved: Callable[[int, dict[str, Any] | None], None] = lambda worker, state: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.orders = Orders(clock)
        self.events = EventNumbers(clock)
        self._saved = saved
        self._channels: dict[int, Channel] = {}
        self._answering: set[int] = set()
        self._questions: dict[int, _Question] = {}
        self._asked = 0
        self._counts = WorkerCounts()
        self._recorded = cycle(RECORDED_QUESTIONS)
        self._salt = secrets.token_hex(16)

    def join(self, worker: int, channel: Channel, **facts: Any) -> None:
        """Greet a new process, which does not answer yet."""
        self._channels[worker] = channel
        hello = {
            "edition": self.events.edition,
            "entries": self.events.kept(),
            "salt": self._salt,
            "worker": worker,
            **facts,
        }
        channel.send("hello", hello)

    def leave(self, worker: int) -> None:
        """Forget a process that ended. What it counted is still counted."""
        self._channels.pop(worker, None)
        self._answering.discard(worker)
        if self._channels:
            self._saved(worker, None)
        self._counts.end(worker)
        for number, question in list(self._questions.items()):
            question.waiting.discard(worker)
            self._finish(number)

    def broadcast(self, *message: Any) -> None:
        """Send a message to all processes."""
        encoded = encode_message(*message)
        for channel in self._channels.values():
            channel.send_encoded(encoded)

    def note(self, kind: str, facts: dict[str, Any]) -> None:
        """Add an entry of the supervisor itself to the event log."""
        entry = self.events.add(_SUPERVISOR, kind, json.dumps({"at": to_iso8601(datetime.now(UTC)), **facts}), None)
        if entry:
            self.broadcast("entries", [entry])

    def send(self, worker: int, *message: Any) -> None:
        """Send a message to one process, if it runs."""
        if worker in self._channels:
            self._channels[worker].send(*message)

    def record_counts(self) -> None:
        """Ask all workers for a part of their counts, the next one each time, to remember them."""
        question = next(self._recorded)
        argument = self._counts.argument(question)
        self._pass_on(_SUPERVISOR, 0, question, argument, ANSWER_TIMEOUT, self.answering)

    @property
    def answering(self) -> Iterable[int]:
        """Workers that have been prepared, in order."""
        return sorted(self._answering)

    def handle(self, worker: int, message: list[Any]) -> None:
        """Do what a worker asks for."""
        match message:
            case ["joined"]:
                # From here on it gets every order, so none is lost between these and the next.
                self._answering.add(worker)
                self.send(worker, "replay", self.orders.in_force(), self.orders.revision)
            case ["ask", number, name, argument]:
                self._pass_on(worker, number, name, argument, ANSWER_TIMEOUT, self.answering)
            case ["ask one", number, name, argument, other]:
                self._pass_on(worker, number, name, argument, ANSWER_TIMEOUT, self._answering & {other})
            case ["order", number, name, argument]:
                self.orders.add(name, argument)
                self.broadcast("revision", self.orders.revision)
                self._pass_on(worker, number, name, argument, ORDER_TIMEOUT, self.answering)
            case ["answer", number, answer]:
                self._take_answer(worker, number, answer)
            case ["entries", entries]:
                added = [
                    self.events.add(worker, kind, data, change and tuple(change)) for kind, data, change in entries
                ]
                if numbered := [entry for entry in added if entry]:
                    self.broadcast("entries", numbered)
            case ["state", state]:
                self._saved(worker, state)

    def _pass_on(
        self, asker: int, number: int, name: str, argument: Any, timeout: float, workers: Iterable[int]
    ) -> None:
        self._asked += 1
        mine = self._asked
        timer = asyncio.get_running_loop().call_later(timeout, self._finish, mine, True)
        self._questions[mine] = _Question(asker, number, name, argument, set(workers), timer)
        for worker in workers:
            self.send(worker, "question", mine, name, argument)
        self._finish(mine)

    def _take_answer(self, worker: int, number: int, answer: Any) -> None:
        question = self._questions.get(number)
        if question is None:
            return
        self._counts.remember(worker, question.name, answer)
        question.answers[worker] = answer
        question.waiting.discard(worker)
        self._finish(number)

    def _finish(self, number: int, late: bool = False) -> None:
        """Send the answers, if all are there or it is too late for the rest."""
        question = self._questions.get(number)
        if question is None or (question.waiting and not late):
            return
        del self._questions[number]
        question.timer.cancel()
        if (departed := self._counts.departed(question.name, question.argument)) is not None:
            question.answers[_SUPERVISOR] = departed
        self.send(question.asker, "answers", question.number, dict(sorted(question.answers.items())))
