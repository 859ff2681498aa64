"""Conformance kit for providers: a plugin's author runs it against the provider, with pytest or without.

    import pytest
    from steadyvoice.testing import VendorResponse, vendor_provider_checks

    def respond(request, speak):
        speech = speak(request.json["text"], "pcm_24000")
        return VendorResponse(speech.audio, content_type="audio/pcm")

    CHECKS = vendor_provider_checks(lambda url: MyVoice("key", base_url=url), respond)

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    def test_my_voice_conforms(check):
        check()

Each check raises ConformanceError, which says what the provider did and what it should do.
"""

from __future__ import annotations

from steadyvoice.testing.conformance import ProviderCheck, local_provider_checks, vendor_provider_checks
from steadyvoice.testing.trial import ConformanceError
from steadyvoice.testing.vendor_server import (
    FakeSpeech,
    FakeVendor,
    Speak,
    VendorFault,
    VendorRequest,
    VendorResponse,
)

__all__ = [
    "ConformanceError",
    "FakeSpeech",
    "FakeVendor",
    "ProviderCheck",
    "Speak",
    "VendorFault",
    "VendorRequest",
    "VendorResponse",
    "local_provider_checks",
    "vendor_provider_checks",
]
