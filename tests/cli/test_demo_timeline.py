"""Timeline of the demo as SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.breaker import CircuitState
from steadyvoice.cli.demo.results import (
    CircuitChange,
    DemoRecord,
    DirectResult,
    ProviderChange,
    UtteranceResult,
    state_spans,
)
from steadyvoice.cli.demo.timeline_svg import WIDTH, WaitBar, assign_lanes, render_timeline

SVG = "{http://www.w3.org/2000/svg}"

MORNING = DemoRecord(
    length=10.0,
    circuits=("elevenlabs", "backup"),
    provider_changes=(
        ProviderChange(1.0, "elevenlabs", "answers 503"),
        ProviderChange(6.0, "elevenlabs", "has recovered", well=True),
    ),
    circuit_changes=(
        CircuitChange(2.0, "elevenlabs", CircuitState.CLOSED, CircuitState.OPEN, "3 of 6 calls failed & <more>", 3.0),
        CircuitChange(7.0, "elevenlabs", CircuitState.OPEN, CircuitState.HALF_OPEN, "the cooldown is over"),
        CircuitChange(9.0, "elevenlabs", CircuitState.HALF_OPEN, CircuitState.CLOSED, "2 probes succeeded"),
    ),
    results=(
        UtteranceResult(1, "Good morning & <hello>.", 0.5, 0.6, "spoken", "elevenlabs", 1.0),
        UtteranceResult(2, "Another voice.", 2.5, 2.6, "substituted", "backup", 1.0),
        UtteranceResult(3, "Silence.", 4.0, 4.1, "muted", None, 1.0),
    ),
    direct_results=(
        DirectResult(1, 0.5, 0.6, "spoken"),
        DirectResult(2, 2.5, 10.0, "still waiting"),
        DirectResult(3, 4.0, 4.0, "failed", "HTTP 503."),
    ),
)


@pytest.fixture(scope="module")
def picture() -> ET.Element:
    return ET.fromstring(render_timeline(MORNING))


def styled(picture: ET.Element, tag: str, style: str) -> list[ET.Element]:
    return [each for each in picture.iter(SVG + tag) if style in each.get("class", "").split()]


def test_timeline_has_a_description_in_words(picture: ET.Element) -> None:
    assert picture.get("role") == "img"
    assert {picture.find(f"{SVG}title").get("id"), picture.find(f"{SVG}desc").get("id")} == set(  # type: ignore[union-attr]
        picture.get("aria-labelledby", "").split()
    )
    description = picture.findtext(f"{SVG}desc", "")
    assert (
        "2.0 s: the circuit of elevenlabs changes from closed to open, because 3 of 6 calls failed & <more>."
        in description
    )
    assert "3. muted by no provider" in description
    assert "2. still waiting after 7.50 s." in description


def test_every_state_is_a_labelled_band_of_its_length(picture: ET.Element) -> None:
    second = float(styled(picture, "rect", "open")[0].get("width", "")) / 5
    widths = {
        state: [float(band.get("width", "")) / second for band in styled(picture, "rect", state)]
        for state in ("closed", "open", "half_open")
    }
    assert widths["closed"] == pytest.approx([2, 1, 10], abs=0.01)
    assert widths["open"] == pytest.approx([5], abs=0.01)
    assert widths["half_open"] == pytest.approx([2], abs=0.01)
    words = [text.text for text in styled(picture, "text", "on")]
    assert words == [
        "is healthy",
        "answers 503",
        "has recovered",
        "closed",
        "open",
        "half-open",
        "closed",
        "is healthy",
        "closed",
    ]


def test_every_utterance_is_a_numbered_mark(picture: ET.Element) -> None:
    numbers = [text.text for text in styled(picture, "text", "number")]
    assert numbers == ["1", "2", "3"] * 3, "with it, without it, and before the texts"
    for style in ("spoken", "substituted", "muted", "still_waiting"):
        assert styled(picture, "circle", style)
    assert styled(picture, "rect", "failed"), "distinguished by more than its color"
    assert len(styled(picture, "rect", "still_waiting")) == 1


def test_texts_and_providers_are_listed(picture: ET.Element) -> None:
    words = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"Good morning & <hello>.", "no provider", "backup", "10 s"} <= set(words)


def test_timeline_has_light_and_dark_colors(picture: ET.Element) -> None:
    style = picture.findtext(f"{SVG}style", "")
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    drawn_styles = {name for each in picture.iter() for name in each.get("class", "").split() if name.endswith("-ink")}
    for name in drawn_styles | {"paper", "muted", "closed", "open", "half_open", "well", "ill"}:
        assert f".{name}" in light
        assert f".{name}" in dark


def test_nothing_is_outside_the_picture(picture: ET.Element) -> None:
    height = float(picture.get("height", ""))
    for each in picture.iter():
        x, width = float(each.get("x", each.get("cx", 0))), float(each.get("width", 0))
        assert 0 <= x <= WIDTH
        assert each is picture or x + width <= WIDTH + 0.1
        assert 0 <= float(each.get("y", each.get("cy", 0))) <= height


def test_empty_run_has_a_timeline() -> None:
    ET.fromstring(render_timeline(DemoRecord(0.0, ("one",), (), (), (), ())))


seconds = st.floats(0, 100)
states = st.sampled_from(CircuitState)


@given(st.lists(st.tuples(seconds, states), max_size=8), seconds)
def test_bands_have_no_gaps_or_overlaps(changes: list[tuple[float, CircuitState]], more: float) -> None:
    moves = tuple(
        CircuitChange(time, "c", CircuitState.CLOSED, state, "so")
        for time, state in sorted(changes, key=lambda c: c[0])
    )
    length = max((move.at for move in moves), default=0.0) + more
    spans = state_spans(DemoRecord(length, ("c",), (), moves, (), ()), "c")
    assert spans[0].start == 0
    assert spans[0].state is CircuitState.CLOSED
    assert spans[-1].stop == length
    assert all(one.stop == other.start for one, other in pairwise(spans))
    assert [span.state for span in spans[1:]] == [move.after for move in moves]


@given(st.lists(st.tuples(seconds, seconds), max_size=20), st.floats(0.1, 5))
def test_bars_do_not_overlap(waits: list[tuple[float, float]], room: float) -> None:
    bars = [WaitBar(i, start, start + wait, "spoken", "") for i, (start, wait) in enumerate(sorted(waits))]
    rows = assign_lanes(bars, room)
    for one, lane in zip(bars, rows, strict=True):
        for other, its_lane in zip(bars, rows, strict=True):
            if one.number < other.number and lane == its_lane:
                assert max(one.stop, one.start + room) <= other.start


@given(st.lists(seconds, max_size=20))
def test_separate_answers_share_one_lane(starts: list[float]) -> None:
    bars = [WaitBar(i, 10.0 * i, 10.0 * i + 1, "spoken", "") for i in range(len(starts))]
    assert set(assign_lanes(bars, 1.0)) <= {0}
