"""HTTP client on real sockets: reuse, broken connections, timeouts and proxies."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest

from steadyvoice.providers.base import Accepted
from steadyvoice.providers.http.client import HTTPClient, PreparedHTTPRequest
from steadyvoice.providers.http.connection import READ_BUFFER
from steadyvoice.speech import errors as speech
from steadyvoice.wire.elevenlabs.errors import error_body
from tests.providers.conftest import parse_vendor_error
from tests.providers.scripted_vendor import (
    ConnectionAction,
    ScriptedVendor,
    audio_response,
    chunked_response,
    error_response,
    http_response,
    tcp_server,
)


def prepared_request(client: HTTPClient) -> PreparedHTTPRequest:
    return client.prepare("/speak", {}, text="text", accepted=lambda _: Accepted())


async def read(client: HTTPClient, *, connection_timeout: float = 5.0) -> bytes:
    body = b""
    with closing(await prepared_request(client).send("Hi", connection_timeout=connection_timeout)) as reply:
        while data := await reply.read():
            body += data
    return body


async def test_connection_is_reused_for_the_next_request(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(chunked_response(b"one"))
    vendor.enqueue(error_response(500, error_body("internal_server_error", "")))
    vendor.enqueue(audio_response(b"three"))

    assert await read(client) == b"one"
    with pytest.raises(speech.TTSServerError):
        await read(client)
    assert await read(client) == b"three"

    assert vendor.connections == 1


async def test_compressed_body_is_decompressed(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response(gzip.compress(b"speech" * 100), content_encoding="gzip"))

    assert await read(client) == b"speech" * 100


async def test_body_falsely_declared_as_compressed_is_an_error(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response(b"speech" * 100, content_encoding="gzip"))

    with pytest.raises(speech.TTSCutError):
        await read(client)


@pytest.mark.parametrize(
    "answered",
    [
        (chunked_response(b"one", end=False), ConnectionAction.CLOSE),
        (chunked_response(b"one", end=False), ConnectionAction.RESET),
        (audio_response(b"one", content_length="100"), ConnectionAction.CLOSE),
        (audio_response(b"one", content_length="100"), ConnectionAction.RESET),
    ],
    ids=["no last chunk", "reset between chunks", "short of its length", "reset"],
)
async def test_truncated_body_is_an_error_that_may_have_been_billed(
    vendor: ScriptedVendor, client: HTTPClient, answered: tuple[bytes | ConnectionAction, ...]
) -> None:
    vendor.enqueue(*answered)

    with pytest.raises(speech.TTSCutError, match=r"cut off after [03] bytes: \S+ ?\S") as cut:
        await read(client)

    assert "None" not in str(cut.value)
    assert cut.value.meaning.billed is not speech.TTSConnectError("").meaning.billed


async def test_truncated_error_body_keeps_its_status(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(http_response(503, b'{"detail"', content_length="900"), ConnectionAction.CLOSE)

    with pytest.raises(speech.TTSServerError, match="503"):
        await read(client)


async def test_error_without_its_body_keeps_its_status(vendor: ScriptedVendor) -> None:
    client = HTTPClient("vendor", vendor.url, parse_vendor_error, headers={}, error_body_timeout=0.01)
    vendor.enqueue(http_response(429, content_length="900", retry_after="3"), ConnectionAction.HANG)

    with pytest.raises(speech.TTSBusyError) as busy:
        await read(client)

    assert busy.value.retry_after == 3.0
    await vendor.client_left.wait()
    await client.aclose()


@pytest.mark.parametrize("ending", [ConnectionAction.CLOSE, ConnectionAction.RESET])
async def test_idle_connection_closed_by_the_vendor_is_stale(
    vendor: ScriptedVendor, client: HTTPClient, ending: ConnectionAction
) -> None:
    vendor.enqueue(audio_response(b"one"))
    vendor.enqueue(ending)
    vendor.enqueue(audio_response(b"two"))

    assert await read(client) == b"one"
    with pytest.raises(speech.TTSStaleConnectionError, match=r"without a response: \S+ ?\S") as stale:
        await read(client)
    assert stale.value.meaning.circuit_weight == 0
    assert len(vendor.requests) == 2, "nobody knows whether the vendor worked on it, so it is not sent again from here"
    assert await read(client) == b"two"


async def test_garbage_on_an_idle_connection_is_not_stale(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response(b"one"))
    vendor.enqueue(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    await read(client)
    with pytest.raises(speech.TTSNotAudioError, match="malformed HTTP response"):
        await read(client)


async def test_idle_connection_that_breaks_late_is_no_answer(vendor: ScriptedVendor) -> None:
    client = HTTPClient("vendor", vendor.url, parse_vendor_error, headers={}, stale_within=-1.0)
    vendor.enqueue(audio_response(b"one"))
    vendor.enqueue(ConnectionAction.CLOSE)

    await read(client)
    with pytest.raises(speech.TTSNoAnswerError):
        await read(client)

    assert len(vendor.requests) == 2
    await client.aclose()


@pytest.mark.parametrize("ending", [ConnectionAction.CLOSE, ConnectionAction.RESET])
async def test_new_connection_closed_without_a_response_is_no_answer(
    vendor: ScriptedVendor, client: HTTPClient, ending: ConnectionAction
) -> None:
    vendor.enqueue(ending)

    with pytest.raises(speech.TTSNoAnswerError, match=r"without a response: \S+ ?\S") as dropped:
        await read(client)

    assert len(vendor.requests) == 1
    assert dropped.value.meaning.billed is not speech.TTSConnectError("").meaning.billed


async def test_redirects_are_not_followed(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(http_response(307, location="http://elsewhere.example/speak"))

    with pytest.raises(speech.TTSNotAudioError, match=r"redirect to http://elsewhere\.example/speak"):
        await read(client)

    assert len(vendor.requests) == 1


async def test_refused_port_is_a_connect_error() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # nobody listens
        client = HTTPClient("vendor", f"http://127.0.0.1:{reserved.getsockname()[1]}", parse_vendor_error, headers={})

        with pytest.raises(speech.TTSConnectError, match=r"no connection to 127\.0\.0\.1"):
            await read(client)
    await client.aclose()


async def test_unknown_host_is_a_connect_error() -> None:
    client = HTTPClient("vendor", "http://nowhere.invalid", parse_vendor_error, headers={})

    with pytest.raises(speech.TTSConnectError, match=r"no connection to nowhere\.invalid"):
        await read(client)

    await client.aclose()


async def test_tls_to_a_plain_port_is_a_connect_error() -> None:
    async with plain_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        client = HTTPClient("vendor", f"https://127.0.0.1:{port}", parse_vendor_error, headers={})

        with pytest.raises(speech.TTSConnectError, match="no connection"):
            await read(client)
        await client.aclose()


async def test_endless_handshake_hits_the_connection_timeout() -> None:
    async with plain_server(b"") as port:
        client = HTTPClient("vendor", f"https://127.0.0.1:{port}", parse_vendor_error, headers={})

        with pytest.raises(speech.TTSConnectTimeoutError, match=r"no connection within 0\.05 s"):
            await read(client, connection_timeout=0.05)
        await client.aclose()


@pytest.mark.parametrize(
    "noise",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 " + b"O" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-long: " + b"y" * 100_000 + b"\r\n\r\n",
        chunked_response(end=False) + b"what?\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x-many: y\r\n" * 10_000 + b"\r\n",
    ],
    ids=["another protocol", "endless first line", "endless header", "a chunk that is none", "endless headers"],
)
async def test_malformed_response_is_described_in_one_line(noise: bytes) -> None:
    async with plain_server(noise) as port:
        client = HTTPClient("vendor", f"http://127.0.0.1:{port}", parse_vendor_error, headers={})

        with pytest.raises(speech.TTSNotAudioError, match="malformed HTTP response") as garbled:
            await read(client)
        await client.aclose()

    assert len(str(garbled.value)) < 400


async def test_cancelled_request_closes_a_silent_connection(vendor: ScriptedVendor, client: HTTPClient) -> None:
    asked = asyncio.create_task(read(client))
    await vendor.request_received.wait()

    asked.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asked
    await vendor.client_left.wait()


async def test_cancelled_read_closes_the_connection(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(chunked_response(b"one", end=False), ConnectionAction.HANG)
    with closing(await prepared_request(client).send("Hi", connection_timeout=5.0)) as reply:
        assert await reply.read() == b"one"
        waiting = asyncio.create_task(reply.read())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    await vendor.client_left.wait()


async def test_slow_consumer_pauses_reading(vendor: ScriptedVendor, client: HTTPClient) -> None:
    def endless() -> Iterator[bytes]:
        yield chunked_response(end=False)
        while True:
            yield b"10000\r\n" + bytes(0x10000) + b"\r\n"

    vendor.enqueue(endless())
    with closing(await prepared_request(client).send("Hi", connection_timeout=5.0)) as reply:
        for _ in range(1_000):  # turns of the loop, in which the vendor could send 64 MB
            await asyncio.sleep(0)
        assert len(await reply.read()) <= 4 * READ_BUFFER


async def test_cookies_are_not_kept(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response(set_cookie="a=b; Path=/"))
    vendor.enqueue(audio_response())

    await read(client)
    await read(client)

    assert "cookie" not in vendor.requests[1].headers


async def test_client_ignores_the_environments_proxy(
    vendor: ScriptedVendor, client: HTTPClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    vendor.enqueue(audio_response(b"one"))

    assert await read(client) == b"one"


async def test_client_uses_the_given_proxy(vendor: ScriptedVendor) -> None:
    client = HTTPClient("vendor", "http://far.invalid", parse_vendor_error, headers={}, proxy=vendor.url)
    vendor.enqueue(audio_response(b"one"))

    assert await read(client) == b"one"
    assert vendor.requests[0].target == "http://far.invalid/speak"
    await client.aclose()


async def test_client_can_be_used_after_closing(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response(b"one"))
    vendor.enqueue(audio_response(b"two"))

    assert await read(client) == b"one"
    await client.aclose()
    assert await read(client) == b"two"
    assert vendor.connections == 2


async def test_each_event_loop_has_its_own_connections(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response(b"one"))
    vendor.enqueue(audio_response(b"two"))

    async def elsewhere() -> bytes:
        try:
            return await read(client)
        finally:
            await client.aclose()

    assert await read(client) == b"one"
    assert await asyncio.to_thread(lambda: asyncio.run(elsewhere())) == b"two"
    assert vendor.connections == 2


@pytest.mark.filterwarnings("ignore:Unclosed client session:ResourceWarning")
def test_closed_event_loop_is_forgotten() -> None:
    client = HTTPClient("vendor", "http://nowhere.invalid", parse_vendor_error, headers={})

    async def attempt(*, tidy: bool) -> weakref.ref[asyncio.AbstractEventLoop]:
        with pytest.raises(speech.TTSConnectError):
            await read(client)
        if tidy:
            await client.aclose()
        return weakref.ref(asyncio.get_running_loop())

    gone = asyncio.run(attempt(tidy=False))
    asyncio.run(attempt(tidy=True))
    gc.collect()

    assert gone() is None


@asynccontextmanager
async def plain_server(response: bytes) -> AsyncIterator[int]:
    """Serve these bytes to any client that sends a byte, then wait until it leaves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1)
            writer.write(response)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with tcp_server(serve) as port:
        yield port


@pytest.mark.parametrize("through_proxy", [False, True])
async def test_request_has_headers_of_its_own_and_a_signature_of_its_body(
    vendor: ScriptedVendor, through_proxy: bool
) -> None:
    """A plain HTTP proxy gets the request as the vendor would, with an absolute target."""
    base, proxy = ("http://vendor.invalid", vendor.url) if through_proxy else (vendor.url, None)
    made = HTTPClient("vendor", base, parse_vendor_error, headers={"X-Key": "k", "Accept": "*/*"}, proxy=proxy)

    async def sign(target: str, body: bytes) -> dict[str, str]:
        return {"x-signature": f"{target} {len(body)}", "content-type": "application/signed"}

    prepared = made.prepare(
        "/speak",
        {"input": {"kind": "plain"}},
        text="input.text",
        params={"rate": "8000"},
        headers={"accept": "audio/L16"},
        accepted=lambda _: Accepted(),
        sign=sign,
    )
    vendor.enqueue(audio_response())
    response = await prepared.send("Hello", connection_timeout=5.0)
    assert await response.read() == b"speech"
    response.close()
    assert prepared.reserve() is None, "a signature may take a wait, which a request over an idle connection must not"
    await made.aclose()
    (sent,) = vendor.requests
    assert sent.json == {"input": {"kind": "plain", "text": "Hello"}}
    assert sent.headers["x-key"] == "k"
    assert (sent.headers["accept"], sent.headers["content-type"]) == ("audio/l16", "application/signed")
    assert sent.headers["x-signature"] == f"/speak?rate=8000 {len(sent.body)}"


async def test_headers_of_one_request_do_not_reach_the_next_over_the_same_connection(
    vendor: ScriptedVendor, client: HTTPClient
) -> None:
    for accept in ("audio/l16", "audio/pcmu"):
        prepared = client.prepare("/", {}, headers={"Accept": accept}, accepted=lambda _: Accepted())
        vendor.enqueue(
            audio_response(),
        )
        started = prepared.reserve()
        if started:
            started.start("Hello")
            response = await started.response(connection_timeout=5.0)
        else:
            response = await prepared.send("Hello", connection_timeout=5.0)
        while await response.read():
            pass
        response.close()
    assert vendor.connections == 1
    assert [request.headers["accept"] for request in vendor.requests] == ["audio/l16", "audio/pcmu"]
