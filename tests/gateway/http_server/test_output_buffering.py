"""How an answer goes over the wire: a short one in one packet, a long one as it comes."""

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


async def test_what_is_said_within_a_turn_is_one_packet() -> None:
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


async def test_what_is_much_goes_at_once_for_the_transport_tells_when_to_wait() -> None:
    wire = Wire()
    line = line_on(wire)
    line.write(bytes(_FLUSH_BYTES))
    line.write(b"more")
    assert [len(packet) for packet in wire.packets] == [_FLUSH_BYTES + 4]
    await asyncio.sleep(0)
    assert len(wire.packets) == 1


async def test_a_client_that_does_not_read_is_dropped_though_its_transport_never_says_wait() -> None:
    for poured in (False, True):
        wire, most = Wire(sends=False), 0
        line = line_on(wire)
        for _ in range(1000):
            line.write_at_once([bytes(10_000)]) if poured else line.write(bytes(10_000))
            most = max(most, wire.get_write_buffer_size())
            await asyncio.sleep(0)
        assert wire.closing
        assert most <= MAX_UNSENT_BYTES + 10_000, "it holds no more than that, and one part"
        assert not wire.packets


async def test_a_long_part_is_no_reason_to_drop_anybody() -> None:
    wire = Wire(sends=False)
    line = line_on(wire)
    line.write(bytes(5 * MAX_UNSENT_BYTES))
    assert (len(wire.packets), wire.closing) == (1, False)


async def test_whoever_has_gone_is_told_nothing() -> None:
    wire = Wire()
    line = line_on(wire)
    line.write(b"last words")
    wire.closing = True
    await asyncio.sleep(0)
    line.write(b"behind them")
    line.flush()
    assert wire.packets == []


async def test_what_is_poured_goes_at_once_behind_what_waits() -> None:
    wire = Wire()
    line = line_on(wire)
    line.write(b"head")
    line.write_at_once([b"3\r\n", b"one", b"\r\n"])
    assert wire.packets == [b"head3\r\none\r\n"]
    await asyncio.sleep(0)
    wire.closing = True
    line.write_at_once([b"two"])
    assert wire.packets == [b"head3\r\none\r\n"]


def test_an_outlet_is_open_as_long_as_somebody_reads() -> None:
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


def test_what_is_poured_is_counted() -> None:
    cycle = SimpleNamespace(flow=SimpleNamespace(write_paused=False), disconnected=False, response_complete=False)
    line = cast(BufferedOutput, SimpleNamespace(write_at_once=lambda parts: None))

    async def send(message: Any) -> None: ...

    request = RequestContext({"headers": [], OUTLET_FACTORY: lambda: ChunkWriter(cycle, line)}, send, clock=lambda: 0.0)
    outlet = request.outlet()

    assert outlet
    outlet.write(b"three")
    assert request.bytes_sent == 5
