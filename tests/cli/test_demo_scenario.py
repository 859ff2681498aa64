"""Rules of the demo: expected events, comparison of the clients, and joined audio."""

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


def test_complete_run_has_no_missing_events() -> None:
    assert missing_events(TRUE) == []


@pytest.mark.parametrize(
    ("story", "missing"),
    [
        (replace(TRUE, circuit_changes=MOVES[:1]), "closes again"),
        (replace(TRUE, circuit_changes=(*MOVES[:2], MOVES[4])), "reopens"),
        (replace(TRUE, circuit_changes=(replace(MOVES[0], retry_after=6.0), *MOVES[1:])), "longer"),
        (replace(TRUE, results=(replace(ANSWERS[0], refusals=()), *ANSWERS[1:])), "refuses"),
        (replace(TRUE, results=ANSWERS[1:]), "backup answers"),
        (replace(TRUE, results=(ANSWERS[0], ANSWERS[2])), "muted"),
        (replace(TRUE, results=ANSWERS[:2]), "first provider"),
        (replace(TRUE, circuit_changes=(), results=()), "closes again"),
    ],
)
def test_missing_events_are_found(story: DemoRecord, missing: str) -> None:
    assert any(missing in what for what in missing_events(story))


def test_both_clients_are_counted_by_the_same_rules() -> None:
    bare = (
        DirectResult(1, 8.0, 8.2, "failed"),
        DirectResult(2, 15.0, 26.0, "still waiting"),
        DirectResult(3, 16.0, 16.5, "cut short"),
        DirectResult(4, 22.0, 22.1, "spoken"),
    )
    short = UtteranceResult(
        4, "This would be far too short for all of these words, would it not?", 23.0, 23.1, "spoken", "elevenlabs", 0.1
    )
    lived = replace(TRUE, results=(*ANSWERS, short), direct_results=bare, charged=ChargedCharacters(60, 90))
    rows = {name: (ours, theirs) for name, ours, theirs in comparison_rows(lived)}
    assert rows["complete"] == ("2 of 4", "1 of 4")
    assert rows["by another provider"] == ("1", "0")
    assert rows["muted, and reported"] == ("1", "0")
    assert rows["cut short, reported as success"] == ("1", "1")
    assert rows["failed"] == ("0", "1")
    assert rows["still waiting at the end"] == ("0", "1")
    assert rows["longest wait"] == ("0.1 s", "11.0 s")
    assert rows["total wait"] == ("0.3 s", "11.8 s")
    assert rows["characters charged"] == ("60", "90")


def test_scaled_scenario_has_the_same_utterances() -> None:
    whole, half = Scenario.usual(), Scenario.usual(0.5)
    assert [line.text for line in whole.utterances] == [line.text for line in half.utterances]
    assert [line.at / 2 for line in whole.utterances] == [line.at for line in half.utterances]
    assert half.circuit.cooldown_period == whole.circuit.cooldown_period / 2
    assert half.timeouts.first_audio == whole.timeouts.first_audio / 2


def test_scenario_is_in_order_and_within_its_length() -> None:
    story = Scenario.usual()
    for times in ([line.at for line in story.utterances], [cue.at for cue in story.incidents]):
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] < story.length


def speech(text: str, seconds: float) -> Speech:
    spoken = UtteranceReport("elevenlabs")
    spoken.add("elevenlabs", 0, len(text), seconds, Alignment.spread(text, seconds))
    return Speech(b"\1\0" * round(seconds * RATE), AudioFormat.parse(FORMAT), spoken)


def test_utterances_are_joined_with_pauses_and_matching_captions() -> None:
    audio, captions = join_speeches([speech("One two.", 1.0), speech("Three.", 0.5)])
    with wave.open(io.BytesIO(audio)) as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(1.5 + 2 * PAUSE)
    cues = [line for line in captions.splitlines() if "-->" in line]
    assert cues == ["00:00:00.000 --> 00:00:01.000", "00:00:01.400 --> 00:00:01.900"]
    assert "Three." in captions
