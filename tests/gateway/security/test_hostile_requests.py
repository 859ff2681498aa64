"""Hostile requests over raw sockets: ambiguous lengths, paths of the vendor, and the fast lane's memory."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from yarl import URL

import steadyvoice
from steadyvoice import AsyncTTSService, ElevenLabs
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.speech.errors import TTSConfigurationError

from ..recording_vendor import recording_vendor
from ..running_gateway import ELEVENLABS, RunningGateway, running_gateway

KEY, TOKEN = "caller-key-1", "admin-token-1"
VALID, CHUNKED = f"xi-api-key: {KEY}", "transfer-encoding: chunked"
KEYED = {"api_keys": [KEY], "admin_token": TOKEN}
BODY = b'{"text": "Good morning to all of you."}'
SMUGGLED = f"GET /admin/state HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode()


async def answer_to(gateway: RunningGateway, data: bytes) -> bytes:
    """Send bytes, and return all that comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(gateway.url).port)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


def head(*lines: str, target: str = f"{ELEVENLABS}/stream", host: str = "localhost") -> bytes:
    """Return the head of a POST request with the valid key."""
    return "\r\n".join([f"POST {target} HTTP/1.1", f"host: {host}", *lines, "", ""]).encode()


AMBIGUOUS = {
    "length and chunks": head(VALID, "content-length: 5", CHUNKED) + b"0\r\n\r\n",
    "two lengths": head(VALID, "content-length: 4", "content-length: 5") + b"hell",
    "two equal lengths": head(VALID, "content-length: 4", "content-length: 4") + b"hell",
    "list of lengths": head(VALID, "content-length: 4, 4") + b"hell",
    "length with a sign": head(VALID, "content-length: +4") + b"hell",
    "chunks that are not the last coding": head(VALID, "transfer-encoding: chunked, identity") + b"0\r\n\r\n",
    "unknown coding": head(VALID, "transfer-encoding: xchunked") + b"0\r\n\r\n",
    "blank before the colon": head(VALID, "transfer-encoding : chunked") + b"0\r\n\r\n",
    "folded header": head(VALID, "x-a: b", " transfer-encoding: chunked") + b"0\r\n\r\n",
    "bare line feeds": head(VALID, "content-length: 0").replace(b"\r\n", b"\n"),
    "carriage return in a value": head(VALID, "x-a: b\rcontent-length: 0"),
    "nul in a value": head(VALID, "x-a: b\0c", "content-length: 0"),
    "chunk size with a sign": head(VALID, CHUNKED) + b"-1\r\n\r\n",
    "chunk size beyond 64 bits": head(VALID, CHUNKED) + b"fffffffffffffffff\r\n",
    "line feed after a chunk's extension": head(VALID, CHUNKED) + b"5;a=\nhello\r\n0\r\n\r\n",
    "two hosts": head(VALID, "host: localhost", "content-length: 0", "connection: close"),
    "two keys": head(VALID, "xi-api-key: other", "content-length: 0", "connection: close"),
}  # fmt: skip


async def test_ambiguous_request_is_refused_and_nothing_behind_it_is_read() -> None:
    async with running_gateway(server=KEYED) as gateway:
        for name, data in AMBIGUOUS.items():
            answer = await answer_to(gateway, data + SMUGGLED)
            assert answer.startswith(b"HTTP/1.1 4") or not answer, name
            assert answer.count(b"HTTP/1.1 ") <= 1, name
            assert b"circuit_state" not in answer, name
        assert not gateway.sim.ledger.requests


async def test_admitted_client_opens_the_fast_lane_to_no_other() -> None:
    length = f"content-length: {len(BODY)}"
    async with running_gateway(server=KEYED) as gateway:
        for _ in range(3):  # the lane remembers targets and credentials
            assert (await answer_to(gateway, head(VALID, length) + BODY)).startswith(b"HTTP/1.1 200 ")
        spoken = gateway.sim.ledger.requests
        refused = {
            "no key": head(length),
            "another key": head(f"xi-api-key: {KEY[:-1]}", length),
            "the admin token": head(f"xi-api-key: {TOKEN}", length),
            "another host": head(VALID, length, host="evil.example"),
            "another site": head(VALID, length, "Origin: https://evil.example"),
            "another site without a blank": head(VALID, length, "ORIGIN:https://evil.example"),
            "fetched by another site": head(VALID, length, "sec-fetch-site: cross-site"),
            "two keys": head(VALID, "Xi-Api-Key: other", length),
            "another path": head(VALID, length, target="/admin/reload"),
        }
        for name, data in refused.items():
            assert (await answer_to(gateway, data + BODY)).startswith(b"HTTP/1.1 4"), name
        gateway.context.apply_settings(ServerConfig(api_keys=["new-key"], port=0))
        assert (await answer_to(gateway, head(VALID, length) + BODY)).startswith(b"HTTP/1.1 401 ")
        assert gateway.sim.ledger.requests == spoken


async def test_no_voice_or_query_reaches_another_path_of_the_vendor() -> None:
    voices = ("..", ".", "%2e%2e", "..%2f..%2fuser", "a%2fb", "a%3fb", "a%23b", "%5c..", "a%0d%0ax-evil:%201", "v-1")
    async with running_gateway() as simulated, recording_vendor(simulated.sim.url) as vendor:
        provider = ElevenLabs("sk_test", base_url=vendor.url)
        async with AsyncTTSService([provider]) as service, Gateway(service, ServerConfig(port=0)) as gateway:
            for voice in voices:
                for target in (f"/v1/voices/{voice}", f"/v1/voices/{voice}/settings", f"/v2/voices?search={voice}"):
                    async with simulated.client.get(URL(gateway.url + target, encoded=True)) as answer:
                        assert answer.status in (200, 400, 404), target
                speech = URL(f"{gateway.url}/v1/text-to-speech/{voice}/stream", encoded=True)
                async with simulated.client.post(speech, json={"text": "Good morning."}) as answer:
                    assert answer.status in (200, 400, 404), voice
        paths = {target.partition("?")[0] for target in vendor.targets}
        speech_paths = {f"/v1/text-to-speech/v-1/stream{form}" for form in ("", "/with-timestamps")}
        assert paths <= {
            "/v1/voices/v-1",
            "/v1/voices/v-1/settings",
            "/v2/voices",
            "/v1/user/subscription",
            *speech_paths,
        }
        assert all(
            set(query) <= {"search"} for query in (URL(each).query for each in vendor.targets if "search" in each)
        )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example"])
def test_gateway_without_keys_does_not_listen_beyond_loopback(host: str) -> None:
    with pytest.raises(TTSConfigurationError, match="api_keys: required to listen on"):
        ServerConfig().laid_over(host=host)
    assert ServerConfig(api_keys=[KEY]).laid_over(host=host).host == host


def test_no_code_switches_certificate_checks_off() -> None:
    """Look for the names by which Python's libraries do that."""
    switch = re.compile(r"CERT_NONE|check_hostname|_create_unverified_context|verify_(ssl|mode)|\bssl=False")
    for path in Path(steadyvoice.__file__).parent.rglob("*.py"):
        assert not switch.search(path.read_text("utf-8")), path
