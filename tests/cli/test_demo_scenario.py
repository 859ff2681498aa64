"""The demo's own rules: what makes its story true, how it is counted, and how it is joined."""

from __future__ import annotations

import io
import wave
from dataclasses import replace

import pytest

from steadyvoice import Alignment, AudioFormat, Speech
from steadyvoice.breaker import CircuitState
from steadyvoice.cli.demo.results import ChargedCharacters, CircuitChange, DemoRecord, DirectResult, UtteranceResult
from steadyvoice.cli.demo.runner import FORMAT, PAUSE, RATE, join_speeches
from steadyvoice.cli.demo.scenario import Scenario, missing_events
from steadyvoice.cli.demo.terminal import comparison_rows
from steadyvoice.service.result import UtteranceReport

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
MOVES = (
    CircuitChange(7.0, "elevenlabs", CLOSED, OPEN, "failures", 3.0),
    CircuitChange(11.0, "elevenlabs", OPEN, HALF_OPEN, "the cooldown is over"),
    CircuitChange(13.0, "elevenlabs", HALF_OPEN, OPEN, "a probe failed", 6.0),
    CircuitChange(20.0, "elevenlabs", OPEN, HALF_OPEN, "the cooldown is over"),
    CircuitChange(21.0, "elevenlabs", HALF_OPEN, CLOSED, "probes succeeded"),
)
ANSWERS = (
    UtteranceResult(1, "Spoken by the backup, all of it.", 8.0, 8.1, "substituted", "backup", 2.0, refusals=("open",)),
    UtteranceResult(2, "Silence, and all of it.", 15.0, 15.0, "muted", None, 2.0),
    UtteranceResult(3, "Back again, and all of it.", 22.0, 22.1, "spoken", "elevenlabs", 2.0),
)
TRUE = DemoRecord(26.0, ("elevenlabs", "backup"), (), MOVES, ANSWERS, ())


def test_a_story_that_went_well_lacks_nothing() -> None:
    assert missing_events(TRUE) == []


@pytest.mark.parametrize(
    ("story", "missing"),
    [
        (replace(TRUE, moves=MOVES[:1]), "closes again"),
        (replace(TRUE, moves=(*MOVES[:2], MOVES[4])), "reopens"),
        (replace(TRUE, moves=(replace(MOVES[0], retry_after=6.0), *MOVES[1:])), "longer"),
        (replace(TRUE, answers=(replace(ANSWERS[0], refusals=()), *ANSWERS[1:])), "refuses"),
        (replace(TRUE, answers=ANSWERS[1:]), "backup speaks"),
        (replace(TRUE, answers=(ANSWERS[0], ANSWERS[2])), "silence"),
        (replace(TRUE, answers=ANSWERS[:2]), "first voice"),
        (replace(TRUE, moves=(), answers=()), "closes again"),
    ],
)
def test_a_story_that_went_otherwise_is_found_out(story: DemoRecord, missing: str) -> None:
    assert any(missing in what for what in missing_events(story))


def test_both_sides_are_counted_by_the_same_rules() -> None:
    bare = (
        DirectResult(1, 8.0, 8.2, "failed"),
        DirectResult(2, 15.0, 26.0, "still waiting"),
        DirectResult(3, 16.0, 16.5, "cut short"),
        DirectResult(4, 22.0, 22.1, "spoken"),
    )
    short = UtteranceResult(
        4, "This would be far too short for all of these words, would it not?", 23.0, 23.1, "spoken", "elevenlabs", 0.1
    )
    lived = replace(TRUE, answers=(*ANSWERS, short), bare=bare, charged=ChargedCharacters(60, 90))
    rows = {name: (ours, theirs) for name, ours, theirs in comparison_rows(lived)}
    assert rows["heard whole"] == ("2 of 4", "1 of 4")
    assert rows["by another voice"] == ("1", "0")
    assert rows["silence that says so"] == ("1", "0")
    assert rows["cut short, called a success"] == ("1", "1")
    assert rows["failed"] == ("0", "1")
    assert rows["still waiting at the end"] == ("0", "1")
    assert rows["longest wait"] == ("0.1 s", "11.0 s")
    assert rows["waited in all"] == ("0.3 s", "11.8 s")
    assert rows["characters charged"] == ("60", "90")


def test_a_smaller_story_is_the_same_story() -> None:
    whole, half = Scenario.usual(), Scenario.usual(0.5)
    assert [line.text for line in whole.lines] == [line.text for line in half.lines]
    assert [line.at / 2 for line in whole.lines] == [line.at for line in half.lines]
    assert half.circuit.cooldown_period == whole.circuit.cooldown_period / 2
    assert half.timeouts.first_audio == whole.timeouts.first_audio / 2


def test_everything_in_the_story_happens_in_order_and_within_its_length() -> None:
    story = Scenario.usual()
    for times in ([line.at for line in story.lines], [cue.at for cue in story.cues]):
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] < story.length


def speech(text: str, seconds: float) -> Speech:
    spoken = UtteranceReport("elevenlabs")
    spoken.add("elevenlabs", 0, len(text), seconds, Alignment.spread(text, seconds))
    return Speech(b"\1\0" * round(seconds * RATE), AudioFormat.parse(FORMAT), spoken)


def test_utterances_are_joined_with_pauses_and_captions_that_fit() -> None:
    audio, captions = join_speeches([speech("One two.", 1.0), speech("Three.", 0.5)])
    with wave.open(io.BytesIO(audio)) as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(1.5 + 2 * PAUSE)
    cues = [line for line in captions.splitlines() if "-->" in line]
    assert cues == ["00:00:00.000 --> 00:00:01.000", "00:00:01.400 --> 00:00:01.900"]
    assert "Three." in captions
