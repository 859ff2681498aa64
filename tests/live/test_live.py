"""Live scenarios, run against the vendors themselves; skipped without a key.

A key cannot be installed like a tool, so STEADYVOICE_REQUIRE_ALL does not demand one.
"""

from __future__ import annotations

import os

import pytest

from .scenarios import ELEVENLABS, OPENAI, Scenario, Target, name_of
from .vendor_scenarios import LIVE_VENDORS, VENDOR_SCENARIOS, VendorScenario

GEORGE = "JBFqnCBsd6RMkjVDRZzb"
OPENAI_URL = "https://api.openai.com/v1"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("story", ELEVENLABS, ids=name_of)
async def test_elevenlabs(story: Scenario) -> None:
    key = os.environ.get("ELEVENLABS_API_KEY")
    if not key:
        pytest.skip(f"not told to ElevenLabs, for ELEVENLABS_API_KEY is not set: {name_of(story)}")
    voice = os.environ.get("ELEVENLABS_VOICE", GEORGE)
    model = os.environ.get("ELEVENLABS_MODEL", "eleven_flash_v2_5")
    await story(Target(os.environ.get("ELEVENLABS_BASE_URL", "https://api.elevenlabs.io"), key, voice, model))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("story", OPENAI, ids=name_of)
async def test_openai_or_compatible(story: Scenario) -> None:
    key, url = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    if not (key or url):
        pytest.skip(f"not told to OpenAI, for neither OPENAI_API_KEY nor OPENAI_BASE_URL is set: {name_of(story)}")
    if not key and "bad_key" in story.__name__:
        pytest.skip(f"not told, for a server without keys has no bad ones: {name_of(story)}")
    voice, model = os.environ.get("OPENAI_VOICE", "alloy"), os.environ.get("OPENAI_MODEL", "gpt-4o-mini-tts")
    await story(Target((url or OPENAI_URL).rstrip("/"), key or "none", voice, model))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("story", VENDOR_SCENARIOS, ids=lambda story: story.__name__.replace("_", " "))
@pytest.mark.parametrize("name", LIVE_VENDORS)
async def test_further_vendor(name: str, story: VendorScenario) -> None:
    vendor = LIVE_VENDORS[name]
    missing = [variable for variable in vendor.variables if not os.environ.get(variable)]
    if missing:
        pytest.skip(f"not told to {name}, for {', '.join(missing)} is not set: {story.__name__.replace('_', ' ')}")
    await story(name, vendor.account(os.environ))
