"""The picture of it: circuits as bands over time, utterances as marks. A chronicle in, an SVG out, nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from steadyvoice.cli.demo.chronicle import Answer, Band, BareAnswer, Chronicle, bands, shown
from steadyvoice.cli.demo.marks import LEGEND, RADIUS, STYLE, dot, fitting, text

WIDTH = 1080
_LEFT, _RIGHT = 172, 24  # what is left of the time axis, and right of it
_BAND, _LANE = 26, 22


def drawn(chronicle: Chronicle) -> str:
    """Draw it. Every colour is also a word or a shape, and there are two sets of them, for light and for dark."""
    canvas = _Canvas(chronicle.length)
    canvas.heading("A voice that keeps speaking when its provider does not")
    for provider in chronicle.circuits:
        canvas.row(provider, _health(canvas, chronicle, provider), _BAND, space=4)
        canvas.row("its circuit", _circuit(canvas, bands(chronicle, provider)), _BAND, space=14)
    canvas.row("with steadyvoice", *_answers(canvas, chronicle.answers))
    canvas.row("without it", *_bare_answers(canvas, chronicle.bare))
    canvas.axis()
    canvas.legend()
    canvas.texts(chronicle.answers)
    return canvas.svg(_described(chronicle))


@dataclass(frozen=True, slots=True)
class Bar:
    """One utterance on a lane of its own for as long as its caller waited."""

    number: int
    start: float
    stop: float
    style: str
    told: str


def lanes(bars: Sequence[Bar], room: float) -> list[int]:
    """Give each bar the first lane where nothing overlaps it, with `room` seconds for its number."""
    ends: list[float] = []
    chosen = []
    for bar in bars:
        free = [lane for lane, end in enumerate(ends) if end <= bar.start]
        lane = free[0] if free else len(ends)
        ends[lane:] = [max(bar.stop, bar.start + room), *ends[lane + 1 :]]
        chosen.append(lane)
    return chosen


class _Canvas:
    """Collects what is drawn, from top to bottom."""

    def __init__(self, length: float) -> None:
        self._length = max(length, 0.001)
        self._parts: list[str] = []
        self._y = 20.0
        self._top = 0.0

    @property
    def y(self) -> float:
        return self._y

    def x(self, second: float) -> float:
        """Where a second lies."""
        return _LEFT + second / self._length * (WIDTH - _LEFT - _RIGHT)

    @property
    def dot(self) -> float:
        """The seconds that a number's circle covers."""
        return 2 * (RADIUS + 1) * self._length / (WIDTH - _LEFT - _RIGHT)

    def heading(self, words: str) -> None:
        self._parts.append(text(16, self._y + 8, words, "head"))
        self._y += 30
        self._top = self._y

    def row(self, label: str, drawing: list[str], height: float, *, space: float = 10) -> None:
        self._parts.append(text(_LEFT - 12, self._y + 17, label, "label"))
        self._parts += drawing
        self._y += height + space

    def axis(self) -> None:
        """Seconds, with a line through everything above them."""
        step = next(
            step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 600) if self._length / step <= 16 or step == 600
        )
        for index in range(int(self._length / step + 1e-9) + 1):
            x = self.x(index * step)
            line = f'<line class="grid" x1="{x:.1f}" y1="{self._top}" x2="{x:.1f}" y2="{self._y}"/>'
            self._parts.insert(0, line)
            self._parts.append(text(x, self._y + 14, f"{index * step:g} s", "tick"))
        self._y += 34

    def legend(self) -> None:
        x = float(_LEFT)
        for style, word in LEGEND:
            self._parts.append(dot(x + RADIUS, self._y, style, ""))
            self._parts.append(text(x + 2 * RADIUS + 6, self._y + 4, word, "small"))
            x += 46 + 6.6 * len(word)
        self._y += 30

    def texts(self, answers: Sequence[Answer]) -> None:
        """What was said, by whom."""
        for answer in answers:
            self._parts.append(dot(_LEFT - 22, self._y - 4, answer.outcome, str(answer.number)))
            self._parts.append(text(_LEFT - 38, self._y, answer.provider or "nobody", "label"))
            self._parts.append(text(_LEFT, self._y, answer.text, "small"))
            self._y += 23
        self._y += 4

    def svg(self, description: str) -> str:
        height = round(self._y)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-labelledby="title desc">'
        )
        title = '<title id="title">Timeline of the demo</title>'
        desc = f'<desc id="desc">{escape(description)}</desc>'
        paper = f'<rect class="paper" width="{WIDTH}" height="{height}"/>'
        return "\n".join([head, title, desc, STYLE, paper, *self._parts, "</svg>", ""])


def _health(canvas: _Canvas, chronicle: Chronicle, provider: str) -> list[str]:
    """How a provider really was, which nobody else knew."""
    turns = [turn for turn in chronicle.turns if turn.who == provider]
    edges = [0.0, *(turn.at for turn in turns), chronicle.length]
    spans = [("is well", "well"), *((turn.now, "well" if turn.well else "ill") for turn in turns)]
    return [
        part
        for index, (now, style) in enumerate(spans)
        for part in _band(canvas, edges[index], edges[index + 1], style, now.partition(":")[0], now)
    ]


def _circuit(canvas: _Canvas, spans: Sequence[Band]) -> list[str]:
    return [
        part
        for band in spans
        for part in _band(canvas, band.start, band.stop, band.state.value, shown(band.state), _reasoned(band))
    ]


def _reasoned(band: Band) -> str:
    because = f": {band.reason}" if band.reason else ""
    return f"{shown(band.state)} from {band.start:.1f} s to {band.stop:.1f} s{because}"


def _answers(canvas: _Canvas, answers: Sequence[Answer]) -> tuple[list[str], float]:
    bars = [
        Bar(
            answer.number,
            answer.asked,
            answer.answered,
            answer.outcome,
            f"{answer.outcome}, {answer.provider or 'nobody'}, after {answer.waited:.2f} s",
        )
        for answer in answers
    ]
    return _bars(canvas, bars)


def _bare_answers(canvas: _Canvas, answers: Sequence[BareAnswer]) -> tuple[list[str], float]:
    bars = [
        Bar(
            answer.number,
            answer.asked,
            answer.ended,
            answer.outcome.replace(" ", "_"),
            f"{answer.outcome} after {answer.waited:.2f} s. {answer.told}".strip(),
        )
        for answer in answers
    ]
    return _bars(canvas, bars)


def _bars(canvas: _Canvas, bars: Sequence[Bar]) -> tuple[list[str], float]:
    """Draw them, and say how high that is."""
    rows = lanes(bars, canvas.dot)
    parts = [part for bar, lane in zip(bars, rows, strict=True) for part in _bar(canvas, bar, lane)]
    return parts, _LANE * (max(rows, default=0) + 1)


def _bar(canvas: _Canvas, bar: Bar, lane: int) -> Iterator[str]:
    x, y = canvas.x(bar.start), canvas.y + _LANE * lane + 12
    width = canvas.x(bar.stop) - x
    yield f"<g><title>{bar.number}: {escape(bar.told)}</title>"
    if width > RADIUS:
        yield f'<rect class="{bar.style} wait" x="{x:.1f}" y="{y - 4}" width="{width:.1f}" height="8" rx="4"/>'
    yield dot(x + RADIUS, y, bar.style, str(bar.number))
    yield "</g>"


def _band(canvas: _Canvas, start: float, stop: float, style: str, label: str, told: str) -> Iterator[str]:
    x, width = canvas.x(start), canvas.x(stop) - canvas.x(start)
    yield f"<g><title>{escape(told)}</title>"
    yield f'<rect class="{style}" x="{x:.1f}" y="{canvas.y}" width="{max(width, 1.5):.1f}" height="{_BAND}" rx="3"/>'
    if size := fitting(label, width - 6):
        yield text(x + width / 2, canvas.y + 17, label, f"on {style}-ink", size)
    yield "</g>"


def _described(chronicle: Chronicle) -> str:
    """The same for those who do not see it."""
    moves = [
        f"{move.at:.1f} s: the circuit of {move.circuit} goes from {shown(move.before)} to {shown(move.after)}, "
        f"because {move.reason}."
        for move in chronicle.moves
    ]
    answers = [
        f"{answer.number}. {answer.outcome} by {answer.provider or 'nobody'} after {answer.waited:.2f} s."
        for answer in chronicle.answers
    ]
    bare = [f"{answer.number}. {answer.outcome} after {answer.waited:.2f} s." for answer in chronicle.bare]
    return " ".join([*moves, "Utterances with steadyvoice:", *answers, "Without it:", *bare])
