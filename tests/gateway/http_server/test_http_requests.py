"""Requests of all shapes: long bodies, several at once, old versions, and wishes that nobody grants here."""

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


def test_the_rest_of_a_short_body_is_let_pass_and_a_long_one_is_not(run: Run) -> None:
    async def story() -> None:
        async with listening(refuse_at_once, max_body_bytes=100, body_timeout=0.2) as line:
            short = await line.call(head(b"content-length: 10", line=b"POST / HTTP/1.1"))
            assert (await short.answer())[0] == 401
            await short.say(b"0123456789" + GET)
            assert (await short.answer())[0] == 401, "and the next request is read as one"
            for said in (
                b"content-length: 101",
                b"transfer-encoding: chunked",
                b"content-length: 9\r\nexpect: 100-continue",
            ):
                long = await line.call(head(said, line=b"POST / HTTP/1.1"))
                assert (await long.answer())[0] == 401
                assert await long.end() == b""
            last = await line.call(head(b"content-length: 9999999", b"connection: close", line=POST))
            await last.say(bytes(3_000_000))
            assert (await last.answer())[0] == 401, "who is still sending can hear it"
            late = await line.call(head(b"content-length: 10", line=b"POST / HTTP/1.1"))
            assert (await late.answer())[0] == 401
            assert await late.end() == b""

    run(story())


def test_a_body_comes_in_chunks_however_small_and_its_trailers_are_no_headers(run: Run) -> None:
    async def story() -> None:
        async with listening(told_headers) as line:
            client = await line.call(head(b"transfer-encoding: chunked", b"x-key: honest", line=POST))
            await client.say(b"1\r\nx\r\n" * 5000)
            await client.say(b"0\r\nx-key: smuggled\r\n\r\n")
            assert (await client.answer())[2] == b"5000 honest"
            await client.say(head(b"transfer-encoding: chunked", line=POST) + b"0\r\nx-key: smuggled\r\n\r\n")
            assert (await client.answer())[2] == b"0 none"

    run(story())


def test_chunks_and_trailers_without_end_are_cut_off(run: Run) -> None:
    async def story() -> None:
        async with listening(told_headers, max_body_bytes=1000) as line:
            for endless in (b"1\r\nx\r\n", b"0\r\nx: ", b"1" + b"0" * 500):
                client = await line.call(head(b"transfer-encoding: chunked", line=POST) + endless)
                with suppress(ConnectionError):
                    for _ in range(100):
                        await client.say(b"1\r\nx\r\n" * 1000)
                await line.listener.wait_until_empty()

    run(story())


def test_what_says_that_it_is_too_long_is_not_waited_for(run: Run) -> None:
    async def story() -> None:
        async with listening(strict) as line:
            client = await line.call(head(b"content-length: 100000000", b"expect: 100-continue", line=POST))
            assert (await client.answer())[0] == 413
            client = await line.call(head(b"content-length: 100000000", line=POST))
            await client.say(bytes(3_000_000))
            assert (await client.answer())[0] == 413, "and it is heard by who is still sending"

    run(story())


def test_who_asks_whether_to_go_on_is_told(run: Run) -> None:
    async def story() -> None:
        async with listening(echo) as line:
            client = await line.call(head(b"content-length: 2", b"expect: 100-continue", line=POST))
            assert await client.hear(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.say(b"ok")
            assert (await client.answer())[2] == b"POST / ok"

    run(story())


def test_requests_that_come_at_once_are_answered_one_by_one_and_too_many_are_not(run: Run) -> None:
    async def story() -> None:
        async with listening(echo) as line:
            client = await line.call(b"".join(head(line=b"GET /%d HTTP/1.1" % each) for each in range(5)))
            assert [(await client.answer())[2] for _ in range(5)] == [b"GET /%d " % each for each in range(5)]
            flood = await line.call(GET * 3000)
            with suppress(ConnectionResetError):
                await flood.end()
            await client.say(GET)
            assert (await client.answer())[0] == 200

    run(story())


def test_who_hangs_up_is_noticed_though_more_of_their_requests_wait(run: Run) -> None:
    async def story() -> None:
        gone = asyncio.Event()

        async def patient(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        async with listening(patient) as line:
            client = await line.call(GET * 3)
            client.hang_up()
            await gone.wait()

    run(story())


def test_a_body_that_makes_no_sense_is_answered_once(run: Run) -> None:
    async def hasty(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await Response(200)(scope, receive, send)

    async def story() -> None:
        async with listening(hasty) as line:
            client = await line.call(head(b"transfer-encoding: chunked", line=POST) + b"zz\r\n")
            assert (await client.answer())[0] == 400
            assert await client.end() == b""

    run(story())


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
def test_garbage_in_one_packet_is_refused_shortly(run: Run, name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with listening(echo) as line:
            client = await line.call(GARBAGE[name])
            status, _, body = await client.answer()
            assert (status in (400, 431), len(body) < 200) == (True, True)
            assert await client.end() == b""

    run(story())
    assert not caplog.records, "no traceback, and no warning"


def test_nonsense_behind_a_request_does_not_get_into_its_answer(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with listening(endless) as line:
            for said in (GET + b"nonsense\r\n\r\n", GET + head(b"x: " + b"y" * 40_000)):
                client = await line.call(said)
                with pytest.raises(ConnectionResetError):
                    await client.end()

    run(story())
    assert not caplog.records, "nor is it a mishap of ours"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PUT", "PROPFIND"])
def test_every_method_reaches_the_application(run: Run, method: str) -> None:
    async def story() -> None:
        async with listening(echo) as line:
            client = await line.call(head(line=f"{method} /path HTTP/1.1".encode()))
            status, headers = await client.head()
            assert (status, headers["content-length"]) == (200, str(len(f"{method} /path ")))
            if method != "HEAD":
                assert await client.hear(b"/path ") == f"{method} /path ".encode()
            await client.say(GET)
            assert (await client.answer())[2] == b"GET / "

    run(story())


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
def test_a_whole_url_says_whom_it_is_for_whatever_the_host_header_says(
    run: Run, target: bytes, path: str, host: str
) -> None:
    async def hosts(scope: Scope, receive: Receive, send: Send) -> None:
        said = [value.decode() for name, value in scope["headers"] if name == b"host"]
        await Response(body=f"{scope['path']} {said}".encode())(scope, receive, send)

    async def story() -> None:
        async with listening(hosts) as line:
            for version in (b"1.1", b"1.0"):
                client = await line.call(head(line=b"GET " + target + b" HTTP/" + version))
                assert (await client.answer())[2].decode() == f"{path} {[host]}"
            twice = await line.call(head(b"host: localhost", line=b"GET http://a.example/ HTTP/1.1"))
            assert (await twice.answer())[2] == b"/ ['a.example', 'a.example']", "which the guard does not take"

    run(story())


def test_targets_are_paths_and_whole_urls_but_no_tunnels(run: Run) -> None:
    async def story() -> None:
        async with listening(echo) as line:
            whole = await line.call(head(line=b"GET http://elsewhere.example/p%61th?q HTTP/1.1"))
            assert (await whole.answer())[2] == b"GET /path "
            everything = await line.call(head(line=b"OPTIONS * HTTP/1.1"))
            assert (await everything.answer())[2] == b"OPTIONS * "
            for target, status in ((b"CONNECT localhost:443", 405), (b"CONNECT /", 405), (b"GET http://", 400)):
                client = await line.call(head(line=target + b" HTTP/1.1") + b"\x16\x03\x01")
                assert (await client.answer())[0] == status
                assert await client.end() == b""

    run(story())


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.0"])
def test_a_wish_for_another_protocol_is_passed_over_and_its_body_is_read(run: Run, protocol: str) -> None:
    async def story() -> None:
        async with listening(echo) as line:
            wish = (b"connection: upgrade", b"upgrade: " + protocol.encode())
            for said, told in (
                (head(*wish), b"GET / "),
                (head(*wish, b"content-length: 2", line=POST) + b"ok", b"POST / ok"),
            ):
                client = await line.call(said)
                status, headers, body = await client.answer()
                assert (status, body) == (200, told)
                assert "upgrade" not in headers
                await client.say(GET)
                assert (await client.answer())[2] == b"GET / ", "and the connection goes on as before"

    run(story())


def test_an_application_that_breaks_says_so_or_breaks_the_transfer_off(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with listening(broken) as line:
            before = await line.call(head(b"x-request-id: mine", line=b"GET /before HTTP/1.1"))
            status, headers, _ = await before.answer()
            assert (status, headers["x-request-id"]) == (500, "mine")
            amid = await line.call(head(line=b"GET /amid HTTP/1.1"))
            assert not (await amid.end()).endswith(b"0\r\n\r\n")

    run(story())
    assert [record.message for record in caplog.records] == ["request failed, response incomplete: mishap"] * 2


async def told_headers(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(receive, max_bytes=2**20, timeout=10)
    said = dict(scope["headers"]).get(b"x-key", b"none")
    await Response(body=b"%d %s" % (len(body), said))(scope, receive, send)


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
