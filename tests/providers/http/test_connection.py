"""HTTP connections and their pool: unusual responses, byte sinks, backpressure and idle connections."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.providers.base import Accepted, ByteSink
from steadyvoice.providers.http.client import HTTPAudioResponse, HTTPClient
from steadyvoice.providers.http.connection import READ_BUFFER, HTTPConnection
from steadyvoice.providers.http.connection_pool import ConnectionPool
from steadyvoice.providers.http.transport import DirectTransport
from steadyvoice.speech import errors as speech
from tests.providers.conftest import parse_vendor_error
from tests.providers.http.test_client import prepared_request, read
from tests.providers.scripted_vendor import ConnectionAction, ScriptedVendor, audio_response, chunked_response


async def test_request_head_and_body(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response(x_id="r1"))

    params = {"a": "b c", "d": "é/"}
    say = client.prepare(
        "/v1/say", {"model": "m"}, text="input", params=params, accepted=lambda found: Accepted(found["x-id"])
    )
    with closing(await say.send("Hä?", connection_timeout=5.0)) as reply:
        assert reply.accepted.request_id == "r1"

    request = vendor.requests[0]
    assert (request.method, request.target) == ("POST", "/v1/say?a=b+c&d=%C3%A9%2F")
    assert request.json == {"input": "Hä?", "model": "m"}
    assert request.headers["host"] == vendor.url.removeprefix("http://")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-key"] == "k"


async def test_unread_long_response_does_not_block_later_requests(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response(bytes(3 * READ_BUFFER // 2)))
    vendor.enqueue(audio_response(b"two"))

    with closing(await prepared_request(client).send("one", connection_timeout=5.0)):
        for _ in range(1_000):  # turns of the loop, in which all of it comes
            await asyncio.sleep(0)
    async with asyncio.timeout(5.0):
        assert await read(client) == b"two"


async def test_path_of_the_base_url_comes_first(vendor: ScriptedVendor) -> None:
    client = HTTPClient("vendor", f"{vendor.url}/behind/a", parse_vendor_error, headers={})
    vendor.enqueue(audio_response())

    await read(client)

    assert vendor.requests[0].target == "/behind/a/speak"
    await client.aclose()


async def test_interim_response_is_skipped(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(
        b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", audio_response(b"one")
    )
    vendor.enqueue(audio_response(b"two"))

    assert await read(client) == b"one"
    assert await read(client) == b"two"
    assert vendor.connections == 1


async def test_body_without_length_ends_with_the_connection(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n\r\nspeech", ConnectionAction.CLOSE)
    vendor.enqueue(audio_response(b"two"))

    assert await read(client) == b"speech"
    assert await read(client) == b"two"
    assert vendor.connections == 2


async def test_reset_truncates_a_body_without_length(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n\r\nspeech", ConnectionAction.RESET)

    with pytest.raises((speech.TTSCutError, speech.TTSNoAnswerError)):
        await read(client)


async def test_connection_close_prevents_reuse(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response(b"one", connection="close"))
    vendor.enqueue(audio_response(b"two"))

    assert await read(client) == b"one"
    assert await read(client) == b"two"
    assert vendor.connections == 2


async def test_connection_opened_ahead_serves_the_next_request(vendor: ScriptedVendor, client: HTTPClient) -> None:
    for _ in range(3):
        vendor.enqueue(audio_response())
    pool = _pool(client)
    await pool.open_ahead()
    assert pool.opening == 0

    await read(client)
    await pool.open_ahead()
    await read(client)
    assert vendor.connections == 2


async def test_request_waits_for_a_connection_that_is_being_opened(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response())
    pool = _pool(client)
    pool.open_ahead()
    assert pool.opening == 1
    await read(client)
    assert (pool.opening, vendor.connections) == (0, 1)


async def test_no_more_connections_are_opened_ahead_than_there_is_room_for(
    vendor: ScriptedVendor, client: HTTPClient
) -> None:
    vendor.enqueue(audio_response())
    say = prepared_request(client)
    assert say.reserve() is None
    opened = [say.open_ahead(room=2) for _ in range(5)]
    assert [each is not None for each in opened] == [True, True, False, False, False]
    await asyncio.gather(*filter(None, opened))
    assert say.open_ahead(room=0) is None
    started = say.reserve()
    assert started is not None
    started.close()


async def test_connection_that_cannot_be_opened_ahead_leaves_nothing(vendor: ScriptedVendor) -> None:
    client = HTTPClient("vendor", "http://127.0.0.1:1", parse_vendor_error, headers={})
    pool = _pool(client)
    failed = pool.open_ahead()
    with pytest.raises(OSError, match="Connect call failed"):
        await failed
    assert (pool.opening, pool.acquire_idle()) == (0, None)
    failed = pool.open_ahead()
    with pytest.raises(speech.TTSConnectError):  # waits for the same one
        await read(client)
    assert failed.done()
    abandoned = pool.open_ahead()
    await client.aclose()
    with pytest.raises(asyncio.CancelledError):
        await abandoned


@pytest.mark.parametrize("turns", range(1, 7))
async def test_cancelled_request_closes_the_connection_it_has_waited_for(
    vendor: ScriptedVendor, client: HTTPClient, turns: int
) -> None:
    pool = _pool(client)
    opening = pool.open_ahead()
    waiting = asyncio.ensure_future(pool.open())
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    try:
        connection = await waiting
    except asyncio.CancelledError:
        await asyncio.wait([opening])
        await asyncio.sleep(0)
        assert opening.cancelled() or not opening.result().usable
    else:
        assert connection.usable
        connection.close()
    assert pool.acquire_idle() is None


async def test_unsolicited_bytes_close_the_connection(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response(b"one"), audio_response(b"a surplus"))
    vendor.enqueue(audio_response(b"two"))

    assert await read(client) == b"one"
    await asyncio.sleep(0.01)  # in which the surplus may come
    assert await read(client) == b"two"
    assert vendor.connections == 2


async def test_chunked_gzip_is_decompressed_in_chunks(vendor: ScriptedVendor, client: HTTPClient) -> None:
    packed = gzip.compress(bytes(range(256)) * 50)
    vendor.enqueue(
        chunked_response(*(packed[offset : offset + 7] for offset in range(0, len(packed), 7)), content_encoding="gzip")
    )

    assert await read(client) == bytes(range(256)) * 50


async def test_truncated_gzip_is_an_error(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(chunked_response(gzip.compress(b"speech" * 100)[:-9], content_encoding="gzip"))

    with pytest.raises(speech.TTSCutError, match="too early"):
        await read(client)


async def test_idle_connections_are_closed_in_time(vendor: ScriptedVendor) -> None:
    transport = DirectTransport("vendor", vendor.url, {}, stale_within=1.0, keep_alive=0.05)
    vendor.enqueue(audio_response(b"one"))

    answer = await transport.send("POST", "/", b"{}", 5.0)
    while await answer.read():
        pass
    answer.close()

    await vendor.client_left.wait()
    await transport.aclose()


async def test_concurrent_requests_have_a_connection_each_and_reuse_them(
    vendor: ScriptedVendor, client: HTTPClient
) -> None:
    for _ in range(6):
        vendor.enqueue(audio_response(b"one"))

    await asyncio.gather(*(read(client) for _ in range(3)))
    await asyncio.gather(*(read(client) for _ in range(3)))

    assert vendor.connections == 3


async def test_bytes_that_come_during_a_read_go_to_the_sink(vendor: ScriptedVendor, client: HTTPClient) -> None:
    going_on, got = asyncio.Event(), list[bytes]()
    vendor.enqueue(chunked_response(b"one", end=False), going_on, b"3\r\ntwo\r\n", b"0\r\n\r\n")

    def sink(data: bytes) -> bool:
        got.append(data)
        return True

    with closing(await prepared_request(client).send("Hi", connection_timeout=5.0)) as reply:
        assert await reply.read(sink) == b"one"
        going_on.set()
        assert await reply.read(sink) == b""
    assert b"".join(got) == b"two"


async def test_refused_bytes_stay_in_order(vendor: ScriptedVendor, client: HTTPClient) -> None:
    going_on = asyncio.Event()
    vendor.enqueue(chunked_response(b"one", end=False), going_on, b"3\r\ntwo\r\n", b"0\r\n\r\n")

    with closing(await prepared_request(client).send("Hi", connection_timeout=5.0)) as reply:
        assert await reply.read() == b"one"
        going_on.set()
        assert await reply.read(lambda _: False) == b"two"
        assert await reply.read(lambda _: False) == b""


async def test_sink_errors_are_raised_by_read(vendor: ScriptedVendor, client: HTTPClient) -> None:
    going_on = asyncio.Event()
    vendor.enqueue(chunked_response(b"one", end=False), going_on, b"3\r\ntwo\r\n", ConnectionAction.HANG)
    vendor.enqueue(audio_response(b"three"))

    def sink(data: bytes) -> bool:
        raise speech.TTSTooSlowError("too slow", provider="vendor")

    with closing(await prepared_request(client).send("Hi", connection_timeout=5.0)) as reply:
        assert await reply.read() == b"one"
        going_on.set()
        with pytest.raises(speech.TTSTooSlowError):
            await reply.read(sink)
    assert await read(client) == b"three"


async def test_truncation_counts_the_bytes_of_the_sink(vendor: ScriptedVendor, client: HTTPClient) -> None:
    going_on = asyncio.Event()
    vendor.enqueue(chunked_response(b"one", end=False), going_on, b"3\r\ntwo\r\n", ConnectionAction.CLOSE)

    with closing(await prepared_request(client).send("Hi", connection_timeout=5.0)) as reply:
        assert await reply.read() == b"one"
        going_on.set()
        with pytest.raises(speech.TTSCutError, match="after 6 bytes"):
            await reply.read(lambda _: True)


@pytest.mark.parametrize("way", ["read", "sink", "without waiting"])
@pytest.mark.parametrize("apart", [False, True], ids=["in one packet", "in a packet of its own"])
async def test_malformed_rest_of_a_body_cuts_it_behind_its_audio(
    vendor: ScriptedVendor, client: HTTPClient, way: str, apart: bool
) -> None:
    """To a reader, bytes that are no HTTP are a broken connection: what came before them counts, and is billed."""
    going_on, got = asyncio.Event(), list[bytes]()
    begin, rest = chunked_response(b"one", end=False), b"3\r\ntwo\r\nno chunk\r\n"
    vendor.enqueue(*([begin, going_on, rest] if apart else [begin + rest]), ConnectionAction.HANG)

    def sink(data: bytes) -> bool:
        got.append(data)
        return True

    async def read_on(reply: HTTPAudioResponse) -> None:
        while True:
            data = await reply.read(sink if way == "sink" else None)
            got.append(data)
            going_on.set()
            while way == "without waiting" and (more := reply.read_nowait()) is not None:
                got.append(more)

    with closing(await prepared_request(client).send("Hi", connection_timeout=5.0)) as reply:
        with pytest.raises(speech.TTSCutError, match="cut off after 6 bytes") as cut:
            await read_on(reply)
        assert cut.value.status == 200
        with pytest.raises(speech.TTSCutError):  # the error stays
            reply.read_nowait()
    assert b"".join(got) == b"onetwo"


ENDINGS = [b"0\r\n\r\n", b"no chunk\r\n", b"3\r\non", b""]


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=6), max_size=5),
    ending=st.sampled_from(ENDINGS),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_every_way_of_reading_gives_the_same_bytes_and_error(
    chunks: list[bytes], ending: bytes, cuts: list[int]
) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + ending
    places = sorted({0, *(min(cut, len(body)) for cut in cuts), len(body)})
    packets = [body[begin:end] for begin, end in pairwise(places)]

    async def result(way: str) -> tuple[bytes, str]:
        got = list[bytes]()

        def sink(data: bytes) -> bool:
            got.append(data)
            return True

        connection, waiting = await waiting_connection(sink if way == "sink" else None)
        try:
            for packet in packets:
                receive(connection, packet)
                if way == "apart":
                    for _ in range(3):
                        await asyncio.sleep(0)
            connection.connection_lost(None)
            while data := await waiting:
                got.append(data)
                if way == "without waiting":
                    while more := connection.read_nowait():
                        got.append(more)
                    return b"".join(got), "end"
                waiting = asyncio.ensure_future(connection.read(sink if way == "sink" else None))
            return b"".join(got), "end"
        except OSError as error:
            return b"".join(got), type(error).__name__

    results = {way: asyncio.run(result(way)) for way in ("apart", "at once", "sink", "without waiting")}

    assert len(set(results.values())) == 1, results


async def test_compressed_bytes_do_not_go_to_the_sink(vendor: ScriptedVendor, client: HTTPClient) -> None:
    packed = gzip.compress(b"speech" * 100)
    going_on = asyncio.Event()
    rest = b"%x\r\n%s\r\n" % (len(packed) - 20, packed[20:])
    vendor.enqueue(chunked_response(packed[:20], end=False, content_encoding="gzip"), going_on, rest, b"0\r\n\r\n")
    body = b""

    def sink(data: bytes) -> bool:
        raise AssertionError("nobody can play this")

    with closing(await prepared_request(client).send("Hi", connection_timeout=5.0)) as reply:
        going_on.set()
        while data := await reply.read(sink):
            body += data
    assert body == b"speech" * 100


class FakeTransport(asyncio.Transport):
    """Transport that drops what is sent; a test provides what is received."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def write(self, data: object) -> None: ...

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def is_closing(self) -> bool:
        return False


def receive(connection: HTTPConnection, data: bytes) -> None:
    """Deliver these bytes in one read."""
    connection.get_buffer(-1)[: len(data)] = data
    connection.buffer_updated(len(data))


async def waiting_connection(sink: ByteSink | None) -> tuple[HTTPConnection, asyncio.Task[bytes]]:
    """Return a connection that has got its response head, and a task that reads from it."""
    connection = HTTPConnection(asyncio.get_running_loop(), lambda _: None)
    connection.connection_made(FakeTransport())
    asked = asyncio.ensure_future(connection.request(b"GET / HTTP/1.1\r\n\r\n"))
    await asyncio.sleep(0)
    receive(connection, chunked_response(end=False))
    await asked
    waiting = asyncio.ensure_future(connection.read(sink))
    await asyncio.sleep(0)
    return connection, waiting


async def test_sink_gets_nothing_after_an_error() -> None:
    sent_to_sink: list[bytes] = []

    def sink(data: bytes) -> bool:
        sent_to_sink.append(data)
        raise speech.TTSTooLongError("no end", provider="vendor")

    connection, waiting = await waiting_connection(sink)
    for packet in (b"3\r\none\r\n", b"3\r\ntwo\r\n"):  # within one turn, before anybody can look
        receive(connection, packet)

    with pytest.raises(speech.TTSTooLongError):
        await waiting
    assert sent_to_sink == [b"one"]


async def test_later_bytes_do_not_overtake_refused_ones() -> None:
    sent_to_sink: list[bytes] = []

    def sink(data: bytes) -> bool:
        sent_to_sink.append(data)
        return len(sent_to_sink) > 1

    connection, waiting = await waiting_connection(sink)
    for packet in (b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"):
        receive(connection, packet)

    assert await waiting == b""
    assert sent_to_sink == [b"one", b"onetwo"]


@pytest.mark.parametrize("tiny", [False, True], ids=["large chunks", "tiny chunks"])
async def test_full_read_pauses_until_the_next_iteration(tiny: bool) -> None:
    """An event loop that reads while the buffer comes back full would otherwise do nothing else."""
    sent_to_sink: list[bytes] = []

    def sink(data: bytes) -> bool:
        sent_to_sink.append(data)
        return True

    connection, waiting = await waiting_connection(sink)
    transport = connection._transport
    assert isinstance(transport, FakeTransport)
    room = len(connection.get_buffer(-1))
    packet = b"1\r\nx\r\n" * (room // 6 + 1) if tiny else b"fff0\r\n" + bytes(0xFFF0) + b"\r\n3\r\none\r\n"
    receive(connection, packet[:room])

    assert room <= READ_BUFFER
    assert not transport.reading
    await asyncio.sleep(0)
    assert transport.reading
    waiting.cancel()


async def test_partial_read_does_not_pause() -> None:
    connection, waiting = await waiting_connection(lambda data: True)
    receive(connection, b"3\r\none\r\n")

    transport = connection._transport
    assert isinstance(transport, FakeTransport)
    assert transport.reading
    waiting.cancel()


ENDLESS = {
    "a header value": (b"HTTP/1.1 200 OK\r\nx: ", b"a" * 1000),
    "a header name": (b"HTTP/1.1 200 OK\r\n", b"a" * 1000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 100),
    "a reason phrase": (b"HTTP/1.1 200 ", b"OK " * 300),
    "interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n" * 20),
    "blank lines before the answer": (b"", b"\r\n" * 500),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_endless_head_is_refused(what: str, vendor: ScriptedVendor, client: HTTPClient) -> None:
    begin, more = ENDLESS[what]
    sent = CountedChunks(more)
    vendor.enqueue(begin, iter(sent))

    with pytest.raises(speech.TTSNotAudioError, match=r"endless headers|not HTTP"):
        await read(client)
    await vendor.client_left.wait()
    assert sent.size < 8_000_000  # what the kernel's buffers take


AFTERWARDS = {
    "a chunk extension": (b"6;x=", b"a" * 1000),
    "trailers": (b"0\r\n", b"x: y\r\n" * 100),
    "a trailer": (b"0\r\nx: ", b"a" * 1000),
    "the digits of a chunk's size": (b"", b"0" * 1000),
}


@pytest.mark.parametrize("what", AFTERWARDS)
async def test_endless_body_without_data_is_refused(what: str, vendor: ScriptedVendor, client: HTTPClient) -> None:
    begin, more = AFTERWARDS[what]
    sent = CountedChunks(more)
    vendor.enqueue(chunked_response(b"speech", end=False) + begin, iter(sent))

    with pytest.raises(speech.TTSCutError):
        await read(client)
    await vendor.client_left.wait()
    assert sent.size < 8_000_000


async def test_trailers_do_not_change_headers(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(
        chunked_response(b"speech", end=False, x_id="r1") + b"0\r\nx-id: r2\r\ncontent-encoding: gzip\r\n\r\n"
    )

    async with asyncio.timeout(5.0):
        with closing(await prepared_request(client).send("Hi", connection_timeout=5.0)) as reply:
            assert await reply.read() == b"speech"
            assert await reply.read() == b""
            assert reply.headers["x-id"] == "r1"


async def test_head_and_a_long_body_may_come_at_once(vendor: ScriptedVendor, client: HTTPClient) -> None:
    body = bytes(range(256)) * 2_000
    vendor.enqueue(audio_response(body, x_long="a" * 20_000))

    assert await read(client) == body


class CountedChunks:
    """Endless series of the same bytes, and their count."""

    def __init__(self, block: bytes) -> None:
        self.block, self.size = block, 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(100_000):
            self.size += len(self.block)
            yield self.block


def _pool(client: HTTPClient) -> ConnectionPool:
    transport = client.direct_transport()
    assert transport is not None
    return transport.pool
