"""Audio that needs no provider: cached recordings, and silence in the muted mode."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

from steadyvoice.service.pipeline.candidates import Candidate
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.resilience.failover import GiveUp, TryProvider, WaitForProvider
from steadyvoice.service.result import Recording
from steadyvoice.speech.format import AudioFormat, Codec


def round_to_samples(seconds: float, rate: int) -> float:
    """Return the duration rounded to whole samples, at least one, so that timestamps agree with the silence."""
    return max(1, round(seconds * rate)) / rate


async def silent_audio(output: Output, seconds: float) -> AsyncGenerator[bytes, None]:
    """Yield so many seconds of silence, one second at a time, joined to the output before."""
    samples = AudioFormat(Codec.PCM, output.target.sample_rate)
    missing = round(seconds * samples.sample_rate)
    pending = output.begin(samples)
    while missing > 0:
        block = min(missing, samples.sample_rate)
        output.feed(bytes(2 * block))
        if data := pending + await output.run(output.emit):
            yield data
        pending = b""
        missing -= block
    if data := await output.run(output.end):
        yield data


_SLICE = 65_536  # bytes of a recording that are yielded at once


def choose_recording(
    step: TryProvider | WaitForProvider | GiveUp, candidates: Sequence[Candidate], recordings: Mapping[str, Recording]
) -> tuple[str, Recording] | None:
    """Return the provider's name and a recording that is better than the next step, or None.

    That is a fresh recording of a provider that would be asked, or one of any age of a preferred provider that has
    failed. Before silence, any recording.
    """
    match step:
        case TryProvider(index):
            considered = candidates[: index + 1]
        case WaitForProvider():
            considered = candidates[:1]
        case GiveUp():
            considered = candidates
    for candidate in considered:
        recording = recordings.get(candidate.name)
        if recording and (recording.fresh or candidate.history.error or isinstance(step, GiveUp)):
            return candidate.name, recording
    return None


async def play_recording(output: Output, audio: bytes) -> AsyncGenerator[bytes, None]:
    """Yield a whole recording in the output's format from its start, even if another voice has begun and broken off."""
    appending = output.has_output
    if appending and (pending := output.begin(output.target)):
        yield pending
    for begin in range(0, len(audio), _SLICE):
        data = audio[begin : begin + _SLICE]
        if not appending:
            yield data
        elif ready := await output.run(_append, output, data):
            yield ready
    if appending and (last := await output.run(_end, output)):
        yield last


def _append(output: Output, data: bytes) -> bytes:
    """Append to a stream that has begun."""
    output.feed(data)
    return output.emit()


def _end(output: Output) -> bytes:
    return output.end() + output.finish()
