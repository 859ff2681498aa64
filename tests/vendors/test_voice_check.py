"""Checks of voices that cost nothing, at all seven vendors."""

from __future__ import annotations

from typing import Any

import pytest

from steadyvoice import TTSInvalidKeyError, TTSServerError
from steadyvoice.providers.base import SupportsVoiceCheck
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection.actions import Refuse
from tests.providers.scripted_vendor import error_response, scripted_vendor

from .test_key_check import ENDPOINTS, MAKERS, made
from .vendors import KEY

LISTS = {**ENDPOINTS, "deepgram": "models", "elevenlabs": "voices"}
MISSING = "a-voice-that-nobody-has"


def with_voices(name: str, url: str, **voices: Any) -> Any:
    return MAKERS[name](KEY, base_url=url, voices=voices)


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"openai"}))
async def test_missing_voices_are_found_at_no_cost(name: str) -> None:
    async with Simulator(keys=(KEY,)) as sim:
        provider = with_voices(name, sim.url, narrator=MISSING)
        supports: SupportsVoiceCheck = provider
        assert await provider.find_missing_voices() == ["narrator"]
        assert isinstance(supports, SupportsVoiceCheck)
        assert await made(name, sim.url).find_missing_voices() == []
        sim.faults.set(Fault(Refuse(status=503), endpoint=LISTS[name]))
        with pytest.raises(TTSServerError):
            await provider.find_missing_voices()
        await provider.aclose()
        await sim.idle()
        assert sim.ledger.charged == 0
        assert {entry.endpoint for entry in sim.ledger} == {LISTS[name]}


async def test_voices_of_openai_are_known_and_others_are_not_judged() -> None:
    assert await MAKERS["openai"](KEY).find_missing_voices() == []
    assert await MAKERS["openai"](KEY, voices={"narrator": MISSING}).find_missing_voices() is None


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"voices": ["alloy", {"id": "af_heart"}]}, ["narrator"]),
        (200, {"voices": []}, None),
        (404, {"detail": "Not Found"}, None),
    ],
)
async def test_voices_of_a_compatible_server_are_those_that_it_lists(status: int, body: Any, expected: Any) -> None:
    async with scripted_vendor() as server:
        server.enqueue(error_response(status, body))
        provider = with_voices("openai", server.url, narrator=MISSING)
        assert await provider.find_missing_voices() == expected
        await provider.aclose()


async def test_key_that_may_not_list_voices_tells_nothing() -> None:
    async with scripted_vendor() as server:
        refusals = [
            error_response(401, {"detail": {"status": code, "message": "No."}})
            for code in ("missing_permissions", "invalid_api_key")
        ]
        for refusal in refusals:
            server.enqueue(refusal)
        provider = made("elevenlabs", server.url)
        assert await provider.find_missing_voices() is None
        with pytest.raises(TTSInvalidKeyError):
            await provider.find_missing_voices()
        await provider.aclose()


async def test_long_list_of_voices_is_read() -> None:
    async with scripted_vendor() as server:
        server.enqueue(
            error_response(200, [{"ShortName": f"voice-{each}", "Filler": "x" * 300} for each in range(2000)])
        )
        provider = with_voices("azure", server.url, default="voice-1999", narrator=MISSING)
        assert await provider.find_missing_voices() == ["narrator"]
        await provider.aclose()
