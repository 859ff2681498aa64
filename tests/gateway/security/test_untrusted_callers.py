"""Untrusted callers over real sockets: foreign pages, missing keys, DNS rebinding, injection."""

from __future__ import annotations

import asyncio
import json
import logging

import aiohttp
import pytest
from yarl import URL

from steadyvoice import ElevenLabs
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions

from ..running_gateway import ELEVENLABS, OPENAI, elevenlabs_body, openai_body, running_gateway

PAGE = "https://page.example"
KEY, TOKEN, VENDORS = "caller-key-1", "admin-token-1", "sk_vendor_key"
KEYED = {"api_keys": [KEY], "admin_token": TOKEN}


async def test_page_of_another_site_is_refused() -> None:
    async with running_gateway() as gateway:
        for origin in ("https://evil.example", "null"):
            for path in (ELEVENLABS, OPENAI, "/admin/circuits/elevenlabs/open", "/healthz"):
                answer = await gateway.fetch("POST", path, json=elevenlabs_body(), headers={"origin": origin})
                assert answer.status == 403
                assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        rebound = await gateway.fetch("GET", "/admin/state", headers={"host": "evil.example"})
        assert rebound.status == 403
        assert not gateway.sim.ledger.requests


async def test_null_origin_is_refused() -> None:
    async with running_gateway(server={"allowed_origins": [PAGE]}) as gateway:
        answer = await gateway.post(ELEVENLABS, elevenlabs_body(), headers={"origin": "null"})
        message = (await answer.json())["detail"]["message"]
        assert message == "Origin null is not allowed: the page does not name its site"


async def test_absolute_target_is_checked_by_its_host() -> None:
    async with running_gateway() as gateway:
        port = URL(gateway.url).port
        for target, host, status in (
            (f"http://evil.example{ELEVENLABS}", f"localhost:{port}", 403),
            (f"http://localhost:{port}{ELEVENLABS}", "evil.example", 200),
            (f"http://localhost@evil.example{ELEVENLABS}", f"localhost:{port}", 400),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            body = json.dumps(elevenlabs_body()).encode()
            request = (
                f"POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            writer.write(request.encode() + body)
            assert (await reader.read()).startswith(f"HTTP/1.1 {status} ".encode())
            writer.close()
        assert gateway.sim.ledger.requests == 1


async def test_metrics_are_open_unless_restricted_to_admins() -> None:
    async with running_gateway(server=KEYED) as gateway:
        assert (await gateway.fetch("GET", "/metrics")).status == 200
    async with running_gateway(server={**KEYED, "metrics": "admin"}) as gateway:
        token = {"authorization": f"Bearer {TOKEN}"}
        for method in ("GET", "HEAD"):
            assert (await gateway.fetch(method, "/metrics")).status == 401
            assert (await gateway.fetch(method, "/metrics", headers={"xi-api-key": KEY})).status == 401
            assert (await gateway.fetch(method, "/metrics", headers=token)).status == 200
        assert (await gateway.fetch("GET", "/healthz")).status == 200
    async with running_gateway(server={"metrics": "admin"}) as gateway:
        assert (await gateway.fetch("GET", "/metrics")).status == 200, "it is this machine"
        forwarded = await gateway.fetch("GET", "/metrics", headers={"x-forwarded-for": "10.0.0.1"})
        assert forwarded.status == 403
        assert "/metrics is available from this machine only" in await forwarded.text()


async def test_allowed_page_may_call_speech_and_read_headers() -> None:
    async with running_gateway(server={"allowed_origins": [f"{PAGE}/"], "api_keys": [KEY]}) as gateway:
        headers = {
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": "xi-api-key, content-type",
        }
        preflight = await gateway.fetch("OPTIONS", ELEVENLABS, headers=headers)
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == PAGE
        assert preflight.headers["access-control-allow-headers"] == "xi-api-key, content-type"
        assert (await gateway.fetch("OPTIONS", "/admin/state", headers=headers)).status == 403
        assert (await gateway.fetch("OPTIONS", ELEVENLABS, headers={**headers, "origin": "null"})).status == 403

        answer = await gateway.fetch(
            "POST", ELEVENLABS, json=elevenlabs_body(), headers={"origin": PAGE, "xi-api-key": KEY}
        )
        refused = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(), headers={"origin": PAGE})
        for each, status in ((answer, 200), (refused, 401)):
            assert (each.status, each.headers["access-control-allow-origin"]) == (status, PAGE)
            assert each.headers["vary"] == "origin"
            assert "x-request-id" in each.headers["access-control-expose-headers"]


async def test_missing_key_is_refused_in_the_dialect() -> None:
    async with running_gateway(server=KEYED) as gateway:
        theirs = await gateway.post(ELEVENLABS, elevenlabs_body())
        assert (theirs.status, (await theirs.json())["detail"]["code"]) == (401, "needs_authorization")
        assert theirs.headers["www-authenticate"] == "Bearer"
        ours = await gateway.post(OPENAI, openai_body(), headers={"authorization": f"Bearer {TOKEN}"})
        assert (ours.status, (await ours.json())["error"]["code"]) == (401, "invalid_api_key")
        assert (await gateway.fetch("GET", "/v1/voices")).status == 401
        assert (await gateway.fetch("GET", "/admin/state", headers={"authorization": f"Bearer {KEY}"})).status == 401
        assert (await gateway.fetch("GET", "/admin/state", headers={"authorization": f"Bearer {TOKEN}"})).status == 200
        assert not gateway.sim.ledger.requests
        spoke = await gateway.fetch("POST", OPENAI, json=openai_body(), headers={"authorization": f"Bearer {KEY}"})
        assert spoke.status == 200


@pytest.mark.parametrize(
    "voice", ["..", ".", "%2e%2e", "..%2F..%2Fuser", "a%0d%0ax-evil:%201", "a%00b", "%2E%2E%5C", "x" * 300]
)
async def test_voice_id_stays_one_segment_of_the_vendors_path(voice: str) -> None:
    async with running_gateway() as gateway:
        for form in ("", "/stream"):
            url = URL(f"{gateway.url}/v1/text-to-speech/{voice}{form}", encoded=True)
            async with gateway.client.post(url, json=elevenlabs_body()) as answer:
                assert answer.status in (200, 400, 404, 405, 422)
        asked_for = {entry.endpoint for entry in gateway.sim.ledger}
        speech = {"text-to-speech", "text-to-speech/stream", "text-to-speech/stream/with-timestamps", "audio/speech"}
        assert asked_for <= speech


async def test_caller_cannot_choose_the_vendors_address() -> None:
    async with running_gateway() as gateway, aiohttp.ClientSession() as client:
        fields = dict.fromkeys(("base_url", "api_key", "url", "host", "proxy"), "http://127.0.0.1:9/")
        headers = {"x-steadyvoice-base-url": "http://127.0.0.1:9/", "x-forwarded-host": "127.0.0.1:9"}
        for path, document in ((ELEVENLABS, elevenlabs_body(**fields)), (OPENAI, openai_body(**fields))):
            async with client.post(gateway.url + path, json=document, headers=headers) as answer:
                assert answer.status == 200
                assert answer.headers["x-steadyvoice-outcome"] == "spoken"


async def test_callers_text_never_enters_a_header() -> None:
    async with running_gateway(server=KEYED) as gateway:
        key = {"xi-api-key": KEY}
        odd = "a\r\nx-evil: 1"
        for document in (
            elevenlabs_body(model_id=odd),
            elevenlabs_body(voice_settings=odd),
            elevenlabs_body(language_code=odd),
        ):
            answer = await gateway.fetch("POST", ELEVENLABS, json=document, headers=key)
            assert "x-evil" not in answer.headers
        answer = await gateway.fetch("GET", "/healthz", headers={"x-request-id": "a b\tc"})
        assert " " not in answer.headers["x-request-id"], "it is one of ours"
        answer = await gateway.fetch("GET", "/healthz", headers={"x-request-id": "theirs-1"})
        assert answer.headers["x-request-id"] == "theirs-1"


async def test_no_secret_is_revealed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = {"authorization": f"Bearer {TOKEN}"}
    async with running_gateway(server=KEYED, muted=False) as gateway:
        vendor = ElevenLabs(VENDORS, base_url=gateway.sim.url)
        for fault in (actions.Refuse(status=401), actions.Refuse(status=500), actions.Cut(after=0.5)):
            gateway.sim.faults.set(Fault(fault))
            heard = [
                await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(), headers={"xi-api-key": key})
                for key in (KEY, KEY + "2")
            ]
            heard.append(
                await gateway.fetch("POST", OPENAI, json={"input": 7}, headers={"authorization": f"Bearer {KEY}"})
            )
        paths = ("/metrics", "/readyz", "/admin/state", "/admin/calls", "/admin/circuits/elevenlabs", "/nowhere")
        heard += [await gateway.fetch("GET", path, headers=token) for path in paths]
        shown = "\n".join([*[await each.text(errors="replace") for each in heard], caplog.text])
        shown += repr(gateway.gateway.server) + repr(gateway.context) + repr(vendor)
        for secret in (KEY, TOKEN, VENDORS, "sk_test"):
            assert secret not in shown


async def test_deep_or_huge_json_is_refused() -> None:
    async with running_gateway() as gateway:
        for body in (
            b"[" * 500_000,
            b'{"text":' * 100_000,
            b'{"text": ' + b"9" * 100_000 + b"}",
            b'{"text": 1e999999}',
        ):
            for path, status in ((ELEVENLABS, 422), (OPENAI, 400)):
                answer = await gateway.fetch("POST", path, data=body, headers={"content-type": "application/json"})
                assert answer.status == status
        deep = json.loads("[" * 500 + "]" * 500)
        answer = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(voice_settings=deep))
        assert answer.status < 500
