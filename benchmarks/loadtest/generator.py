"""Load generator, a process of its own: open-loop calls over HTTP, and their results.

Run: `python -m loadtest.generator '{"url": ..., "rate": 20, "seconds": 60, "seed": 1}'`; a report as JSON on stdout.

Arrivals do not wait for answers, so that an overloaded gateway stays overloaded. Every call has a deadline,
and gives up without a complete answer `GRACE` seconds after it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

import aiohttp
import uvloop
from aiohttp.client_reqrep import ClientResponse

from loadtest.statistics import percentile
from loadtest.traffic import Call, Ending, arrivals, calls

GRACE = 5.0
SLACK = 0.5
"""Seconds that a busy machine may add to a deadline before an answer counts as late."""

_KEPT = 100  # examples of failed calls in the report
_SLOW_BUFFER = 8192  # bytes that the kernel holds for a slow reader
_SLOW_READ = 4096

HEARD = "heard"
HUNG_UP = "hung up"
REFUSED = "refused, 503 with Retry-After"
BARE_REFUSAL = "refused without Retry-After"
ERROR = "error before audio"
BROKEN = "broken off"
NO_ANSWER = "connection closed without an answer"
GAVE_UP = "gave up"
CATEGORIES = (HEARD, HUNG_UP, REFUSED, BARE_REFUSAL, ERROR, BROKEN, NO_ANSWER, GAVE_UP)


@dataclass
class CallResult:
    """Result of one call. Times in seconds since the call began."""

    call: Call
    at: float  # since the load began
    category: str = GAVE_UP
    status: int = 0
    outcome: str = ""
    provider: str = ""
    request_id: str = ""
    first: float | None = None
    over: float = 0.0
    bytes: int = 0
    error: str = ""

    @property
    def late(self) -> bool:
        """Whether an answer or refusal came after the deadline.

        A stream may take a second more for each second of audio that it has brought. Slow readers are not counted.
        """
        limit = self.call.deadline + SLACK
        if self.category is GAVE_UP:
            return False  # a category of its own
        if self.first is not None and self.first > limit:
            return True
        if self.call.ending is not Ending.LISTEN:
            return False
        return self.over > limit + (self.bytes / self.call.bytes_per_second if self.call.endpoint.streams else 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        call = self.call
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "call"}
        return {
            "endpoint": call.endpoint.name,
            "format": call.format.name,
            "characters": len(call.text),
            "deadline": call.deadline,
            "ending": call.ending.value,
            **values,
            "late": self.late,
        }


@dataclass
class Report:
    """Totals of all calls. `minutes` has the categories by the minute in which a call began."""

    offered: int = 0
    categories: Counter[str] = field(default_factory=Counter)
    minutes: list[Counter[str]] = field(default_factory=list)
    headers: Counter[str] = field(default_factory=Counter)  # x-steadyvoice-outcome, as far as known at the first byte
    statuses: Counter[str] = field(default_factory=Counter)
    late: int = 0
    late_by_category: Counter[str] = field(default_factory=Counter)
    answered_in_time: int = 0
    first_audio: list[float] = field(default_factory=list)  # of streaming endpoints
    most_in_flight: int = 0
    own_lag_p99: float = 0.0
    seconds: float = 0.0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, result: CallResult) -> None:
        """Count one call."""
        minute = int(result.at // 60)
        while len(self.minutes) <= minute:
            self.minutes.append(Counter())
        self.minutes[minute][result.category] += 1
        self.categories[result.category] += 1
        self.headers[result.outcome or "-"] += 1
        self.statuses[f"{result.status} {result.provider or '-'}"] += 1
        if result.late:
            self.late += 1
            self.late_by_category[result.category] += 1
        elif result.category in (HEARD, HUNG_UP):
            self.answered_in_time += 1
        if result.first is not None and result.status == 200 and result.call.endpoint.streams:
            self.first_audio.append(result.first)
        wrong = result.late or result.category not in (HEARD, HUNG_UP, REFUSED) or result.outcome == "muted"
        if wrong and len(self.examples) < _KEPT:
            self.examples.append(result.as_dict())


@dataclass(frozen=True)
class LoadOptions:
    """Load to generate: `rate` calls per second for `seconds`."""

    url: str
    rate: float
    seconds: float
    seed: int = 1


async def load(order: LoadOptions) -> Report:
    """Make all calls, and wait for the last one."""
    report, begun = Report(), time.monotonic()
    running: set[asyncio.Task[None]] = set()
    lag = asyncio.create_task(_own_lag(own_lags := list[float]()))
    # Slow readers have a session of their own, because the size of its read buffer is set for a whole session.
    slow = aiohttp.TCPConnector(limit=0, socket_factory=_slow_socket)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as usual,
        aiohttp.ClientSession(connector=slow, read_bufsize=_SLOW_READ) as slowly,
    ):
        for arrival, call in zip(arrivals(order.rate, order.seconds, order.seed), calls(order.seed), strict=False):
            # Against the clock, not after the last call: a generator that is late catches up, and keeps its rate.
            await asyncio.sleep(begun + arrival - time.monotonic())
            session = slowly if call.ending is Ending.SLOW else usual
            task = asyncio.create_task(_caller(session, order.url, CallResult(call, arrival), report))
            running.add(task)
            task.add_done_callback(running.discard)
            report.offered += 1
            report.most_in_flight = max(report.most_in_flight, len(running))
        if running:
            await asyncio.wait(running)
    lag.cancel()
    report.own_lag_p99 = percentile(own_lags, 0.99)
    report.seconds = time.monotonic() - begun
    return report


async def _caller(session: aiohttp.ClientSession, url: str, result: CallResult, report: Report) -> None:
    begun, call = time.monotonic(), result.call
    own_pace = 2 * call.expected_seconds if call.ending is Ending.SLOW else 0.0
    try:
        async with asyncio.timeout(call.deadline + call.expected_seconds + own_pace + GRACE):
            await _make(session, url, result, begun)
    except TimeoutError:
        result.category = GAVE_UP
    # An answer that has begun and breaks off is another failure than none at all.
    except (aiohttp.ClientError, OSError) as error:
        result.category = BROKEN if result.status else NO_ANSWER
        result.error = f"{type(error).__name__}: {error}"[:200]
    result.over = time.monotonic() - begun
    report.add(result)


async def _make(session: aiohttp.ClientSession, url: str, result: CallResult, begun: float) -> None:
    call = result.call
    headers = {"x-steadyvoice-deadline": f"{call.deadline:g}"}
    request = session.post(url + call.path, json=call.body, headers=headers)
    if call.ending is Ending.LEAVE_BEFORE:
        # The connection is closed while the gateway works on the answer, or just as the answer begins.
        try:
            async with asyncio.timeout(call.patience):
                answer = await request
        except TimeoutError:
            result.category = HUNG_UP
            return
        _note(result, answer)
        answer.close()
        result.category = HUNG_UP if answer.status == 200 else _refusal(answer)
        return
    async with request as answer:
        _note(result, answer)
        if answer.status != 200:
            result.error = (await answer.read())[:200].decode("utf-8", "replace")
            result.category = _refusal(answer)
            return
        await _listen(answer, result, begun)
        if call.ending is Ending.LEAVE_AFTER:
            answer.close()


async def _listen(answer: ClientResponse, result: CallResult, begun: float) -> None:
    call = result.call
    enough = call.patience * call.expected_seconds * call.bytes_per_second
    while data := await (answer.content.read(_SLOW_READ) if call.ending is Ending.SLOW else answer.content.readany()):
        if result.first is None:
            result.first = time.monotonic() - begun
        result.bytes += len(data)
        if call.ending is Ending.LEAVE_DURING and result.bytes >= enough:
            result.category = HUNG_UP
            answer.close()
            return
        if call.ending is Ending.SLOW:
            await asyncio.sleep(len(data) / call.bytes_per_second)
    result.category = HEARD if result.bytes else BROKEN


def _note(result: CallResult, answer: ClientResponse) -> None:
    result.status = answer.status
    result.outcome = answer.headers.get("x-steadyvoice-outcome", "")
    result.provider = answer.headers.get("x-steadyvoice-provider", "")
    result.request_id = answer.headers.get("x-request-id", "")


def _refusal(answer: ClientResponse) -> str:
    if answer.status == 503:
        return REFUSED if "retry-after" in answer.headers else BARE_REFUSAL
    return ERROR


def _slow_socket(address: Any) -> socket.socket:
    """Open a socket with a small receive buffer, so that slow reading reaches the gateway as back-pressure."""
    family, kind, proto, *_ = address
    opened = socket.socket(family, kind, proto)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER)
    opened.setblocking(False)
    return opened


async def _own_lag(lags: list[float]) -> None:
    """Record how late this process wakes up, so that its own delays are not attributed to the gateway."""
    while True:
        due = time.monotonic() + 0.1
        await asyncio.sleep(0.1)
        lags.append(time.monotonic() - due)


if __name__ == "__main__":
    print(json.dumps(vars(uvloop.run(load(LoadOptions(**json.loads(sys.argv[1])))))), flush=True)
