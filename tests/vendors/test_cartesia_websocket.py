"""Cartesia's websocket: its own client at the simulator, and turns over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import cartesia
import pytest

from steadyvoice import AsyncTTSService, Cartesia, Provider, Tone
from steadyvoice.simulator import Ending, Fault, Simulator, actions, words_in
from steadyvoice.simulator.fault_injection.actions import Refuse
from steadyvoice.wire import cartesia as wire
from tests.conformance.background_simulator import BackgroundSimulator, background_simulator
from tests.service.conftest import loop_clock
from tests.service.conversation.test_turns_over_sockets import BRISK, FAULTS, TEXT
from tests.service.conversation.turns import Listener, spoken
from tests.service.word_tone_provider import PATIENT

from .vendors import KEY

WORDS = TEXT.split()
FORMAT: Any = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}


@asynccontextmanager
async def service_on(sim: Simulator, *others: Provider) -> AsyncIterator[AsyncTTSService]:
    providers = [Cartesia(KEY, base_url=sim.url), *others]
    async with AsyncTTSService(providers, circuit=PATIENT, timeouts=BRISK, clock=loop_clock) as tts:
        yield tts


# The client uses an interface of `websockets` that 17.1 warns of.
@pytest.mark.filterwarnings("ignore:connect\\(\\) must be used as a context manager:DeprecationWarning")
class TestOfficialClient:
    @pytest.fixture(scope="class")
    @classmethod
    def sim(cls) -> Iterator[BackgroundSimulator]:
        with background_simulator(keys=(KEY,)) as background:
            yield background

    @pytest.fixture
    def connection(self, sim: BackgroundSimulator) -> Iterator[Any]:
        url = sim.url.replace("http", "ws", 1)
        with (
            cartesia.Cartesia(api_key=KEY, base_url=sim.url, websocket_base_url=url) as client,
            client.tts.websocket_connect() as connection,
        ):
            yield connection

    def context(self, connection: Any, **settings: Any) -> Any:
        usual = {"model_id": "sonic-3", "voice": {"mode": "id", "id": wire.DEFAULT_VOICE}, "output_format": FORMAT}
        return connection.context(**{**usual, **settings})

    def test_text_in_pieces_is_spoken_with_word_times(self, connection: Any) -> None:
        context = self.context(connection, add_timestamps=True)
        for word in WORDS:
            context.push(f"{word} ")
        context.no_more_inputs()
        events = list(context.receive())
        audio = b"".join(event.audio for event in events if event.type == "chunk")
        times = [event.word_timestamps for event in events if event.type == "timestamps"]
        assert words_in(audio, "pcm_24000") == WORDS
        assert [word for each in times for word in each.words] == WORDS
        starts = [start for each in times for start in each.start]
        assert starts == sorted(starts)
        assert starts[-1] < len(audio) / 2 / 24_000
        assert events[-1].type == "done"

    def test_contexts_share_a_connection(self, connection: Any) -> None:
        contexts = [self.context(connection) for _ in range(3)]
        for context, word in zip(contexts, WORDS, strict=False):
            context.push(word)
            context.no_more_inputs()
        for context, word in zip(contexts, WORDS, strict=False):
            audio = b"".join(event.audio for event in context.receive() if event.type == "chunk")
            assert words_in(audio, "pcm_24000") == [word]

    def test_flush_has_text_spoken_that_may_go_on(self, connection: Any) -> None:
        context = self.context(connection, add_timestamps=True)
        context.push("Hello ")
        context.push("", flush=True)
        words = next(event.word_timestamps.words for event in context.receive() if event.type == "timestamps")
        assert words == ["Hello"]

    def test_cancelled_context_ends(self, connection: Any) -> None:
        context = self.context(connection)
        context.push(TEXT, flush=True)
        connection.send({"context_id": context._context_id, "cancel": True})
        assert list(context.receive())[-1].type == "done"

    @pytest.mark.parametrize(
        ("settings", "code"),
        [
            ({"voice": {"mode": "id", "id": "nobody"}}, "voice_not_found"),
            ({"model_id": "nothing"}, "model_not_found"),
        ],
    )
    def test_refusal_ends_one_context_only(self, connection: Any, settings: dict[str, Any], code: str) -> None:
        refused = self.context(connection, **settings)
        refused.push("Hello")
        (event,) = refused.receive()
        assert (event.type, event.error_code) == ("error", code)
        context = self.context(connection)
        context.push("Hello")
        context.no_more_inputs()
        assert list(context.receive())[-1].type == "done"

    def test_bad_key_is_refused_at_the_upgrade(self, sim: BackgroundSimulator) -> None:
        url = sim.url.replace("http", "ws", 1)
        with (
            cartesia.Cartesia(api_key="wrong-key", base_url=sim.url, websocket_base_url=url) as client,
            pytest.raises(Exception, match="401"),
            client.tts.websocket_connect(),
        ):
            pass


@pytest.mark.slow
@pytest.mark.looptime(noop_cycles=60)
class TestTurns:
    @pytest.mark.parametrize("fault", FAULTS)
    async def test_every_word_is_heard_once_whatever_the_socket_does(self, fault: str) -> None:
        async with Simulator(voice="tones") as sim, service_on(sim, Tone()) as tts:
            sim.faults.set(Fault(FAULTS[fault], endpoint="tts/websocket"))
            turn = tts.conversation(format="pcm_16000").turn()
            listener = await spoken(turn, TEXT, pause=0.005)
            assert listener.error is None
            assert listener.heard(turn) == WORDS
            assert [word.text for word in listener.words] == WORDS
            assert not any(switch.repeats for switch in listener.switches)

    @pytest.mark.parametrize(
        "fault",
        [actions.OddSplits(), actions.BigFrame(), actions.SlowFirstByte(0.3), actions.Drip(every=0.01)],
        ids=lambda fault: type(fault).__name__,
    )
    async def test_odd_but_whole_answers_are_spoken(self, fault: Any) -> None:
        async with Simulator(voice="tones") as sim, service_on(sim) as tts:
            sim.faults.set(Fault(fault, endpoint="tts/websocket"))
            listener = await spoken(turn := tts.conversation(format="pcm_16000").turn(), TEXT)
            assert (listener.heard(turn), turn.outcome) == (WORDS, "spoken")

    async def test_turns_share_one_connection(self) -> None:
        async with Simulator(voice="tones") as sim, service_on(sim) as tts:
            conversation = tts.conversation(format="pcm_16000")
            await conversation.prewarm()
            for _ in range(4):
                listener = await spoken(turn := conversation.turn(), TEXT)
                assert listener.heard(turn) == WORDS
                assert [word.text for word in listener.words] == WORDS
                assert turn.outcome == "spoken"
            assert [entry.endpoint for entry in sim.ledger] == ["tts/websocket"]

    async def test_turns_at_once_are_whole(self) -> None:
        async with Simulator(voice="tones") as sim, service_on(sim, Tone()) as tts:
            turns = [tts.conversation(format="pcm_16000").turn() for _ in range(10)]
            listeners = await asyncio.gather(*(spoken(turn, TEXT, pause=0.002) for turn in turns))
            for turn, listener in zip(turns, listeners, strict=True):
                assert listener.error is None
                assert (listener.heard(turn), turn.outcome) == (WORDS, "spoken")

    async def test_pause_of_the_language_model_outlives_the_context(self) -> None:
        async with Simulator(voice="tones") as sim, service_on(sim) as tts:
            turn = tts.conversation(format="pcm_16000").turn()
            listener = Listener()
            hearing = asyncio.create_task(listener.listen(turn))
            sentences = ("It rains today. ", "We stay at home. ", "The sun shines.")
            for sentence in sentences:
                turn.push(sentence)
                turn.flush()
                await asyncio.sleep(12)
            turn.end()
            await hearing
            assert listener.error is None
            assert listener.heard(turn) == [
                "It",
                "rains",
                "today.",
                "We",
                "stay",
                "at",
                "home.",
                "The",
                "sun",
                "shines.",
            ]
            assert turn.outcome == "spoken"
            assert [entry.endpoint for entry in sim.ledger] == ["tts/websocket"]
            assert tts.get_error_state()["totals"]["failures"] == 0

    async def test_interruptions_lose_nothing(self) -> None:
        async with (
            Simulator(voice="tones", real_time_factor=0.3, clock=loop_clock) as sim,
            service_on(sim) as tts,
        ):
            conversation = tts.conversation(format="pcm_16000")
            for _ in range(10):
                turn, listener = conversation.turn(), Listener()
                turn.push(TEXT)
                await listener.listen(turn, events=4)
                heard = await turn.interrupt(played=listener.seconds)
                assert heard.text.split() == words_in(listener.audio, turn.format)
                await asyncio.sleep(0.4)
            listener = await spoken(turn := conversation.turn(), "It rains today.")
            assert listener.heard(turn) == ["It", "rains", "today."]
            assert tts.get_error_state()["totals"]["failures"] == 0
            assert Ending.REFUSED not in {entry.ending for entry in sim.ledger}

    async def test_bad_key_is_a_hold(self) -> None:
        async with Simulator(voice="tones", keys=("another-key",)) as sim, service_on(sim, Tone()) as tts:
            listener = await spoken(turn := tts.conversation(format="pcm_16000").turn(), TEXT)
            assert listener.heard(turn) == WORDS
            holds = [(hold["key"], hold["kind"]) for hold in tts.get_error_state()["holds"]]
            assert holds == [("cartesia/credential", "invalid_key")]

    @pytest.mark.parametrize(
        ("code", "hold"), [("quota_exceeded", "quota_exceeded"), ("concurrent_limit_exceeded", None)]
    )
    async def test_refusals_in_the_socket_have_their_kind(self, code: str, hold: str | None) -> None:
        async with Simulator(voice="tones") as sim, service_on(sim, Tone()) as tts:
            sim.faults.set(Fault(Refuse(code), endpoint="tts/*"))
            listener = await spoken(turn := tts.conversation(format="pcm_16000").turn(), TEXT)
            assert listener.heard(turn) == WORDS
            assert [each["kind"] for each in tts.get_error_state()["holds"]] == ([hold] if hold else [])

    async def test_server_without_the_websocket_gets_sentences(self) -> None:
        async with Simulator(voice="tones") as sim, service_on(sim) as tts:
            sim.faults.set(Fault(Refuse(status=404), endpoint="tts/websocket"))
            listener = await spoken(turn := tts.conversation(format="pcm_16000").turn(), TEXT)
            assert (listener.heard(turn), turn.outcome) == (WORDS, "spoken")
            assert {entry.endpoint for entry in sim.ledger} == {"tts/websocket", "tts/sse"}
