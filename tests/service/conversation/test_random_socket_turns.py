"""Random turns over real sockets: the simulator as vendor, whose connections break at random bytes and seconds.

Text comes token by token with random pauses, to ElevenLabs by websocket and by HTTP, to an OpenAI-compatible server and
to a local voice. The words are read back from the audio: each once and in order where times are exact, elsewhere none
is lost and those that are heard again are announced. `make long` tries many more than `make test`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steadyvoice import AsyncConversation, AsyncTTSService, ElevenLabs, OpenAICompatible, Provider, TimeoutConfig, Tone
from steadyvoice.audio.word_tones import words_in
from steadyvoice.simulator import Fault, Simulator, actions
from steadyvoice.simulator.fault_injection.actions import FaultAction

from ..conftest import loop_clock
from ..word_tone_provider import PATIENT
from .breaking_proxy import Break, breaking_proxy
from .test_random_turns import TEXTS, tokens
from .turns import Listener, push_all

pytestmark = [pytest.mark.looptime(noop_cycles=60), pytest.mark.timeout(3600), pytest.mark.slow]

FORMAT = "pcm_16000"
RATE = 32_000  # bytes of a second
CLOCKS = TimeoutConfig.conversation()

SECONDS = st.floats(0.0, 4.0)
CLOSES = st.builds(actions.Close, st.sampled_from([1000, 1001, 1008, 1011, 1012, 1013]), SECONDS)
SOCKET_FAULTS: st.SearchStrategy[FaultAction] = st.one_of(
    CLOSES,
    CLOSES,
    st.builds(actions.Cut, SECONDS),
    st.builds(actions.Reset, SECONDS),
    st.builds(actions.CutTerminated, SECONDS),
    st.builds(actions.Restart, SECONDS),
    st.builds(actions.Stall, SECONDS),
    st.builds(actions.Stall, SECONDS, st.sampled_from([0.3, 1.5])),
    st.builds(actions.HalfLine, SECONDS),
    st.builds(actions.ErrorLine, st.just("internal_server_error"), SECONDS),
    st.sampled_from(
        [
            actions.HalfOpen(),
            actions.Hang(),
            actions.HangAfterHeaders(),
            actions.FinalWithoutAudio(),
            actions.SlowFirstByte(0.5),
            actions.AbsoluteTimes(),
            actions.OtherSpelling("mixed"),
            actions.Refuse(status=503),
            actions.Refuse("system_busy"),
        ]
    ),
)
HTTP_FAULTS: st.SearchStrategy[FaultAction] = st.one_of(
    st.builds(actions.Cut, SECONDS),
    st.builds(actions.Reset, SECONDS),
    st.builds(actions.Stall, SECONDS),
    st.builds(actions.ErrorLine, st.just("internal_server_error"), SECONDS),
    st.sampled_from([actions.Hang(), actions.HangAfterHeaders(), actions.Refuse(status=503), actions.OddSplits(333)]),
)
TRUNCATED: st.SearchStrategy[FaultAction] = st.builds(actions.CutTerminated, SECONDS)  # noticed by timestamps only
BREAKS = st.lists(
    st.one_of(st.none(), st.builds(Break, st.sampled_from(["reset", "end", "silence"]), st.integers(0, 300_000))),
    max_size=3,
)


@dataclass(frozen=True)
class RandomVendor:
    """Vendor of a random turn: its kind, its faults in the order of its calls, and the breaks of its connections."""

    kind: str  # "socket", "http" or "openai"
    faults: Sequence[FaultAction | None]
    breaks: Sequence[Break | None]
    pace: float  # seconds that a second of audio takes

    async def start(self, stack: AsyncExitStack) -> Provider:
        """Start the vendor, and return its provider."""
        sim = await stack.enter_async_context(
            Simulator(voice="tones", real_time_factor=self.pace, clock=loop_clock, concurrency=50)
        )
        sim.faults.set(*(Fault(each, nth=number) for number, each in enumerate(self.faults, start=1) if each))
        url = await stack.enter_async_context(
            breaking_proxy(sim.url, list(self.breaks), takes_websockets=self.kind == "socket")
        )
        if self.kind == "openai":
            return OpenAICompatible("any", name=self.kind, base_url=f"{url}/v1")
        return ElevenLabs("any", name=self.kind, base_url=url)


def vendor(kind: str, faults: st.SearchStrategy[FaultAction]) -> st.SearchStrategy[RandomVendor]:
    several = st.lists(st.one_of(st.none(), faults), max_size=3)
    return st.builds(RandomVendor, st.just(kind), several, BREAKS, st.sampled_from([0.0, 0.2, 1.0]))


SOCKET = vendor("socket", SOCKET_FAULTS)
HTTP = vendor("http", st.one_of(HTTP_FAULTS, TRUNCATED))
OPENAI = vendor("openai", HTTP_FAULTS)
TIMED = st.lists(st.one_of(SOCKET, SOCKET, HTTP), min_size=1, max_size=2, unique_by=lambda each: each.kind)
ANY = st.lists(st.one_of(SOCKET, HTTP, OPENAI), min_size=1, max_size=3, unique_by=lambda each: each.kind)
PAUSES = st.sampled_from([0.0, 0.02, 0.3])
Written = tuple[list[str], str]
# The end of such a text shows nothing about how much of it was spoken.
REPEATED = ["no, " * 19 + "no.", "ha " * 30 + "ha! " + "ha " * 9 + "ha"]
WRITTEN = st.one_of(tokens(), tokens(), st.sampled_from(REPEATED).map(lambda text: (re.findall(r"\S+\s*", text), text)))


@asynccontextmanager
async def conversation_with(vendors: Sequence[RandomVendor]) -> AsyncIterator[AsyncConversation]:
    """Open a conversation with these vendors and the local voice behind them."""
    async with AsyncExitStack() as stack:
        providers = [await each.start(stack) for each in vendors]
        tts = AsyncTTSService([*providers, Tone()], circuit=PATIENT, timeouts=CLOCKS, clock=loop_clock)
        await stack.enter_async_context(tts)
        yield tts.conversation(format=FORMAT)


async def speak(conversation: AsyncConversation, pieces: list[str], pause: float) -> Listener:
    """Speak a text to its end."""
    turn, listener = conversation.turn(), Listener()
    await asyncio.gather(push_all(turn, pieces, pause), listener.listen(turn))
    assert listener.error is None
    assert listener.outcome in ("spoken", "substituted", "resumed")
    return listener


def assert_each_word_once(listener: Listener, text: str) -> None:
    assert words_in(listener.audio, FORMAT) == text.split()
    assert [word.text for word in listener.words] == text.split()
    assert all(word.exact for word in listener.words)
    assert not any(switch.repeats for switch in listener.switches)


def assert_none_lost(listener: Listener, text: str) -> None:
    """Assert that every word is heard in order, and that those heard again are announced with their place."""
    # Each part is read by itself: half a word before a switch would hide the beginning of the word behind it.
    edges = [0, *(round(switch.at * RATE / 2) * 2 for switch in listener.switches), len(listener.audio)]
    parts = [words_in(listener.audio[start:stop], FORMAT) for start, stop in pairwise(edges)]
    heard, expected = [word for part in parts for word in part], text.split()
    places = iter(heard)
    assert all(word in places for word in expected)
    if not any(switch.repeats for switch in listener.switches):
        assert heard == expected
    for switch, part in zip(listener.switches, parts[1:], strict=True):
        from_there = text[switch.begin :].split()
        assert part == from_there[: len(part)]


ONCE = (["I don't stop! 42 a rain sun."], "I don't stop! 42 a rain sun.")


@example([RandomVendor("socket", [actions.Stall(0.0, 0.3)], [], 0.0)], [ONCE], ONCE, 0.0)
async def check_exact(vendors: list[RandomVendor], written: list[Written], later: Written, pause: float) -> None:
    async with conversation_with(vendors) as conversation:
        listeners = await asyncio.gather(*(speak(conversation, pieces, pause) for pieces, _ in written))
        for listener, (_, text) in zip(listeners, written, strict=True):
            assert_each_word_once(listener, text)
        assert_each_word_once(await speak(conversation, later[0], pause), later[1])


async def check_any(vendors: list[RandomVendor], written: Written, later: Written, pause: float) -> None:
    async with conversation_with(vendors) as conversation:
        for pieces, text in (written, later):
            assert_none_lost(await speak(conversation, pieces, pause), text)


async def check_heard(vendors: list[RandomVendor], written: Written, pause: float, after: float, share: float) -> None:
    async with conversation_with(vendors) as conversation:
        turn, listener = conversation.turn(), Listener()
        pushing = asyncio.create_task(push_all(turn, written[0], pause))
        listening = asyncio.create_task(listener.listen(turn))
        await asyncio.sleep(after)
        played = share * listener.seconds
        heard = await turn.interrupt(played=played)
        pushing.cancel()
        await asyncio.wait([pushing, listening])
        assert heard.text + heard.unheard == turn.text
        reported = heard.text.split()
        if any(switch.repeats for switch in listener.switches):
            return
        # A word tone is recognised up to 6 ms before it counts as heard, which is 20 ms before its end.
        words, later = (
            words_in(listener.audio[: max(0, round(second * RATE / 2)) * 2], FORMAT)
            for second in (played - 0.007, played + 0.001)
        )
        if heard.exact:
            assert len(words) <= len(reported) <= len(later)
            assert reported == later[: len(reported)]
        elif not listener.switches:
            assert abs(len(reported) - len(words)) <= 2
        # The next turn is whole.
        text = TEXTS[0]
        assert_none_lost(await speak(conversation, [text], 0.0), text)


EXACT = given(TIMED, st.lists(WRITTEN, min_size=1, max_size=4), tokens(), PAUSES)
WHATEVER = given(ANY, WRITTEN, tokens(), PAUSES)
INTERRUPTED = given(ANY, tokens(), PAUSES, st.floats(0.0, 6.0), st.floats(0.0, 1.0))
FEW = settings(max_examples=20)
MANY = settings(max_examples=3000, database=None)

test_each_word_once_where_times_are_exact = FEW(EXACT(check_exact))
test_no_word_is_lost = FEW(WHATEVER(check_any))
test_heard_is_what_was_played = FEW(INTERRUPTED(check_heard))
test_many_times_each_word_once = pytest.mark.long(MANY(EXACT(check_exact)))
test_many_times_no_word_is_lost = pytest.mark.long(MANY(WHATEVER(check_any)))
test_many_times_heard_is_what_was_played = pytest.mark.long(MANY(INTERRUPTED(check_heard)))
