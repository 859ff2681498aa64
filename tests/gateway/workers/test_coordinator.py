"""What the supervisor keeps and passes on, without processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from steadyvoice.breaker.testing import VirtualClock
from steadyvoice.gateway.observability.event_log import CALLS_SENT_AFTER, NewEntry, WorkerEventLog
from steadyvoice.gateway.workers.channel import encode_message, take_message
from steadyvoice.gateway.workers.coordinator import ANSWER_TIMEOUT, Coordinator, EventNumbers, Orders


class SentMessages:
    """Channel that keeps what is sent."""

    is_stuck = False

    def __init__(self) -> None:
        self.sent: list[list[Any]] = []

    def send(self, *message: Any) -> None:
        self.send_encoded(encode_message(*message))

    def send_encoded(self, message: bytes) -> None:
        decoded = take_message(bytearray(message))
        assert decoded is not None
        self.sent.append(decoded)

    def of(self, kind: str) -> list[list[Any]]:
        return [message for message in self.sent if message[0] == kind]


def joined(coordinator: Coordinator, *workers: int) -> list[SentMessages]:
    channels = [SentMessages() for _ in workers]
    for worker, channel in zip(workers, channels, strict=True):
        coordinator.join(worker, channel)  # type: ignore[arg-type]
        coordinator.handle(worker, ["joined"])
    return channels


def action(name: str, until: float | None = None) -> dict[str, Any]:
    return {"circuit": "voice", "action": name, "duration": None, "until": until}


def settings(**changes: Any) -> dict[str, Any]:
    return {"circuit": "voice", "changes": changes}


def test_orders_in_force_are_the_last_ones() -> None:
    clock = VirtualClock()
    orders = Orders(clock)
    orders.add("settings", settings(window_size=5, cooldown_period=9))
    orders.add("settings", settings(window_size=7))
    orders.add("act", action("open", until=clock() + 30))
    assert orders.in_force() == [
        ("settings", settings(window_size=7, cooldown_period=9)),
        ("act", {**action("open", until=clock() + 30), "duration": 30}),
    ]
    clock.advance(10)
    assert orders.in_force()[1][1]["duration"] == 20
    clock.advance(20)
    assert len(orders.in_force()) == 1, "its time is over"
    orders.add("settings", settings(preset="production"))
    assert orders.in_force() == [("settings", settings(preset="production"))]
    orders.add("act", action("disable"))
    orders.add("act", action("reset"))
    orders.add("reload", {})
    assert orders.in_force() == []
    assert orders.revision == 7


def test_the_same_transition_at_all_workers_is_one_entry() -> None:
    clock = VirtualClock()
    events = EventNumbers(clock)
    opened = ("voice", "closed", "open")
    assert events.add(1, "transition", "{}", opened)
    assert events.add(2, "transition", "{}", opened) is None
    assert events.add(1, "transition", "{}", opened), "the same worker again: it is news"
    assert events.add(2, "transition", "{}", ("voice", "open", "half_open"))
    clock.advance(60)
    assert events.add(1, "transition", "{}", ("voice", "open", "half_open"))
    assert [number for number, _, _ in events.kept()] == [1, 2, 3, 4]


def test_entries_come_back_to_all_with_one_number_and_new_workers_get_the_old_ones() -> None:
    coordinator = Coordinator()
    first, second = joined(coordinator, 1, 2)
    coordinator.handle(2, ["entries", [["call", "{}", None], ["transition", "{}", ["voice", "closed", "open"]]]])
    coordinator.handle(1, ["entries", [["transition", "{}", ["voice", "closed", "open"]]]])
    coordinator.note("worker", {"worker": 1})
    sent = [[entry[:2] for entry in message[1]] for message in first.of("entries")]
    assert sent == [[[1, "call"], [2, "transition"]], [[3, "worker"]]]
    assert first.of("entries") == second.of("entries")
    (third,) = joined(coordinator, 3)
    assert [number for number, _, _ in third.of("hello")[0][1]["entries"]] == [1, 2, 3]
    assert json.loads(third.of("hello")[0][1]["entries"][2][2])["worker"] == 1


async def test_calls_of_a_moment_are_one_message_and_what_follows_them_keeps_its_place() -> None:
    shared = SharedLogOfOne()
    log = WorkerEventLog(lambda: 0.0, shared)
    for number in range(20):
        log.add("call", lambda number=number: {"number": number})  # type: ignore[misc]
    assert shared.messages == []
    log.add("transition", {"provider": "voice", "from": "closed", "to": "open"})
    log.add("call", {"number": 20})
    await asyncio.sleep(CALLS_SENT_AFTER)
    log.add("call", {"number": 21})
    log.close()
    kinds = [[kind for kind, _, _ in entries] for entries in shared.messages]
    assert kinds == [["call"] * 20 + ["transition"], ["call"], ["call"]]
    assert shared.messages[0][-1][2] == ("voice", "closed", "open")
    assert [entry.number for entry in log.since(0)[0]] == list(range(1, 24))


class SharedLogOfOne:
    """Event log of a worker that is alone: it numbers entries at once."""

    edition = "e"
    writes_entries = True

    def __init__(self) -> None:
        self.entries: list[tuple[int, str, str]] = []
        self.messages: list[Sequence[NewEntry]] = []
        self.on_entry: Callable[[int, str, str], None] = lambda number, kind, data: None

    def add_entries(self, entries: Sequence[NewEntry]) -> None:
        self.messages.append(entries)
        for kind, data, _ in entries:
            self.entries.append((len(self.entries) + 1, kind, data))
            self.on_entry(*self.entries[-1])


async def test_question_is_answered_by_all_that_answer() -> None:
    coordinator = Coordinator()
    first, second, third = joined(coordinator, 1, 2, 3)
    coordinator.handle(1, ["ask", 70, "calls", None])
    numbers = [channel.of("question")[0][1] for channel in (first, second, third)]
    coordinator.handle(1, ["answer", numbers[0], "mine"])
    coordinator.handle(2, ["answer", numbers[1], "hers"])
    assert not first.of("answers")
    coordinator.leave(3)
    assert first.of("answers") == [["answers", 70, {1: "mine", 2: "hers"}]]


async def test_worker_that_hangs_is_left_out() -> None:
    coordinator = Coordinator()
    first, _ = joined(coordinator, 1, 2)
    coordinator.handle(1, ["ask", 70, "calls", None])
    coordinator.handle(1, ["answer", first.of("question")[0][1], "mine"])
    await asyncio.sleep(ANSWER_TIMEOUT + 0.1)
    assert first.of("answers") == [["answers", 70, {1: "mine"}]]


async def test_new_worker_misses_no_order() -> None:
    coordinator = Coordinator()
    joined(coordinator, 1)
    late = SentMessages()
    coordinator.join(2, late)  # type: ignore[arg-type]
    coordinator.handle(1, ["order", 1, "settings", settings(window_size=7)])
    coordinator.handle(2, ["joined"])
    coordinator.handle(1, ["order", 2, "settings", settings(window_size=8)])
    assert late.of("replay") == [["replay", [["settings", settings(window_size=7)]], 1]]
    assert [message[2:] for message in late.of("question")] == [["settings", settings(window_size=8)]]


async def test_counters_of_a_worker_that_ended_still_count() -> None:
    coordinator = Coordinator()
    first, second = joined(coordinator, 1, 2)
    counters = [["calls", "counter", "sum", [["calls_total", ["provider", "a"], 5.0]]], ["open", "gauge", "max", []]]

    def scrape(number: int) -> Any:
        coordinator.handle(1, ["ask", number, "metrics", None])
        for worker, channel in ((1, first), (2, second)):
            coordinator.handle(worker, ["answer", channel.of("question")[-1][1], counters])
        return first.of("answers")[-1][2]

    scrape(1)
    coordinator.leave(2)
    second.sent.append(["question", 0])
    answers = scrape(2)
    assert answers[0] == [["calls", "counter", "sum", [["calls_total", ["provider", "a"], 5.0]]]]


@pytest.mark.parametrize("cut", range(1, 12))
def test_message_is_read_whole_however_it_arrives(cut: int) -> None:
    data = encode_message("entry", 1, b"\xff")
    received = bytearray(data[:cut])
    first = take_message(received)
    received += data[cut:] + encode_message("next")
    assert [first or take_message(received), take_message(received)] == [["entry", 1, b"\xff"], ["next"]]
