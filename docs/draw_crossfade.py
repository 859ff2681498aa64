"""Audio examples and spectrograms of the crossfade for docs/resume.md: two Opus files and two pictures.

python docs/draw_crossfade.py [FOLDER]    # needs the extra steadyvoice[local]; writes into docs/listen/ by default
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import av
import av.filter
from av import AudioFrame, VideoFrame

from steadyvoice import Accepted, AsyncTTSService, AudioChunk, Espeak, SpeechRequest, SynthesisOffer, Tone
from steadyvoice.audio.conversion import convert
from steadyvoice.speech.errors import TTSCutError
from steadyvoice.speech.format import AudioFormat, Codec

HERE = Path(__file__).with_name("listen")
TEXT = "The rain has stopped at last. We walk home now, slowly, and nobody says a word."
SAMPLES = AudioFormat(Codec.PCM, 24000)
OPUS = AudioFormat(Codec.OPUS, 48000, 32)
AROUND = 1.5  # seconds shown on each side of the crossfade
SIZE = "720x240"


class BreakingVoice(Espeak):
    """eSpeak voice that breaks off after a number of seconds of audio."""

    def __init__(self, seconds: float) -> None:
        super().__init__(name="first")
        self._left = seconds

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        async with aclosing(super().speak(request, offer, connection_timeout=connection_timeout)) as events:
            async for event in events:
                if isinstance(event, AudioChunk):
                    size = 2 * int(self._left * offer.format.sample_rate)
                    yield AudioChunk(event.data[:size], event.alignment)
                    self._left -= len(event.data) / 2 / offer.format.sample_rate
                    if self._left <= 0:
                        raise TTSCutError("the connection broke")
                else:
                    yield event


def main(folder: Path) -> None:
    """Write audio and spectrogram for each example into a folder."""
    folder.mkdir(exist_ok=True)
    for name, data in asyncio.run(files()).items():
        (folder / name).write_bytes(data)


async def files() -> dict[str, bytes]:
    """Return audio and spectrogram of each example by file name."""
    found: dict[str, bytes] = {}
    others = {"another-voice": Espeak(name="second", voices={"default": "en-gb+f3"}), "tones": Tone(name="second")}
    for name, other in others.items():
        async with AsyncTTSService([BreakingVoice(2.9), other]) as tts:
            stream = tts.stream(TEXT, format=SAMPLES)
            audio = b"".join([chunk async for chunk in stream])
        # The first voice may have several spans: one for each piece of the text that it was sent.
        resumed = next(span for span in stream.report.spans if span.provider == "second")
        before, after = TEXT[: resumed.begin], TEXT[resumed.begin :]
        print(f"{name}: {before!r}, {after!r}; the crossfade is at {resumed.start:.2f} s")
        found[f"resumed-{name}.ogg"] = convert(audio, SAMPLES, OPUS)
        found[f"resumed-{name}.png"] = _picture(_around(audio, resumed.start))
    return found


def _around(audio: bytes, seam: float) -> bytes:
    rate = SAMPLES.sample_rate
    return audio[2 * int((seam - AROUND) * rate) : 2 * int((seam + AROUND) * rate)]


def _picture(audio: bytes) -> bytes:
    """Return a spectrogram up to 8 kHz as a PNG, drawn by FFmpeg, time from left to right."""
    frame = AudioFrame(format="s16", layout="mono", samples=len(audio) // 2)
    frame.planes[0].update(audio)
    frame.sample_rate = SAMPLES.sample_rate
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_abuffer(sample_rate=SAMPLES.sample_rate, format="s16", layout="mono"),
        graph.add("showspectrumpic", f"s={SIZE}:stop=8000:legend=0:color=intensity:saturation=0:drange=60:gain=6"),
        graph.add("drawbox", "x=iw/2:y=0:w=2:h=12:color=white"),  # marks the crossfade
        graph.add("buffersink"),
    ).configure()
    graph.push(frame)
    graph.push(None)
    drawn = graph.pull()
    codec = av.CodecContext.create("png", "w")
    assert isinstance(drawn, VideoFrame)  # noqa: S101 - a picture of samples
    assert isinstance(codec, av.VideoCodecContext)  # noqa: S101 - PNG is one
    picture = drawn.reformat(format="gray")
    codec.width, codec.height, codec.pix_fmt = picture.width, picture.height, "gray"
    codec.time_base = picture.time_base
    return b"".join(bytes(packet) for packet in (*codec.encode(picture), *codec.encode(None)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
