"""Half-closed clients are answered, and clients that leave are noticed."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from steadyvoice import ElevenLabs, TimeoutConfig
from steadyvoice.audio.word_tones import words_in
from steadyvoice.gateway.http import Receive, Response, Scope, Send
from steadyvoice.simulator import Ending, Fault
from steadyvoice.simulator.fault_injection import actions

from ..conftest import Run
from ..raw_http import GET, RawClient, RawListener, echo, head, listening, refuse_at_once
from ..running_gateway import ELEVENLABS, OPENAI, TEXT, RunningGateway, elevenlabs_body, openai_body, running_gateway

WORDS = TEXT.split()
LONG = " ".join([TEXT] * 30)
PATIENT = TimeoutConfig(read_timeout=50, total_timeout=50)


@asynccontextmanager
async def connected(
    gateway: RunningGateway, path: str, document: object, version: str = "1.1"
) -> AsyncIterator[RawClient]:
    """Send a request over a socket of one's own."""
    body = json.dumps(document).encode()
    port = int(gateway.url.rpartition(":")[2])
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port, limit=2**22))
    lines = [f"POST {path} HTTP/{version}", "host: localhost", f"content-length: {len(body)}", "", ""]
    await client.send("\r\n".join(lines).encode() + body)
    try:
        yield client
    finally:
        client.disconnect()


def unchunked(body: bytes) -> bytes:
    """Join the chunks of a complete body. Raises when it is not complete."""
    joined = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            assert body == b"\r\n"
            return joined
        joined, body = joined + body[: int(size, 16)], body[int(size, 16) + 2 :]


@pytest.mark.parametrize("midstream", ["resume", "error"])
def test_half_closed_client_gets_the_whole_response(run: Run, midstream: str) -> None:
    async def scenario() -> None:
        async with running_gateway(on_midstream=midstream) as gateway:
            path = f"{ELEVENLABS}{{}}?output_format=pcm_16000"
            async with connected(gateway, path.format(""), elevenlabs_body()) as client:
                client.half_close()
                status, _, audio = await client.read_response()
                assert (status, words_in(audio, "pcm_16000")) == (200, WORDS)
                assert await client.read_all() == b""
            for endpoint, document in (
                (path.format("/stream"), elevenlabs_body()),
                (OPENAI, openai_body(response_format="pcm")),
            ):
                async with connected(gateway, endpoint, document) as client:
                    client.half_close()
                    status, headers = await client.read_head()
                    assert (status, headers["transfer-encoding"]) == (200, "chunked")
                    format = "pcm_24000" if endpoint == OPENAI else "pcm_16000"
                    assert words_in(unchunked(await client.read_all()), format) == WORDS
            assert {entry.ending for entry in gateway.sim.ledger} == {Ending.COMPLETED}

    run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.3])
def test_half_closed_client_gets_all_of_a_slow_response(run: Run, after: float) -> None:
    async def scenario() -> None:
        async with running_gateway(on_midstream="error", timeouts=PATIENT) as gateway:
            gateway.sim.faults.set(actions.SlowFirstByte(0.4) if not after else actions.Stall(after=after, seconds=0.4))
            for form in ("", "/stream"):
                async with connected(
                    gateway, f"{ELEVENLABS}{form}?output_format=pcm_16000", elevenlabs_body()
                ) as client:
                    client.half_close()
                    status, headers = await client.read_head()
                    assert status == 200
                    body = await client.read_all()
                    audio = body if "content-length" in headers else unchunked(body)
                    assert words_in(audio, "pcm_16000") == WORDS

    run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["", "/stream", "/stream/with-timestamps"])
@pytest.mark.parametrize("when", ["before", "amid"])
@pytest.mark.parametrize("half_closed_first", [False, True])
def test_client_that_leaves_is_noticed_and_the_vendor_request_cancelled(
    run: Run, form: str, when: str, half_closed_first: bool
) -> None:
    async def scenario() -> None:
        async with running_gateway(only_elevenlabs=True, timeouts=PATIENT, on_midstream="error") as gateway:
            gateway.sim.faults.set(actions.Hang() if when == "before" else actions.Stall(after=1.5, seconds=50))
            async with connected(gateway, ELEVENLABS + form, elevenlabs_body()) as client:
                if half_closed_first:
                    client.half_close()
                if when == "amid" and form:
                    await client.read_until(b"\r\n\r\n")
                    await client.read_until(b"\r\n")
                else:
                    while not gateway.sim.ledger.requests:  # noqa: ASYNC110 - the simulator has no notification
                        await asyncio.sleep(0)
            await gateway.sim.idle()
            assert gateway.sim.ledger[-1].ending is Ending.CLIENT_LEFT
            _, account = await gateway.next_call()
            assert account.outcome == "interrupted"
            assert gateway.service.get_error_state()["totals"]["failures"] == 0

    run(scenario())


def test_broken_response_to_a_half_closed_client_never_looks_complete(run: Run) -> None:
    async def scenario() -> None:
        async with running_gateway(only_elevenlabs=True, on_midstream="error", timeouts=PATIENT) as gateway:
            gateway.sim.faults.set(Fault(actions.Cut(after=1.0)), Fault(actions.Stall(after=1.0, seconds=0.2)))
            async with connected(gateway, f"{ELEVENLABS}/stream?output_format=pcm_16000", elevenlabs_body()) as client:
                client.half_close()
                await client.read_head()
                with suppress(ConnectionResetError):
                    body = await client.read_all()
                    with pytest.raises((ValueError, AssertionError)):
                        unchunked(body)

    run(scenario())


def test_error_before_the_response_is_sent_completely(run: Run) -> None:
    async def scenario() -> None:
        async with running_gateway(ElevenLabs("sk", base_url="http://127.0.0.1:9"), muted=False) as gateway:
            for document, expected in ((elevenlabs_body(), 502), (elevenlabs_body(""), 422)):
                async with connected(gateway, ELEVENLABS, document) as client:
                    client.half_close()
                    status, _, body = await client.read_response()
                    assert (status, bool(json.loads(body)["detail"])) == (expected, True)

    run(scenario())


def test_half_closed_http_1_0_client_is_answered(run: Run) -> None:
    async def scenario() -> None:
        async with running_gateway(on_midstream="error") as gateway:
            path = f"{ELEVENLABS}/stream?output_format=pcm_16000"
            async with connected(gateway, path, elevenlabs_body(), version="1.0") as client:
                client.half_close()
                status, _, audio = await client.read_response()
                assert (status, words_in(audio, "pcm_16000")) == (200, WORDS)

    run(scenario())


def test_pipelined_requests_of_a_half_closed_client_are_answered(run: Run) -> None:
    async def scenario() -> None:
        async with listening(slow_echo) as line:
            client = await line.connect(GET * 3 + b"GET / HTTP/1.1\r\nhost: loc")
            client.half_close()
            assert [(await client.read_response())[2] for _ in range(3)] == [b"GET / "] * 3
            assert await client.read_all() == b""
            await line.listener.wait_until_empty()

    run(scenario())


@pytest.mark.parametrize("first", [b"", GET])
def test_no_100_continue_for_a_body_that_has_arrived(run: Run, first: bytes) -> None:
    async def scenario() -> None:
        async with listening(slow_echo) as line:
            expecting = head(b"content-length: 5", b"expect: 100-continue", line=b"POST / HTTP/1.1") + b"12345"
            client = await line.connect(first + expecting)
            client.half_close()
            bodies = [b"GET / "] * bool(first) + [b"POST / 12345"]
            assert [(await client.read_response())[::2] for _ in bodies] == [(200, body) for body in bodies]
            assert await client.read_all() == b""

    run(scenario())


def test_body_that_can_never_be_complete_is_not_awaited(run: Run) -> None:
    async def scenario() -> None:
        async with listening(echo) as line:
            client = await line.connect(GET + head(b"content-length: 10", line=b"POST / HTTP/1.1") + b"12345")
            client.half_close()
            assert (await client.read_response())[2] == b"GET / "
            assert await client.read_all() == b""
            await line.listener.wait_until_empty()

    run(scenario())


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nho", head(b"content-length: 9", line=b"POST / HTTP/1.1")])
def test_client_that_ends_before_its_request_is_closed(run: Run, sent: bytes) -> None:
    async def scenario() -> None:
        async with listening(echo) as line:
            client = await line.connect(sent)
            client.half_close()
            assert await client.read_all() == b""
            await line.listener.wait_until_empty()

    run(scenario())


def test_idle_half_closed_connection_is_closed(run: Run) -> None:
    async def scenario() -> None:
        for app in (echo, refuse_at_once):
            async with listening(app) as line:
                client = await line.connect(GET)
                await client.read_response()
                client.half_close()
                assert await client.read_all() == b""
                await line.listener.wait_until_empty()

    run(scenario())


def test_failure_before_the_response_is_reported_once(run: Run) -> None:
    async def scenario() -> None:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(0.05)  # in which the client is probed
            raise RuntimeError("broken")

        async with listening(broken) as line:
            client = await line.connect(GET)
            client.half_close()
            status, _, body = await client.read_response()
            assert (status, body) == (500, b"request failed: no response\n")

    run(scenario())


async def slow_echo(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.03)
    await echo(scope, receive, send)


def test_disconnects_of_idle_connections_cost_nothing(run: Run) -> None:
    async def scenario() -> None:
        async def quick(scope: Scope, receive: Receive, send: Send) -> None:
            await Response(200, b"ok")(scope, receive, send)

        async with listening(quick) as line:
            clients = [await answered(line) for _ in range(20)]
            for client in clients:
                client.disconnect()
            await line.listener.wait_until_empty()

    run(scenario())


async def answered(line: RawListener) -> RawClient:
    client = await line.connect(GET)
    await client.read_response()
    return client


@pytest.mark.parametrize("ipv6", [True, False])
def test_socket_half_closed_by_the_system_call(run: Run, ipv6: bool) -> None:
    """Half-close as `nc -N` and scripts in PHP and Perl do it."""
    if ipv6 and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")

    async def scenario() -> None:
        async with running_gateway(server={"host": "localhost"}) as gateway:
            port = int(gateway.url.rpartition(":")[2])
            heard = await asyncio.to_thread(_by_hand, "::1" if ipv6 else "127.0.0.1", port)
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
            assert words_in(heard.partition(b"\r\n\r\n")[2], "pcm_16000") == WORDS

    run(scenario())


def _by_hand(host: str, port: int) -> bytes:
    body = json.dumps(elevenlabs_body()).encode()
    with socket.create_connection((host, port), timeout=30) as line:
        target = f"{ELEVENLABS}?output_format=pcm_16000"
        line.sendall(
            f"POST {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        )
        line.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: line.recv(65536), b""))
