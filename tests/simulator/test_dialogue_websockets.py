"""Websockets of dialogues: text in by voice, audio with character times out, and the vendor's refusals."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from elevenlabs.types import (
    TextToDialogueWebsocketAudioChunkMulti,
    TextToDialogueWebsocketClientMessageMulti,
    TextToDialogueWebsocketFinalMulti,
    TextToDialogueWebsocketVoiceInput,
)

from steadyvoice.simulator import Simulator
from steadyvoice.wire.elevenlabs.catalog import VOICES

from .client import GEORGE, TEXT, WORDS
from .websocket_client import KEY, Received, listen, send

ARIA = VOICES["Aria"]


async def talk(sim: Simulator, messages: list[dict[str, Any]], multi: bool = True, **query: Any) -> Received:
    path = f"/v1/text-to-dialogue/{'multi-' if multi else ''}stream-input"
    params = {"output_format": "pcm_8000", **query}
    async with (
        aiohttp.ClientSession(headers=KEY) as session,
        session.ws_connect(f"{sim.url}{path}", params=params) as socket,
    ):
        for message in messages:
            await send(socket, message)
        return await listen(socket)


def line(text: str, voice: str = GEORGE) -> dict[str, str]:
    return {"text": text, "voice_id": voice}


async def test_dialogue_is_spoken_in_snake_case(sim: Simulator) -> None:
    begin = {"context_id": "a", "voices": [GEORGE], "voice_settings": {"stability": 0.5}}
    words = [{"context_id": "a", "inputs": [line(f"{word} ")]} for word in WORDS]
    received = await talk(sim, [begin, *words, {"context_id": "a", "close_context": True}, {"close_socket": True}])
    assert (received.words("a"), received.code) == (WORDS, 1000)
    *sounds, final = received.messages
    assert final == {"is_final": True, "context_id": "a"}
    assert all(set(sound) == {"audio", "alignment", "normalized_alignment", "context_id"} for sound in sounds)
    assert set(sounds[0]["alignment"]) == {"chars", "char_start_times_ms", "char_durations_ms"}
    assert "".join("".join(sound["alignment"]["chars"]) for sound in sounds if sound["alignment"]).split() == WORDS
    assert sim.ledger[-1].voice == GEORGE


async def test_single_dialogue_has_no_contexts(sim: Simulator) -> None:
    begin = {"voices": [GEORGE, ARIA], "inputs": [line("Good evening. ")]}
    received = await talk(sim, [begin, {"inputs": [line("Thank you. ", ARIA)]}, {"close_socket": True}], multi=False)
    assert (received.words(), received.code) == (["Good", "evening.", "Thank", "you."], 1000)
    assert received.messages[-1]["is_final"] is True


async def test_open_dialogue_occupies_a_concurrent_request(sim: Simulator) -> None:
    async with aiohttp.ClientSession(headers=KEY) as session:
        url = f"{sim.url}/v1/text-to-dialogue/multi-stream-input"
        async with session.ws_connect(url) as socket:
            await send(socket, {"context_id": "a", "voices": [GEORGE], "inputs": [line("Hi ")], "flush": True})
            await socket.receive_json()
            assert sim.request_limit.running == 1
    await sim.idle()
    assert sim.request_limit.running == 0


@pytest.mark.parametrize(
    ("messages", "query", "error"),
    [
        ([{"context_id": "a"}], {}, "invalid_input_message"),
        ([{"context_id": "a", "voices": []}], {}, "invalid_input_message"),
        ([{"voices": [GEORGE]}], {}, "invalid_input_message"),
        ([{"context_id": "a", "voices": ["nobody"]}], {}, "voice_not_found"),
        ([{"context_id": "a", "voices": [GEORGE], "inputs": [line("Hi", ARIA)]}], {}, "invalid_input_message"),
        ([{"context_id": "a", "voices": [GEORGE]}] * 2, {}, "invalid_input_message"),
        ([], {"model_id": "eleven_flash_v2_5"}, "unsupported_model"),
        ([], {"model_id": "eleven_nothing"}, "model_not_found"),
        ([], {"output_format": "wav_16000"}, "invalid_parameters"),
    ],
)
async def test_refusals(sim: Simulator, messages: list[dict[str, Any]], query: dict[str, Any], error: str) -> None:
    received = await talk(sim, messages, **query)
    assert (received.code, received.error) == (1008, error)


async def test_messages_in_the_clients_own_models(sim: Simulator) -> None:
    inputs = [TextToDialogueWebsocketVoiceInput(text=f"{TEXT} ", voice_id=GEORGE)]
    messages = [
        TextToDialogueWebsocketClientMessageMulti(context_id="a", voices=[GEORGE]),
        TextToDialogueWebsocketClientMessageMulti(context_id="a", keep_alive=True),
        TextToDialogueWebsocketClientMessageMulti(context_id="a", inputs=inputs, flush=True),
        TextToDialogueWebsocketClientMessageMulti(context_id="a", close_context=True),
        TextToDialogueWebsocketClientMessageMulti(close_socket=True),
    ]
    received = await talk(sim, [each.model_dump(exclude_none=True) for each in messages])
    *sounds, final = received.messages
    assert TextToDialogueWebsocketFinalMulti(**final).context_id == "a"
    assert all(TextToDialogueWebsocketAudioChunkMulti(**sound).context_id == "a" for sound in sounds)
    assert received.words("a") == WORDS
