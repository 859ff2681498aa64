"""A reader of server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from .running_gateway import RunningGateway


@dataclass
class ReceivedEvent:
    """Received event; of a comment, only the text."""

    kind: str
    data: Any
    id: str


class EventReader:
    """Reader of an event stream."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.last_id = ""

    async def next(self, *kinds: str) -> ReceivedEvent:
        """Return the next event of these kinds, or of any."""
        while True:
            seen = await self._next()
            if not kinds or seen.kind in kinds:
                return seen

    async def rest(self) -> list[ReceivedEvent]:
        """Return all events until the end."""
        found = []
        while True:
            try:
                found.append(await self._next())
            except EOFError:
                return found

    async def _next(self) -> ReceivedEvent:
        kind = "message"
        data: list[str] = []
        while line := (await self.answer.content.readline()).decode():
            name, _, value = line.rstrip("\n").partition(":")
            value = value.removeprefix(" ")
            match name:
                # A line that begins with a colon is a comment, such as the heartbeat.
                case "" if value:
                    return ReceivedEvent("comment", value, "")
                case "" if data:
                    return ReceivedEvent(kind, json.loads("\n".join(data)), self.last_id)
                case "event":
                    kind = value
                case "data":
                    data.append(value)
                case "id":
                    self.last_id = value
        raise EOFError


@asynccontextmanager
async def reading_events(gateway: RunningGateway, last_id: str | None = None) -> AsyncIterator[EventReader]:
    """Read the gateway's events, from the hello on."""
    headers = {} if last_id is None else {"last-event-id": last_id}
    async with gateway.get("/admin/events", headers=headers) as answer:
        assert answer.content_type == "text/event-stream"
        reader = EventReader(answer)
        assert (await reader.next()).kind == "hello"
        yield reader
