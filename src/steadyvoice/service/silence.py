"""The muted mode's voice: nothing, for as long as saying it would have taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from steadyvoice.service.output import Output
from steadyvoice.speech.format import AudioFormat, Codec


def whole_samples(seconds: float, rate: int) -> float:
    """The same time, as long as the silence that fills it: at least one sample."""
    return max(1, round(seconds * rate)) / rate


async def silence(output: Output, seconds: float) -> AsyncGenerator[bytes, None]:
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
