"""Split of a body: bytes on both sides, nothing lost or repeated."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.simulator.http.fault_responses import split_at_second
from steadyvoice.simulator.http.response import BodyPart


def body(parts: list[BodyPart]) -> bytes:
    return b"".join(part.data for part in parts)


@st.composite
def bodies(draw: st.DrawFn) -> list[BodyPart]:
    pieces = draw(st.lists(st.binary(min_size=2, max_size=9), min_size=1, max_size=6))
    return [BodyPart(data, audio_end=(index + 1) * 0.5) for index, data in enumerate(pieces)]


@given(bodies(), st.floats(0, 10), st.booleans())
def test_split_leaves_bytes_on_both_sides(parts: list[BodyPart], after: float, within: bool) -> None:
    sent, left = split_at_second(parts, after, within=within)
    assert body(sent) + body(left) == body(parts)
    assert body(sent)
    assert body(left)


@given(bodies(), st.floats(0, 10))
def test_split_within_a_part_is_not_between_parts(parts: list[BodyPart], after: float) -> None:
    sent, left = split_at_second(parts, after, within=True)
    assert len(sent) + len(left) == len(parts) + 1


def test_split_is_at_its_second() -> None:
    parts = [BodyPart(b"one", 0.5), BodyPart(b"two", 1.0), BodyPart(b"three", 1.5)]
    assert split_at_second(parts, 0.0) == (parts[:1], parts[1:])
    assert split_at_second(parts, 1.0) == (parts[:2], parts[2:])
    assert split_at_second(parts, 1.2) == (parts[:2], parts[2:])


def test_empty_body_is_not_split() -> None:
    assert split_at_second([], 1.0) == ([], [])
