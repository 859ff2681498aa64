"""Websockets of text-to-dialogue: several voices, failures, refusals, shutdown, and the two ways of reading times."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from elevenlabs.types import (
    TextToDialogueWebsocketAudioChunkMulti,
    TextToDialogueWebsocketClientMessageMulti,
    TextToDialogueWebsocketError,
    TextToDialogueWebsocketFinalAudioForTurnMulti,
    TextToDialogueWebsocketFinalMulti,
    TextToDialogueWebsocketVoiceInput,
)
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from steadyvoice.gateway.websocket.turn_messages import DialogueTimes, TurnMessages
from steadyvoice.service.conversation.events import Audio, Switched, Words
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech.alignment import Word
from steadyvoice.wire.elevenlabs.catalog import VOICES
from steadyvoice.wire.elevenlabs.websocket import FieldSpelling
from tests.gateway.running_gateway import RunningGateway, running_gateway
from tests.gateway.websocket.clients import DialogueReader, PipecatDialogueReader, SocketClient
from tests.gateway.websocket.test_times import spoken_texts
from tests.leaked_objects import no_garbage

ANNA, BERT = VOICES["Sarah"], VOICES["George"]
PATH = "/v1/text-to-dialogue/"
QUERY = "?model_id=eleven_v3&output_format=pcm_24000&sync_alignment=true"
LINES = [(ANNA, "Who is there? "), (BERT, "It is "), (BERT, "me. "), (ANNA, "Come in, please. ")]
WORDS = "".join(text for _, text in LINES).split()


def message(context: str | None = None, **fields: Any) -> str:
    return json.dumps(({} if context is None else {"context_id": context}) | fields)


def line(text: str, voice: str = BERT, **fields: Any) -> dict[str, Any]:
    return {"text": text, "voice_id": voice, **fields}


def dialogue(context: str | None = None) -> list[str]:
    """Return the messages of a dialogue of two voices, up to its end."""
    close = {"close_socket": True} if context is None else {"close_context": True}
    return [
        message(context, voices=[ANNA, BERT], voice_settings={"stability": 0.5}),
        *(message(context, inputs=[line(text, voice)]) for voice, text in LINES),
        message(context, **close),
    ]


@asynccontextmanager
async def client_of(gateway: RunningGateway, form: str = "multi-stream-input", **options: Any) -> AsyncIterator[Any]:
    address = gateway.url.replace("http", "ws", 1) + PATH + form + QUERY
    headers = {"xi-api-key": "any"}
    async with connect(address, additional_headers=headers, compression=None, **options) as connection:
        yield SocketClient(connection, DialogueReader())


async def test_every_line_is_spoken_in_its_voice_and_timed() -> None:
    async with running_gateway() as gateway, client_of(gateway) as client:
        for name in ("first", "second"):
            await client.send(*dialogue(name))
            await client.until_final(name)
            heard = client.contexts[name]
            assert heard.spoken == heard.timed == WORDS
            assert all(earlier < later for earlier, later in pairwise(heard.times))
            assert (heard.finals, heard.turns, heard.error) == (1, 3, None)
        calls = [await gateway.next_call() for _ in range(3)]
        assert [account.report.voice for _, account in calls] == [ANNA, BERT, ANNA]
        assert {account.outcome for _, account in calls} == {"spoken"}


async def test_messages_are_those_of_the_vendors_client() -> None:
    inputs = [TextToDialogueWebsocketVoiceInput(text="Good evening. ", voice_id=BERT, new_turn=True)]
    messages = [
        TextToDialogueWebsocketClientMessageMulti(context_id="a", voices=[BERT]),
        TextToDialogueWebsocketClientMessageMulti(context_id="a", keep_alive=True),
        TextToDialogueWebsocketClientMessageMulti(context_id="a", inputs=inputs, flush=True),
        TextToDialogueWebsocketClientMessageMulti(context_id="a", close_context=True),
    ]
    async with running_gateway() as gateway, client_of(gateway) as client:
        await client.send(*(each.model_dump_json(exclude_none=True) for each in messages))
        received = [await client.receive()]
        while not client.contexts["a"].finals:
            received.append(await client.receive())
        *others, turn, final = received
        assert TextToDialogueWebsocketFinalMulti(**final).context_id == "a"
        assert TextToDialogueWebsocketFinalAudioForTurnMulti(**turn).is_final_audio_for_turn
        chunks = [TextToDialogueWebsocketAudioChunkMulti(**each) for each in others if "audio" in each]
        assert all((chunk.audio or chunk.alignment) and chunk.context_id == "a" for chunk in chunks)
        characters = [chunk.alignment.chars or [] for chunk in chunks if chunk.alignment]
        assert "".join(map("".join, characters)).split() == ["Good", "evening."]


async def test_single_dialogue_closes_with_its_end() -> None:
    async with running_gateway() as gateway, client_of(gateway, "stream-input") as client:
        await client.send(*dialogue())
        await client.until_final(None)
        await client.connection.wait_closed()
        heard = client.contexts[None]
        assert (heard.spoken, heard.finals, client.connection.close_code) == (WORDS, 1, 1000)


@pytest.mark.parametrize(
    "fault",
    [actions.Refuse(status=503), actions.Cut(after=0.4), actions.FinalWithoutAudio()],
    ids=["503", "cut", "final without audio"],
)
async def test_dialogue_is_whole_through_a_failure(fault: Any) -> None:
    async with running_gateway() as gateway, client_of(gateway) as client:
        gateway.sim.faults.set(Fault(fault, endpoint="text-to-*"))
        await client.send(*dialogue("a"))
        await client.until_final("a")
        assert client.contexts["a"].spoken == client.contexts["a"].timed == WORDS
        assert client.contexts["a"].error is None


async def test_outage_is_one_error_and_one_end_of_the_context_and_the_socket_speaks_again() -> None:
    async with running_gateway(only_elevenlabs=True) as gateway, client_of(gateway) as client:
        gateway.sim.faults.set(actions.Refuse(status=503))
        await client.send(*dialogue("a"))
        await client.until_final("a")
        heard = client.contexts["a"]
        assert (heard.audio, heard.finals) == (b"", 1)
        assert heard.error
        assert TextToDialogueWebsocketError(**heard.error).code == 1008
        gateway.sim.faults.clear()
        gateway.service.reset_circuit_breaker()
        await client.send(*dialogue("b"))
        await client.until_final("b")
        assert client.contexts["b"].spoken == WORDS


async def test_flush_and_new_turn_speak_what_there_is() -> None:
    async with running_gateway() as gateway, client_of(gateway) as client:
        await client.send(message("a", voices=[BERT]), message("a", inputs=[line("It rains")], flush=True))
        while not client.contexts or not client.contexts["a"].turns:
            await client.receive()
        await client.send(message("a", inputs=[line(" all day"), line("And night", new_turn=True)]))
        while client.contexts["a"].turns < 2:
            await client.receive()
        assert client.contexts["a"].spoken == ["It", "rains", "all", "day"]
        await client.send(message("a", close_context=True))
        await client.until_final("a")
        assert client.contexts["a"].spoken[-2:] == ["And", "night"]


@pytest.mark.parametrize(
    "messages",
    [
        [message("a", inputs=[line("Hello. ")])],
        [message("a", voices=[])],
        [message("a", voices=[BERT, 7])],
        [message("a", voices=[f"voice{number}" for number in range(11)])],
        [message("a", voices=[BERT], voice_settings={"speed": "quick"})],
        [message("a", voices=[BERT]), message("a", inputs=[line("Hello. ", ANNA)])],
        [message("a", voices=[BERT]), message("a", voices=[BERT])],
        [message("a", voices=[BERT], inputs=[line("word " * 30)])],
        [message("a", voices=[BERT, ANNA]), *(message("a", inputs=[line("A word. ", v)]) for v in (BERT, ANNA) * 9)],
    ],
    ids=["no voices", "empty", "type", "too many", "settings", "another voice", "again", "too long", "too much waits"],
)
async def test_impossible_context_is_an_error_for_itself_only(messages: list[str]) -> None:
    async with running_gateway(server={"max_text_characters": 100}) as gateway, client_of(gateway) as client:
        gateway.sim.faults.set(actions.SlowFirstByte(0.05))
        await client.send(message("b", voices=[BERT], inputs=[line("Good evening. ")]), *messages)
        await client.until_final("a")
        assert client.contexts["a"].error
        await client.send(message("a", close_context=True), message("b", close_context=True))
        await client.until_final("b")
        assert client.contexts["b"].spoken == ["Good", "evening."]


async def test_context_without_lines_holds_up_no_shutdown_and_one_with_lines_is_finished() -> None:
    async with running_gateway() as gateway, client_of(gateway) as idle, client_of(gateway) as busy:
        gateway.sim.faults.set(actions.SlowFirstByte(0.3))
        await idle.send(message("keepalive", voices=[BERT]), message("keepalive", keep_alive=True))
        await busy.send(message("keepalive", voices=[BERT]), *dialogue("a"))
        while not gateway.sim.ledger:  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(gateway.gateway.stop())
        await busy.until_final("a")
        assert busy.contexts["a"].spoken == WORDS
        assert await stopping == 0
        await asyncio.gather(idle.connection.wait_closed(), busy.connection.wait_closed())
        assert (idle.connection.close_code, busy.connection.close_code) == (1012, 1012)


async def test_end_of_the_socket_ends_contexts_without_lines_as_well() -> None:
    async with running_gateway() as gateway, client_of(gateway) as client:
        await client.send(message("a", voices=[BERT]), message("b", voices=[BERT]), message(close_socket=True))
        await client.until_final("a", "b")
        await client.connection.wait_closed()
        assert client.connection.close_code == 1000


async def test_key_and_query_are_checked() -> None:
    async with running_gateway(server={"api_keys": ["right"]}) as gateway:
        url = gateway.url.replace("http", "ws", 1) + PATH + "multi-stream-input"
        for query, headers, status in (("", {"xi-api-key": "wrong"}, 401), ("?output_format=wav_16000", {}, 422)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url + query, additional_headers=headers)
            assert refused.value.response.status_code == status
        async with connect(url + QUERY) as connection:
            client = SocketClient(connection, DialogueReader())
            first, *rest = dialogue("a")
            await client.send(json.dumps({**json.loads(first), "xi_api_key": "right"}), *rest)
            await client.until_final("a")
            assert client.contexts["a"].spoken == WORDS
        assert (await gateway.fetch("GET", f"{PATH}multi-stream-input")).status in (401, 426)


@pytest.mark.slow
@pytest.mark.usefixtures("frozen_heap")
@pytest.mark.parametrize("end", ["completed", "vanished"])
async def test_websocket_leaves_nothing_behind(end: str) -> None:
    async def once() -> None:
        async with client_of(gateway) as client:
            await client.send(message("idle", voices=[BERT]), *dialogue("a"))
            if end == "vanished":
                await client.receive()
                client.connection.transport.abort()
            else:
                await client.send(message(close_socket=True))
                await client.connection.wait_closed()
        while gateway.context.traffic().connections:  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(0.01)

    async with running_gateway() as gateway:
        await once()
        with no_garbage():
            await once()


# ---------------------------------------------------------------- times


def read(reader: DialogueReader, messages: list[str]) -> Any:
    for each in messages:
        reader.note(json.loads(each))
    return reader.contexts["a"]


@pytest.mark.parametrize("client", [DialogueReader, PipecatDialogueReader], ids=["livekit", "pipecat"])
@given(spoken=spoken_texts(), cuts=st.lists(st.floats(0.01, 40.0), max_size=20))
def test_client_finds_every_word_at_its_time(client: type[DialogueReader], spoken: Any, cuts: list[float]) -> None:
    text, groups = spoken
    words = [word for group in groups for word in group]
    edges = sorted({0.0, *(round(cut, 3) for cut in cuts if cut < words[-1].stop), round(words[-1].stop + 0.1, 3)})
    encoder = TurnMessages("a", DialogueTimes(), FieldSpelling.SNAKE)
    messages = list(encoder.encode(Words(words), text))
    for begin, end in pairwise(edges):
        data = bytes(2 * (round(end * 24_000) - round(begin * 24_000)))
        messages += encoder.encode(Audio(data, begin, end - begin), text)
    heard = read(client(), [*messages, *encoder.rest(text)])
    assert heard.timed == [word.text for word in words]
    assert all(earlier <= later for earlier, later in pairwise(heard.times))
    if client is DialogueReader:  # Pipecat does not count messages without characters until the next with some
        assert all(abs(time - word.start) < 0.003 for time, word in zip(heard.times, words, strict=True))
    else:
        assert all(time < word.start + 0.003 for time, word in zip(heard.times, words, strict=True))


def test_pipecat_counts_a_pause_with_the_next_message_that_has_characters() -> None:
    encoder, text = TurnMessages("a", DialogueTimes(), FieldSpelling.SNAKE), "One two three"
    times = [("One", 0, 0.0), ("two", 4, 3.0), ("three", 8, 4.0)]
    words = [Word(word, at, at + len(word), start, start + 0.5) for word, at, start in times]
    messages = list(encoder.encode(Words(words), text))
    for second in range(5):
        messages += encoder.encode(Audio(bytes(48_000), float(second), 1.0), text)
    heard = read(PipecatDialogueReader(), [*messages, *encoder.rest(text)])
    assert heard.words == [("One", 0.0), ("two", 1.0), ("three", 4.0)]


def test_rest_of_a_word_that_broke_off_is_not_sent() -> None:
    encoder, text = TurnMessages("a", DialogueTimes(), FieldSpelling.SNAKE), "One two"
    messages = [
        *encoder.encode(Words([Word("One", 0, 3, 0.0, 0.5), Word("two", 4, 7, 0.5, 1.0, False)]), text),
        *encoder.encode(Audio(bytes(48_000 * 6 // 10), 0.0, 0.6), text),
        *encoder.encode(Switched(0.6, "a", "b", "cut", begin=4), text),
        *encoder.encode(Words([Word("two", 4, 7, 0.6, 1.0)]), text),
        *encoder.encode(Audio(bytes(48_000 * 4 // 10), 0.6, 0.4), text),
        *encoder.rest(text),
    ]
    assert read(DialogueReader(), messages).timed == ["One", "t", "two"]
