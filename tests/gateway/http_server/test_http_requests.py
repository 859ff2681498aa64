"""HTTP requests of all shapes: long and chunked bodies, pipelining, absolute targets, upgrades."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

import pytest

from steadyvoice.gateway.http import BodyTooLargeError, Receive, Response, Scope, Send, read_body
from steadyvoice.gateway.request_context import RequestContext

from ..conftest import Run
from ..raw_http import GET, echo, endless, head, listening, refuse_at_once

POST = b"POST / HTTP/1.1"


def test_rest_of_a_short_body_is_drained_and_a_long_one_is_not(run: Run) -> None:
    async def scenario() -> None:
        async with listening(refuse_at_once, max_body_bytes=100, body_timeout=0.2) as line:
            short = await line.connect(head(b"content-length: 10", line=b"POST / HTTP/1.1"))
            assert (await short.read_response())[0] == 401
            await short.send(b"0123456789" + GET)
            assert (await short.read_response())[0] == 401, "and the next request is read as one"
            for header in (
                b"content-length: 101",
                b"transfer-encoding: chunked",
                b"content-length: 9\r\nexpect: 100-continue",
            ):
                long = await line.connect(head(header, line=b"POST / HTTP/1.1"))
                assert (await long.read_response())[0] == 401
                assert await long.read_all() == b""
            last = await line.connect(head(b"content-length: 9999999", b"connection: close", line=POST))
            await last.send(bytes(3_000_000))
            assert (await last.read_response())[0] == 401, "who is still sending can hear it"
            late = await line.connect(head(b"content-length: 10", line=b"POST / HTTP/1.1"))
            assert (await late.read_response())[0] == 401
            assert await late.read_all() == b""

    run(scenario())


def test_chunked_body_is_read_and_its_trailers_are_not_headers(run: Run) -> None:
    async def scenario() -> None:
        async with listening(echo_key) as line:
            client = await line.connect(head(b"transfer-encoding: chunked", b"x-key: honest", line=POST))
            await client.send(b"1\r\nx\r\n" * 5000)
            await client.send(b"0\r\nx-key: smuggled\r\n\r\n")
            assert (await client.read_response())[2] == b"5000 honest"
            await client.send(head(b"transfer-encoding: chunked", line=POST) + b"0\r\nx-key: smuggled\r\n\r\n")
            assert (await client.read_response())[2] == b"0 none"

    run(scenario())


@pytest.mark.slow
def test_endless_chunks_and_trailers_are_cut_off(run: Run) -> None:
    async def scenario() -> None:
        async with listening(echo_key, max_body_bytes=1000) as line:
            for endless in (b"1\r\nx\r\n", b"0\r\nx: ", b"1" + b"0" * 500):
                client = await line.connect(head(b"transfer-encoding: chunked", line=POST) + endless)
                for _ in range(100):
                    await client.send(b"1\r\nx\r\n" * 1000)
                assert (await client.read_response())[0] in (400, 413)
                client.disconnect()
                await line.listener.wait_until_empty()

    run(scenario())


def test_body_that_declares_too_much_is_refused_without_reading(run: Run) -> None:
    async def scenario() -> None:
        async with listening(strict) as line:
            client = await line.connect(head(b"content-length: 100000000", b"expect: 100-continue", line=POST))
            assert (await client.read_response())[0] == 413
            client = await line.connect(head(b"content-length: 100000000", line=POST))
            await client.send(bytes(3_000_000))
            assert (await client.read_response())[0] == 413, "and it is heard by who is still sending"

    run(scenario())


def test_expect_100_continue_is_answered(run: Run) -> None:
    async def scenario() -> None:
        async with listening(echo) as line:
            client = await line.connect(head(b"content-length: 2", b"expect: 100-continue", line=POST))
            assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(b"ok")
            assert (await client.read_response())[2] == b"POST / ok"

    run(scenario())


def test_pipelined_requests_are_answered_in_order_up_to_a_limit(run: Run) -> None:
    async def scenario() -> None:
        async with listening(echo) as line:
            client = await line.connect(b"".join(head(line=b"GET /%d HTTP/1.1" % each) for each in range(5)))
            assert [(await client.read_response())[2] for _ in range(5)] == [b"GET /%d " % each for each in range(5)]
            flood = await line.connect(GET * 3000)
            with suppress(ConnectionResetError):
                await flood.read_all()
            await client.send(GET)
            assert (await client.read_response())[0] == 200

    run(scenario())


def test_disconnect_is_noticed_while_pipelined_requests_wait(run: Run) -> None:
    async def scenario() -> None:
        gone = asyncio.Event()

        async def patient(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        async with listening(patient) as line:
            client = await line.connect(GET * 3)
            client.disconnect()
            await gone.wait()

    run(scenario())


def test_malformed_body_is_answered_once(run: Run) -> None:
    async def hasty(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await Response(200)(scope, receive, send)

    async def scenario() -> None:
        async with listening(hasty) as line:
            client = await line.connect(head(b"transfer-encoding: chunked", line=POST) + b"zz\r\n")
            assert (await client.read_response())[0] == 400
            assert await client.read_all() == b""

    run(scenario())


GARBAGE = {
    "one letter": b"A" * 40_000,
    "zeros": bytes(50_000),
    "blanks": b" " * 40_000,
    "random": Random(1).randbytes(70_000),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + Random(2).randbytes(40_000),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(40_000),
    "HTTP/0.9 and more": b"GET /\r\n" + b"A" * 40_000,
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n" + b"x" * 40_000,
    "PROXY": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + GET + b"x" * 40_000,
    "a long method": b"GETGET" * 8000 + b" / HTTP/1.1\r\n\r\n",
    "a long name": b"GET / HTTP/1.1\r\n" + b"A" * 40_000,
    "a bad name": b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"\0" * 40_000,
    "an answer": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 40_000,
    "a bad chunk": b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n" + b"F" * 40_000,
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_in_one_packet_is_refused_once(run: Run, name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with listening(echo) as line:
            client = await line.connect(GARBAGE[name])
            status, _, body = await client.read_response()
            assert (status in (400, 431), len(body) < 200) == (True, True)
            assert await client.read_all() == b""

    run(scenario())
    assert not caplog.records, "no traceback, and no warning"


def test_garbage_after_a_request_does_not_enter_its_response(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with listening(endless) as line:
            for request in (GET + b"nonsense\r\n\r\n", GET + head(b"x: " + b"y" * 40_000)):
                client = await line.connect(request)
                with pytest.raises(ConnectionResetError):
                    await client.read_all()

    run(scenario())
    assert not caplog.records, "nor is it a mishap of ours"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PUT", "PROPFIND"])
def test_every_method_reaches_the_application(run: Run, method: str) -> None:
    async def scenario() -> None:
        async with listening(echo) as line:
            client = await line.connect(head(line=f"{method} /path HTTP/1.1".encode()))
            status, headers = await client.read_head()
            assert (status, headers["content-length"]) == (200, str(len(f"{method} /path ")))
            if method != "HEAD":
                assert await client.read_until(b"/path ") == f"{method} /path ".encode()
            await client.send(GET)
            assert (await client.read_response())[2] == b"GET / "

    run(scenario())


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"http://evil.example/p%61th?q", "/path", "evil.example"),
        (b"HTTP://evil.example:80", "/", "evil.example:80"),
        (b"https://evil.example?q", "/", "evil.example"),
        (b"http://localhost@evil.example/", "/", "localhost@evil.example"),
        (b"http://evil.example/path#part", "/path", "evil.example"),
        (b"ftp://evil.example/#part", "/", "evil.example"),
        (b"/http://evil.example/", "/http://evil.example/", "localhost"),
    ],
)
def test_absolute_target_overrides_the_host_header(run: Run, target: bytes, path: str, host: str) -> None:
    async def hosts(scope: Scope, receive: Receive, send: Send) -> None:
        hosts_received = [value.decode() for name, value in scope["headers"] if name == b"host"]
        await Response(body=f"{scope['path']} {hosts_received}".encode())(scope, receive, send)

    async def scenario() -> None:
        async with listening(hosts) as line:
            for version in (b"1.1", b"1.0"):
                client = await line.connect(head(line=b"GET " + target + b" HTTP/" + version))
                assert (await client.read_response())[2].decode() == f"{path} {[host]}"
            twice = await line.connect(head(b"host: localhost", line=b"GET http://a.example/ HTTP/1.1"))
            assert (await twice.read_response())[2] == b"/ ['a.example', 'a.example']", "which the guard does not take"

    run(scenario())


def test_paths_and_absolute_targets_are_served_and_connect_is_not(run: Run) -> None:
    async def scenario() -> None:
        async with listening(echo) as line:
            whole = await line.connect(head(line=b"GET http://elsewhere.example/p%61th?q HTTP/1.1"))
            assert (await whole.read_response())[2] == b"GET /path "
            everything = await line.connect(head(line=b"OPTIONS * HTTP/1.1"))
            assert (await everything.read_response())[2] == b"OPTIONS * "
            for target, status in ((b"CONNECT localhost:443", 405), (b"CONNECT /", 405), (b"GET http://", 400)):
                client = await line.connect(head(line=target + b" HTTP/1.1") + b"\x16\x03\x01")
                assert (await client.read_response())[0] == status
                assert await client.read_all() == b""

    run(scenario())


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.0"])
def test_upgrade_is_ignored_and_the_body_is_read(run: Run, protocol: str) -> None:
    async def scenario() -> None:
        async with listening(echo) as line:
            upgrade = (b"connection: upgrade", b"upgrade: " + protocol.encode())
            for request, expected in (
                (head(*upgrade), b"GET / "),
                (head(*upgrade, b"content-length: 2", line=POST) + b"ok", b"POST / ok"),
            ):
                client = await line.connect(request)
                status, headers, body = await client.read_response()
                assert (status, body) == (200, expected)
                assert "upgrade" not in headers
                await client.send(GET)
                assert (await client.read_response())[2] == b"GET / ", "and the connection goes on as before"

    run(scenario())


def test_failing_application_is_an_error_or_a_broken_transfer(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with listening(broken) as line:
            before = await line.connect(head(b"x-request-id: mine", line=b"GET /before HTTP/1.1"))
            status, headers, _ = await before.read_response()
            assert (status, headers["x-request-id"]) == (500, "mine")
            amid = await line.connect(head(line=b"GET /amid HTTP/1.1"))
            assert not (await amid.read_all()).endswith(b"0\r\n\r\n")

    run(scenario())
    assert [record.message for record in caplog.records] == ["request failed, response incomplete: mishap"] * 2


async def echo_key(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(receive, max_bytes=2**20, timeout=10)
    key = dict(scope["headers"]).get(b"x-key", b"none")
    await Response(body=b"%d %s" % (len(body), key))(scope, receive, send)


async def strict(scope: Scope, receive: Receive, send: Send) -> None:
    declared = dict(scope["headers"]).get(b"content-length")
    try:
        await read_body(receive, max_bytes=1000, timeout=10, declared=declared)
    except BodyTooLargeError:
        await Response(413)(scope, receive, send)


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    scope["state"]["request_context"] = RequestContext(scope, send, clock=asyncio.get_running_loop().time)
    if scope["path"] == "/amid":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half of it", "more_body": True})
    raise RuntimeError("mishap")
