"""Checks of keys, tokens and regions that cost nothing, at all seven vendors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from steadyvoice import ElevenLabs, Google, OpenAICompatible
from steadyvoice.providers.base import SupportsKeyCheck
from steadyvoice.providers.vendor import VendorProvider
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection.actions import Refuse
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from tests.providers.scripted_vendor import ScriptedVendor, error_response, http_response, scripted_vendor

from .vendors import KEY, VENDORS

BAD_KEY = "another-key-0123456789"
MAKERS: dict[str, Any] = {
    "elevenlabs": ElevenLabs,
    "openai": OpenAICompatible,
    **{name: vendor.make for name, vendor in VENDORS.items()},
}
ENDPOINTS = {
    "elevenlabs": "user/subscription",
    "openai": "models",
    "cartesia": "voices",
    "deepgram": "projects",
    "azure": "cognitiveservices/voices/list",
    "google": "voices",
    "polly": "voices",
}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedVendor]:
    async with scripted_vendor() as listening:
        yield listening


def made(name: str, url: str, key: str = KEY) -> VendorProvider:
    provider = MAKERS[name](key, base_url=url)
    assert isinstance(provider, VendorProvider)
    return provider


@pytest.mark.parametrize("name", MAKERS)
async def test_keys_are_checked_at_no_cost(name: str) -> None:
    async with Simulator(keys=(KEY,)) as sim:
        good, bad = made(name, sim.url), made(name, sim.url, BAD_KEY)
        assert isinstance(good, SupportsKeyCheck)
        assert await good.check_key()
        with pytest.raises(speech.TTSInvalidKeyError) as refused:
            await bad.check_key()
        assert BAD_KEY not in f"{refused.value} {vars(refused.value)}"
        sim.faults.set(Fault(Refuse(status=503), endpoint=ENDPOINTS[name]))
        with pytest.raises(speech.TTSServerError):
            await good.check_key()
        await good.aclose()
        await bad.aclose()
        await sim.idle()
        assert sim.ledger.charged == 0
        assert {entry.endpoint for entry in sim.ledger} == {ENDPOINTS[name]}


_AWS = "com.amazon.coral.service"

ANSWERS: list[tuple[str, int, dict[str, str], Any, type[TTSError] | bool]] = [
    # a token that has expired, or a key of another region
    ("polly", 403, {"x_amzn_errortype": f"ExpiredTokenException:{_AWS}"}, {}, speech.TTSInvalidKeyError),
    ("polly", 403, {"x_amzn_errortype": f"UnrecognizedClientException:{_AWS}"}, {}, speech.TTSInvalidKeyError),
    ("polly", 403, {"x_amzn_errortype": f"InvalidSignatureException:{_AWS}"}, {}, speech.TTSInvalidKeyError),
    (
        "google",
        401,
        {},
        {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "Expired."}},
        speech.TTSInvalidKeyError,
    ),
    (
        "google",
        400,
        {},
        {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "API key expired. Please renew it."}},
        speech.TTSInvalidKeyError,
    ),
    ("azure", 401, {}, {"error": {"code": "401", "message": "Wrong API endpoint."}}, speech.TTSInvalidKeyError),
    (
        "azure",
        403,
        {},
        {"error": {"code": "403", "message": "Out of call volume."}},
        speech.TTSQuotaExceededError,
    ),
    ("deepgram", 401, {}, {"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials."}, speech.TTSInvalidKeyError),
    ("cartesia", 401, {}, {"error_code": "unauthorized", "message": "No."}, speech.TTSInvalidKeyError),
    # a valid key that may not read the document
    ("polly", 403, {"x_amzn_errortype": f"AccessDeniedException:{_AWS}"}, {}, True),
    ("deepgram", 403, {}, {"err_code": "INSUFFICIENT_PERMISSIONS", "err_msg": "No."}, True),
    ("elevenlabs", 401, {}, {"detail": {"status": "missing_permissions", "message": "user_read"}}, True),
    ("openai", 403, {}, {"error": {"code": "missing_scope", "message": "api.model.read", "type": "x"}}, True),
    # a server that imitates speech only
    ("elevenlabs", 404, {}, {"detail": "Not Found"}, False),
    ("openai", 404, {}, {"detail": "Not Found"}, False),
]


@pytest.mark.parametrize(("name", "status", "headers", "body", "expected"), ANSWERS)
async def test_answers_of_the_vendor_are_understood(
    server: ScriptedVendor,
    name: str,
    status: int,
    headers: dict[str, str],
    body: Any,
    expected: type[TTSError] | bool,
) -> None:
    server.enqueue(error_response(status, body, **headers))
    provider = made(name, server.url)
    if isinstance(expected, bool):
        assert await provider.check_key() is expected
    else:
        with pytest.raises(expected):
            await provider.check_key()
    await provider.aclose()


async def test_web_page_is_no_proof_of_a_key(server: ScriptedVendor) -> None:
    server.enqueue(http_response(200, b"<html>Log in to the network</html>", content_type="text/html"))
    provider = made("azure", server.url)
    with pytest.raises(speech.TTSNotAudioError):
        await provider.check_key()
    await provider.aclose()


async def test_query_to_polly_is_signed_as_botocore_verifies(server: ScriptedVendor) -> None:
    server.enqueue(error_response(200, {"Voices": []}))
    provider = made("polly", server.url, "AKIAEXAMPLE")
    assert await provider.check_key()
    await provider.aclose()
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("GET", "/v1/voices", b"")
    again = AWSRequest("GET", f"{server.url}/v1/voices", headers={"Content-Type": "application/json"}, data=b"")
    again.context["timestamp"] = request.headers["x-amz-date"].upper()
    signer = SigV4Auth(Credentials("AKIAEXAMPLE", "secret-0123456789"), "polly", "eu-central-1")
    again.headers["X-Amz-Date"] = again.context["timestamp"]
    signature = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert request.headers["authorization"].endswith(f"signature={signature}")


@pytest.mark.parametrize("from_environment", [False, True])
async def test_access_token_of_google_is_fetched_and_checked(
    server: ScriptedVendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_environment: bool
) -> None:
    file = _service_account(tmp_path, server.url)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", file if from_environment else "/nothing")
    provider = Google(credentials=None if from_environment else file, base_url=server.url)
    server.enqueue(error_response(200, {"access_token": "T-1", "expires_in": 3600, "token_type": "Bearer"}))
    server.enqueue(error_response(200, {"voices": []}))
    assert await provider.check_key()
    await provider.aclose()
    token, query = server.requests
    assert (token.method, token.target) == ("POST", "/token")
    assert (query.target, query.headers["authorization"]) == ("/v1/voices?languageCode=en-US", "bearer t-1")


async def test_credentials_of_google_that_expired_raise_before_the_vendor_is_asked(
    server: ScriptedVendor, tmp_path: Path
) -> None:
    provider = Google(credentials=_service_account(tmp_path, server.url), base_url=server.url)
    server.enqueue(error_response(400, {"error": "invalid_grant", "error_description": "The token has expired."}))
    with pytest.raises(speech.TTSInvalidKeyError, match="expired"):
        await provider.check_key()
    await provider.aclose()
    assert [request.target for request in server.requests] == ["/token"]


def _service_account(folder: Path, url: str) -> str:
    """Return the path of a service account's key file, whose tokens come from a server."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "credentials.json"
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "k",
        "private_key": pem.decode(),
        "client_email": "speaker@p.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{url}/token",
    }
    file.write_text(json.dumps(account))
    return str(file)
