"""Replay of a journal: the past under its own settings, call for call, and other settings in the order of live ones."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from steadyvoice import CircuitBreakerConfig, RetryConfig, TimeoutConfig, TTSConfigurationError
from steadyvoice.service.journal.records import (
    HeaderLine,
    SettingsLine,
    TransitionLine,
    UtteranceLine,
    encode_line,
    read_journal,
)
from steadyvoice.service.replay.alternatives import (
    RECORDED,
    Alternative,
    ReplayedProvider,
    ReplaySettings,
    parse_changes,
)
from steadyvoice.service.replay.evidence import Evidence
from steadyvoice.service.replay.report import ReplayTimeoutError, replay_journal
from steadyvoice.service.replay.simulation import Simulation

from ..conftest import MakeService
from .outage import Lived, Stretch, TimedVendor, journal_in, live

OUTAGE = [
    Stretch(20, 60, "error"),
    Stretch(90, 130, "hang"),
    Stretch(150, 170, "slow"),
    Stretch(180, 220, "error", 0.5),
]
ADAPTIVE = CircuitBreakerConfig.adaptive()
POLICIES = {
    "adaptive": ADAPTIVE,
    "default": CircuitBreakerConfig(),
    "production": CircuitBreakerConfig.production(),
    "consecutive": CircuitBreakerConfig.consecutive(5, cooldown_period=10),
    "never": CircuitBreakerConfig(window_size=1000, minimum_calls=1000),
}


def worlds() -> list[TimedVendor]:
    return [
        TimedVendor("first", OUTAGE),
        TimedVendor("second", [Stretch(30, 50, "error"), Stretch(100, 110, "hang")], seed=2),
    ]


def with_circuit(name: str) -> Alternative:
    """The alternative of one of the policies for all providers."""
    return Alternative(
        name,
        lambda settings: replace(
            settings, providers=[replace(each, circuit=POLICIES[name]) for each in settings.providers]
        ),
    )


async def record(make_service: MakeService, folder: Path, policy: str, callers: int) -> Lived:
    every = 240 / callers
    return await live(make_service, worlds(), callers=callers, every=every, circuit=POLICIES[policy], journal=folder)


@pytest.mark.looptime
@pytest.mark.parametrize("policy", ["adaptive", "consecutive"])
async def test_recorded_settings_bring_about_what_happened_call_for_call(
    make_service: MakeService, tmp_path: Path, policy: str
) -> None:
    await record(make_service, tmp_path, policy, 160)
    (run,) = journal_in(tmp_path).runs
    # With other random numbers than the service had, which the journal makes up for.
    replayed = Simulation(run, RECORDED, Evidence.of([run]), seed=99).run()
    recorded = [change for change in run.changes if isinstance(change, TransitionLine)]
    assert len(recorded) >= 6
    assert [(each.provider, each.from_state, each.to_state, each.cause) for each in replayed.transitions] == [
        (each.provider, each.from_state, each.to_state, each.cause) for each in recorded
    ]
    assert [each.at for each in replayed.transitions] == pytest.approx([each.at for each in recorded], abs=1e-9)
    by_number = {each.line.number: each for each in replayed.utterances}
    for utterance in run.utterances:
        found = by_number[utterance.line.number]
        assert found.is_as_recorded
        assert [(name, refused) for name, refused, _ in found.calls] == [
            (each.provider, each.refused) for each in utterance.attempts
        ]
        sent = [each.began for each in utterance.attempts if not each.refused]
        assert [at for _, refused, at in found.calls if not refused] == pytest.approx(sent, abs=1e-9)
    report = replay_journal(journal_in(tmp_path))
    happened, again = dict(report.happened), dict(report.replays[RECORDED.name])
    assert again.pop("coverage")["modelled_attempts"] == 0
    assert again == happened
    fidelity = report.fidelity
    assert fidelity["utterances_met"] == fidelity["utterances"] == 160
    assert fidelity["transitions_met"] == fidelity["transitions"] == len(recorded)


@pytest.mark.looptime
async def test_streams_that_make_progress_do_not_hang_in_a_replay(make_service: MakeService, tmp_path: Path) -> None:
    circuit = CircuitBreakerConfig(hung_after=1.5, consecutive_failures=2)
    vendors = [TimedVendor("first", [Stretch(20, 30, "hang")], pieces=6, every=0.8), TimedVendor("second", seed=2)]
    await live(make_service, vendors, callers=40, every=1.0, circuit=circuit, journal=tmp_path)
    report = replay_journal(journal_in(tmp_path))
    assert report.happened["openings"] >= 1
    assert report.fidelity["transitions_met"] == report.fidelity["transitions"] >= 1
    assert report.fidelity["utterances_met"] == report.fidelity["utterances"] == 40


def in_the_same_order(live: dict[str, int], replayed: dict[str, int]) -> list[tuple[str, str]]:
    """Return the pairs that clearly differ live, and not in the same direction in the replay."""
    return [
        (one, other)
        for one, other in permutations(live, 2)
        if live[one] > 1.25 * live[other] + 10 and replayed[one] <= replayed[other]
    ]


@pytest.mark.slow
@pytest.mark.looptime
async def test_other_settings_are_ordered_as_live_callers_order_them(make_service: MakeService, tmp_path: Path) -> None:
    lived = {name: await record(make_service, tmp_path / name, name, 240) for name in POLICIES}
    failed = {name: each.failed for name, each in lived.items()}
    waited = {name: each.waited for name, each in lived.items()}
    sent = {name: each.attempts for name, each in lived.items()}
    assert len({*failed.values()}) >= 3
    report = replay_journal(journal_in(tmp_path / "adaptive"), map(with_circuit, POLICIES))
    replays = {name: report.replays[name] for name in POLICIES}
    assert in_the_same_order(failed, {name: each["failed"] for name, each in replays.items()}) == []
    assert in_the_same_order(waited, {name: each["waited"] for name, each in replays.items()}) == []
    assert in_the_same_order(sent, {name: each["attempts"] for name, each in replays.items()}) == []
    for name, each in replays.items():  # and not far from it: by a sixth of the callers at most
        assert abs(each["failed"] - failed[name]) <= 40
        assert abs(each["waited"] - waited[name]) <= 20
    # Under the settings that are recorded, as a change that changes nothing: the past itself.
    assert replays["adaptive"]["coverage"]["modelled_attempts"] == 0
    assert replays["adaptive"]["failed"] == failed["adaptive"]


@pytest.mark.looptime
async def test_replay_is_the_same_each_time(make_service: MakeService, tmp_path: Path) -> None:
    await live(make_service, worlds(), callers=60, every=2.0, journal=tmp_path)
    journal = journal_in(tmp_path)
    changes = [parse_changes("circuit.cooldown_period=3 circuit.cooldown_jitter=0.5"), with_circuit("adaptive")]
    assert replay_journal(journal, changes).as_dict() == replay_journal(journal, changes).as_dict()


@pytest.mark.looptime
async def test_several_processes_know_more_of_a_vendor_than_one(make_service: MakeService, tmp_path: Path) -> None:
    names = ("production", "never")
    await asyncio.gather(*(record(make_service, tmp_path / name, name, 80) for name in names))
    report_of_one = replay_journal(read_journal([tmp_path / "production"]), [with_circuit("adaptive")])
    both = read_journal([tmp_path / name for name in names])
    assert len(both.runs) == 2
    report = replay_journal(both, [with_circuit("adaptive")])
    alone, together = (each.replays["adaptive"]["coverage"] for each in (report_of_one, report))
    # One of them refused nothing, and saw what the other had its circuit open for.
    assert together["farthest_evidence"] < alone["farthest_evidence"] / 2
    assert report.fidelity["utterances_met"] == report.fidelity["utterances"] == 160


@pytest.mark.looptime
async def test_timeouts_and_retries_can_be_changed_as_well(make_service: MakeService, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"circuit": POLICIES["never"], "timeouts": TimeoutConfig(first_audio_timeout=8)}
    vendors = [TimedVendor("first", [Stretch(10, 50, "hang")]), TimedVendor("second", [Stretch(20, 30, "error")])]
    await live(make_service, vendors, callers=60, every=1.0, journal=tmp_path, **settings)
    report = replay_journal(
        journal_in(tmp_path),
        map(parse_changes, [*(f"timeouts.first_audio_timeout={limit}" for limit in (2, 20)), "retry.max_attempts=1"]),
    )
    happened, quick, patient, once = report.happened, *list(report.replays.values())[1:]
    assert happened["waited"] >= 10
    assert quick["first_audio"]["p95"] < 4 < happened["first_audio"]["p95"] < patient["first_audio"]["p95"]
    # That the vendor would not have answered in 20 seconds either is not known.
    assert patient["coverage"]["given_up_before_an_answer"] >= 10
    assert once["attempts"] <= happened["attempts"]


@pytest.mark.looptime
async def test_what_was_done_by_hand_is_done_again(make_service: MakeService, tmp_path: Path) -> None:
    async with make_service(TimedVendor("first"), TimedVendor("second", seed=2), journal=tmp_path) as tts:
        for minute in range(6):
            if minute == 1:
                tts.circuits["first"].force_open("maintenance", 90)
            if minute == 4:
                tts.reset_circuit_breaker()
                await tts.reconfigure(circuit=CircuitBreakerConfig.production())
            await tts.synthesize("Hello.", format="pcm_8000")
            await asyncio.sleep(60)
    report = replay_journal(journal_in(tmp_path), [parse_changes("first.circuit.success_threshold=1")])
    assert report.fidelity == {"transitions": 3, "transitions_met": 3, "utterances": 6, "utterances_met": 6}
    changed = report.replays["first.circuit.success_threshold=1"]
    assert changed["outcomes"] == report.happened["outcomes"] == {"spoken": 4, "substituted": 2}


def damage(folder: Path) -> str:
    """Damage the ninth line and the last one of the only file; return its name."""
    (path,) = folder.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[8] = b'{"line": "attempt", "utter\n'
    path.write_bytes(b"".join(lines)[:-20])
    return path.name


@pytest.mark.looptime
async def test_damage_is_named_and_the_rest_replayed(make_service: MakeService, tmp_path: Path) -> None:
    await live(make_service, worlds(), callers=30, every=2.0, journal=tmp_path)
    name = damage(tmp_path)
    report = replay_journal(read_journal([tmp_path]))
    assert report.journal["damaged_lines"] == 2
    assert report.journal["damaged"][0].startswith(f"{name}:9: not a line of a journal")
    assert report.journal["damaged"][1].endswith(": cut off")
    assert report.journal["utterances"] >= 28


def test_replay_that_takes_too_long_says_so(tmp_path: Path) -> None:
    lines = [
        HeaderLine(format=1, steadyvoice="0", run="run", part=0, wall_time=0.0, clock=0.0),
        SettingsLine(at=0.0, providers=[], retry={}),
        UtteranceLine(number=1, wall_time=0.0, began=0.0, ended=1.0, outcome="cached", characters=1),
    ]
    (tmp_path / "run.0000.jsonl").write_bytes(b"".join(encode_line(line) + b"\n" for line in lines))
    journal = journal_in(tmp_path)
    assert replay_journal(journal).happened["outcomes"] == {"cached": 1}
    with pytest.raises(ReplayTimeoutError, match="longer than 0 s; replay fewer utterances"):
        replay_journal(journal, seconds=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cooldown", "cooldown: must be KEY=VALUE"),
        ("", "must be KEY=VALUE"),
        ("circuit.colour=1", "circuit.colour: unknown key; there are failure_threshold, "),
        ("circuit.cooldown_period=-1", "circuit.cooldown_period: "),
        ("third.circuit.window_size=1", "the journal has no provider 'third'; it has first, second"),
        ("cache.path=1", "cache.path: must be circuit.FIELD, timeouts.FIELD or retry.FIELD"),
        ("retry.max_attempts=0", "max_attempts: must be a whole number, 1 or more"),
        ("timeouts.patience=1", "patience: unknown key"),
    ],
)
def test_changes_that_cannot_work_are_refused(change: str, message: str) -> None:
    settings = ReplaySettings(
        [ReplayedProvider(name, False, CircuitBreakerConfig(), TimeoutConfig()) for name in ("first", "second")],
        RetryConfig(),
        muted=True,
    )
    with pytest.raises(TTSConfigurationError, match=re.escape(message)):
        parse_changes(change).apply(settings)
