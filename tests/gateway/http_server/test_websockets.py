"""Websockets of the HTTP server, by their own clock: pings, messages in fragments, and the order of what is sent."""

from __future__ import annotations

import asyncio

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from steadyvoice.gateway.http import ClientDisconnectedError
from steadyvoice.gateway.http_server.websocket import PING_INTERVAL, ClientWebSocket, WebSocketUpgrade


class Line:
    """Connection that keeps what is written, and blocks writers on demand."""

    def __init__(self) -> None:
        self.client = ClientProtocol(parse_uri("ws://localhost/"))
        self.readable = asyncio.Event()
        self.readable.set()
        self.ended = self.was_reset = False

    def write_frames(self, data: bytes) -> None:
        self.client.receive_data(data)

    async def drain(self) -> None:
        await self.readable.wait()

    def end_output(self) -> None:
        self.ended = True

    def reset(self) -> None:
        self.was_reset = True

    @property
    def opcodes(self) -> list[Opcode]:
        """Opcodes of the frames since the last look."""
        return [event.opcode for event in self.client.events_received() if isinstance(event, Frame)]


class MessageKeeper:
    """Handler that keeps messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.left = self.stopping = False

    def receive(self, message: str) -> None:
        self.messages.append(message)

    def refuse_binary(self) -> None:
        raise AssertionError

    def disconnected(self) -> None:
        self.left = True

    def tick(self, now: float) -> None: ...

    def shutdown(self) -> None:
        self.stopping = True


def opened() -> tuple[ClientWebSocket, Line, MessageKeeper]:
    """Return a websocket after its handshake, with its connection and handler."""
    line, listener = Line(), MessageKeeper()
    request = line.client.connect()
    line.client.send_request(request)
    line.client.data_to_send()
    headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.raw_items()]
    socket = WebSocketUpgrade(headers, lambda socket: None, line).accept(lambda socket: listener)
    assert socket
    assert line.client.events_received()
    return socket, line, listener


async def test_silent_client_is_pinged_and_then_reset() -> None:
    socket, line, _ = opened()
    now = asyncio.get_running_loop().time()
    socket.check_timeouts(now + PING_INTERVAL - 1)
    assert line.opcodes == []
    socket.check_timeouts(now + PING_INTERVAL + 1)
    assert line.opcodes == [Opcode.PING]
    socket.check_timeouts(now + 2 * PING_INTERVAL)
    assert not line.was_reset
    socket.check_timeouts(now + 2 * PING_INTERVAL + 2)
    assert line.was_reset


async def test_pong_is_a_sign_of_life() -> None:
    socket, line, _ = opened()
    now = asyncio.get_running_loop().time()
    socket.check_timeouts(now + PING_INTERVAL + 1)
    socket.receive_data(b"".join(line.client.data_to_send()))
    socket.check_timeouts(now + 2 * PING_INTERVAL + 2)
    assert not line.was_reset
    assert line.opcodes == [Opcode.PING, Opcode.PING]


async def test_messages_wait_for_a_slow_reader_and_keep_their_order() -> None:
    socket, line, _ = opened()
    line.readable.clear()
    sending = [asyncio.create_task(socket.send(str(number))) for number in range(3)]
    await asyncio.sleep(0)
    assert line.opcodes == []
    line.readable.set()
    await asyncio.gather(*sending)
    events = line.client.events_received()
    assert [event.data for event in events if isinstance(event, Frame)] == [b"0", b"1", b"2"]


async def test_sender_that_waits_learns_that_the_client_has_left() -> None:
    socket, line, listener = opened()
    line.readable.clear()
    sending = asyncio.create_task(socket.send("late"))
    await asyncio.sleep(0)
    socket.connection_lost()
    line.readable.set()
    with pytest.raises(ClientDisconnectedError):
        await sending
    assert (listener.left, socket.close_code) == (True, 1006)


async def test_close_frame_is_answered_and_ends_the_output() -> None:
    socket, line, listener = opened()
    line.client.send_close(1001, "going away")
    socket.receive_data(b"".join(line.client.data_to_send()))
    assert (listener.left, line.ended, socket.close_code) == (True, True, 1001)


async def test_long_reason_is_shortened() -> None:
    socket, line, _ = opened()
    socket.close(1008, "ä" * 200)
    assert line.client.close_rcvd
    assert line.client.close_rcvd.reason == "ä" * 61
    assert line.ended
