"""Times of a stream's messages, whatever beginning the vendor counts them from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.providers.websocket.text_stream import AlignmentTimeline
from steadyvoice.speech.alignment import Alignment

MESSAGES = st.lists(
    st.lists(st.floats(0.02, 0.5), min_size=1, max_size=8), min_size=1, max_size=12
)  # durations of the characters of each message


def alignment(durations: list[float], begin: float) -> Alignment:
    starts = [begin + sum(durations[:number]) for number in range(len(durations))]
    ends = [start + duration for start, duration in zip(starts, durations, strict=True)]
    return Alignment(("a",) * len(starts), tuple(starts), tuple(ends))


@given(MESSAGES, st.sampled_from(["message", "flush", "context"]), st.booleans())
def test_every_way_of_counting_gives_the_same_times(messages: list[list[float]], origin: str, known: bool) -> None:
    timeline, begin = AlignmentTimeline(), 0.0
    for number, durations in enumerate(messages):
        flushed = sum(sum(each) for each in messages[: number - number % 3])
        counted_from = {"message": begin, "flush": flushed, "context": 0.0}[origin]
        placed = timeline.placed(alignment(durations, begin - counted_from), begin if known else None)
        assert placed is not None
        assert placed.starts == pytest.approx(alignment(durations, begin).starts, abs=1e-6)
        begin += sum(durations)


def test_audio_without_times_is_counted_where_its_length_is_known() -> None:
    timeline = AlignmentTimeline()
    timeline.placed(alignment([0.5], 0.0), 0.0)
    placed = timeline.placed(alignment([0.5], 0.0), 2.0)
    assert placed is not None
    assert placed.starts == (2.0,)


def test_message_without_characters_has_no_times() -> None:
    assert AlignmentTimeline().placed(None) is None
    assert AlignmentTimeline().placed(Alignment()) is None
