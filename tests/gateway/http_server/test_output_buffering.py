"""Output buffering: short responses in one packet, long ones at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from steadyvoice.gateway.http import OUTLET_FACTORY
from steadyvoice.gateway.http_server.output import _FLUSH_BYTES, MAX_UNSENT_BYTES, BufferedOutput, ChunkWriter
from steadyvoice.gateway.request_context import RequestContext


class Wire:
    """A transport that writes down what it is given at once, and sends it unless it is told not to."""

    def __init__(self, *, sends: bool = True) -> None:
        self.packets: list[bytes] = []
        self.closing, self.sends = False, sends

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.packets.append(data)

    def get_write_buffer_size(self) -> int:
        return 0 if self.sends else sum(map(len, self.packets))

    def abort(self) -> None:
        self.closing = True
        self.packets.clear()


def line_on(wire: Any) -> BufferedOutput:
    return BufferedOutput(wire, asyncio.get_running_loop(), lambda: None)


async def test_writes_of_one_loop_turn_are_one_packet() -> None:
    wire = Wire()
    line = line_on(wire)
    for part in (b"head", b"body", b"end"):
        line.write(part)
    assert wire.packets == []
    await asyncio.sleep(0)
    assert wire.packets == [b"headbodyend"]
    line.write(b"next")
    await asyncio.sleep(0)
    assert wire.packets == [b"headbodyend", b"next"]


async def test_large_writes_are_flushed_at_once_so_that_the_transport_can_pause() -> None:
    wire = Wire()
    line = line_on(wire)
    line.write(bytes(_FLUSH_BYTES))
    line.write(b"more")
    assert [len(packet) for packet in wire.packets] == [_FLUSH_BYTES + 4]
    await asyncio.sleep(0)
    assert len(wire.packets) == 1


async def test_client_that_does_not_read_is_dropped_even_if_its_transport_never_pauses() -> None:
    for with_sink in (False, True):
        wire, most = Wire(sends=False), 0
        line = line_on(wire)
        for _ in range(1000):
            line.write_at_once([bytes(10_000)]) if with_sink else line.write(bytes(10_000))
            most = max(most, wire.get_write_buffer_size())
            await asyncio.sleep(0)
        assert wire.closing
        assert most <= MAX_UNSENT_BYTES + 10_000, "it holds no more than that, and one part"
        assert not wire.packets


async def test_one_long_part_does_not_drop_the_client() -> None:
    wire = Wire(sends=False)
    line = line_on(wire)
    line.write(bytes(5 * MAX_UNSENT_BYTES))
    assert (len(wire.packets), wire.closing) == (1, False)


async def test_nothing_is_written_to_a_closed_connection() -> None:
    wire = Wire()
    line = line_on(wire)
    line.write(b"last words")
    wire.closing = True
    await asyncio.sleep(0)
    line.write(b"behind them")
    line.flush()
    assert wire.packets == []


async def test_chunks_are_sent_at_once_after_pending_data() -> None:
    wire = Wire()
    line = line_on(wire)
    line.write(b"head")
    line.write_at_once([b"3\r\n", b"one", b"\r\n"])
    assert wire.packets == [b"head3\r\none\r\n"]
    await asyncio.sleep(0)
    wire.closing = True
    line.write_at_once([b"two"])
    assert wire.packets == [b"head3\r\none\r\n"]


def test_sink_is_open_while_the_client_reads() -> None:
    cycle = SimpleNamespace(flow=SimpleNamespace(write_paused=False), disconnected=False, response_complete=False)
    wire = Wire()
    outlet = ChunkWriter(
        cycle, cast(BufferedOutput, SimpleNamespace(write_at_once=lambda parts: wire.write(b"".join(parts))))
    )

    assert outlet.open()
    outlet.write(b"one")
    assert wire.packets == [b"3\r\none\r\n"]
    for where, what in ((cycle.flow, "write_paused"), (cycle, "disconnected"), (cycle, "response_complete")):
        setattr(where, what, True)
        assert not outlet.open()
        setattr(where, what, False)


def test_bytes_of_the_sink_are_counted() -> None:
    cycle = SimpleNamespace(flow=SimpleNamespace(write_paused=False), disconnected=False, response_complete=False)
    line = cast(BufferedOutput, SimpleNamespace(write_at_once=lambda parts: None))

    async def send(message: Any) -> None: ...

    request = RequestContext({"headers": [], OUTLET_FACTORY: lambda: ChunkWriter(cycle, line)}, send, clock=lambda: 0.0)
    outlet = request.outlet()

    assert outlet
    outlet.write(b"three")
    assert request.bytes_sent == 5
