"""Limits of pooled websockets: contexts, cancelled turns, idle connections, slow readers, event loops and forks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from steadyvoice.providers.base import AudioChunk
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.providers.websocket.connection import SocketClosedError, WebSocket
from steadyvoice.providers.websocket.context_connection import (
    DRAINING_TIMEOUT,
    IDLE_TIMEOUT,
    KEEP_ALIVE_INTERVAL,
    PING_INTERVAL,
    ContextConnection,
)
from steadyvoice.providers.websocket.context_protocol import SocketRoute
from steadyvoice.providers.websocket.pool import MAX_SOCKETS
from steadyvoice.providers.websocket.text_stream import MAX_BUFFERED
from steadyvoice.simulator import Ending, Simulator
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech.errors import TTSConcurrencyError, TTSOverloadedError, TTSSocketDroppedError
from steadyvoice.wire.elevenlabs.websocket import AudioMessage, encode_message

from .collected import KEY, TEXT, WORDS, collect, open_stream, say, speech_request
from .scripted_socket import ScriptedConnection, forever, scripted_socket_vendor, speak_all, ticks

VIRTUAL = pytest.mark.looptime(noop_cycles=50)


@asynccontextmanager
async def simulated(**settings: Any) -> AsyncIterator[tuple[Simulator, ElevenLabs]]:
    async with Simulator(voice="tones", **settings) as sim:
        provider = ElevenLabs(KEY, base_url=sim.url)
        try:
            yield sim, provider
        finally:
            await provider.aclose()
            await sim.idle()
            assert sim.request_limit.running == 0


@VIRTUAL
async def test_twenty_interruptions_in_ten_seconds_are_never_refused() -> None:
    async with simulated(real_time_factor=1.0, concurrency=5) as (sim, provider):
        for _ in range(20):
            stream = say(open_stream(provider), finish=False)
            async with asyncio.timeout(5):
                while not isinstance(await anext(stream), AudioChunk):
                    pass
            await asyncio.sleep(0.25)
            stream.close()
            await asyncio.sleep(0.25)
            assert stream.released.done()
        heard = await collect(say(open_stream(provider)))
        assert (heard.error, heard.words) == (None, WORDS)
        assert Ending.REFUSED not in {entry.ending for entry in sim.ledger}


@VIRTUAL
async def test_interruptions_beside_a_turn_that_goes_on_are_never_refused() -> None:
    async with simulated(real_time_factor=1.0, concurrency=50) as (sim, provider):
        steady = asyncio.create_task(collect(say(open_stream(provider), TEXT * 4)))
        for _ in range(20):
            stream = say(open_stream(provider), finish=False)
            await asyncio.sleep(0.5)
            stream.close()
        heard = await steady
        assert (heard.error, heard.words) == (None, WORDS * 4)
        assert Ending.REFUSED not in {entry.ending for entry in sim.ledger}


@VIRTUAL
async def test_draining_context_holds_its_slot_until_the_vendor_has_ended_it() -> None:
    async with scripted_socket_vendor(forever) as vendor:
        provider = ElevenLabs(KEY, base_url=vendor.url)
        staying, leaving = open_stream(provider), open_stream(provider)
        for stream in (staying, leaving):
            say(stream, finish=False)
            await anext(stream)
        leaving.close()
        await ticks()
        assert not leaving.released.done()
        (connection,) = vendor.connections
        (closed,) = [each["context_id"] for each in connection.received if each.get("close_context")]
        await connection.final(closed)
        await leaving.released
        staying.close()
        await provider.aclose()


@VIRTUAL
async def test_context_that_does_not_drain_retires_its_connection() -> None:
    async with scripted_socket_vendor(forever, speak_all) as vendor:
        provider = ElevenLabs(KEY, base_url=vendor.url)
        staying, leaving = open_stream(provider), open_stream(provider)
        for stream in (staying, leaving):
            say(stream, finish=False)
            await anext(stream)
        leaving.close()
        await asyncio.sleep(DRAINING_TIMEOUT + 0.1)
        assert not leaving.released.done(), "the other stream still needs the connection"
        assert (await collect(say(open_stream(provider)))).error is None
        assert len(vendor.connections) == 2, "no new context on the one that retires"
        staying.close()
        async with asyncio.timeout(2):
            await leaving.released
        await provider.aclose()


@VIRTUAL
async def test_stream_abandoned_with_nothing_owed_keeps_its_connection() -> None:
    async with simulated() as (sim, provider):
        stream = say(open_stream(provider), finish=False)
        async for _ in stream:
            if not stream.expects_audio:
                break
        stream.close()
        async with asyncio.timeout(1):
            await stream.released
        assert (await collect(say(open_stream(provider)))).error is None
        assert len(sim.ledger) == 1


@VIRTUAL
async def test_connection_closed_by_a_cancelled_turn_is_replaced_at_once() -> None:
    async with simulated(real_time_factor=1.0) as (sim, provider):
        stream = say(open_stream(provider), finish=False)
        await anext(stream)
        stream.close()
        await asyncio.sleep(0.5)
        assert [entry.ending for entry in sim.ledger] == [Ending.CLIENT_LEFT, Ending.RUNNING]


@VIRTUAL
async def test_turn_that_waits_for_tokens_is_kept_alive() -> None:
    async with scripted_socket_vendor(speak_all) as vendor:
        provider = ElevenLabs(KEY, base_url=vendor.url)
        stream = open_stream(provider)
        stream.send("Hello ")
        await asyncio.sleep(8 * KEEP_ALIVE_INTERVAL)
        (connection,) = vendor.connections
        kept = [message for message in connection.received if message.get("text") == ""]
        assert 5 <= len(kept) <= 8
        stream.send("there. ")
        stream.finish()
        assert (await collect(stream)).alignment.text == "Hello there. "
        count = len(connection.received)
        await asyncio.sleep(IDLE_TIMEOUT - 20)
        assert len(connection.received) == count, "no turn is open"
        await provider.aclose()


@VIRTUAL
async def test_waiting_turn_outlives_the_vendors_inactivity_timeout() -> None:
    async with simulated() as (sim, provider):
        stream = open_stream(provider)
        stream.send("Hello ")
        await asyncio.sleep(600)
        stream.send("there. ")
        stream.finish()
        heard = await collect(stream)
        assert (heard.error, heard.words) == (None, ["Hello", "there."])
        assert len(sim.ledger) == 1


@VIRTUAL
async def test_idle_connection_is_closed_before_the_vendor_does() -> None:
    async with simulated() as (sim, provider):
        await collect(say(open_stream(provider)))
        await asyncio.sleep(IDLE_TIMEOUT + 10)
        (entry,) = sim.ledger
        assert entry.ending is Ending.COMPLETED
        assert (await collect(say(open_stream(provider)))).words == WORDS


@VIRTUAL
async def test_half_open_connection_is_noticed_by_its_missing_pong() -> None:
    async with simulated() as (sim, provider):
        sim.faults.set(actions.HalfOpen())
        stream = say(open_stream(provider))
        async with asyncio.timeout(3 * PING_INTERVAL):
            heard = await collect(stream)
        assert type(heard.error) is TTSSocketDroppedError


async def test_slow_reader_stalls_only_itself() -> None:
    async with scripted_socket_vendor(speak_all) as vendor:
        provider = ElevenLabs(KEY, base_url=vendor.url)
        slow, quick = open_stream(provider), open_stream(provider)
        for _ in range(80):
            say(slow, TEXT, finish=False)
        assert (await collect(say(quick))).alignment.text == TEXT
        for _ in range(20):
            say(slow, TEXT, finish=False)
            await ticks()
        sent = slow.characters_sent
        assert sent < 100 * len(TEXT), "text waits for the reader"
        slow.finish()
        heard = await collect(slow)
        assert (heard.error, heard.alignment.text) == (None, TEXT * 100)
        assert len(vendor.connections) == 1
        await provider.aclose()


async def flood(connection: ScriptedConnection) -> None:
    """Send twelve minutes of audio for the first flush, as fast as it is read, then the end."""
    context = await connection.next_flush()
    for _ in range(180):
        await connection.say(context, 4.0)
    await connection.final(context)
    await speak_all(connection)


async def test_flooded_stream_that_is_alone_is_read_no_further() -> None:
    async with scripted_socket_vendor(flood) as vendor:
        provider = ElevenLabs(KEY, base_url=vendor.url)
        stream = say(open_stream(provider))
        for _ in range(50):
            await asyncio.sleep(0.01)
        assert buffered(stream) < MAX_BUFFERED + 4 * 48_000 + 1
        other = await collect(say(open_stream(provider)))
        assert isinstance(other.error, Exception) or len(vendor.connections) == 2, "it gets a connection of its own"
        heard = await collect(stream)
        assert (heard.error, len(heard.audio)) == (None, 180 * 4 * 48_000)
        await provider.aclose()


async def test_flooded_stream_that_would_stop_others_ends() -> None:
    async with scripted_socket_vendor(flood) as vendor:
        provider = ElevenLabs(KEY, base_url=vendor.url)
        flooded, other = open_stream(provider), open_stream(provider)
        other.send("Hello ")
        say(flooded)
        for _ in range(100):
            await asyncio.sleep(0.01)
        heard = await collect(flooded)
        assert type(heard.error) is TTSOverloadedError
        assert len(heard.audio) < MAX_BUFFERED + 4 * 48_000 + 1
        other.close()
        await provider.aclose()


def buffered(stream: object) -> int:
    return stream._buffered  # type: ignore[attr-defined,no-any-return]


async def test_connections_are_bounded_and_the_longest_idle_one_makes_room() -> None:
    async with scripted_socket_vendor(speak_all) as vendor:
        provider = ElevenLabs(KEY, base_url=vendor.url)
        for seed in range(MAX_SOCKETS):
            heard = await collect(say(open_stream(provider, speech_request(seed=seed)), "One."))
            assert heard.error is None
        assert vendor.running == MAX_SOCKETS
        held = [say(open_stream(provider, speech_request(seed=seed)), "One.", finish=False) for seed in range(100, 164)]
        for stream in held:
            async with asyncio.timeout(5):
                while not isinstance(await anext(stream), AudioChunk):
                    pass
        assert (len(vendor.connections), vendor.running) == (2 * MAX_SOCKETS, MAX_SOCKETS)
        refused = await collect(say(open_stream(provider, speech_request(seed=999))))
        assert isinstance(refused.error, TTSConcurrencyError)
        held.pop().finish()
        for stream in held:
            stream.close()
        await provider.aclose()


class ReadySocket:
    """Websocket that always has another message, until it is closed after the last one."""

    request_id = None

    def __init__(self, message: str, count: int) -> None:
        self._message, self._left = message, count
        self.received = 0  # characters

    async def receive(self) -> str | None:
        if not self._left:
            raise SocketClosedError(1000)
        self._left -= 1
        self.received += len(self._message)
        return self._message

    async def send(self, message: str) -> None:
        pass

    async def ping(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def after_fork(self) -> None:
        pass


async def test_event_loop_runs_between_messages_that_are_ready() -> None:
    socket = ReadySocket(encode_message(AudioMessage(bytes(24_000), None, None, "other")), 200)

    async def connect() -> WebSocket:
        return socket

    connection = ContextConnection(SocketRoute("/", "any", 5), connect, on_end=lambda ended: None, replace=lambda: None)
    most = before = 0
    while connection.task:
        await asyncio.sleep(0)
        most, before = max(most, socket.received - before), socket.received
    assert (socket.received > 200 * 32_000, most <= 256 * 1024) == (True, True)


def test_each_event_loop_has_connections_of_its_own() -> None:
    made: list[ElevenLabs] = []

    async def speak(port: int) -> int:
        async with scripted_socket_vendor(speak_all, port=port) as vendor:
            if not made:
                made.append(ElevenLabs(KEY, base_url=vendor.url))
            for _ in range(2):  # usable again after `aclose`
                assert (await collect(say(open_stream(made[0])))).error is None
                await made[0].aclose()
            return int(vendor.url.rpartition(":")[2])

    asyncio.run(speak(asyncio.run(speak(0))))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_forked_child_does_not_touch_the_parents_connection() -> None:
    async with scripted_socket_vendor(speak_all) as vendor:
        provider = ElevenLabs(KEY, base_url=vendor.url)
        assert (await collect(say(open_stream(provider)))).error is None
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)  # noqa: ASYNC222 - the child ends at once
        assert (await collect(say(open_stream(provider)))).error is None
        assert len(vendor.connections) == 1
        await provider.aclose()


async def test_prewarmed_connection_is_the_one_that_is_used() -> None:
    async with scripted_socket_vendor(speak_all) as vendor:
        provider = ElevenLabs(KEY, base_url=vendor.url)
        request = speech_request()
        for _ in range(2):
            await provider.prewarm(request, provider.offer(request), connection_timeout=5.0)
        assert (await collect(say(open_stream(provider)))).error is None
        assert len(vendor.connections) == 1
        assert vendor.upgrades[0].headers["xi-api-key"] == KEY
        await provider.aclose()
