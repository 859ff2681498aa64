"""Conformance of the provider, against a fake of its vendor."""

from __future__ import annotations

import pytest
from steadyvoice_rime import Rime

from steadyvoice.speech.errors import TTSInvalidKeyError, TTSQuotaExceededError
from steadyvoice.testing import ProviderCheck, Speak, VendorRequest, VendorResponse, vendor_provider_checks

CODECS = {"audio/L16": "pcm", "audio/PCMU": "ulaw"}


def respond(request: VendorRequest, speak: Speak) -> VendorResponse:
    """Answer as the vendor: in the format of the Accept header."""
    accept = request.headers["accept"]
    speech = speak(request.json["text"], f"{CODECS[accept]}_{request.json['samplingRate']}")
    return VendorResponse(speech.audio, content_type=accept)


def plain_text(message: str, status: int) -> VendorResponse:
    """Return an error of the vendor: its message, and nothing else."""
    return VendorResponse(message.encode(), status, "text/plain")


CHECKS = vendor_provider_checks(
    lambda url: Rime("rime-test-key", base_url=url),
    respond,
    errors={
        "invalid subscription": (plain_text("invalid subscription", 401), TTSQuotaExceededError),
        "invalid key": (plain_text("invalid apikey", 401), TTSInvalidKeyError),
    },
)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_rime_conforms(check: ProviderCheck) -> None:
    check()
