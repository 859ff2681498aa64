"""Selection of the fault of each call, from values, without a clock or a socket."""

from __future__ import annotations

import math
from dataclasses import fields
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.simulator.fault_injection.actions import (
    ACTIONS,
    BigFrame,
    CutTerminated,
    Drip,
    ErrorLine,
    FaultError,
    FaultTarget,
    Hang,
    OddSplits,
    Refuse,
    RefuseConnection,
    Restart,
    Silent,
    SlowAccept,
    SlowFirstByte,
    Stall,
    TlsFailure,
    TooShort,
    WrongLength,
    WrongRate,
)
from steadyvoice.simulator.fault_injection.matching import ENDPOINTS, Fault, FaultCall, FaultRules

from ..clock import SimulatorClock

CALL = FaultCall("text-to-speech/stream", "george", 100)


def faults(*rules: Fault, time: SimulatorClock | None = None, seed: int = 0) -> FaultRules:
    made = FaultRules(time or SimulatorClock(), Random(seed))
    made.set(*rules)
    return made


def strikes(made: FaultRules, count: int, call: FaultCall = CALL) -> list[bool]:
    return [made.select(call) is not None for _ in range(count)]


def test_action_without_conditions_applies_to_every_call() -> None:
    assert strikes(faults(Fault(Hang())), 3) == [True, True, True]


def test_fault_applies_to_its_targets_only() -> None:
    restart = Fault(Restart())
    assert not restart.matches(CALL, 0)
    assert restart.matches(FaultCall("text-to-speech/stream-input", target=FaultTarget.WEBSOCKET), 0)
    made = faults(Fault(Hang(), nth=2), restart)
    socket = FaultCall("text-to-speech/stream-input", target=FaultTarget.WEBSOCKET)
    chosen = [made.select(call) for call in (socket, CALL, FaultCall("connection", target=FaultTarget.CONNECTION))]
    assert [fault and fault.name for fault in chosen] == ["restart", "hang", None]


@given(st.integers(0, 2**32), st.lists(st.integers(0, 3)))
def test_peek_predicts_select_and_changes_nothing(seed: int, looks: list[int]) -> None:
    rules = Fault(Stall(), nth=3), Fault(Hang(), probability=0.4, times=9)
    looked, blind = faults(*rules, seed=seed), faults(*rules, seed=seed)
    for count in looks:
        seen = [looked.peek(CALL) for _ in range(count)]
        chosen = looked.select(CALL)
        assert chosen == blind.select(CALL)
        assert seen == [chosen] * count


def test_listener_is_called_for_every_change() -> None:
    counts = []
    made = faults()
    made.on_change(lambda: counts.append(len(list(made))))
    made.add(Hang())
    made.set(Stall(), Hang())
    made.clear()
    assert counts == [0, 1, 2, 0]


def test_no_rules_select_no_fault() -> None:
    assert faults().select(CALL) is None


def test_nth_selects_one_call() -> None:
    assert strikes(faults(Fault(Hang(), nth=2)), 4) == [False, True, False, False]


def test_times_limits_the_number_of_calls() -> None:
    assert strikes(faults(Fault(Hang(), times=2)), 4) == [True, True, False, False]


def test_only_matching_calls_are_counted() -> None:
    made = faults(Fault(Hang(), nth=2, voice="george"))
    anna = FaultCall("text-to-speech", "anna", 100)
    assert [made.select(call) is not None for call in (anna, CALL, anna, CALL)] == [False, False, False, True]


def test_voice_endpoint_and_length_are_conditions() -> None:
    assert Fault(Hang(), voice="george").matches(CALL, 0)
    assert not Fault(Hang(), voice="anna").matches(CALL, 0)
    assert Fault(Hang(), endpoint="text-to-speech*").matches(CALL, 0)
    assert not Fault(Hang(), endpoint="text-to-speech").matches(CALL, 0)
    assert Fault(Hang(), longer_than=99).matches(CALL, 0)
    assert not Fault(Hang(), longer_than=100).matches(CALL, 0)


def test_audio_fault_applies_to_calls_for_audio_only() -> None:
    silent = Fault(Silent(), nth=1)
    made = FaultRules(lambda: 0.0, Random(0))
    made.set(silent)
    assert [made.select(call) for call in (FaultCall("voices", speech=False), CALL)] == [None, silent]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_can_be_a_condition(endpoint: str) -> None:
    assert Fault(Hang(), endpoint=endpoint).endpoint == endpoint


def test_start_and_end_count_from_when_the_fault_was_set() -> None:
    time = SimulatorClock(1000.0)
    made = faults(Fault(Hang(), start=10, end=20), time=time)
    found = []
    for time.now in (1000.0, 1009.9, 1010.0, 1019.9, 1020.0):
        found += strikes(made, 1)
    assert found == [False, False, True, True, False]


@given(st.floats(0, 1e6), st.floats(0, 50), st.floats(1, 50), st.floats(0, 50))
def test_period_repeats_start_and_end(elapsed: float, start: float, length: float, rest: float) -> None:
    fault = Fault(Hang(), start=start, end=start + length, period=start + length + rest)
    assert fault.period is not None
    assert fault.matches(CALL, elapsed) == (start <= math.fmod(elapsed, fault.period) < fault.end)


def test_first_due_fault_is_applied() -> None:
    made = faults(Fault(Hang(), nth=2), Fault(Stall()))
    chosen = [made.select(CALL) for _ in range(3)]
    assert [fault.name for fault in chosen if fault] == ["stall", "hang", "stall"]


def test_each_rule_counts_all_matching_calls() -> None:
    made = faults(Fault(Hang(), nth=2), Fault(Stall(), nth=3), Fault(Restart(), times=9))
    chosen = [made.select(CALL) for _ in range(4)]
    assert [fault and fault.name for fault in chosen] == [None, "hang", "stall", None]


def test_probability_repeats_with_its_seed() -> None:
    first, again, other = (strikes(faults(Fault(Hang(), probability=0.5), seed=seed), 64) for seed in (1, 1, 2))
    assert first == again != other
    assert 16 < sum(first) < 48


def test_probability_zero_is_never_due() -> None:
    assert not any(strikes(faults(Fault(Hang(), probability=0.0)), 64))


def test_set_replaces_add_appends_and_clear_removes() -> None:
    made = faults(Fault(Hang()))
    made.add(Stall())
    assert [fault.name for fault in made] == ["hang", "stall"]
    made.set(Stall())
    assert [fault.name for fault in made] == ["stall"]
    made.clear()
    assert list(made) == []


IMPOSSIBLE: list[tuple[type, dict[str, Any], str]] = [
    (Fault, {"probability": 1.1}, "probability"),
    (Fault, {"probability": -0.1}, "probability"),
    (Fault, {"start": -1.0}, "start"),
    (Fault, {"start": math.inf}, "start"),
    (Fault, {"start": 5.0, "end": 5.0}, "end"),
    (Fault, {"end": 5.0, "period": 4.0}, "period"),
    (Fault, {"period": 4.0}, "period"),
    (Fault, {"nth": 0}, "nth"),
    (Fault, {"times": 0}, "times"),
    (Fault, {"longer_than": -1}, "longer_than"),
    (Refuse, {"status": 200}, "status"),
    (Refuse, {"status": 600}, "status"),
    (Refuse, {"code": "nobody_knows"}, "code"),
    (ErrorLine, {"code": "nobody_knows"}, "code"),
    (Fault, {"endpoint": "nobodyhome"}, "endpoint"),
    (Fault, {"endpoint": "spoken*"}, "endpoint"),
    (Refuse, {"form": "verse"}, "form"),
    (Refuse, {"retry_after": -1.0}, "retry_after"),
    (SlowFirstByte, {"seconds": -1.0}, "seconds"),
    (SlowFirstByte, {"seconds": math.inf}, "seconds"),
    (Stall, {"after": -1.0}, "after"),
    (Stall, {"seconds": -1.0}, "seconds"),
    (CutTerminated, {"after": math.nan}, "after"),
    (Drip, {"bytes": 0}, "bytes"),
    (Drip, {"every": -1.0}, "every"),
    (WrongLength, {"factor": 1.0}, "factor"),
    (WrongLength, {"factor": 0.0}, "factor"),
    (TooShort, {"fraction": 1.0}, "fraction"),
    (WrongRate, {"rate": 44_000}, "rate"),
    (OddSplits, {"bytes": 2}, "bytes"),
    (RefuseConnection, {"seconds": 0.0}, "seconds"),
    (RefuseConnection, {"seconds": -1.0}, "seconds"),
    (SlowAccept, {"seconds": math.inf}, "seconds"),
    (TlsFailure, {"flaw": "rust"}, "flaw"),
    (Restart, {"after": -1.0}, "after"),
    (BigFrame, {"bytes": 0}, "bytes"),
    (BigFrame, {"bytes": 2**27}, "bytes"),
]


@pytest.mark.parametrize(("kind", "fields", "key"), IMPOSSIBLE)
def test_invalid_fields_are_reported_by_name(kind: type, fields: dict[str, Any], key: str) -> None:
    with pytest.raises(FaultError, match=f"^{key}: ") as refused:
        kind(Hang(), **fields) if kind is Fault else kind(**fields)
    assert refused.value.key == key


def test_unknown_code_is_accepted_with_a_status() -> None:
    assert Refuse("brand_new", status=418).code == "brand_new"


@pytest.mark.parametrize("name", ACTIONS)
def test_fields_of_actions_and_conditions_have_different_names(name: str) -> None:
    own = {field.name for field in fields(ACTIONS[name])}
    assert not own & {field.name for field in fields(Fault)}


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_has_defaults(name: str) -> None:
    assert Fault(ACTIONS[name]()).name == name
