"""From one sample rate to another, whatever pieces the samples come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadyvoice.audio.mono import Mono

if TYPE_CHECKING:
    from av import AudioFrame


class Resampler:
    """Streams 16-bit mono samples from one rate to another. At the same rate it touches nothing."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self._target = target
        # 20 ms in bytes. Blocks of one size make the result independent of how the samples came.
        self._block = max(1, source // 50) * 2
        self._rest = bytearray()
        self._mono = Mono(target)

    def feed(self, pcm: bytes) -> bytes:
        """Take samples; give what is ready, some milliseconds behind."""
        if self.source == self._target:
            return pcm
        rest = self._rest
        rest += pcm
        whole = len(rest) // self._block * self._block
        ready = b"".join(self._resampled(bytes(rest[at : at + self._block])) for at in range(0, whole, self._block))
        del rest[:whole]
        return ready

    def finish(self) -> bytes:
        """Give the last samples."""
        ready = self._resampled(bytes(self._rest)) if self._rest else b""
        return ready + self._mono.finish()

    def _resampled(self, block: bytes) -> bytes:
        return self._mono.feed(framed(block, self.source))


def framed(pcm: bytes, rate: int) -> AudioFrame:
    """Lay samples into a frame of PyAV's."""
    from av import AudioFrame

    frame = AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
    frame.planes[0].update(pcm)
    frame.sample_rate = rate
    return frame
