"""Two alignments of one answer, either of which may be missing or wrong: the one that fits the audio is used."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, Tone
from steadyvoice.providers.base import Provider
from steadyvoice.speech.alignment import Alignment
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, timed_audio_body
from tests.providers.scripted_vendor import chunked_response, scripted_vendor

RATE = 16000
TEXT = "You owe $5 to the harbour master, who has been waiting since the morning."
SPOKEN = "You owe five dollars to the harbour master, who has been waiting since the morning."
SECONDS = 4.8
HALVES = 2


def tone(seconds: float) -> bytes:
    return (b"\x00\x10" * 20 + b"\x00\xf0" * 20) * round(seconds * RATE / 40)


def split_alignment(text: str, seconds: float) -> list[Alignment]:
    """Return the timestamps of a text, as two objects carry them."""
    times = Alignment.spread(text, seconds, exact=True)
    middle = len(text) // HALVES
    return [
        Alignment(times.characters[part], times.starts[part], times.ends[part])
        for part in (slice(middle), slice(middle, None))
    ]


NONE: list[Any] = [None, None]
GOOD, GOOD_SPOKEN = split_alignment(TEXT, SECONDS), split_alignment(SPOKEN, SECONDS)

HEALTHY = {
    "both": (GOOD, GOOD_SPOKEN),
    "no normalized ones": (GOOD, NONE),
    "only normalized ones": (NONE, GOOD_SPOKEN),
    "neither": (NONE, NONE),
    "the first is missing": ([None, GOOD[1]], GOOD_SPOKEN),
    "the last is missing": ([GOOD[0], None], GOOD_SPOKEN),
    "the last is missing, and the normalized ones": ([GOOD[0], None], NONE),
    "the last normalized one is missing": (GOOD, [GOOD_SPOKEN[0], None]),
    "longer than the audio": (split_alignment(TEXT, SECONDS * 1.3), GOOD_SPOKEN),
    "normalized ones are longer than the audio": (GOOD, split_alignment(SPOKEN, SECONDS * 1.3)),
    "a percent longer": (split_alignment(TEXT, SECONDS * 1.01), split_alignment(SPOKEN, SECONDS * 1.01)),
    "shorter than the audio": (split_alignment(TEXT, SECONDS * 0.9), split_alignment(SPOKEN, SECONDS * 0.95)),
    "normalized ones in place of the others": (GOOD_SPOKEN, GOOD_SPOKEN),
}


@asynccontextmanager
async def service_answering(alignments: Any, normalized: Any, seconds: float) -> AsyncIterator[AsyncTTSService]:
    async with scripted_vendor() as vendor:
        lines = encoded_answer(alignments, normalized, seconds)
        for _ in range(3):
            vendor.enqueue(chunked_response(*lines, content_type="application/json"))
        providers: list[Provider] = [ElevenLabs("sk_any", base_url=vendor.url), Tone()]
        async with AsyncTTSService(providers) as tts:
            yield tts


def encoded_answer(alignments: Any, normalized: Any, seconds: float) -> list[bytes]:
    audio = [tone(seconds / HALVES)] * HALVES
    documents = map(timed_audio_body, map(TimedAudio, audio, alignments, normalized))
    return [json.dumps(document).encode() + b"\n" for document in documents]


@pytest.mark.parametrize("how", ["whole", "streamed"])
@pytest.mark.parametrize("what", HEALTHY)
async def test_complete_answer_is_accepted(what: str, how: str) -> None:
    async with service_answering(*HEALTHY[what], SECONDS) as tts:
        if how == "whole":
            speech = await tts.synthesize(TEXT, format="pcm_16000")
            outcome, duration = speech.outcome, speech.duration
        else:
            stream = tts.stream(TEXT, format="pcm_16000")
            async for _ in stream:
                pass
            outcome, duration = stream.outcome, stream.duration
        assert outcome == "spoken"
        assert duration == pytest.approx(SECONDS, abs=0.05)
        assert tts.get_error_state()["last_error"] is None


@pytest.mark.parametrize("what", [what for what in HEALTHY if what != "neither"])
async def test_half_an_answer_is_rejected(what: str) -> None:
    async with service_answering(*HEALTHY[what], SECONDS / 2) as tts:
        speech = await tts.synthesize(TEXT, format="pcm_16000")
        assert speech.outcome == "substituted"
        assert tts.get_error_state()["last_error"]["kind"] == "too_short"
