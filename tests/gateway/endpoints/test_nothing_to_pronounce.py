"""Texts with nothing to pronounce, which vendors answer without audio."""

from __future__ import annotations

from typing import Any

import pytest

from steadyvoice.audio.framing import AudioMeter
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech.format import AudioFormat

from ..running_gateway import ELEVENLABS, OPENAI, TEXT, RunningGateway, elevenlabs_body, openai_body, running_gateway

NOTHING = ("👍", "...", "—", "👩‍👩‍👧‍👧", "\u200b.\u00ad", "♪", "?!", "\u0301")


async def refuse_nothing(gateway: RunningGateway, path: str, document: Any, format: str) -> None:
    gateway.sim.faults.set(Fault(actions.Empty(), endpoint="*speech*"))
    for text in NOTHING:
        answer = await gateway.fetch("POST", path, json={**document(text)})
        assert answer.status == 200
        assert answer.headers["x-steadyvoice-outcome"] == "spoken"
        assert AudioMeter(AudioFormat.parse(format)).feed(await answer.read()) >= 0.02, "a file of a little silence"
    state = gateway.service.get_error_state()
    assert (state["circuit_state"], state["window"]["failures"], state["last_error"]) == ("closed", 0, None)
    gateway.sim.faults.set()
    answer = await gateway.fetch("POST", path, json=document(TEXT))
    assert answer.headers["x-steadyvoice-outcome"] == "spoken"


@pytest.mark.parametrize(
    ("form", "format", "on_midstream"),
    [
        ("", "mp3_44100_128", "resume"),
        ("", "pcm_24000", "error"),
        ("/stream", "pcm_24000", "resume"),
        ("/stream", "opus_48000_64", "error"),
        ("/stream", "ulaw_8000", "error"),
    ],
)
async def test_elevenlabs_clients_get_short_silence(form: str, format: str, on_midstream: Any) -> None:
    async with running_gateway(only_elevenlabs=True, on_midstream=on_midstream) as gateway:
        await refuse_nothing(gateway, f"{ELEVENLABS}{form}?output_format={format}", elevenlabs_body, format)


@pytest.mark.parametrize("format", ["mp3", "pcm"])
async def test_openai_clients_get_short_silence(format: str) -> None:
    async with running_gateway(only_elevenlabs=True) as gateway:

        def document(text: str) -> Any:
            return openai_body(text, response_format=format)

        await refuse_nothing(gateway, OPENAI, document, {"mp3": "mp3_44100_128", "pcm": "pcm_24000"}[format])


@pytest.mark.parametrize("form", ["/with-timestamps", "/stream/with-timestamps"])
async def test_timestamps_endpoint_answers_as_well(form: str) -> None:
    async with running_gateway(only_elevenlabs=True) as gateway:
        gateway.sim.faults.set(Fault(actions.Empty(), endpoint="*speech*"))
        for text in NOTHING:
            answer = await gateway.fetch("POST", ELEVENLABS + form, json=elevenlabs_body(text))
            assert (answer.status, answer.headers["x-steadyvoice-outcome"]) == (200, "spoken")
        assert gateway.service.get_error_state()["window"]["failures"] == 0
