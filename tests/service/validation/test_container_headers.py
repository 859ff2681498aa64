"""Headers of MP3, FLAC and Ogg with a wrong length, and concatenated streams."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import av
import pytest

from steadyvoice import AudioFormat
from steadyvoice.audio.conversion import convert
from steadyvoice.audio.framing import AudioMeter
from steadyvoice.audio.resampling import pcm_frame
from tests.audio.wav_files import pcm

from ..conftest import MakeService
from ..scripted_provider import ScriptedProvider, Send

TEXT = "Hello"
SECONDS = 0.5
MP3, FLAC, OPUS = "mp3_44100_128", "flac_24000", "opus_48000_64"


@cache
def plain(name: str) -> bytes:
    return convert(pcm(SECONDS), AudioFormat.parse("pcm_24000"), AudioFormat.parse(name))


@cache
def tagged_mp3() -> bytes:
    """Return an MP3 as FFmpeg writes it to a file: a tag, a frame that states the length, and audio."""
    file = io.BytesIO()
    samples = convert(pcm(SECONDS), AudioFormat.parse("pcm_24000"), AudioFormat.parse("pcm_44100"))
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=44_100, options={"b": "128000"})
        stream.layout = "mono"
        for offset in range(0, len(samples), 2304):
            frame = pcm_frame(samples[offset : offset + 2304], 44_100)
            frame.pts = offset // 2
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def with_frame_count(mp3: bytes, frames: int) -> bytes:
    offset = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    return mp3[: offset + 8] + frames.to_bytes(4, "big") + mp3[offset + 12 :]


def with_sample_count(flac: bytes, samples: int) -> bytes:
    packed = int.from_bytes(flac[18:26], "big") >> 36 << 36 | samples
    return flac[:18] + packed.to_bytes(8, "big") + flac[26:]


def last_position(ogg: bytes, position: int) -> bytes:
    offset = ogg.rindex(b"OggS")
    return ogg[: offset + 6] + position.to_bytes(8, "little", signed=True) + ogg[offset + 14 :]


ANSWERS: dict[str, tuple[str, int, Callable[[], bytes]]] = {
    "mp3 that tells ten hours": (MP3, 1, lambda: with_frame_count(tagged_mp3(), 1_378_125)),
    "mp3 that tells nothing": (MP3, 1, lambda: with_frame_count(tagged_mp3(), 0)),
    "mp3s end to end": (MP3, 3, lambda: tagged_mp3() * 3),
    "mp3 behind one without a tag": (MP3, 2, lambda: plain(MP3) + tagged_mp3()),
    "flac that tells ten hours": (FLAC, 1, lambda: with_sample_count(plain(FLAC), 864_000_000)),
    "flac that tells ten samples": (FLAC, 1, lambda: with_sample_count(plain(FLAC), 10)),
    "flac that tells nothing": (FLAC, 1, lambda: with_sample_count(plain(FLAC), 0)),
    "flacs end to end": (FLAC, 3, lambda: with_sample_count(plain(FLAC), 12_000) * 3),
    "opus that tells ten hours": (OPUS, 1, lambda: last_position(plain(OPUS), 48_000 * 36_000)),
    "opus that tells nothing": (OPUS, 1, lambda: last_position(plain(OPUS), 0)),
    "opus end to end": (OPUS, 3, lambda: plain(OPUS) * 3),
}


def player_duration(audio: bytes) -> float:
    """Return the seconds that a player shows before playing, from the header."""
    with av.open(io.BytesIO(audio), "r") as container:
        assert container.duration is not None
        return container.duration / 1_000_000


@pytest.mark.parametrize("how", ANSWERS)
async def test_whole_answer_is_one_stream_of_its_stated_length(make_service: MakeService, how: str) -> None:
    name, times, made = ANSWERS[how]
    vendor = ScriptedProvider([Send(made())], format=AudioFormat.parse(name))
    async with make_service(vendor, muted=False) as tts:
        speech = await tts.synthesize(TEXT, format=name)

    assert speech.outcome == "spoken"
    assert speech.duration == pytest.approx(SECONDS * times, abs=0.04 * times)
    assert AudioMeter(AudioFormat.parse(name)).feed(speech.audio) == pytest.approx(speech.duration, abs=0.04 * times)
    assert player_duration(speech.audio) == pytest.approx(speech.duration, abs=0.04 * times)
    assert speech.audio.count(b"fLaC") == (name == FLAC)
    assert speech.audio.count(b"OpusHead") == (name == OPUS)


@pytest.mark.parametrize("on_midstream", ["error", "resume"])
@pytest.mark.parametrize("how", [how for how in ANSWERS if how.startswith("flac")])
async def test_flac_is_streamed_with_an_unknown_length(make_service: MakeService, how: str, on_midstream: str) -> None:
    name, times, made = ANSWERS[how]
    vendor = ScriptedProvider([Send(made())], format=AudioFormat.parse(name))
    async with make_service(vendor, muted=False, on_midstream=on_midstream) as tts:
        audio = b"".join([data async for data in tts.stream(TEXT, format=name)])
    assert audio.count(b"fLaC") == 1
    assert with_sample_count(audio, 0) == audio
    assert AudioMeter(AudioFormat.parse(name)).feed(audio) == pytest.approx(SECONDS * times, abs=0.04)
    assert len(convert(audio, AudioFormat.parse(name), AudioFormat.parse("pcm_24000"))) == 24_000 * times


@pytest.mark.parametrize(("name", "made"), [(MP3, lambda: plain(MP3)), (MP3, tagged_mp3), (OPUS, lambda: plain(OPUS))])
async def test_correct_header_is_not_changed(make_service: MakeService, name: str, made: Callable[[], bytes]) -> None:
    vendor = ScriptedProvider([Send(made())], format=AudioFormat.parse(name))
    async with make_service(vendor, muted=False) as tts:
        assert (await tts.synthesize(TEXT, format=name)).audio == made()


async def test_pieces_with_tags_are_joined_without_them(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Send(tagged_mp3())], format=AudioFormat.parse(MP3), max_characters=20)
    async with make_service(vendor, muted=False) as tts:
        speech = await tts.synthesize("One sentence here. Another one there. And a last one.", format=MP3)
    assert len(vendor.requests) == 3
    assert b"Info" not in speech.audio
    assert b"Xing" not in speech.audio
    assert player_duration(speech.audio) == pytest.approx(speech.duration, abs=0.1)
