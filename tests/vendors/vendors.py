"""Vendors under test: how each is made for an address, and what it should send and understand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from steadyvoice import Azure, Cartesia, Deepgram, Google, Polly
from steadyvoice.providers.vendor import VendorProvider
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire import azure, cartesia, deepgram, google, polly

KEY = "key-of-a-vendor-0123456789"

ErrorCase = tuple[int, Mapping[str, str], Any, type[TTSError]]
"""Status, headers, body (JSON, or bytes as they are) and the class of error that they mean."""


@dataclass(frozen=True)
class VendorCase:
    """One vendor.

    - `make`: returns the provider for an address, with `KEY` or the settings given.
    - `formats`: names of formats that it sends without conversion.
    - `variable`: environment variable of its key.
    - `errors`: error responses, and what they mean.
    """

    make: Callable[..., VendorProvider]
    formats: tuple[str, ...]
    variable: str
    errors: tuple[ErrorCase, ...]
    max_characters: int
    is_multilingual: bool = False  # the default voice may read any script, by all that is known


def _json(status: int, body: Any, kind: type[TTSError], **headers: str) -> ErrorCase:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body, kind


def _google(status: int, code: str, message: str) -> Mapping[str, Any]:
    return {"error": {"code": status, "message": message, "status": code}}


def _azure(code: str, message: str) -> Mapping[str, Any]:
    return {"error": {"code": code, "message": message}}


def _cartesia(code: str | None, message: str = "No.") -> Mapping[str, Any]:
    return {"error_code": code, "title": "Refused", "message": message, "request_id": "r-1"}


def make_polly(key: str | None = None, **settings: Any) -> Polly:
    """Return Polly with a key whose secret is the one of the test, in a region."""
    secret = {} if key is None else {"secret_key": "secret-0123456789"}
    return Polly(key, **{"region": "eu-central-1", **secret, **settings})


def make_azure(key: str | None = None, **settings: Any) -> Azure:
    """Return Azure in a region."""
    return Azure(key, **{"region": "westeurope", **settings})


VENDORS: dict[str, VendorCase] = {
    "deepgram": VendorCase(
        Deepgram,
        tuple(format_.name for format_ in deepgram.FORMATS),
        "DEEPGRAM_API_KEY",
        (
            _json(401, {"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials."}, speech.TTSInvalidKeyError),
            _json(402, {"err_code": "ASR_PAYMENT_REQUIRED", "err_msg": "No credit."}, speech.TTSQuotaExceededError),
            _json(402, {"err_code": "SOMETHING", "err_msg": "No credit."}, speech.TTSQuotaExceededError),
            _json(403, {"err_code": "INSUFFICIENT_PERMISSIONS", "err_msg": "No."}, speech.TTSPlanRequiredError),
            _json(429, {"err_code": "TOO_MANY_REQUESTS", "err_msg": "Too many."}, speech.TTSConcurrencyError),
            _json(429, {}, speech.TTSConcurrencyError),
            _json(413, {"err_code": "PAYLOAD_TOO_LARGE", "err_msg": "too long"}, speech.TTSTextTooLongError),
            _json(
                400,
                {"err_code": "Bad Request", "err_msg": "Bad Request: No such model/version combination found."},
                speech.TTSVoiceUnknownError,
            ),
            _json(400, {"err_code": "Bad Request", "err_msg": "Something."}, speech.TTSBadRequestError),
            _json(400, {"err_code": "UNSUPPORTED_AUDIO_FORMAT", "err_msg": "x"}, speech.TTSUnsupportedFormatError),
            _json(
                400,
                {"category": "INVALID_JSON", "message": "Invalid JSON submitted.", "details": "line 1"},
                speech.TTSBadRequestError,
            ),
            _json(503, b"upstream connect error", speech.TTSServerError),
            _json(403, b"<html><title>Attention Required</title>", speech.TTSBlockedError, server="cloudflare"),
        ),
        2000,
    ),
    "cartesia": VendorCase(
        Cartesia,
        tuple(format_.name for format_ in cartesia.FORMATS),
        "CARTESIA_API_KEY",
        (
            _json(401, _cartesia("unauthorized"), speech.TTSInvalidKeyError),
            _json(402, _cartesia("quota_exceeded"), speech.TTSQuotaExceededError),
            _json(403, _cartesia("plan_upgrade_required"), speech.TTSPlanRequiredError),
            _json(404, _cartesia("voice_not_found"), speech.TTSVoiceUnknownError),
            _json(404, _cartesia("model_not_found"), speech.TTSModelUnknownError),
            _json(429, _cartesia("concurrency_limited"), speech.TTSConcurrencyError),
            _json(429, _cartesia(None), speech.TTSConcurrencyError),
            _json(400, _cartesia(None, "Invalid voice settings."), speech.TTSBadRequestError),
            _json(500, _cartesia("something new"), speech.TTSServerError),
            _json(401, b"Unauthorized: invalid key", speech.TTSInvalidKeyError),
        ),
        5000,
        is_multilingual=True,
    ),
    "azure": VendorCase(
        make_azure,
        tuple(format_.name for format_ in azure.FORMATS),
        "AZURE_SPEECH_KEY",
        (
            _json(401, b"", speech.TTSInvalidKeyError),
            _json(401, _azure("401", "Access denied due to invalid subscription key."), speech.TTSInvalidKeyError),
            _json(403, _azure("403", "Out of call volume quota."), speech.TTSQuotaExceededError),
            _json(429, _azure("429", "Requests have exceeded the rate limit."), speech.TTSBusyError),
            _json(429, b"", speech.TTSBusyError),
            _json(400, b"Unsupported voice nobody.", speech.TTSVoiceUnknownError),
            _json(400, b"", speech.TTSBadRequestError),
            _json(415, b"", speech.TTSBadRequestError),
            _json(502, b"<html><title>502</title></html>", speech.TTSServerError),
        ),
        5000,
    ),
    "google": VendorCase(
        Google,
        tuple(format_.name for format_ in google.FORMATS),
        "GOOGLE_API_KEY",
        (
            _json(401, _google(401, "UNAUTHENTICATED", "Invalid credentials."), speech.TTSInvalidKeyError),
            _json(403, _google(403, "PERMISSION_DENIED", "API is disabled."), speech.TTSInvalidKeyError),
            _json(
                400, _google(400, "INVALID_ARGUMENT", "API key not valid. Please pass one."), speech.TTSInvalidKeyError
            ),
            _json(400, _google(400, "INVALID_ARGUMENT", "Voice 'x' does not exist."), speech.TTSVoiceUnknownError),
            _json(
                400,
                _google(400, "INVALID_ARGUMENT", "Either `input.text` is longer than the limit of 5000 bytes."),
                speech.TTSTextTooLongError,
            ),
            _json(400, _google(400, "INVALID_ARGUMENT", "Something."), speech.TTSBadRequestError),
            _json(400, _google(400, "FAILED_PRECONDITION", "Billing is disabled."), speech.TTSPlanRequiredError),
            _json(429, _google(429, "RESOURCE_EXHAUSTED", "Quota exceeded for a minute."), speech.TTSBusyError),
            _json(503, _google(503, "UNAVAILABLE", "Later."), speech.TTSServerError),
        ),
        1250,
    ),
    "polly": VendorCase(
        make_polly,
        tuple(format_.name for format_ in polly.FORMATS),
        "AWS_ACCESS_KEY_ID",
        tuple(
            _json(status, {"message": "No."}, kind, x_amzn_errortype=f"{code}:http://internal.amazon.com/")
            for status, code, kind in (
                (400, "ThrottlingException", speech.TTSBusyError),
                (400, "TextLengthExceededException", speech.TTSTextTooLongError),
                (400, "InvalidSampleRateException", speech.TTSUnsupportedFormatError),
                (400, "EngineNotSupportedException", speech.TTSModelUnknownError),
                (400, "ValidationException", speech.TTSBadRequestError),
                (403, "UnrecognizedClientException", speech.TTSInvalidKeyError),
                (403, "ExpiredTokenException", speech.TTSInvalidKeyError),
                (403, "AccessDeniedException", speech.TTSInvalidKeyError),
                (404, "ResourceNotFoundException", speech.TTSVoiceUnknownError),
                (500, "ServiceFailureException", speech.TTSServerError),
                (503, "SomethingNew", speech.TTSServerError),
            )
        ),
        3000,
        is_multilingual=True,
    ),
}
