"""WAV answers of vendors are parsed and rewritten: true sizes, 16-bit mono samples, one stream."""

from __future__ import annotations

import struct
from array import array
from collections.abc import AsyncIterator
from typing import Literal

import pytest

from steadyvoice import AsyncTTSService, OpenAICompatible, Tone
from steadyvoice.speech.failure_kinds import FailureKind
from tests.audio.wav_files import KINDS, ParsedWav, chunk, fmt, parse_strictly, pcm, samples, wav
from tests.providers.scripted_vendor import ScriptedVendor, chunked_response, scripted_vendor

TEXT = "Hello"
PCM = pcm()
DATA = chunk(b"data", PCM)
TAGS = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 10) + b"Lavf58.00\0")
ID3 = b"ID3\4\0\0\0\0\0\x14TIT2\0\0\0\x0a\0\0\3a title "
FACT = chunk(b"fact", struct.pack("<I", len(PCM) // 2))
LONG_SIZES = chunk(b"ds64", struct.pack("<QQQI", len(PCM) + 100, len(PCM), len(PCM) // 2, 0))


def in_chunks(audio: bytes, size: int = 777) -> list[bytes]:
    return [audio[offset : offset + size] for offset in range(0, len(audio), size)]


def wav_of_size(data: int, riff: int | None = None) -> bytes:
    """Return a WAV whose header states these sizes."""
    return wav(fmt(), chunk(b"data", PCM, size=data), size=data + 36 if riff is None else riff)


WAVS = {
    "true sizes": wav(fmt(), DATA),
    "sizes of 0xFFFFFFFF": wav_of_size(0xFFFFFFFF, 0xFFFFFFFF),
    "sizes of 0": wav_of_size(0, 0),
    "sizes of 0x7FFFFFFF": wav_of_size(0x7FFFFFFF, 0x7FFFFFFF),
    "sizes of 0x80000000": wav_of_size(0x80000000, 0x80000000),
    "size of the file only": wav_of_size(0, len(PCM) + 36),
    "size of the samples only": wav_of_size(len(PCM), 0),
    "sizes too large": wav_of_size(len(PCM) * 1000),
    "sizes that are an estimate": wav_of_size(len(PCM) // 4),
    "odd size": wav_of_size(len(PCM) // 4 + 1),
    "size of one sample": wav_of_size(2),
    "tags before the samples": wav(fmt(), TAGS, DATA),
    "tags behind the samples": wav(fmt(), DATA, TAGS),
    "tags behind samples of unknown size": wav(fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), TAGS),
    "fact and junk": wav(chunk(b"JUNK", bytes(29)), fmt(), FACT, chunk(b"PAD ", bytes(4050)), DATA),
    "chunks nobody knows behind the samples": wav(fmt(), DATA, chunk(b"_PMX", b"<x:xmpmeta/>"), chunk(b"afsp", b"x")),
    "odd chunks without padding": wav(chunk(b"LIST", b"abc", pad=False), fmt(), DATA),
    "several chunks of samples": wav(fmt(), *(chunk(b"data", part) for part in in_chunks(PCM, 1000))),
    "64-bit sizes": wav(LONG_SIZES, fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), TAGS, size=0xFFFFFFFF, mark=b"RF64"),
    "64-bit sizes of BW64": wav(LONG_SIZES, fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), mark=b"BW64"),
    "extensible": wav(fmt(extensible=True), DATA),
    "wrong bytes a second and in a block": wav(fmt().replace(struct.pack("<IH", 48_000, 2), bytes(6)), DATA),
    "two files": wav(fmt(), chunk(b"data", PCM[:9000])) + wav(fmt(), chunk(b"data", PCM[9000:])),
    "two files of unknown size": wav(fmt(), chunk(b"data", PCM[:9000], size=0xFFFFFFFF))
    + wav(fmt(), chunk(b"data", PCM[9000:], size=0xFFFFFFFF)),
    "two files of BW64": wav(fmt(), chunk(b"data", PCM[:9000], size=0xFFFFFFFF), mark=b"BW64")
    + wav(fmt(), chunk(b"data", PCM[9000:], size=0xFFFFFFFF), mark=b"BW64"),
    "ID3 behind samples of unknown size": wav(fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), chunk(b"id3 ", ID3)),
    "ID3 in capitals": wav(fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), chunk(b"ID3 ", ID3)),
    "two files, the first too large": wav(fmt(), chunk(b"data", PCM[:9000], size=99_999)) + wav(fmt(), TAGS)
    + wav(fmt(), chunk(b"data", PCM[9000:], size=0)),
    "two files with tags behind each": wav(fmt(), chunk(b"data", PCM[:9000]), TAGS)
    + wav(fmt(), chunk(b"data", PCM[9000:]), TAGS),
    "a file for each sentence": b"".join(
        wav(fmt(), chunk(b"data", PCM[offset : offset + 1000])) for offset in range(0, len(PCM), 1000)
    ),
    "one header before the samples of all": wav(fmt(), chunk(b"data", PCM[:2000])) + PCM[2000:],
}  # fmt: skip


@pytest.fixture
async def vendor() -> AsyncIterator[ScriptedVendor]:
    async with scripted_vendor() as listening:
        yield listening


@pytest.fixture
async def tts(vendor: ScriptedVendor) -> AsyncIterator[AsyncTTSService]:
    openai = OpenAICompatible("sk-test", base_url=vendor.url)
    async with AsyncTTSService([openai], muted=False) as service:
        yield service


def script_answer(vendor: ScriptedVendor, audio: bytes) -> None:
    vendor.enqueue(chunked_response(*in_chunks(audio), content_type="audio/wav"))


@pytest.mark.parametrize("how", WAVS)
async def test_whole_answer_has_true_sizes_and_every_sample(
    tts: AsyncTTSService, vendor: ScriptedVendor, how: str
) -> None:
    script_answer(vendor, WAVS[how])

    speech = await tts.synthesize(TEXT, format="wav_24000")

    assert parse_strictly(speech.audio) == ParsedWav(1, 1, 24_000, 16, PCM)
    assert speech.duration == pytest.approx(0.5, abs=1e-4)
    assert (speech.outcome, speech.attempts[0].error) == ("spoken", None)


@pytest.mark.parametrize("on_midstream", ["error", "resume"])
@pytest.mark.parametrize("how", WAVS)
async def test_stream_has_an_open_size_and_every_sample(
    tts: AsyncTTSService, vendor: ScriptedVendor, how: str, on_midstream: Literal["error", "resume"]
) -> None:
    script_answer(vendor, WAVS[how])

    audio = b"".join([data async for data in tts.stream(TEXT, format="wav_24000", on_midstream=on_midstream)])

    assert parse_strictly(audio, open_end=True) == ParsedWav(1, 1, 24_000, 16, PCM)


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_any_sample_format_is_converted(
    tts: AsyncTTSService, vendor: ScriptedVendor, kind: str, extensible: bool
) -> None:
    of_kind = fmt(KINDS[kind], extensible=extensible)
    script_answer(vendor, wav(of_kind, FACT, chunk(b"data", samples(KINDS[kind]), size=0xFFFFFFFF), size=0xFFFFFFFF))

    speech = await tts.synthesize(TEXT, format="wav_24000")

    parsed = parse_strictly(speech.audio)
    assert (parsed.tag, parsed.channels, parsed.rate, parsed.bits) == (1, 1, 24_000, 16)
    assert matches_pcm(parsed.data, 300)  # what 8 bits round to
    assert speech.duration == pytest.approx(0.5, abs=1e-3)


async def test_files_of_different_samples_become_one_stream(tts: AsyncTTSService, vendor: ScriptedVendor) -> None:
    kinds = ["16-bit", "float32", "24-bit", "16-bit"]
    script_answer(vendor, b"".join(wav(fmt(KINDS[kind]), chunk(b"data", samples(KINDS[kind], 0.2))) for kind in kinds))

    speech = await tts.synthesize(TEXT, format="wav_24000")

    assert len(parse_strictly(speech.audio).data) == 2 * 24_000 * 8 // 10
    assert speech.duration == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("target", ["pcm_24000", "mp3_44100_128", "wav_8000"])
async def test_joined_files_are_converted_completely(tts: AsyncTTSService, vendor: ScriptedVendor, target: str) -> None:
    openai = OpenAICompatible("sk-test", base_url=vendor.url, formats={"wav": "wav_24000"})
    script_answer(vendor, b"".join(wav(fmt(), chunk(b"data", pcm(0.3), size=0xFFFFFFFF)) for _ in range(3)))
    async with AsyncTTSService([openai], muted=False) as service:
        speech = await service.synthesize(TEXT, format=target)
    assert speech.duration == pytest.approx(0.9, abs=0.03)
    if target == "pcm_24000":
        assert len(speech.audio) == 2 * 24_000 * 9 // 10


@pytest.mark.parametrize("other", [fmt(rate=16_000), fmt(channels=2), fmt((2, 4)), fmt((0x55, 0))])
async def test_audio_in_the_wrong_format_fails_over(vendor: ScriptedVendor, other: bytes) -> None:
    script_answer(vendor, wav(other, DATA))
    openai = OpenAICompatible("sk-test", base_url=vendor.url)
    async with AsyncTTSService([openai, Tone()]) as service:
        speech = await service.synthesize(TEXT, format="wav_24000")
    error = speech.attempts[0].error
    assert error is not None
    assert error.kind in (FailureKind.WRONG_FORMAT, FailureKind.NOT_AUDIO)
    assert (speech.outcome, speech.provider) == ("substituted", "tone")
    assert parse_strictly(speech.audio).rate == 24_000


async def test_embedded_header_is_found_however_it_is_split(tts: AsyncTTSService, vendor: ScriptedVendor) -> None:
    audio = WAVS["two files of unknown size"]
    offset = audio.index(b"RIFF", 12)
    for cut in range(offset - 1, offset + 50):
        vendor.enqueue(chunked_response(audio[:cut], audio[cut:], content_type="audio/wav"))
        assert parse_strictly((await tts.synthesize(TEXT, format="wav_24000")).audio).data == PCM


def matches_pcm(data: bytes, most: int) -> bool:
    found, wanted = array("h", data), array("h", PCM)
    return len(found) == len(wanted) and all(abs(a - b) <= most for a, b in zip(found, wanted, strict=True))
