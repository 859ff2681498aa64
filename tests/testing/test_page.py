"""The vendor that docs/providers.md writes passes the conformance kit, as it stands on the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steadyvoice import Provider
from steadyvoice.testing import ProviderCheck, Speak, VendorRequest, VendorResponse, vendor_provider_checks

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
CODECS = {"audio/L16": "pcm", "audio/PCMU": "ulaw"}


def vendor_of_the_page() -> Callable[..., Provider]:
    """Run the block of code below the heading, and return its class."""
    section = PAGE.split("### Add a vendor\n")[1].split("\n### ")[0]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    names: dict[str, Any] = {"__name__": __name__}
    exec(found[1], names)
    made: Callable[..., Provider] = names["MyVoice"]
    return made


def respond(request: VendorRequest, speak: Speak) -> VendorResponse:
    accept = request.headers["accept"]
    return VendorResponse(
        speak(request.json["text"], f"{CODECS[accept]}_{request.json['sample_rate']}").audio, content_type=accept
    )


MyVoice = vendor_of_the_page()
CHECKS = vendor_provider_checks(lambda url: MyVoice("conformance-key", base_url=url), respond)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_vendor_of_the_page_conforms(check: ProviderCheck) -> None:
    check()
