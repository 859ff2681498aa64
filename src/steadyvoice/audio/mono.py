"""The one place where FFmpeg changes the shape of samples: to 16 bits, one channel, and a rate if wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import AudioFrame
    from av.filter import Graph


class Mono:
    """Turns PyAV's frames of one shape into 16-bit mono samples, at `rate` per second or at their own.

    It is what PyAV's AudioResampler is, without that one's threads: one a processor, for every stream.
    """

    def __init__(self, rate: int | None = None) -> None:
        self._rate = rate
        self._shape: tuple[str, str, int] | None = None
        self._graph: Graph | None = None

    def feed(self, frame: AudioFrame) -> bytes:
        """Take a frame. When its shape is another than before, a new start is made."""
        shape = (frame.format.name, frame.layout.name, frame.rate)
        last = b""
        if self._graph is None or shape != self._shape:
            last = self.finish()
            self._shape = shape
            self._graph = _graph(frame, self._rate or frame.rate)
        frame.pts = None
        self._graph.push(frame)
        return last + _pulled(self._graph)

    def finish(self) -> bytes:
        """Give the last samples."""
        if self._graph is None:
            return b""
        self._graph.push(None)
        return _pulled(self._graph)


def _graph(frame: AudioFrame, rate: int) -> Graph:
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_abuffer(sample_rate=frame.rate, format=frame.format.name, layout=frame.layout.name),
        graph.add("aformat", sample_rates=str(rate), sample_fmts="s16", channel_layouts="mono"),
        graph.add("abuffersink"),
    ).configure()
    return graph


def _pulled(graph: Graph) -> bytes:
    """Everything that is ready, without the padding that FFmpeg puts behind samples."""
    from av import AudioFrame

    pulled = b""
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):
            return pulled
        assert isinstance(frame, AudioFrame)  # noqa: S101  the only sink is one of audio
        pulled += bytes(frame.planes[0])[: 2 * frame.samples]
