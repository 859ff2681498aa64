"""Output buffering: short responses in one packet, long ones at once."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

from steadyvoice.gateway.http import OUTLET_FACTORY
from steadyvoice.gateway.http_server.output import _FLUSH_BYTES, MAX_UNSENT_BYTES, BufferedOutput, ChunkWriter
from steadyvoice.gateway.request_context import RequestContext

from ..conftest import Run


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


def test_client_that_reads_late_gets_all_chunks_in_order(run: Run) -> None:
    """Chunks that the socket does not take, in whole or in part, wait in the transport with what follows them."""
    chunks = [number.to_bytes(4) * 10_000 for number in range(20)]  # 800 KB: more than the sockets hold

    async def scenario() -> None:
        outputs: asyncio.Queue[tuple[BufferedOutput, asyncio.Transport]] = asyncio.Queue()

        class Server(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                written = cast(asyncio.Transport, transport)
                written.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
                outputs.put_nowait((BufferedOutput(written, loop, lambda: None), written))

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1], limit=1024)
        output, transport = await outputs.get()
        output.write_at_once((b"first",))
        assert await reader.readexactly(5) == b"first"
        output.write(b"head")
        for chunk in chunks:
            output.write_at_once((chunk[:100], chunk[100:]))
        assert transport.get_write_buffer_size() > 0
        output.write(b"end")
        assert await reader.readexactly(800_007) == b"head" + b"".join(chunks) + b"end"
        writer.transport.abort()  # a client that leaves is noticed by the transport
        while not transport.is_closing():
            output.write_at_once((chunks[0],))
            await asyncio.sleep(0.001)
        server.close()

    run(scenario())
