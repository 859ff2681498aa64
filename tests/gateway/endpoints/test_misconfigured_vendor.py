"""Models and voices of the configuration that the vendor has dropped."""

from __future__ import annotations

from typing import Any

import pytest

from steadyvoice import ElevenLabs, OpenAICompatible, Tone
from steadyvoice.simulator import Simulator

from ..running_gateway import ELEVENLABS, OPENAI, elevenlabs_body, openai_body, running_gateway


def error_of(endpoint: str, document: Any) -> Any:
    return document["error"] if endpoint == OPENAI else document["detail"]


@pytest.mark.parametrize("muted", [True, False])
async def test_dropped_default_model_is_misconfigured(muted: bool) -> None:
    async with Simulator(voice="tones") as sim:
        eleven = ElevenLabs("sk", base_url=sim.url, model="eleven_gone")
        async with running_gateway(eleven, muted=muted) as gateway:
            for endpoint, document in (
                (ELEVENLABS, elevenlabs_body()),
                (ELEVENLABS, elevenlabs_body(model_id="tts-9")),
                (OPENAI, openai_body()),
            ):
                for _ in range(2):  # the second time, the model is on hold
                    answer = await gateway.post(endpoint, document)
                    error = error_of(endpoint, await answer.json())
                    assert (answer.status, error["code"]) == (503, "misconfigured")
                    assert "eleven_gone" in error["message"]
                    assert "`model`" in error["message"], "what to change"
                    assert answer.headers["x-steadyvoice-outcome"] == "failed"


async def test_dropped_model_named_by_the_caller_is_not_found() -> None:
    async with Simulator(voice="tones") as sim:
        openai = OpenAICompatible("sk", base_url=f"{sim.url}/v1", model="gone-1")
        async with running_gateway(openai, muted=False) as gateway:
            named = await gateway.post(OPENAI, openai_body(model="gone-1"))
            assert (named.status, error_of(OPENAI, await named.json())["code"]) == (404, "model_not_found")


async def test_dropped_mapped_voice_is_misconfigured() -> None:
    async with Simulator(voice="tones") as sim:
        eleven = ElevenLabs("sk", base_url=sim.url, voices={"default": "goneVoice", "narrator": "goneVoice"})
        async with running_gateway(eleven, muted=False) as gateway:
            for endpoint, document in ((OPENAI, openai_body()), ("/v1/text-to-speech/narrator", elevenlabs_body())):
                answer = await gateway.post(endpoint, document)
                error = error_of(endpoint, await answer.json())
                assert (answer.status, error["code"]) == (503, "misconfigured")
                assert "goneVoice" in error["message"]
            named = await gateway.post("/v1/text-to-speech/goneVoice2", elevenlabs_body())
            assert (named.status, error_of(ELEVENLABS, await named.json())["code"]) == (404, "voice_not_found")


async def test_another_provider_answers_for_a_dropped_model() -> None:
    vendor = Simulator(voice="tones")
    async with vendor, running_gateway(ElevenLabs("sk", base_url=vendor.url, model="eleven_gone"), Tone()) as gateway:
        answer = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        assert (answer.status, answer.headers["x-steadyvoice-outcome"]) == (200, "substituted")
