"""Text limits below the stated ones: they are learned from refusals, and pieces get shorter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from steadyvoice import (
    Accepted,
    AsyncTTSService,
    AudioChunk,
    AudioFormat,
    ElevenLabs,
    OpenAICompatible,
    RetryConfig,
    SpeechRequest,
    SynthesisOffer,
    Tone,
)
from steadyvoice.audio.word_tones import words_in
from steadyvoice.service.resilience.account_limits import LIMIT_LIFETIME, MIN_CHARACTERS, TextLimits
from steadyvoice.simulator import Simulator
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.matching import Fault
from steadyvoice.speech.errors import TTSTextTooLongError

from ..conftest import MakeService
from ..scripted_provider import pcm

SENTENCE = "The quick brown fox jumps over the lazy dog. "
TEXT = (SENTENCE * 100).strip()  # 4,499 characters


@dataclass
class LimitedVendor:
    """Vendor that states a limit of `stated` characters and accepts `room`. `tells` states whether its refusals name
    that.
    """

    room: int
    stated: int | None = None
    reported: int | None = None
    name: str = "cramped"
    local: bool = False
    spoken: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        model = request.model or "usual"
        return SynthesisOffer(AudioFormat.parse("pcm_8000"), voice="v", model=model, max_characters=self.stated)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        if len(request.text) > self.room:
            self.refused.append(len(request.text))
            error = TTSTextTooLongError("HTTP 400: too long", provider=self.name, status=400)
            error.limit = self.reported
            raise error
        self.spoken.append(request.text)
        yield Accepted(characters_billed=len(request.text))
        yield AudioChunk(pcm(len(request.text) * 0.06))

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("stated", [None, 10_000, 4_000])
@pytest.mark.parametrize("reported", [None, 1_000, 3, 1_000_000])
async def test_whole_text_is_spoken_in_pieces_that_fit(
    make_service: MakeService, stated: int | None, reported: int | None
) -> None:
    vendor = LimitedVendor(1_000, stated, reported)
    async with make_service(vendor, Tone()) as tts:
        speech = await tts.synthesize(TEXT, format="pcm_8000")
        assert "".join(vendor.spoken) == TEXT
        assert speech.outcome == "spoken"
        assert speech.duration == pytest.approx(len(TEXT) * 0.06)
        assert len(vendor.refused) <= 3
        snapshot = tts.circuits["cramped"].snapshot()
        assert snapshot.failures == 0
        assert sum(attempt.characters_billed or 0 for attempt in speech.attempts) == len(TEXT), (
            "nothing is paid for twice"
        )


@pytest.mark.parametrize("on_midstream", ["resume", "restart", "error"])
async def test_stream_continues_without_an_error(make_service: MakeService, on_midstream: str) -> None:
    vendor = LimitedVendor(1_000)
    async with make_service(vendor, Tone(), on_midstream=on_midstream) as tts:
        stream = tts.stream(TEXT, format="pcm_8000")
        audio = b"".join([data async for data in stream])
    assert "".join(vendor.spoken) == TEXT
    assert len(audio) == len(pcm(1.0)) * len(TEXT) * 0.06
    assert stream.outcome == "spoken"


async def test_limit_is_learned_for_later_requests_of_that_model(make_service: MakeService) -> None:
    vendor = LimitedVendor(1_000, 40_000, reported=1_000)
    async with make_service(vendor) as tts:
        await tts.synthesize(TEXT, format="pcm_8000")
        assert vendor.refused == [len(TEXT)]
        await tts.synthesize(TEXT, format="pcm_8000")
        assert vendor.refused == [len(TEXT)], "once is enough"
        await tts.synthesize(TEXT, format="pcm_8000", model="another")
        assert len(vendor.refused) == 2, "of another model nothing is known"


@pytest.mark.looptime
async def test_stated_limit_is_tried_again_a_day_later(make_service: MakeService) -> None:
    vendor = LimitedVendor(1_000, 40_000, reported=1_000)
    async with make_service(vendor) as tts:
        await tts.synthesize(TEXT, format="pcm_8000")
        vendor.room = 40_000
        await asyncio.sleep(LIMIT_LIFETIME + 1)
        await tts.synthesize(TEXT, format="pcm_8000")
    assert vendor.spoken[-1] == TEXT


async def test_vendor_that_refuses_every_length_is_given_up_after_a_few_requests(make_service: MakeService) -> None:
    vendor = LimitedVendor(0, reported=4_000)
    async with make_service(vendor, Tone()) as tts:
        speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert speech.provider == "tone"
    assert len(vendor.refused) <= 12
    assert vendor.refused == sorted(vendor.refused, reverse=True)


async def test_refusals_of_every_length_teach_no_limit(make_service: MakeService) -> None:
    vendor = LimitedVendor(0)
    async with make_service(vendor, Tone()) as tts:
        await tts.synthesize(TEXT, format="pcm_8000")
        vendor.room = len(TEXT)
        assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "cramped"
    assert vendor.spoken == [TEXT], "in one piece"


def test_late_refusal_does_not_raise_a_limit() -> None:
    limits = TextLimits(lambda: 0.0)
    with_limit, without_limit = TTSTextTooLongError("too long"), TTSTextTooLongError("too long")
    with_limit.limit = 5_000
    assert limits.learn("m", 40_000, with_limit)
    assert limits.learn("m", 40_000, without_limit)
    assert limits.max_characters("m", None) == 5_000
    assert limits.learn("m", 5_000, with_limit)
    assert limits.max_characters("m", None) == 2_500


async def test_short_text_is_not_split_after_a_refusal(make_service: MakeService) -> None:
    vendor = LimitedVendor(5)
    text = SENTENCE[: MIN_CHARACTERS - 1].strip()
    async with make_service(vendor, retry=RetryConfig(max_attempts=3)) as tts:
        with pytest.raises(TTSTextTooLongError):
            await tts.synthesize(text, format="pcm_8000")
    assert vendor.refused == [len(text)]


async def test_refusal_of_a_later_piece_is_split_as_well(make_service: MakeService) -> None:
    vendor = LimitedVendor(2_000, 2_000)
    async with make_service(vendor) as tts:
        stream = tts.stream(TEXT, format="pcm_8000", on_midstream="error")
        first = await anext(stream)
        vendor.room = 500
        rest = [data async for data in stream]
    assert "".join(vendor.spoken) == TEXT
    assert len(first) + sum(map(len, rest)) == len(pcm(1.0)) * len(TEXT) * 0.06


@pytest.mark.parametrize("room", [25, 90])
@pytest.mark.parametrize("kind", [ElevenLabs, OpenAICompatible])
@pytest.mark.parametrize("whole", [True, False])
async def test_every_word_is_heard_over_sockets(
    kind: type[ElevenLabs] | type[OpenAICompatible], room: int, whole: bool
) -> None:
    text = " ".join(f"This is sentence number {number} of a text." for number in range(4))
    async with Simulator(voice="tones") as sim:
        sim.faults.set(Fault(actions.Refuse("max_character_limit_exceeded"), longer_than=room))
        async with AsyncTTSService([kind("any", base_url=sim.url), Tone()]) as tts:
            if whole:
                speech = await tts.synthesize(text, format="pcm_24000")
                audio, outcome = speech.audio, speech.outcome
            else:
                stream = tts.stream(text, format="pcm_24000")
                audio, outcome = b"".join([data async for data in stream]), stream.outcome
            assert tts.get_error_state()["circuit_state"] == "closed"
    assert words_in(audio, "pcm_24000") == text.split()
    assert outcome == "spoken"
