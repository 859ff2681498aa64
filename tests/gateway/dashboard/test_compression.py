"""gzip: which responses are compressed, and which never are."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from random import Random

import aiohttp
import pytest

from steadyvoice import Tone
from steadyvoice.gateway.dashboard import dashboard_routes
from steadyvoice.gateway.http import MIN_COMPRESSED_SIZE, Message, Response, accepts_gzip, compressed, precompressed
from steadyvoice.gateway.request_context import RequestContext

from ..running_gateway import ELEVENLABS, OPENAI, RunningGateway, elevenlabs_body, openai_body, running_gateway

GZIP = {"accept-encoding": "gzip, deflate, br"}


async def sent(
    gateway: RunningGateway, path: str, method: str = "GET", **headers: str
) -> tuple[aiohttp.ClientResponse, bytes]:
    """An answer as it is on the wire."""
    async with (
        aiohttp.ClientSession(auto_decompress=False) as client,
        client.request(method, gateway.url + path, headers={"accept-encoding": "identity", **headers}) as answer,
    ):
        return answer, await answer.read()


async def discard(message: Message) -> None: ...


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("GZIP ; q=0.1", True),
        ("*", True),
        ("", False),
        ("br, deflate", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("gzip;q=much", False),
        ("notgzip", False),
    ],
)
def test_accept_encoding_is_parsed(header: str, taken: bool) -> None:
    assert accepts_gzip({b"accept-encoding": header.encode()}) is taken


def test_no_compression_without_accept_encoding() -> None:
    assert not accepts_gzip({})


async def test_page_is_compressed_with_an_etag_per_encoding() -> None:
    whole = zipped = 0
    async with running_gateway(Tone()) as gateway:
        for path in dashboard_routes():
            plain, as_it_is = await sent(gateway, path)
            small, body = await sent(gateway, path, **GZIP)
            assert "content-encoding" not in plain.headers
            assert plain.headers["vary"] == small.headers["vary"] == "accept-encoding"
            whole, zipped = whole + len(as_it_is), zipped + len(body)
            if len(as_it_is) < MIN_COMPRESSED_SIZE:
                assert body == as_it_is
                continue
            assert small.headers["content-encoding"] == "gzip"
            assert int(small.headers["content-length"]) == len(body) < len(as_it_is)
            assert gzip.decompress(body) == as_it_is
            assert small.headers["etag"] != plain.headers["etag"]
            assert small.headers["content-security-policy"] == plain.headers["content-security-policy"]
    assert zipped < whole * 0.45


async def test_etag_of_one_encoding_does_not_match_the_other() -> None:
    async with running_gateway(Tone()) as gateway:
        first, _ = await sent(gateway, "/page/main.js", **GZIP)
        tag = {"if-none-match": first.headers["etag"]}
        again, body = await sent(gateway, "/page/main.js", **GZIP, **tag)
        assert (again.status, body, again.headers["etag"]) == (304, b"", first.headers["etag"])
        assert again.headers["vary"] == "accept-encoding"
        assert (await sent(gateway, "/page/main.js", **tag))[0].status == 200


@pytest.mark.parametrize("path", ["/admin/state", "/admin/overview"])
async def test_long_admin_responses_are_compressed(path: str) -> None:
    async with running_gateway(*(Tone(name=f"p{number}") for number in range(30))) as gateway:
        gateway.context.clock = lambda: 100.0  # the board is written once
        plain, as_it_is = await sent(gateway, path)
        small, body = await sent(gateway, path, **GZIP)
        assert "content-encoding" not in plain.headers
        assert small.headers["content-encoding"] == "gzip"
        assert plain.headers["vary"] == small.headers["vary"] == "accept-encoding"
        assert len(body) == int(small.headers["content-length"]) < len(as_it_is) / 5
        assert list(json.loads(gzip.decompress(body))["providers"]) == list(json.loads(as_it_is)["providers"])
        head, nothing = await sent(gateway, path, "HEAD", **GZIP)
        assert (head.headers["content-encoding"], nothing) == ("gzip", b"")


def test_short_bodies_are_not_compressed() -> None:
    small = Response(body=b"x" * (MIN_COMPRESSED_SIZE - 1))
    visitor = RequestContext({"headers": [(b"accept-encoding", b"gzip")]}, discard, clock=lambda: 0.0)
    assert compressed(small, visitor.headers).body == small.body
    large = replace(small, body=b"x" * MIN_COMPRESSED_SIZE)
    assert compressed(large, visitor.headers).headers["content-encoding"] == "gzip"
    assert precompressed(bytes(small.body)) is None
    assert precompressed(b"x" * MIN_COMPRESSED_SIZE) is not None
    assert precompressed(Random(1).randbytes(10_000)) is None


@pytest.mark.slow
async def test_speech_events_and_texts_of_callers_are_never_compressed() -> None:
    async with running_gateway(server={"log_texts": True}) as gateway:
        for path, document in (
            (ELEVENLABS, elevenlabs_body()),
            (OPENAI, openai_body()),
            ("/admin/say", {"text": "Hello."}),
        ):
            answer = await gateway.fetch("POST", path, json=document, headers=GZIP)
            assert answer.status == 200
            assert "content-encoding" not in answer.headers
        for _ in range(30):
            await gateway.fetch("POST", OPENAI, json=openai_body())
        for path in ("/admin/calls", "/admin/config", "/admin/circuits", "/metrics", "/openapi.json"):
            whole, body = await sent(gateway, path, **GZIP)
            assert "content-encoding" not in whole.headers
            assert len(body) > MIN_COMPRESSED_SIZE, f"{path}: or else it says nothing"
        async with gateway.get("/admin/events", headers=GZIP) as events:
            assert "content-encoding" not in events.headers
