"""The pieces of the picture: numbered dots, labels, and their colours for light and for dark."""

from __future__ import annotations

from html import escape

RADIUS = 9.0
"""Of a dot, in the picture's own units."""


def dot(x: float, y: float, style: str, number: str) -> str:
    """Draw an outcome, numbered if there is a number. A failure is square, to be told from the others by its shape."""
    if style == "failed":
        corner = f'x="{x - RADIUS + 1:.1f}" y="{y - RADIUS + 1:.1f}"'
        shape = f'<rect class="{style}" {corner} width="{2 * RADIUS - 2}" height="{2 * RADIUS - 2}" rx="2"/>'
    else:
        shape = f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}"/>'
    return shape + (text(x, y + 3.5, number, f"number {style}-ink") if number else "")


def text(x: float, y: float, words: str, style: str, size: float | None = None) -> str:
    """Write something, in letters of another size than its style's if one is given."""
    smaller = f' style="font-size: {size:.1f}px"' if size else ""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}"{smaller}>{escape(words)}</text>'


def fitting(label: str, width: float) -> float | None:
    """The size of letters at which a label fits; None if nobody could read it."""
    size = min(11.0, width / (0.62 * len(label)))  # the average letter is that much narrower than high
    return size if size >= 8 else None


LEGEND = (
    ("spoken", "spoken by the first choice"),
    ("substituted", "spoken by another"),
    ("muted", "silence, and said so"),
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
