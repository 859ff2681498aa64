"""Audio that needs no provider: cached recordings, and silence in the muted mode."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

from steadyvoice.service.cache.keys import Recording
from steadyvoice.service.pipeline.candidates import Candidate
from steadyvoice.service.pipeline.failover import GiveUp, TryProvider, WaitForProvider
from steadyvoice.service.pipeline.output import Output
from steadyvoice.speech.format import AudioFormat, Codec


def round_to_samples(seconds: float, rate: int) -> float:
    """The same time, as long as the silence that fills it: at least one sample."""
    return max(1, round(seconds * rate)) / rate


async def silent_audio(output: Output, seconds: float) -> AsyncGenerator[bytes, None]:
    """Yield so much of it, a second at a time, joined to what the output has given out before."""
    samples = AudioFormat(Codec.PCM, output.target.sample_rate)
    missing = round(seconds * samples.sample_rate)
    pending = output.begin(samples)
    while missing > 0:
        block = min(missing, samples.sample_rate)
        output.feed(bytes(2 * block))
        if data := pending + await output.run(output.out):
            yield data
        pending = b""
        missing -= block
    if data := await output.run(output.end):
        yield data


_SLICE = 65_536  # bytes of a recording that are handed out at once


def choose_recording(
    step: TryProvider | WaitForProvider | GiveUp, parts: Sequence[Candidate], recordings: Mapping[str, Recording]
) -> tuple[str, Recording] | None:
    """Find a recording that is better than what comes next: a fresh one of whoever would be asked, or one of any age
    of a voice that comes before and cannot speak. Before silence, anybody's.
    """
    match step:
        case TryProvider(index):
            reached = parts[: index + 1]
        case WaitForProvider():
            reached = parts[:1]
        case GiveUp():
            reached = parts
    for part in reached:
        recording = recordings.get(part.name)
        if recording and (recording.fresh or part.history.error or isinstance(step, GiveUp)):
            return part.name, recording
    return None


async def play_recording(output: Output, audio: bytes) -> AsyncGenerator[bytes, None]:
    """Yield a whole recording in the output's format, from the start, whoever has begun and broken off."""
    appended = output.anything
    if appended and (pending := output.begin(output.target)):
        yield pending
    for begin in range(0, len(audio), _SLICE):
        data = audio[begin : begin + _SLICE]
        if not appended:
            yield data
        elif ready := await output.run(_append, output, data):
            yield ready
    if appended and (last := await output.run(_end, output)):
        yield last


def _append(output: Output, data: bytes) -> bytes:
    """The same, as the rest of a stream that has begun."""
    output.feed(data)
    return output.out()


def _end(output: Output) -> bytes:
    return output.end() + output.finish()
