"""ElevenLabs' websockets: text in, audio with character times out, and the vendor's errors."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import aiohttp
import pytest

from steadyvoice.providers.espeak import is_installed
from steadyvoice.simulator import Ending, Simulator, words_in
from steadyvoice.wire.elevenlabs.websocket import FORMATS
from tests.required_tools import require_tool

from .client import GEORGE, TEXT, WORDS, Client, until
from .websocket_client import BEGIN, END, KEY, WHOLE_TEXT, address, listen, send, talk

LONG = "One sentence that is as long as it takes to pass a hundred and twenty characters, which is further than one "
MORE = "would think, and then some more. "


async def test_every_word_of_the_text_is_spoken(sim: Simulator) -> None:
    received = await talk(sim)
    assert received.words() == WORDS
    assert (received.code, received.error) == (1000, None)
    *sounds, final = received.messages
    assert all(message["isFinal"] is None for message in sounds)
    assert final == {"audio": None, "alignment": None, "normalizedAlignment": None, "isFinal": True}


@pytest.mark.parametrize("format", FORMATS)
async def test_every_websocket_format_contains_every_word(sim: Simulator, format: str) -> None:
    assert words_in((await talk(sim, output_format=format)).audio(), format) == WORDS


async def test_audio_is_that_of_the_http_endpoints(sim: Simulator, client: Client) -> None:
    received = await talk(sim, [BEGIN, {"text": TEXT}, END], seed=7)
    assert received.audio() == (await client.speak(seed=7)).body


async def test_times_count_from_the_audio_of_each_message(sim: Simulator) -> None:
    """Check that the times of each message, after the audio before it, delimit its words."""
    received = await talk(sim)
    characters, audio = [], b""
    for message in received.sounds:
        times = message["alignment"]
        assert times == message["normalizedAlignment"]
        own = base64.b64decode(message["audio"])
        assert times["charStartTimesMs"][0] == 0
        assert times["charStartTimesMs"][-1] + times["charDurationsMs"][-1] == pytest.approx(len(own) / 16, abs=1)
        base = len(audio) / 16
        characters += [
            (character, base + start, base + start + lasts)
            for character, start, lasts in zip(
                times["chars"], times["charStartTimesMs"], times["charDurationsMs"], strict=True
            )
        ]
        audio += own
    text = "".join(character for character, _, _ in characters)
    assert text == f"{TEXT} "
    for word in WORDS:
        begin = text.index(word)
        start, end = characters[begin][1], characters[begin + len(word) - 1][2]
        assert words_in(audio[round(start * 8) * 2 : round(end * 8) * 2], "pcm_8000") == [word]


async def test_nothing_is_spoken_before_the_schedule_allows(sim: Simulator) -> None:
    async with aiohttp.ClientSession(headers=KEY) as session, session.ws_connect(address(sim)) as socket:
        for message in (BEGIN, {"text": "Too short a text to begin with. "}):
            await send(socket, message)
        await until(lambda: sim.ledger[-1].status == 101)
        assert sim.ledger.charged == 0
        await send(socket, {"text": LONG})
        await until(lambda: sim.ledger.charged > 120)
        await send(socket, {"text": MORE})
        await send(socket, END)
        received = await listen(socket)
    assert received.words() == f"Too short a text to begin with. {LONG}{MORE}".split()
    assert sim.ledger.charged == len(f"Too short a text to begin with. {LONG}{MORE}")


@pytest.mark.parametrize("how", [{"flush": True}, {"try_trigger_generation": True}])
async def test_client_can_flush_and_continue(sim: Simulator, how: dict[str, Any]) -> None:
    first = "Fifty characters and more are enough to be triggered. "
    async with aiohttp.ClientSession(headers=KEY) as session, session.ws_connect(address(sim)) as socket:
        await send(socket, BEGIN)
        await send(socket, {"text": first, **how})
        audio = b""
        while words_in(audio, "pcm_8000") != first.split():
            audio += base64.b64decode((await socket.receive_json())["audio"])
        await send(socket, {"text": "Goodbye. "})
        await send(socket, END)
        assert (await listen(socket)).words() == ["Goodbye."]


async def test_auto_mode_does_not_wait(sim: Simulator) -> None:
    url = address(sim, auto_mode="true")
    async with aiohttp.ClientSession(headers=KEY) as session, session.ws_connect(url) as socket:
        await send(socket, {"text": "Hi. "})
        assert (await socket.receive_json())["audio"]


async def test_client_schedule(sim: Simulator) -> None:
    begin = {"text": " ", "generation_config": {"chunk_length_schedule": [50]}}
    async with aiohttp.ClientSession(headers=KEY) as session, session.ws_connect(address(sim)) as socket:
        for message in (begin, {"text": "It takes no more than fifty characters to be received. "}):
            await send(socket, message)
        assert (await socket.receive_json())["audio"]


@pytest.mark.looptime(noop_cycles=30)
@pytest.mark.parametrize(("query", "patience"), [({}, 20), ({"inactivity_timeout": 180}, 180)])
async def test_inactive_client_is_closed(query: dict[str, Any], patience: float) -> None:
    async with Simulator(voice="tones") as sim:
        received = await talk(sim, [BEGIN], **query)
    assert (received.code, received.error) == (1008, "input_timeout_exceeded")
    (message,) = received.messages
    assert message["code"] == 1008
    assert message["message"].startswith(
        f"Have not received a new text input within the timeout of {patience:.1f} seconds. Streaming input terminated."
    )
    assert received.reason is not None
    assert message["message"].startswith(received.reason)
    (entry,) = sim.ledger
    assert entry.ending is Ending.REFUSED
    assert entry.ended is not None
    assert patience <= entry.ended - entry.received < patience + 1


@pytest.mark.looptime(noop_cycles=30)
async def test_client_that_receives_audio_is_not_inactive() -> None:
    async with Simulator(voice="tones", real_time_factor=1.0) as sim:
        received = await talk(sim, [{"text": f"{TEXT} ", "flush": True}], inactivity_timeout=1)
    assert received.words() == WORDS, "it took longer than a second to say"
    assert (received.code, received.error) == (1008, "input_timeout_exceeded")


@pytest.mark.looptime(noop_cycles=30)
@pytest.mark.parametrize("blank", [{"text": " "}, {"text": "", "context_id": "a"}])
async def test_space_keeps_the_connection_alive(blank: dict[str, str]) -> None:
    multi = "context_id" in blank
    begin = {"text": "Hello ", **({"context_id": "a"} if multi else {})}
    async with Simulator(voice="tones") as sim, aiohttp.ClientSession(headers=KEY) as session:
        async with session.ws_connect(address(sim, multi)) as socket:
            await send(socket, begin)
            for _ in range(5):
                await asyncio.sleep(15)
                await send(socket, blank)
            await send(socket, {"context_id": "a", "flush": True} if multi else END)
            assert (await socket.receive_json())["audio"]
        assert sim.ledger.charged == len("Hello ")


async def test_key_is_accepted_in_header_query_and_message() -> None:
    async with Simulator(voice="tones", keys=("good",)) as sim:
        ways: list[tuple[dict[str, str], dict[str, Any], dict[str, str]]] = [
            ({"xi-api-key": "good"}, {}, {}),
            ({}, {"authorization": "Bearer good"}, {}),
            ({}, {}, {"xi-api-key": "good"}),
            ({}, {}, {"xi_api_key": "good"}),
        ]
        for headers, query, first in ways:
            received = await talk(sim, [{**BEGIN, **first}, {"text": "Hi "}, END], headers=headers, **query)
            assert received.words() == ["Hi"]


@pytest.mark.parametrize("way", ["header", "query", "message", "none"])
async def test_wrong_key_is_reported_in_a_message(way: str) -> None:
    async with Simulator(voice="tones", keys=("good",)) as sim:
        headers = {"xi-api-key": "bad"} if way == "header" else {}
        query: dict[str, Any] = {"authorization": "bad"} if way == "query" else {}
        first = {**BEGIN, **({"xi-api-key": "bad"} if way == "message" else {})}
        received = await talk(sim, [first], headers=headers, **query)
        await sim.idle()
    assert received.code == 1008
    assert received.messages[0]["code"] == 1008
    assert received.error == ("needs_authorization" if way == "none" else "invalid_api_key")
    assert (sim.ledger[-1].status, sim.ledger[-1].ending) == (101, Ending.REFUSED)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"voice": "nobody"}, "voice_not_found"),
        ({"model_id": "eleven_nothing"}, "model_not_found"),
        ({"model_id": "eleven_v3"}, "unsupported_model"),
        *(
            ({"output_format": name}, "invalid_parameters")
            for name in ("wav_16000", "mp3_24000_48", "pcm_32000", "pcm_48000", "mp4")
        ),
        ({"inactivity_timeout": 181}, "invalid_parameters"),
        ({"inactivity_timeout": "long"}, "invalid_parameters"),
        ({"auto_mode": "perhaps"}, "invalid_parameters"),
        ({"seed": -1}, "invalid_parameters"),
    ],
)
async def test_unknown_voice_and_model_are_rejected(sim: Simulator, asked: dict[str, Any], error: str) -> None:
    received = await talk(sim, [], **asked)
    assert (received.code, received.error) == (1008, error)
    await sim.idle()
    assert (sim.ledger[-1].ending, sim.ledger.charged) == (Ending.REFUSED, 0)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("no json", "invalid_input_message"),
        (b"bytes", "invalid_input_message"),
        ({}, "invalid_input_message"),
        ({"text": 5}, "invalid_input_message"),
        ({"text": " ", "flush": "yes"}, "invalid_input_message"),
        ({"text": " ", "generation_config": {"chunk_length_schedule": [49]}}, "invalid_input_message"),
        ({"text": " ", "generation_config": {"chunk_length_schedule": [501]}}, "invalid_input_message"),
        ({"text": " ", "voice_settings": {"stability": 2}}, "invalid_voice_settings"),
    ],
)
@pytest.mark.parametrize("multi", [False, True])
async def test_invalid_messages_are_rejected(sim: Simulator, message: Any, error: str, multi: bool) -> None:
    received = await talk(sim, [message], multi=multi)
    assert (received.code, received.error) == (1008, error)


async def test_null_equals_an_absent_field(sim: Simulator) -> None:
    begin = {"text": " ", "voice_settings": None, "generation_config": None, "flush": None}
    assert (await talk(sim, [begin, {"text": "Hi ", "flush": None}, END])).words() == ["Hi"]


async def test_contexts_do_not_mix(sim: Simulator) -> None:
    texts = {name: f"This is what {name} has to say. " for name in ("anna", "ben", "cleo")}
    messages: list[dict[str, Any]] = [
        {"text": text, "context_id": name, "voice_settings": {"speed": 1.0}} for name, text in texts.items()
    ]
    flush: list[dict[str, Any]] = [{"context_id": name, "flush": True} for name in texts]
    close: list[dict[str, Any]] = [{"context_id": name, "close_context": True} for name in texts]
    received = await talk(sim, [*messages, *flush, *close, {"close_socket": True}], multi=True)
    assert received.code == 1000
    for name, text in texts.items():
        assert received.words(name) == text.split()
    finals = [message for message in received.messages if message.get("isFinal")]
    assert sorted(message["contextId"] for message in finals) == sorted(texts)
    assert all(set(message) == {"isFinal", "contextId"} for message in finals)
    assert sim.ledger.charged == sum(map(len, texts.values()))


async def test_closing_a_context_finishes_what_was_flushed_and_drops_the_rest(sim: Simulator) -> None:
    messages: list[dict[str, Any]] = [
        {"text": "This is received. ", "context_id": "a", "flush": True},
        {"text": "This is not. ", "context_id": "a"},
    ]
    received = await talk(
        sim, [*messages, {"context_id": "a", "close_context": True}, {"close_socket": True}], multi=True
    )
    assert received.words("a") == ["This", "is", "received."]
    assert sim.ledger.charged == len("This is received. ")


async def test_name_of_a_closed_context_can_be_reused(sim: Simulator) -> None:
    again: list[dict[str, Any]] = [
        {"text": "First. ", "context_id": "a", "voice_settings": {}, "flush": True},
        {"context_id": "a", "close_context": True},
        {"text": "Second. ", "context_id": "a", "voice_settings": {}, "flush": True},
        {"close_socket": True},
    ]
    received = await talk(sim, again, multi=True)
    assert sorted(received.words("a")) == ["First.", "Second."]
    assert sum(bool(message.get("isFinal")) for message in received.messages) == 2


async def test_context_without_a_name_is_the_default_one(sim: Simulator) -> None:
    received = await talk(sim, [{"text": "Hi ", "flush": True}, {"close_socket": True}], multi=True)
    assert received.words("default") == ["Hi"]


async def test_voice_settings_are_accepted_in_the_first_message_only(sim: Simulator) -> None:
    settings = {"voice_settings": {"stability": 0.5}}
    again = [{"text": "Hi ", "context_id": "a", **settings}, {"text": "there ", "context_id": "a", **settings}]
    received = await talk(sim, again, multi=True)
    assert (received.code, received.error) == (1008, "invalid_voice_settings")


async def test_single_websocket_accepts_voice_settings_at_any_time(sim: Simulator) -> None:
    settings = {"voice_settings": {"stability": 0.5}}
    assert (await talk(sim, [{**BEGIN, **settings}, {"text": "Hi ", **settings}, END])).words() == ["Hi"]


async def test_speed_of_a_context_is_kept() -> None:
    require_tool(is_installed(), "steadyvoice[local]")
    async with Simulator(voice="speech") as sim:
        slow, fast = [
            await talk(sim, [{**BEGIN, "voice_settings": {"speed": speed}}, *WHOLE_TEXT]) for speed in (0.7, 1.2)
        ]
    assert len(slow.audio()) > 1.3 * len(fast.audio())


async def test_sixth_context_is_rejected(sim: Simulator) -> None:
    received = await talk(sim, [{"text": "Hi ", "context_id": str(number)} for number in range(6)], multi=True)
    assert received.code == 1008
    assert received.messages[0]["message"] == "Maximum simultaneous contexts exceeded (5)"


async def test_credit_is_charged_when_text_is_spoken(sim: Simulator) -> None:
    await talk(sim)
    assert sim.credit.used == sim.ledger.charged == len(TEXT) + 1
    await sim.idle()
    entry = sim.ledger[-1]
    assert (entry.charged, entry.characters, entry.ending) == (len(TEXT) + 1, len(TEXT) + 1, Ending.COMPLETED)
    assert (entry.voice, entry.model) == (GEORGE, "eleven_multilingual_v2")
    assert entry.audio_sent > 1


async def test_single_websocket_reports_missing_credit() -> None:
    async with Simulator(voice="tones", character_limit=10) as sim:
        received = await talk(sim)
        assert (received.code, received.error, sim.ledger.charged) == (1008, "quota_exceeded", 0)


async def test_multi_context_websocket_without_credit_only_ends() -> None:
    async with Simulator(voice="tones", character_limit=10) as sim:
        messages = [{"text": TEXT, "context_id": "a", "flush": True}, {"text": "Hi", "context_id": "b", "flush": True}]
        received = await talk(sim, [*messages, {"close_socket": True}], multi=True)
    assert (received.words("a"), received.words("b"), received.code) == ([], ["Hi"], 1000)
    assert {"isFinal": True, "contextId": "a"} in received.messages


@pytest.mark.looptime(noop_cycles=30)
async def test_queued_text_of_a_context_without_credit_is_dropped() -> None:
    async with Simulator(voice="tones", character_limit=10) as sim:
        messages = [{"text": TEXT, "context_id": "a", "flush": True}] * 3
        received = await talk(sim, messages, multi=True)
        assert received.messages[0] == {"isFinal": True, "contextId": "a"}
        assert (received.code, received.error) == (1008, "input_timeout_exceeded")


async def test_ended_context_can_be_started_again(sim: Simulator) -> None:
    headers = {**KEY, "x-sim-fault": "final-without-audio"}
    url = address(sim, multi=True)
    async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(url) as socket:
        for _ in range(3):
            await send(socket, {"text": TEXT, "context_id": "a", "flush": True, "voice_settings": {}})
            assert await socket.receive_json() == {"isFinal": True, "contextId": "a"}


@pytest.mark.looptime(noop_cycles=30)
async def test_real_time_factor_paces_the_audio() -> None:
    async with Simulator(voice="tones", real_time_factor=0.5) as sim:
        assert (await talk(sim)).words() == WORDS
        await sim.idle()
        (entry,) = sim.ledger
        assert entry.ended is not None
        assert entry.ended - entry.received == pytest.approx(0.5 * entry.audio_sent, abs=0.1)


async def test_frames_are_not_compressed(sim: Simulator) -> None:
    url = address(sim)
    async with aiohttp.ClientSession(headers=KEY) as session, session.ws_connect(url, compress=15) as socket:
        assert socket.compress == 0


async def test_messages_after_the_end_are_ignored(sim: Simulator) -> None:
    received = await talk(sim, [*WHOLE_TEXT, {"text": "And another thing. ", "flush": True}, END])
    assert (received.words(), received.code) == (WORDS, 1000)
    assert sum(bool(message["isFinal"]) for message in received.messages) == 1
    assert sim.ledger.charged == len(TEXT) + 1


async def test_close_waits_for_the_answer(sim: Simulator) -> None:
    async with aiohttp.ClientSession(headers=KEY) as session:
        async with session.ws_connect(address(sim), autoclose=False) as socket:
            for message in WHOLE_TEXT:
                await send(socket, message)
            while (await socket.receive()).type is not aiohttp.WSMsgType.CLOSE:
                pass
            idle = asyncio.create_task(sim.idle())
            for _ in range(50):
                await asyncio.sleep(0)
            assert not idle.done()
            assert sim.ledger[-1].ending is Ending.COMPLETED
        await idle


async def test_silent_websocket_holds_no_slot() -> None:
    async with Simulator(voice="tones", concurrency=1) as sim, aiohttp.ClientSession(headers=KEY) as session:
        async with session.ws_connect(address(sim)) as socket:
            await send(socket, {"text": "Wait. "})
            assert (await talk(sim)).words() == WORDS
            assert (await Client(sim.url).speak()).status == 200
        assert sim.request_limit.peak == 1


async def test_speaking_websocket_holds_a_slot() -> None:
    async with Simulator(voice="tones", concurrency=1, queue_seconds=0) as sim:
        client = Client(sim.url)
        hanging = asyncio.create_task(client.speak(fault="hang"))
        await until(lambda: sim.request_limit.running == 1)
        received = await talk(sim)
        assert (received.code, received.error) == (1008, "concurrent_limit_exceeded")
        hanging.cancel()


async def test_client_that_leaves_is_charged_for_started_texts() -> None:
    async with Simulator(voice="tones", real_time_factor=1.0) as sim, aiohttp.ClientSession(headers=KEY) as session:
        async with session.ws_connect(address(sim)) as socket:
            for message in WHOLE_TEXT:
                await send(socket, message)
            assert (await socket.receive_json())["audio"]
        await sim.idle()
        assert (sim.ledger[-1].ending, sim.ledger.charged) == (Ending.CLIENT_LEFT, len(TEXT) + 1)
        assert sim.request_limit.running == 0


async def test_client_that_leaves_after_the_last_audio_completes(sim: Simulator) -> None:
    async with aiohttp.ClientSession(headers=KEY) as session, session.ws_connect(address(sim)) as socket:
        await send(socket, {"text": "Hi ", "flush": True})
        assert (await socket.receive_json())["audio"]
        await until(lambda: sim.request_limit.running == 0)
    await sim.idle()
    assert sim.ledger[-1].ending is Ending.COMPLETED


@pytest.mark.parametrize("form", ["stream-input", "multi-stream-input"])
async def test_request_without_upgrade_is_a_404(client: Client, form: str) -> None:
    assert (await client.get(f"/v1/text-to-speech/{GEORGE}/{form}")).status == 404


async def test_websocket_on_an_unknown_path_is_a_403(sim: Simulator) -> None:
    async with aiohttp.ClientSession(headers=KEY) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{sim.url}/v1/text-to-speech/{GEORGE}/stream-output")
    assert refused.value.status == 403


async def test_simulator_stops_with_open_websockets() -> None:
    async with aiohttp.ClientSession(headers=KEY) as session:
        async with Simulator(voice="tones") as sim:
            socket = await session.ws_connect(address(sim))
            await send(socket, BEGIN)
            await until(lambda: len(sim.ledger) == 1)
        assert sim.ledger[-1].ending is Ending.CLOSED
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
        await socket.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.looptime(noop_cycles=50)
async def test_context_counts_against_the_limit_until_it_is_spoken() -> None:
    def opened(name: str) -> dict[str, Any]:
        return {"text": f"{TEXT} ", "context_id": name, "flush": True}

    async with Simulator(voice="tones", real_time_factor=1.0) as sim, aiohttp.ClientSession(headers=KEY) as session:
        for drained in (False, True):
            async with session.ws_connect(address(sim, multi=True)) as socket:
                for name in "abcde":
                    await send(socket, opened(name))
                await send(socket, {"context_id": "a", "close_context": True})
                while drained and not (await socket.receive_json()).get("isFinal"):
                    pass
                await send(socket, opened("f"))
                await send(socket, {"close_socket": True})
                received = await listen(socket)
            assert received.error == (None if drained else "max_contexts_exceeded")
            assert received.code == (1000 if drained else 1008)


@pytest.mark.parametrize("counted", ["message", "context"])
async def test_times_count_from_the_chosen_beginning(counted: str) -> None:
    async with Simulator(voice="tones", socket_times=counted) as sim:
        received = await talk(sim)
    begins = [sound["alignment"]["charStartTimesMs"][0] for sound in received.sounds]
    assert len(begins) > 1
    assert (begins == [0] * len(begins)) is (counted == "message")
    assert begins == sorted(begins)
