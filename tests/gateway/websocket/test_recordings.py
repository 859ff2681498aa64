"""LiveKit's and Pipecat's own ElevenLabs services, replayed byte for byte at the gateway.

`tests/plugins/recorder.py` wrote the recordings while the frameworks ran against it: LiveKit Agents 1.8.9 and Pipecat
1.14.0, their services of text-to-speech and of dialogues (for Eleven v3 and v4), in every scenario of their suites.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from steadyvoice import AsyncTTSService, Tone
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.simulator import Simulator
from tests.gateway.websocket.clients import DialogueReader, Heard, PipecatDialogueReader, PipecatReader, Reader
from tests.gateway.websocket.frames import CLOSE, TEXT, frame, read_frame
from tests.plugins.scenarios import FAULTS, WORDS, service_on, simulated_vendor
from tests.plugins.scenarios import TEXT as ANSWER

READERS: dict[str, Callable[[], Reader]] = {
    "livekit-speech": Reader,
    "livekit-dialogue": DialogueReader,
    "pipecat-speech": PipecatReader,
    "pipecat-tokens": PipecatReader,
    "pipecat-dialogue": PipecatDialogueReader,
}
SCENARIOS = [*FAULTS, "interruption healthy", "interruption cut", "interruption stall", "outage"]
OUTAGE = 5  # answers


@dataclass
class Recording:
    """Connection of a client: its request and its frames."""

    scenario: str
    head: str
    frames: list[dict[str, Any]] = field(default_factory=list)

    @property
    def texts(self) -> dict[str, list[str]]:
        """Words that the client sent, by context, in the order of their beginning."""
        texts: dict[str, str] = defaultdict(str)
        gap = " " if "auto_mode=true" in self.head else ""  # each message is a phrase
        for message in (json.loads(each["data"]) for each in self.frames if each["opcode"] == TEXT):
            for text in (message.get("text") or "", *(line["text"] for line in message.get("inputs", ()))):
                if text.strip():
                    texts[message["context_id"]] += text + gap
        return {context: text.split() for context, text in texts.items()}


def recordings(client: str) -> list[Recording]:
    """Read the recordings of a client."""
    found: list[Recording] = []
    for line in (Path(__file__).parent / f"recordings/{client}.jsonl").read_text("utf-8").splitlines():
        document = json.loads(line)
        if "head" in document:
            found.append(Recording(**document))
        else:
            found[-1].frames.append(document)
    return found


class Replay:
    """Replay of one connection: what the client had received before it sent a frame is waited for."""

    def __init__(self, recording: Recording, reader: Reader, at_end: Callable[[int], Awaitable[None]]) -> None:
        self._recording, self.reader, self._at_end = recording, reader, at_end
        self._ended: dict[str | None, None] = {}
        self._received = asyncio.Condition()

    async def run(self, url: str) -> None:
        """Send the request and the frames, until all contexts have ended."""
        parts = urlsplit(url)
        incoming, outgoing = await asyncio.open_connection(parts.hostname, parts.port)
        outgoing.write(self._recording.head.encode("latin-1"))
        assert (await incoming.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        reading = asyncio.create_task(self._read(incoming))
        for each in self._recording.frames:
            for event in each["after"]:
                await self._wait_for(*event.split(" ", 1))
            is_text = each["opcode"] == TEXT
            if each["opcode"] == CLOSE:
                await self._wait_for_all()
            data = each["data"].encode() if is_text else bytes.fromhex(each["data"])
            outgoing.write(frame(data, each["opcode"], mask=bytes.fromhex(each["mask"])))
        await self._wait_for_all()
        outgoing.close()
        await reading

    async def _wait_for_all(self) -> None:
        for context in self._recording.texts:
            await self._wait_for("end", context)

    async def _wait_for(self, kind: str, context: str) -> None:
        known: Any = self._ended if kind == "end" else self.reader.contexts
        async with asyncio.timeout(30), self._received:
            await self._received.wait_for(lambda: context in known)

    async def _read(self, incoming: asyncio.StreamReader) -> None:
        try:
            while (received := await read_frame(incoming)).opcode != CLOSE:
                message = json.loads(received.data)
                heard = self.reader.note(message)
                if heard.finals and (name := message.get("context_id")) not in self._ended:
                    await self._at_end(len(self._ended) + 1)
                    self._ended[name] = None
                async with self._received:
                    self._received.notify_all()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass


def assert_whole(heard: Heard, words: list[str]) -> None:
    """Check that the words were spoken and timed once and in order, and that the context has ended once."""
    assert heard.spoken == heard.timed == words
    assert all(earlier < later for earlier, later in pairwise(heard.times))
    assert heard.times[-1] < heard.seconds
    assert (heard.finals, heard.error) == (1, None)


async def replayed(recording: Recording, reader: Reader) -> None:
    """Replay a connection at a gateway whose vendor has the scenario's fault, and check each of its contexts."""
    fault = recording.scenario.removeprefix("interruption ")
    outage = fault == "outage"

    async def end_of_outage(count: int) -> None:
        if outage and count == OUTAGE:
            simulator.faults.clear()
            service.reset_circuit_breaker()

    simulator: Simulator
    service: AsyncTTSService
    async with (
        simulated_vendor("503" if outage else fault) as simulator,
        service_on(simulator, *(() if outage else (Tone(),))) as service,
        Gateway(service, ServerConfig(port=0)) as gateway,
    ):
        await Replay(recording, reader, end_of_outage).run(gateway.url)
        texts = list(recording.texts.items())
        assert texts[-1][1] == WORDS
        for context, words in texts[OUTAGE if outage else 0 :]:
            assert_whole(reader.contexts[context], words)
        for context, _ in texts[: OUTAGE if outage else 0]:
            heard = reader.contexts[context]
            assert heard.error, heard
            assert (heard.audio, heard.words, heard.finals) == (b"", [], 1)


@pytest.mark.slow
@pytest.mark.parametrize("client", READERS)
async def test_recorded_client_hears_whole_answers_in_every_scenario(client: str) -> None:
    found = recordings(client)
    needed = SCENARIOS if client.startswith("livekit") else [*FAULTS, "interruption healthy", "outage"]
    assert {recording.scenario for recording in found} == set(needed)
    assert ANSWER.split() == WORDS
    async with asyncio.TaskGroup() as group:
        for recording in found:
            group.create_task(replayed(recording, READERS[client]()))
