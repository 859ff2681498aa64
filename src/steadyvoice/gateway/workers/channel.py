"""Messages between a worker and its supervisor, over a pair of connected Unix sockets.

Both ends run the same version, so a message is a plain tuple: its kind, and its fields.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_UNSENT_BYTES = 16 * 1024 * 1024
"""Bytes that may wait for the other end; a process that has not read as much is stuck."""

_LENGTH_BYTES = 4


class ChannelClosedError(Exception):
    """Other end was closed, or its process ended."""


def encode_message(*message: Any) -> bytes:
    """Return a message with its length before it."""
    body = msgspec.msgpack.encode(message, enc_hook=_plain)
    return len(body).to_bytes(_LENGTH_BYTES) + body


def _plain(value: object) -> object:
    """Return a value of a type that is sent: timeouts, for one, are numbers of a class of their own."""
    for kind in (float, int, str):
        if isinstance(value, kind):
            return kind(value)
    raise NotImplementedError(f"{type(value).__name__} cannot be sent to another worker")


def take_message(received: bytearray) -> list[Any] | None:
    """Remove and return the first whole message of what was received; None if there is none yet."""
    length = int.from_bytes(received[:_LENGTH_BYTES])
    if len(received) < _LENGTH_BYTES or len(received) < _LENGTH_BYTES + length:
        return None
    message: list[Any] = msgspec.msgpack.decode(received[_LENGTH_BYTES : _LENGTH_BYTES + length])
    del received[: _LENGTH_BYTES + length]
    return message


def receive_message(line: socket.socket) -> list[Any]:
    """Wait for the first message on a blocking socket, and read nothing behind it. Raises ChannelClosedError."""
    length = int.from_bytes(_receive_exactly(line, _LENGTH_BYTES))
    message: list[Any] = msgspec.msgpack.decode(_receive_exactly(line, length))
    return message


def _receive_exactly(line: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        if not (data := line.recv(count - len(received))):
            raise ChannelClosedError
        received += data
    return bytes(received)


class Channel:
    """End of a channel, in an event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, line: socket.socket) -> Channel:
        """Return the channel of a connected socket, which it owns from then on."""
        line.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=line))

    @property
    def is_stuck(self) -> bool:
        """True if the other end reads nothing any more, or too slowly."""
        return self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES

    def send(self, *message: Any) -> None:
        """Send a message without waiting; to an end that was closed or is stuck, nothing is sent."""
        self.send_encoded(encode_message(*message))

    def send_encoded(self, message: bytes) -> None:
        """Send a message that several ends get."""
        if not (self._writer.is_closing() or self.is_stuck):
            self._writer.write(message)

    async def messages(self) -> AsyncIterator[list[Any]]:
        """Yield what the other end sends, until it is closed."""
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
                if length > MAX_MESSAGE_BYTES:
                    return
                yield msgspec.msgpack.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return

    async def flush(self) -> None:
        """Wait until everything was sent, or the other end was closed."""
        self._writer.transport.set_write_buffer_limits(high=0)  # so that it waits for everything
        with suppress(OSError):
            await self._writer.drain()

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
