"""Written form of faults."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from steadyvoice.simulator.fault_injection.actions import (
    ACTIONS,
    Drip,
    FaultError,
    FaultTarget,
    Gzip,
    GzipBomb,
    Hang,
    Refuse,
    Stall,
    UnknownCoding,
)
from steadyvoice.simulator.fault_injection.matching import Fault
from steadyvoice.simulator.fault_injection.syntax import fault_from_table, fault_to_table, parse_fault

CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "probability": st.floats(0, 1),
        "start": st.floats(0, 10),
        "end": st.floats(11, 20),
        "nth": st.integers(1, 9),
        "times": st.integers(9, 20),
        "voice": st.text("abc", min_size=1),
        "endpoint": st.sampled_from(["*", "user", "text-to-speech/stream"]),
        "longer_than": st.integers(0, 99),
    },
)


@given(st.sampled_from(sorted(ACTIONS)), CONDITIONS)
def test_written_fault_is_parsed_to_the_same_fault(name: str, conditions: dict[str, Any]) -> None:
    kind = ACTIONS[name]
    assume(FaultTarget.HTTP in kind.targets or not {"voice", "longer_than"} & conditions.keys())
    fault = Fault(kind(), **conditions)
    table = fault_to_table(fault)
    assert fault_from_table(table) == fault
    assert parse_fault(";".join([table.pop("fault"), *(f"{key}={value}" for key, value in table.items())])) == fault


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("hang", Fault(Hang())),
        ("stall;after=0.8", Fault(Stall(after=0.8))),
        (" stall ; after = 1 ; seconds=2;", Fault(Stall(after=1.0, seconds=2.0))),
        ("drip;bytes=3;every=0", Fault(Drip(3, 0.0))),
        ("gzip;declared=false", Fault(Gzip(declared=False))),
        ("gzip;members=3", Fault(Gzip(members=3))),
        ("gzip-bomb;megabytes=5", Fault(GzipBomb(megabytes=5))),
        ("unknown-coding;coding=zstd", Fault(UnknownCoding("zstd"))),
        ("refuse;code=quota_exceeded;longer_than=40", Fault(Refuse("quota_exceeded"), longer_than=40)),
        ("refuse;status=503;form=legacy;nth=2", Fault(Refuse(status=503, form="legacy"), nth=2)),
        ("hang;start=1;end=2;period=3", Fault(Hang(), start=1.0, end=2.0, period=3.0)),
    ],
)
def test_fault_in_the_form_of_the_header(written: str, fault: Fault) -> None:
    assert parse_fault(written) == fault


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "unknown fault ''"),
        ("stal", "unknown fault 'stal': did you mean stall?"),
        ("earthquake", "unknown fault 'earthquake': there are "),
        ("stall;afte=1", "unknown field of stall 'afte': did you mean after?"),
        ("hang;bytes=1", "unknown field of hang 'bytes': "),
        ("gzip;told=false", "unknown field of gzip 'told': it is now called declared"),
        ("stall;told=false", "unknown field of stall 'told': "),
        ("stall;after", "'after': write it as name=value"),
        ("stall;after=soon", "after: must be a number, got 'soon'"),
        ("stall;after=nan", "after: not a number"),
        ("drip;bytes=1.5", "bytes: must be a whole number, got '1.5'"),
        ("gzip;declared=perhaps", "declared: must be true or false, got 'perhaps'"),
        ("gzip;members=0", "members: must be a whole number, 1 or more, got 0"),
        ("gzip-bomb;megabytes=0", "megabytes: must be a whole number from 1 to 10000, got 0"),
        ("unknown-coding;coding=", "coding: must be names such as br, zstd or 'gzip, gzip', got ''"),
        ("refuse;form=verse", "unknown form 'verse': there are current, legacy, list, text"),
        ("stall;after=-1", "after: must be a number of seconds, 0 or more, got -1.0"),
    ],
)
def test_invalid_fault_has_a_readable_message(written: str, message: str) -> None:
    with pytest.raises(FaultError) as refused:
        parse_fault(written)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"fault": 1},
        {"fault": "stall", "after": True},
        {"fault": "drip", "bytes": 2.0},
        {"fault": "gzip", "declared": 1},
    ],
)
def test_table_with_wrong_types_is_rejected(table: dict[str, Any]) -> None:
    with pytest.raises(FaultError):
        fault_from_table(table)
