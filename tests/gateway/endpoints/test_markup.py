"""Markup in texts: ElevenLabs gets it unchanged, fallback providers get the words only."""

from __future__ import annotations

import base64
import json

import pytest

from steadyvoice import Tone
from steadyvoice.audio.word_tones import words_in
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech.markup import strip_markup

from ..running_gateway import ELEVENLABS, OPENAI, elevenlabs_body, openai_body, running_gateway

TEXT = (
    '<speak>Good <emphasis level="strong">morning</emphasis>. <break time="1s"/> '
    'This <phoneme alphabet="ipa" ph="ɪz">is</phoneme> a '
    '<prosody rate="slow">test. [sighs] Of many</prosody> words.</speak>'
)
WORDS = ["Good", "morning.", "This", "is", "a", "test.", "Of", "many", "words."]


@pytest.mark.parametrize(
    "path", [f"{ELEVENLABS}?output_format=pcm_16000", f"{ELEVENLABS}/stream?output_format=pcm_16000"]
)
@pytest.mark.parametrize("on_midstream", ["resume", "error"])
async def test_elevenlabs_gets_markup_and_the_fallback_gets_words(path: str, on_midstream: str) -> None:
    async with running_gateway(on_midstream=on_midstream) as gateway:
        answer = await gateway.post(path, elevenlabs_body(TEXT))
        await answer.read()
        assert answer.headers["x-steadyvoice-provider"] == "elevenlabs"
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        answer = await gateway.post(path, elevenlabs_body(TEXT))
        assert words_in(await answer.read(), "pcm_16000") == WORDS
        assert answer.headers["x-steadyvoice-provider"] == "openai"
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="*"))
        answer = await gateway.post(path, elevenlabs_body(TEXT))
        assert words_in(await answer.read(), "pcm_16000") == WORDS
        assert answer.headers["x-steadyvoice-provider"] == "tone"


async def test_openai_gets_words_only() -> None:
    async with running_gateway() as gateway:
        gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
        answer = await gateway.post(OPENAI, openai_body(TEXT, response_format="pcm"))
        assert words_in(await answer.read(), "pcm_24000") == WORDS
        charged = [entry.charged for entry in gateway.sim.ledger if entry.endpoint == "audio/speech"]
        assert charged == [len(strip_markup(TEXT))]


@pytest.mark.parametrize("down", [False, True])
async def test_timestamps_refer_to_the_callers_text(down: bool) -> None:
    async with running_gateway() as gateway:
        if down:
            gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="*"))
        whole = await gateway.post(f"{ELEVENLABS}/with-timestamps?output_format=pcm_16000", elevenlabs_body(TEXT))
        document = await whole.json()
        assert "".join(document["alignment"]["characters"]) == TEXT
        streamed = await gateway.post(
            f"{ELEVENLABS}/stream/with-timestamps?output_format=pcm_16000", elevenlabs_body(TEXT)
        )
        alignments = [
            line["alignment"] for line in [json.loads(line) async for line in streamed.content] if line["alignment"]
        ]
        assert "".join("".join(each["characters"]) for each in alignments) == TEXT
        starts = [start for each in alignments for start in each["character_start_times_seconds"]]
        assert starts == sorted(starts)


async def test_resumed_stream_continues_with_words_only() -> None:
    async with running_gateway() as gateway:
        gateway.sim.faults.set(Fault(actions.Cut(after=0.5), endpoint="text-to-speech*"))
        streamed = await gateway.post(
            f"{ELEVENLABS}/stream/with-timestamps?output_format=pcm_16000", elevenlabs_body(TEXT)
        )
        lines = [json.loads(line) async for line in streamed.content]
        characters = "".join("".join(line["alignment"]["characters"]) for line in lines if line["alignment"])
        assert characters == TEXT
        audio = b"".join(base64.b64decode(line["audio_base64"]) for line in lines)
        assert words_in(audio, "pcm_16000")[-2:] == WORDS[-2:]


@pytest.mark.parametrize(
    "path", [f"{ELEVENLABS}?output_format=pcm_16000", f"{ELEVENLABS}/stream?output_format=pcm_16000"]
)
@pytest.mark.parametrize(("text", "seconds"), [('<break time="1s"/>', 1.0), ("[sighs]", 0.1)])
async def test_markup_without_words_is_silence_from_a_fallback(path: str, text: str, seconds: float) -> None:
    async with running_gateway(Tone()) as gateway:
        answer = await gateway.post(path, elevenlabs_body(text))
        assert len(await answer.read()) == round(seconds * 32_000)
        assert answer.headers["x-steadyvoice-provider"] == "tone"
        assert answer.headers["x-steadyvoice-outcome"] == "spoken"
