"""Flags in requests: the values that pydantic accepts, as at ElevenLabs, and pydantic's messages for others."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from steadyvoice.wire.request_validation import FLAGS, validate_flag

SPELLINGS = st.sampled_from(FLAGS).flatmap(lambda flag: st.sampled_from([flag, flag.upper(), flag.title(), f" {flag}"]))
NUMBERS = st.integers(-2, 2) | st.sampled_from([0.0, 0.5, 1.0, -0.0, float("nan")])
VALUES: st.SearchStrategy[Any] = SPELLINGS | NUMBERS | st.booleans() | st.text() | st.lists(st.booleans()) | st.just({})


@given(VALUES)
def test_flags_are_those_of_pydantic(value: Any) -> None:
    issue = validate_flag(("body", "flag"), value)
    try:
        TypeAdapter(bool).validate_python(value)
    except ValidationError as refused:
        (theirs,) = refused.errors()
        assert issue is not None
        assert (issue.type, issue.msg) == (theirs["type"], theirs["msg"])
    else:
        assert issue is None
