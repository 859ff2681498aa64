"""Timeline of a demo run as SVG: circuits as bands over time, utterances as numbered marks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from steadyvoice.cli.demo.results import DemoRecord, DirectResult, StateSpan, UtteranceResult, state_label, state_spans

RADIUS = 9.0
"""Radius of a dot, in units of the picture."""


def draw_dot(x: float, y: float, style: str, number: str) -> str:
    """Return the mark of an outcome, with its number if there is one. A failure is square, to differ in shape."""
    if style == "failed":
        corner = f'x="{x - RADIUS + 1:.1f}" y="{y - RADIUS + 1:.1f}"'
        shape = f'<rect class="{style}" {corner} width="{2 * RADIUS - 2}" height="{2 * RADIUS - 2}" rx="2"/>'
    else:
        shape = f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}"/>'
    return shape + (draw_text(x, y + 3.5, number, f"number {style}-ink") if number else "")


def draw_text(x: float, y: float, words: str, style: str, size: float | None = None) -> str:
    """Return a text element, in a size of its own if one is given."""
    smaller = f' style="font-size: {size:.1f}px"' if size else ""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}"{smaller}>{escape(words)}</text>'


def label_size(label: str, width: float) -> float | None:
    """Return the font size at which a label fits a width, or None if it would be illegible."""
    size = min(11.0, width / (0.62 * len(label)))  # average ratio of width to height of a letter
    return size if size >= 8 else None


LEGEND = (
    ("spoken", "first provider"),
    ("substituted", "another provider"),
    ("muted", "muted, and reported"),
    ("cut_short", "cut short"),
    ("failed", "failed"),
    ("still_waiting", "still waiting"),
)

STYLE = """<style>
text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 12px; fill: #1c2530 }
.paper { fill: #ffffff } .grid { stroke: #d8dee6; stroke-width: 1 }
.head { font-size: 15px; font-weight: 600 } .label { text-anchor: end } .tick { text-anchor: middle; fill: #5b6876 }
.on { text-anchor: middle; font-size: 11px } .number { text-anchor: middle; font-size: 9.5px; font-weight: 600 }
.closed, .well { fill: #cdeeda; stroke: #1f8a4c } .closed-ink, .well-ink { fill: #0f5a30 }
.open, .forced_open, .ill { fill: #f8d3cf; stroke: #c0392b } .open-ink, .forced_open-ink, .ill-ink { fill: #8a1f14 }
.half_open { fill: #fbe7b0; stroke: #b98300; stroke-dasharray: 4 2 } .half_open-ink { fill: #6b4c00 }
.disabled, .monitoring { fill: #e3e7ec; stroke: #6b7785 }
.spoken { fill: #1f8a4c } .substituted, .resumed, .cached { fill: #2463b8 }
.muted { fill: #ffffff; stroke: #5b6876; stroke-width: 2; stroke-dasharray: 3 2 } .muted-ink { fill: #1c2530 }
.failed { fill: #c0392b }
.cut_short { fill: #f0b429; stroke: #8a5a00; stroke-width: 1.5 } .cut_short-ink { fill: #3d2800 }
.still_waiting { fill: #ffffff; stroke: #c0392b; stroke-width: 2 } .still_waiting-ink { fill: #8a1f14 }
.spoken-ink, .substituted-ink, .resumed-ink, .cached-ink, .failed-ink { fill: #ffffff }
.wait { fill-opacity: 0.45 }
@media (prefers-color-scheme: dark) {
text { fill: #e4e9ef } .paper { fill: #12171d } .grid { stroke: #2b343f } .tick { fill: #9aa7b5 }
.closed, .well { fill: #12402a; stroke: #4fc583 } .closed-ink, .well-ink { fill: #bff0d3 }
.open, .forced_open, .ill { fill: #541a14; stroke: #f0776a } .open-ink, .forced_open-ink, .ill-ink { fill: #ffd4ce }
.half_open { fill: #4a3600; stroke: #f0b429 } .half_open-ink { fill: #ffe6a6 }
.disabled, .monitoring { fill: #2b343f; stroke: #9aa7b5 }
.spoken { fill: #2fa866 } .substituted, .resumed, .cached { fill: #3f82dd }
.muted { fill: #12171d; stroke: #9aa7b5 } .muted-ink { fill: #e4e9ef }
.failed { fill: #d9523f } .cut_short-ink { fill: #3d2800 }
.still_waiting { fill: #12171d; stroke: #f0776a } .still_waiting-ink { fill: #ffd4ce }
.spoken-ink, .substituted-ink, .resumed-ink, .cached-ink, .failed-ink { fill: #ffffff }
}
</style>"""


WIDTH = 1080
_LEFT, _RIGHT = 172, 24  # what is left of the time axis, and right of it
_BAND, _LANE = 26, 22


def render_timeline(record: DemoRecord) -> str:
    """Return the timeline as SVG. Every color also has a word or a shape; light and dark schemes are included."""
    canvas = _Canvas(record.length)
    canvas.heading("Text to speech during a simulated outage")
    for provider in record.circuits:
        canvas.row(provider, _health(canvas, record, provider), _BAND, space=4)
        canvas.row("circuit", _circuit(canvas, state_spans(record, provider)), _BAND, space=14)
    canvas.row("with steadyvoice", *_results(canvas, record.results))
    canvas.row("without steadyvoice", *_direct_results(canvas, record.direct_results))
    canvas.axis()
    canvas.legend()
    canvas.texts(record.results)
    return canvas.svg(_description(record))


@dataclass(frozen=True, slots=True)
class WaitBar:
    """Bar of one utterance, as long as its caller waited."""

    number: int
    start: float
    stop: float
    style: str
    detail: str


def assign_lanes(bars: Sequence[WaitBar], room: float) -> list[int]:
    """Return the first lane for each bar where no other overlaps it, with `room` seconds for its number."""
    ends: list[float] = []
    chosen = []
    for bar in bars:
        # First fit: a new lane is opened only when all existing ones are occupied.
        free = [lane for lane, end in enumerate(ends) if end <= bar.start]
        lane = free[0] if free else len(ends)
        ends[lane:] = [max(bar.stop, bar.start + room), *ends[lane + 1 :]]
        chosen.append(lane)
    return chosen


class _Canvas:
    """Canvas that collects elements from top to bottom."""

    def __init__(self, length: float) -> None:
        self._length = max(length, 0.001)
        self._parts: list[str] = []
        self._y = 20.0
        self._top = 0.0

    @property
    def y(self) -> float:
        """Vertical position of the next element."""
        return self._y

    def x(self, second: float) -> float:
        """Return the horizontal position of a second."""
        return _LEFT + second / self._length * (WIDTH - _LEFT - _RIGHT)

    @property
    def dot(self) -> float:
        """Seconds that the circle of a number covers."""
        return 2 * (RADIUS + 1) * self._length / (WIDTH - _LEFT - _RIGHT)

    def heading(self, words: str) -> None:
        """Add the heading."""
        self._parts.append(draw_text(16, self._y + 8, words, "head"))
        self._y += 30
        self._top = self._y

    def row(self, label: str, drawing: list[str], height: float, *, space: float = 10) -> None:
        """Add a row with a label."""
        self._parts.append(draw_text(_LEFT - 12, self._y + 17, label, "label"))
        self._parts += drawing
        self._y += height + space

    def axis(self) -> None:
        """Add the time axis, with grid lines through everything above it."""
        step = next(
            step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 600) if self._length / step <= 16 or step == 600
        )
        for index in range(int(self._length / step + 1e-9) + 1):
            x = self.x(index * step)
            line = f'<line class="grid" x1="{x:.1f}" y1="{self._top}" x2="{x:.1f}" y2="{self._y}"/>'
            self._parts.insert(0, line)
            self._parts.append(draw_text(x, self._y + 14, f"{index * step:g} s", "tick"))
        self._y += 34

    def legend(self) -> None:
        """Add the legend of outcomes."""
        x = float(_LEFT)
        for style, word in LEGEND:
            self._parts.append(draw_dot(x + RADIUS, self._y, style, ""))
            self._parts.append(draw_text(x + 2 * RADIUS + 6, self._y + 4, word, "small"))
            x += 46 + 6.6 * len(word)
        self._y += 30

    def texts(self, answers: Sequence[UtteranceResult]) -> None:
        """Add the texts of all utterances, with their providers."""
        for answer in answers:
            self._parts.append(draw_dot(_LEFT - 22, self._y - 4, answer.outcome, str(answer.number)))
            self._parts.append(draw_text(_LEFT - 38, self._y, answer.provider or "no provider", "label"))
            self._parts.append(draw_text(_LEFT, self._y, answer.text, "small"))
            self._y += 23
        self._y += 4

    def svg(self, description: str) -> str:
        """Return the complete document."""
        height = round(self._y)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-labelledby="title desc">'
        )
        title = '<title id="title">Timeline of the demo</title>'
        desc = f'<desc id="desc">{escape(description)}</desc>'
        paper = f'<rect class="paper" width="{WIDTH}" height="{height}"/>'
        return "\n".join([head, title, desc, STYLE, paper, *self._parts, "</svg>", ""])


def _health(canvas: _Canvas, record: DemoRecord, provider: str) -> list[str]:
    """Return the bands of a provider's actual behavior."""
    changes = [change for change in record.provider_changes if change.provider == provider]
    edges = [0.0, *(change.at for change in changes), record.length]
    spans = [("is healthy", "well"), *((change.now, "well" if change.well else "ill") for change in changes)]
    return [
        part
        for index, (now, style) in enumerate(spans)
        for part in _band(canvas, edges[index], edges[index + 1], style, now.partition(":")[0], now)
    ]


def _circuit(canvas: _Canvas, spans: Sequence[StateSpan]) -> list[str]:
    return [
        part
        for band in spans
        for part in _band(canvas, band.start, band.stop, band.state.value, state_label(band.state), _span_title(band))
    ]


def _span_title(band: StateSpan) -> str:
    because = f": {band.reason}" if band.reason else ""
    return f"{state_label(band.state)} from {band.start:.1f} s to {band.stop:.1f} s{because}"


def _results(canvas: _Canvas, answers: Sequence[UtteranceResult]) -> tuple[list[str], float]:
    bars = [
        WaitBar(
            answer.number,
            answer.requested_at,
            answer.answered_at,
            answer.outcome,
            f"{answer.outcome}, {answer.provider or 'no provider'}, after {answer.waited:.2f} s",
        )
        for answer in answers
    ]
    return _bars(canvas, bars)


def _direct_results(canvas: _Canvas, answers: Sequence[DirectResult]) -> tuple[list[str], float]:
    bars = [
        WaitBar(
            answer.number,
            answer.requested_at,
            answer.ended,
            answer.outcome.replace(" ", "_"),
            f"{answer.outcome} after {answer.waited:.2f} s. {answer.detail}".strip(),
        )
        for answer in answers
    ]
    return _bars(canvas, bars)


def _bars(canvas: _Canvas, bars: Sequence[WaitBar]) -> tuple[list[str], float]:
    """Return the elements of all bars, and their height."""
    rows = assign_lanes(bars, canvas.dot)
    parts = [part for bar, lane in zip(bars, rows, strict=True) for part in _bar(canvas, bar, lane)]
    return parts, _LANE * (max(rows, default=0) + 1)


def _bar(canvas: _Canvas, bar: WaitBar, lane: int) -> Iterator[str]:
    x, y = canvas.x(bar.start), canvas.y + _LANE * lane + 12
    width = canvas.x(bar.stop) - x
    yield f"<g><title>{bar.number}: {escape(bar.detail)}</title>"
    if width > RADIUS:
        yield f'<rect class="{bar.style} wait" x="{x:.1f}" y="{y - 4}" width="{width:.1f}" height="8" rx="4"/>'
    yield draw_dot(x + RADIUS, y, bar.style, str(bar.number))
    yield "</g>"


def _band(canvas: _Canvas, start: float, stop: float, style: str, label: str, detail: str) -> Iterator[str]:
    x, width = canvas.x(start), canvas.x(stop) - canvas.x(start)
    yield f"<g><title>{escape(detail)}</title>"
    yield f'<rect class="{style}" x="{x:.1f}" y="{canvas.y}" width="{max(width, 1.5):.1f}" height="{_BAND}" rx="3"/>'
    if size := label_size(label, width - 6):
        yield draw_text(x + width / 2, canvas.y + 17, label, f"on {style}-ink", size)
    yield "</g>"


def _description(record: DemoRecord) -> str:
    """Return a description of the timeline in words, for screen readers."""
    changes = [
        f"{change.at:.1f} s: the circuit of {change.circuit} changes from {state_label(change.before)} to "
        f"{state_label(change.after)}, because {change.reason}."
        for change in record.circuit_changes
    ]
    answers = [
        f"{answer.number}. {answer.outcome} by {answer.provider or 'no provider'} after {answer.waited:.2f} s."
        for answer in record.results
    ]
    direct = [f"{answer.number}. {answer.outcome} after {answer.waited:.2f} s." for answer in record.direct_results]
    return " ".join([*changes, "Utterances with steadyvoice:", *answers, "Without it:", *direct])
