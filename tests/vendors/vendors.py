"""Vendors under test: how each is made for an address, and what it should send and understand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steadyvoice import Deepgram
from steadyvoice.providers.vendor import VendorProvider
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire import deepgram

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
    foreign_text: str = field(default="Доброе утро, это новости.")  # that the default voice cannot read


def _json(status: int, body: Any, kind: type[TTSError], **headers: str) -> ErrorCase:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body, kind


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
            _json(400, {"err_code": "Bad Request", "err_msg": "No such model."}, speech.TTSBadRequestError),
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
}
