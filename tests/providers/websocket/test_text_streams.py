"""Text streams over websockets against the simulator: words, times, connections, and nothing left open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from steadyvoice.providers.base import AudioChunk
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.simulator import Ending, Fault, Simulator, words_in
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech.errors import TTSInvalidKeyError, TTSQuotaExceededError, TTSVoiceUnknownError
from steadyvoice.wire.elevenlabs.catalog import MODELS

from .collected import KEY, TEXT, WORDS, collect, open_stream, say, speech_request

SPEECH, DIALOGUE = "text-to-speech/multi-stream-input", "text-to-dialogue/multi-stream-input"


@pytest.fixture(params=["message", "context"])
async def sim(request: pytest.FixtureRequest) -> AsyncIterator[Simulator]:
    async with Simulator(voice="tones", keys=(KEY,), socket_times=request.param, concurrency=20) as simulator:
        yield simulator


@pytest.fixture
async def provider(sim: Simulator) -> AsyncIterator[ElevenLabs]:
    made = ElevenLabs(KEY, base_url=sim.url)
    yield made
    await made.aclose()
    await sim.idle()
    assert {entry.ending for entry in sim.ledger} <= {Ending.COMPLETED, Ending.CLIENT_LEFT, Ending.REFUSED, Ending.CUT}
    assert sim.request_limit.running == 0


@pytest.mark.parametrize("model", MODELS)
async def test_every_model_speaks_every_word_with_times(sim: Simulator, provider: ElevenLabs, model: str) -> None:
    heard = await collect(say(open_stream(provider, speech_request(model=model))))
    assert (heard.error, heard.words) == (None, WORDS)
    assert [word.text for word in heard.alignment.words()] == WORDS
    endings = heard.alignment.ends
    assert list(endings) == sorted(endings)
    assert endings[-1] == pytest.approx(len(heard.audio) / 48_000, abs=0.002)
    await provider.aclose()
    assert [entry.endpoint for entry in sim.ledger] == [SPEECH if MODELS[model].takes_context else DIALOGUE]


async def test_dialogue_occupies_its_slot_no_longer_than_its_turn(sim: Simulator, provider: ElevenLabs) -> None:
    assert (await collect(say(open_stream(provider, speech_request(model="eleven_v3"))))).error is None
    await asyncio.wait_for(sim.idle(), 5)
    assert sim.request_limit.running == 0


async def test_times_are_those_of_the_audio_across_flushes(provider: ElevenLabs) -> None:
    stream = open_stream(provider)
    for sentence in ("Good evening. ", "This is the news. ", "Goodbye. "):
        stream.send(sentence)
        stream.flush()
    stream.finish()
    heard = await collect(stream)
    assert heard.words == ["Good", "evening.", "This", "is", "the", "news.", "Goodbye."]
    for word in heard.alignment.words():
        piece = heard.audio[round(word.start * 24_000) * 2 : round(word.stop * 24_000) * 2]
        assert word.text in " ".join(words_in(piece, "pcm_24000")), word


async def test_one_connection_serves_many_turns(sim: Simulator, provider: ElevenLabs) -> None:
    request = speech_request()
    await provider.prewarm(request, provider.offer(request), connection_timeout=5.0)
    for _ in range(3):
        stream = say(open_stream(provider))
        heard = await collect(stream)
        assert (heard.words, heard.error) == (WORDS, None)
        assert heard.accepted == [heard.accepted[0]]
        assert stream.released.done()
        assert stream.characters_sent == len(TEXT)
    assert len(sim.ledger) == 1


async def test_connections_are_shared_within_the_limit_of_contexts(sim: Simulator, provider: ElevenLabs) -> None:
    streams = [say(open_stream(provider)) for _ in range(12)]
    heard = await asyncio.gather(*map(collect, streams))
    assert [each.words for each in heard] == [WORDS] * 12
    assert len(sim.ledger) == 3


async def test_other_settings_get_another_connection(sim: Simulator, provider: ElevenLabs) -> None:
    requests = [speech_request(), speech_request(seed=7), speech_request("pcm_16000"), speech_request(language="de")]
    for request in requests:
        assert (await collect(say(open_stream(provider, request)))).error is None
    assert len(sim.ledger) == len(requests)


@pytest.mark.parametrize(
    "fields", [{"format": "pcm_48000"}, {"options": {"audio_effects": {}}}, {"options": {"use_pvc_as_ivc": True}}]
)
async def test_request_that_no_websocket_can_carry_has_no_stream(provider: ElevenLabs, fields: dict[str, str]) -> None:
    request = speech_request(**fields)
    assert provider.open_text_stream(request, provider.offer(request), connection_timeout=5.0) is None
    await provider.prewarm(request, provider.offer(request), connection_timeout=5.0)


async def test_clocks_run_only_while_audio_is_owed(provider: ElevenLabs) -> None:
    stream = open_stream(provider)
    assert not stream.expects_audio
    stream.send("Yes. ")
    assert not stream.expects_audio, "the vendor waits for more text"
    stream.flush()
    assert stream.expects_audio
    async for event in stream:
        if isinstance(event, AudioChunk) and not stream.expects_audio:
            break
    stream.send("And " * 100)
    assert stream.expects_audio, "enough text for any schedule"
    stream.finish()
    assert stream.expects_audio
    assert (await collect(stream)).error is None
    assert not stream.expects_audio


async def test_stream_without_text_opens_nothing(sim: Simulator, provider: ElevenLabs) -> None:
    stream = open_stream(provider)
    stream.flush()
    stream.finish()
    heard = await collect(stream)
    assert (heard.error, heard.accepted, heard.chunks) == (None, [], [])
    assert stream.released.done()
    abandoned = open_stream(provider)
    abandoned.close()
    assert abandoned.released.done()
    assert len(sim.ledger) == 0


async def test_exhausted_quota_ends_a_text_without_audio(sim: Simulator, provider: ElevenLabs) -> None:
    sim.credit.charge(500_000)
    heard = await collect(say(open_stream(provider)))
    assert isinstance(heard.error, TTSQuotaExceededError)
    assert heard.chunks == []


async def test_text_without_letters_needs_no_audio(sim: Simulator, provider: ElevenLabs) -> None:
    sim.faults.set(actions.FinalWithoutAudio())
    assert (await collect(say(open_stream(provider), "... "))).error is None


async def test_wrong_key_and_voice_are_reported_without_the_key(sim: Simulator) -> None:
    wrong = ElevenLabs("sk_wrong_key_9876543210", base_url=sim.url)
    heard = await collect(say(open_stream(wrong)))
    await wrong.aclose()
    assert isinstance(heard.error, TTSInvalidKeyError)
    assert "sk_wrong" not in str(heard.error)
    strange = ElevenLabs(KEY, base_url=sim.url, voices={"default": "nobody"})
    heard = await collect(say(open_stream(strange)))
    await strange.aclose()
    assert isinstance(heard.error, TTSVoiceUnknownError)


async def test_fault_on_one_connection_spares_the_next(sim: Simulator, provider: ElevenLabs) -> None:
    sim.faults.set(Fault(actions.Cut(after=0.5), times=1))
    heard = await collect(say(open_stream(provider)))
    assert heard.error is not None
    assert 0 < len(heard.words) < len(WORDS)
    assert (await collect(say(open_stream(provider)))).words == WORDS
