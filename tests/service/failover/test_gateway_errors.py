"""Refusals by a firewall or proxy in front of the vendor: failover, and no hold on the key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible, RetryConfig, Tone
from steadyvoice.speech.failure_kinds import FailureKind
from tests.providers.scripted_vendor import ScriptedVendor, error_response, http_response, scripted_vendor

QUICK = RetryConfig(base_delay=0.001, max_delay=0.001)
CHALLENGE = b"<!DOCTYPE html><html lang='en-US'><head><title>Just a moment...</title></head><body></body></html>"
CLOUDFLARE = {"server": "cloudflare", "cf_ray": "8f0a1b2c3d4e5f60-FRA", "content_type": "text/html; charset=UTF-8"}
PROBLEM = {
    "type": "https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-1xxx-errors/",
    "title": "Error 1010: Access denied",
    "status": 403,
    "cloudflare_error": True,
}

GATEKEEPERS = {
    "Cloudflare's challenge": http_response(403, CHALLENGE, cf_mitigated="challenge", **CLOUDFLARE),
    "the challenge as 503": http_response(503, CHALLENGE, cf_mitigated="challenge", **CLOUDFLARE),
    "the challenge as 429": http_response(429, CHALLENGE, cf_mitigated="challenge", **CLOUDFLARE),
    "the challenge as 401": http_response(401, CHALLENGE, **CLOUDFLARE),
    "the challenge without its header": http_response(403, CHALLENGE, **CLOUDFLARE),
    "the challenge without any header": http_response(403, CHALLENGE),
    "Cloudflare's text": http_response(403, b"error code: 1020", server="cloudflare", content_type="text/plain"),
    "Cloudflare without a body": http_response(403, server="cloudflare", cf_ray="8f0a1b2c3d4e5f60-FRA"),
    "Cloudflare's JSON": http_response(403, json.dumps(PROBLEM).encode(), content_type="application/problem+json"),
    "nginx": http_response(
        403, b"<html>\r\n<head><title>403 Forbidden</title></head>\r\n</html>", content_type="text/html"
    ),
    "Akamai": http_response(403, b"<HTML><HEAD>\n<TITLE>Access Denied</TITLE>\n</HEAD></HTML>", server="AkamaiGHost"),
    "a load balancer of AWS": http_response(
        403, b"<html><head><title>403 Forbidden</title></head></html>", server="awselb/2.0"
    ),
    "Imperva": http_response(403, b"blocked", x_iinfo="7-12345-0", content_type="text/plain"),
    "Sucuri": http_response(403, b"Access Denied - Sucuri Website Firewall", x_sucuri_id="14012"),
    "plain text": http_response(403, b"Forbidden", content_type="text/plain"),
    "Envoy": http_response(403, b"RBAC: access denied", content_type="text/plain"),
    "Envoy as 401": http_response(401, b"RBAC: access denied", content_type="text/plain"),
    "nothing": http_response(403),
    "a page behind a mark of byte order": http_response(401, b"\xef\xbb\xbf\r\n<html><body>Denied</body></html>"),
    "a page that begins in its midst": http_response(401, b"<center><h1>Denied</h1></center>"),
    "a page of a heading": http_response(401, b"<h1>Denied</h1>"),
    "AWS's API Gateway": error_response(403, {"message": "Forbidden"}, x_amzn_errortype="ForbiddenException"),
}


@pytest.fixture
async def vendor() -> AsyncIterator[ScriptedVendor]:
    async with scripted_vendor() as listening:
        yield listening


def first(kind: str, vendor: ScriptedVendor) -> Any:
    if kind == "elevenlabs":
        return ElevenLabs("sk_test", base_url=vendor.url)
    return OpenAICompatible("sk_test", base_url=vendor.url)


kinds = pytest.mark.parametrize("kind", ["elevenlabs", "openai"])


@kinds
@pytest.mark.parametrize("intermediary", GATEKEEPERS)
async def test_firewall_page_does_not_hold_the_key(vendor: ScriptedVendor, kind: str, intermediary: str) -> None:
    vendor.enqueue(GATEKEEPERS[intermediary])
    async with AsyncTTSService([first(kind, vendor), Tone()], retry=QUICK) as tts:
        speech = await tts.synthesize("Good morning")
        state = tts.get_error_state()
    error = speech.attempts[0].error
    assert error is not None
    assert error.kind is FailureKind.BLOCKED
    assert (speech.outcome, speech.provider, len(vendor.requests)) == ("substituted", "tone", 1)
    assert state["holds"] == []
    assert state["window"]["failures"] == 1


async def test_cloudflare_ray_id_is_in_the_error(vendor: ScriptedVendor) -> None:
    vendor.enqueue(GATEKEEPERS["Cloudflare's challenge"])
    async with AsyncTTSService([first("openai", vendor)], muted=False) as tts:
        with pytest.raises(Exception, match=r"Just a moment\.\.\..*8f0a1b2c3d4e5f60-FRA.*firewall"):
            await tts.synthesize("Good morning")


@kinds
@pytest.mark.parametrize(
    "body",
    [
        error_response(401, {"error": {"message": "Incorrect key", "code": "invalid_api_key"}}, server="cloudflare"),
        error_response(403, {"detail": {"status": "missing_permissions", "message": "no"}}, cf_ray="8f0a"),
        error_response(401, {"detail": "Invalid API key"}, server="cloudflare", cf_ray="8f0a"),
        error_response(403, {"message": "Forbidden: this key may not speak"}),
        http_response(401, b"Unauthorized", content_type="text/plain"),
        http_response(401),
    ],
)  # fmt: skip
async def test_vendors_own_refusal_of_the_key_holds_it(vendor: ScriptedVendor, kind: str, body: bytes) -> None:
    vendor.enqueue(body)
    async with AsyncTTSService([first(kind, vendor), Tone()], retry=QUICK) as tts:
        assert (await tts.synthesize("Good morning")).outcome == "substituted"
        [hold] = tts.get_error_state()["holds"]
    assert hold["kind"] == "invalid_key"


@kinds
@pytest.mark.parametrize("body", ["with JSON", "with a page", "with nothing"])
@pytest.mark.parametrize("status", [409, 418, 423, 431, 451])
async def test_unknown_status_fails_over(vendor: ScriptedVendor, kind: str, status: int, body: str) -> None:
    for _ in range(9):
        vendor.enqueue({
            "with JSON": error_response(status, {"error": {"message": "I'm a teapot"}}),
            "with a page": http_response(status, b"<html><title>teapot</title></html>", content_type="text/html"),
            "with nothing": http_response(status),
        }[body])  # fmt: skip
    async with AsyncTTSService([first(kind, vendor), Tone()], retry=QUICK) as tts:
        speech = await tts.synthesize("Good morning")
        assert (speech.outcome, speech.provider) == ("substituted", "tone")
        assert tts.get_error_state()["totals"]["failures"] >= 1
        streamed = tts.stream("Good morning")
        assert b"".join([data async for data in streamed])
        assert streamed.provider == "tone"


@kinds
async def test_html_page_with_status_400_is_no_mistake_of_the_caller(vendor: ScriptedVendor, kind: str) -> None:
    page = b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"
    for _ in range(9):
        vendor.enqueue(http_response(400, page, content_type="text/html"))
    async with AsyncTTSService([first(kind, vendor), Tone()], retry=QUICK) as tts:
        assert (await tts.synthesize("Good morning")).outcome == "substituted"
