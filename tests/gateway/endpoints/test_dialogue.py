"""`POST /v1/text-to-dialogue/stream`: every line in one stream, through failures, with errors in the vendor's form."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from steadyvoice.simulator import words_in
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.wire.elevenlabs.catalog import VOICES

from ..running_gateway import RunningGateway, running_gateway

PATH = "/v1/text-to-dialogue/stream?output_format=pcm_24000"
ANNA, BERT = VOICES["Sarah"], VOICES["George"]
LINES = [
    {"text": "Who is there?", "voice_id": ANNA},
    {"text": "It is me.", "voice_id": BERT},
    {"text": "Only me.", "voice_id": BERT},
    {"text": "Come in, please.", "voice_id": ANNA},
]
WORDS = " ".join(line["text"] for line in LINES).split()


def dialogue(gateway: RunningGateway, **fields: Any) -> Any:
    return gateway.post(PATH, {"inputs": LINES, "model_id": "eleven_flash_v2_5", **fields})


async def test_every_line_is_spoken_in_its_voice() -> None:
    async with running_gateway() as gateway:
        answer = await dialogue(gateway, settings={"stability": 0.5})
        assert (answer.status, words_in(await answer.read(), "pcm_24000")) == (200, WORDS)
        calls = [await gateway.next_call() for _ in range(3)]
        assert [account.outcome for _, account in calls] == ["spoken"] * 3
        assert [account.report.voice for _, account in calls] == [ANNA, BERT, ANNA]
        assert len({request.request_id for request, _ in calls}) == 3


@pytest.mark.parametrize("fault", [actions.Refuse(status=503), actions.Cut(after=0.4)], ids=["503", "cut"])
async def test_dialogue_is_whole_through_a_failure(fault: actions.FaultAction) -> None:
    async with running_gateway() as gateway:
        gateway.sim.faults.set(fault)
        answer = await dialogue(gateway)
        heard = words_in(await answer.read(), "pcm_24000")
        assert [word for word in heard if word in WORDS][-3:] == ["Come", "in,", "please."]


async def test_outage_is_an_error_before_the_audio_and_a_broken_transfer_after_it() -> None:
    async with running_gateway(only_elevenlabs=True) as gateway:
        gateway.sim.faults.set(actions.Refuse(status=503))
        answer = await dialogue(gateway)
        assert (answer.status, answer.headers["x-steadyvoice-provider"]) == (502, "none")
        assert "detail" in await answer.json()
        gateway.service.reset_circuit_breaker()
        gateway.sim.faults.clear()
        broken = await dialogue(gateway, inputs=[*LINES, {"text": "And who am I?", "voice_id": "unknown"}])
        assert broken.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await broken.read()


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": []},
        {"inputs": [{"text": " ", "voice_id": ANNA}]},
        {"inputs": [{"text": "Hello"}]},
        {"settings": "loud"},
    ],
)
async def test_invalid_dialogue_is_refused_before_anything_is_spent(fields: dict[str, Any]) -> None:
    async with running_gateway() as gateway:
        assert (await dialogue(gateway, **fields)).status == 422
        assert gateway.sim.ledger.charged == 0


async def test_text_of_all_lines_together_has_a_limit() -> None:
    async with running_gateway(server={"max_text_characters": 20}) as gateway:
        assert (await dialogue(gateway)).status == 413
