"""Conversion of decoded frames to 16-bit mono, and resampling of a stream, both by FFmpeg's filters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import AudioFrame
    from av.filter import Graph


class MonoConverter:
    """Converter of PyAV's frames to 16-bit mono samples, at `rate` per second or at their own rate."""

    # PyAV's AudioResampler does the same, but starts a thread for each processor, for every stream.

    def __init__(self, rate: int | None = None) -> None:
        self._rate = rate
        self._shape: tuple[str, str, int] | None = None
        self._graph: Graph | None = None

    def feed(self, frame: AudioFrame) -> bytes:
        """Convert a frame. If its format differs from that of the one before, a new filter graph is made."""
        shape = (frame.format.name, frame.layout.name, frame.rate)
        last = b""
        if self._graph is None or shape != self._shape:
            last = self.finish()
            self._shape = shape
            self._graph = _filter_graph(frame, self._rate or frame.rate)
        frame.pts = None
        self._graph.push(frame)
        return last + _pull_samples(self._graph)

    def finish(self) -> bytes:
        """Return the last samples."""
        if self._graph is None:
            return b""
        self._graph.push(None)
        return _pull_samples(self._graph)


def _filter_graph(frame: AudioFrame, rate: int) -> Graph:
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_abuffer(sample_rate=frame.rate, format=frame.format.name, layout=frame.layout.name),
        graph.add("aformat", sample_rates=str(rate), sample_fmts="s16", channel_layouts="mono"),
        graph.add("abuffersink"),
    ).configure()
    return graph


def _pull_samples(graph: Graph) -> bytes:
    """Return all samples that are ready, without the padding that FFmpeg puts behind them."""
    from av import AudioFrame

    pulled = b""
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):
            return pulled
        assert isinstance(frame, AudioFrame)  # noqa: S101  the only sink is one of audio
        pulled += bytes(frame.planes[0])[: 2 * frame.samples]


class Resampler:
    """Streaming resampler of 16-bit mono samples. At equal rates, samples pass unchanged."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self._target = target
        # 20 ms in bytes. Blocks of a fixed size make the result independent of how the samples were split.
        self._block = max(1, source // 50) * 2
        self._rest = bytearray()
        self._mono = MonoConverter(target)

    def feed(self, pcm: bytes) -> bytes:
        """Add samples and return those that are ready, some milliseconds behind."""
        if self.source == self._target:
            return pcm
        rest = self._rest
        rest += pcm
        complete = len(rest) // self._block * self._block
        ready = b"".join(self._resampled(bytes(rest[at : at + self._block])) for at in range(0, complete, self._block))
        del rest[:complete]
        return ready

    def finish(self) -> bytes:
        """Return the last samples."""
        ready = self._resampled(bytes(self._rest)) if self._rest else b""
        return ready + self._mono.finish()

    def _resampled(self, block: bytes) -> bytes:
        return self._mono.feed(pcm_frame(block, self.source))


def pcm_frame(pcm: bytes, rate: int) -> AudioFrame:
    """Return a PyAV frame of 16-bit mono samples."""
    from av import AudioFrame

    frame = AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
    frame.planes[0].update(pcm)
    frame.sample_rate = rate
    return frame
