"""Resume over real sockets, between a vendor of each shape and a local voice, read back as words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from random import Random

import pytest

from steadyvoice import (
    AsyncTTSService,
    CircuitBreakerConfig,
    ElevenLabs,
    OpenAICompatible,
    Provider,
    RetryConfig,
    TimeoutConfig,
    Tone,
)
from steadyvoice.audio.word_tones import words_in
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection import actions

pytestmark = pytest.mark.slow

TEXT = "The rain has stopped, at last. We walk home now, slowly, and nobody says a word. Good night!"
HASTY = TimeoutConfig(connection_timeout=2.0, read_timeout=0.25, total_timeout=1.5)
QUICK = RetryConfig(base_delay=0.001, max_delay=0.001)
PATIENT = CircuitBreakerConfig(failure_threshold=1.0, window_size=100, minimum_calls=100)


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(voice="tones") as simulator:
        yield simulator


def elevenlabs(sim: Simulator, name: str = "elevenlabs") -> Provider:
    return ElevenLabs("sk_test", name=name, base_url=sim.url)


def openai(sim: Simulator) -> Provider:
    return OpenAICompatible("sk_test", base_url=f"{sim.url}/v1")


def tone(sim: Simulator) -> Provider:
    return Tone()


def visible_fault(rng: Random) -> actions.FaultAction:
    """Return a fault that breaks the stream visibly, somewhere in the middle."""
    after = rng.uniform(0.0, 5.0)
    ways: list[actions.FaultAction] = [
        actions.Cut(after),
        actions.Reset(after),
        actions.Stall(after),
        actions.Drip(bytes=7, every=0.02),
    ]
    return rng.choice([*ways, actions.TooShort(rng.uniform(0.05, 0.4)), actions.WrongLength(rng.uniform(1.2, 2.0))])


def proper_end_fault(rng: Random) -> actions.FaultAction:
    """Return a fault with a proper end that only timestamps expose; or any other."""
    after = rng.uniform(0.0, 5.0)
    ways: list[actions.FaultAction] = [actions.CutTerminated(after), actions.CutClose(after), actions.HalfLine(after)]
    return rng.choice(
        [*ways, actions.ErrorLine(after=after), actions.TooShort(rng.uniform(0.1, 0.9)), visible_fault(rng)]
    )


@pytest.mark.parametrize("form", ["pcm_16000", "wav_24000", "mp3_44100_128"])
@pytest.mark.parametrize("others", [(openai, tone), (tone,), (lambda sim: elevenlabs(sim, "second"), tone)])
@pytest.mark.parametrize("seed", range(2))
async def test_with_timestamps_every_word_is_heard_once_in_order(
    sim: Simulator, form: str, others: tuple[Callable[[Simulator], Provider], ...], seed: int
) -> None:
    rng = Random(f"{form} {len(others)} {seed}")
    faults = [Fault(proper_end_fault(rng), endpoint="text-to-speech/*", times=1) for _ in range(rng.randint(1, 3))]
    sim.faults.set(*faults)
    audio = await speak(form, elevenlabs(sim), *(make(sim) for make in others))
    assert words_in(audio, form) == TEXT.split(), [fault.action for fault in faults]


@pytest.mark.parametrize("form", ["pcm_24000", "wav_24000", "mp3_44100_128"])
@pytest.mark.parametrize("seed", range(4))
async def test_without_timestamps_no_word_is_lost_or_repeated(sim: Simulator, form: str, seed: int) -> None:
    rng = Random(f"{form} {seed}")
    faults = [Fault(visible_fault(rng), times=1) for _ in range(rng.randint(1, 4))]
    sim.faults.set(*faults)
    audio = await speak(form, openai(sim), elevenlabs(sim), Tone())
    assert words_in(audio, form) == TEXT.split(), [fault.action for fault in faults]


async def test_timestamps_are_requested_only_where_needed(sim: Simulator) -> None:
    async with AsyncTTSService([elevenlabs(sim)]) as tts:
        await tts.synthesize(TEXT, on_midstream="error")
        assert [chunk async for chunk in tts.stream(TEXT, on_midstream="error")]
        await tts.synthesize(TEXT)
        assert [chunk async for chunk in tts.stream(TEXT)]
    plain, timed = "text-to-speech/stream", "text-to-speech/stream/with-timestamps"
    assert [entry.endpoint for entry in sim.ledger] == [plain, plain, timed, timed]


async def speak(form: str, *providers: Provider) -> bytes:
    async with AsyncTTSService(list(providers), timeouts=HASTY, retry=QUICK, circuit=PATIENT) as tts:
        stream = tts.stream(TEXT, format=form)
        audio = b"".join([chunk async for chunk in stream])
        assert stream.outcome != "muted"
        return audio
