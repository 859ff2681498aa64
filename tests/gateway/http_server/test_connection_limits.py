"""Limits of connections, in size and in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.gateway.http_server.connections import ConnectionLimits, ConnectionPhase, WriteProgress, check_head
from steadyvoice.service.config_file import ServerConfig

from ..conftest import Run
from ..raw_http import GET, echo, endless, head, listening, long_at_once


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head(b"x: " + b"y" * 40_000), 431),
        (head(*[b"x%d: y" % number for number in range(200)]), 431),
        (head(b"x: " + b"y" * 20_000, b"z: " + b"y" * 20_000), 431),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 40_000, 431),
        (head(line=b"GET /" + b"u" * 9_000 + b" HTTP/1.1"), 414),
        (head(line=b"GET / HTTP/2.0"), 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (head(b"no colon"), 400),
        (head(b"x: a\x00b"), 400),
        (head(b"x : y"), 400),
        (head(b" folded"), 400),
        (head(line=b"GET /\xff\xfe HTTP/1.1"), 400),
        (head(b"content-length: 3", b"transfer-encoding: chunked", line=b"POST / HTTP/1.1") + b"0\r\n\r\n", 400),
        (head(b"content-length: 3", b"content-length: 4", line=b"POST / HTTP/1.1") + b"abcd", 400),
        (head(b"content-length: -1", line=b"POST / HTTP/1.1"), 400),
        (head(b"content-length: 99999999999999999999999", line=b"POST / HTTP/1.1"), 400),
        (head(b"transfer-encoding: chunked, gzip", line=b"POST / HTTP/1.1") + b"0\r\n\r\n", 400),
        (head(b"transfer-encoding: xchunked", line=b"POST / HTTP/1.1") + b"0\r\n\r\n", 400),
    ],
)
def test_malformed_request_is_answered_and_the_connection_closed(run: Run, sent: bytes, status: int) -> None:
    async def scenario() -> None:
        async with listening(echo) as line:
            client = await line.connect(sent)
            answered, headers, body = await client.read_response()
            assert (answered, headers["connection"]) == (status, "close")
            assert body.endswith(b"\n")
            assert await client.read_all() == b""

    run(scenario())


def test_client_that_is_still_sending_can_read_the_refusal(run: Run) -> None:
    async def scenario() -> None:
        async with listening(echo) as line:
            client = await line.connect(b"GET /" + b"u" * 500_000)
            assert (await client.read_response())[0] in (414, 431)
            await client.send(b"u" * 100_000)
            assert await client.read_all() == b""

    run(scenario())


def test_slow_head_times_out(run: Run) -> None:
    async def scenario() -> None:
        async with listening(echo, header_timeout=0.2) as line:
            slow = await line.connect(b"GET / HTT")
            silent = await line.connect()
            status, _, body = await slow.read_response()
            assert (status, b"0.2 s" in body) == (408, True)
            assert await silent.read_all() == b"", "who said nothing is told nothing"

            again = await line.connect(GET)
            assert (await again.read_response())[0] == 200
            await again.send(b"\r\nGE")  # the clock runs from the first byte of the next one
            assert (await again.read_response())[0] == 408
            early = await line.connect(GET + b"GE")  # or from the answer before it
            assert [(await early.read_response())[0] for _ in range(2)] == [200, 408]

    run(scenario())


def test_idle_connection_is_closed_without_a_response(run: Run) -> None:
    async def scenario() -> None:
        async with listening(echo, idle_timeout=0.2) as line:
            client = await line.connect(GET)
            assert (await client.read_response())[0] == 200
            assert await client.read_all() == b""

    run(scenario())


def test_longest_idle_connection_is_closed_for_a_new_one(run: Run) -> None:
    async def scenario() -> None:
        async with listening(echo, max_connections=3) as line:
            first, second, _ = [await line.connect() for _ in range(3)]
            await second.send(GET)
            await second.read_response()
            fourth = await line.connect(GET)
            assert await first.read_all() == b""
            assert (await fourth.read_response())[0] == 200
            await second.send(GET)
            assert (await second.read_response())[0] == 200

    run(scenario())


def test_new_connection_is_refused_when_all_are_busy(run: Run) -> None:
    async def scenario() -> None:
        async with listening(endless, max_connections=2) as line:
            (await line.connect()).disconnect()  # a closed connection counts no more
            await line.wait_until_closed()
            busy = [await line.connect(GET) for _ in range(2)]
            for client in busy:
                await client.read_head()
            status, _, body = await (await line.connect(GET)).read_response()
            assert status == 503
            assert b"connection limit reached; retry later" in body

    run(scenario())


def test_client_that_stops_reading_is_reset(run: Run) -> None:
    async def scenario() -> None:
        async with listening(endless, write_timeout=0.3) as line:
            deaf = await line.connect(GET, small_window=True)
            await line.listener.wait_until_empty()
            with pytest.raises(ConnectionResetError):
                await deaf.read_all()

    run(scenario())


def test_client_that_does_not_read_the_end_is_reset(run: Run) -> None:
    async def scenario() -> None:
        async with listening(long_at_once, write_timeout=0.3, idle_timeout=0.3) as line:
            await line.connect(GET, small_window=True)
            await line.connect(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), small_window=True)
            await line.listener.wait_until_empty()

    run(scenario())


# Pure.


@given(st.lists(st.tuples(st.floats(0.1, 10), st.integers(0, 3))))
def test_client_that_reads_slowly_is_never_stuck(steps: list[tuple[float, int]]) -> None:
    outflow, now, left = WriteProgress(), 0.0, 1000
    since = now
    outflow.stuck(left, now)
    for seconds, taken in steps:
        now, left = now + seconds, left - taken
        since = now if taken else since
        assert outflow.stuck(left, now) == pytest.approx(now - since)


def test_write_timeout_restarts_after_everything_was_read() -> None:
    outflow = WriteProgress()
    assert [outflow.stuck(left, now) for left, now in [(9, 1), (9, 5), (0, 6), (9, 100), (9, 103)]] == [0, 4, 0, 0, 3]


def test_limits_come_from_the_settings() -> None:
    limits = ConnectionLimits.of(
        ServerConfig(header_timeout=1, idle_timeout=2, body_timeout=3, write_timeout=4, max_connections=5)
    )
    assert [limits.timeout(wait) for wait in ConnectionPhase] == [float("inf"), 1, 2, float("inf"), 3, limits.closing]
    assert (limits.write, limits.connections) == (4, 5)
    assert limits.tick <= 0.25


def test_head_within_all_limits_is_accepted() -> None:
    limits = ConnectionLimits(url_bytes=3, headers=1, head_bytes=2)
    assert check_head(b"abc", [(b"a", b"b")], "1.0", limits) is None
    for url, headers, status in [(b"abcd", [], 414), (b"", [(b"", b"")] * 2, 431), (b"", [(b"ab", b"c")], 431)]:
        refused = check_head(url, headers, "1.1", limits)
        assert refused
        assert refused.status == status
