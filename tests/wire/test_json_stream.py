"""JSON in parts: the parts are the document, none is long, and what is no JSON is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.wire.json_stream import PART_SIZE, parse_in_parts

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
LISTS = st.lists(SCALARS, max_size=20)
OBJECTS = st.dictionaries(st.text(), SCALARS | LISTS, max_size=5)
DOCUMENTS = st.dictionaries(st.text(), SCALARS | LISTS | OBJECTS, max_size=5)


def rebuilt(text: str) -> dict[str, Any]:
    """Return an object of scalars, lists and objects from its parts. Objects without members are lost."""
    document: dict[str, Any] = {}
    for path, value, _ in parse_in_parts(text):
        if path is None:
            continue
        *parents, name = path
        inner = document
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if isinstance(value, str | list):
            inner[name] = inner.get(name, type(value)()) + value
        else:
            inner[name] = value
    return document


@given(
    document=DOCUMENTS, escaped=st.booleans(), indent=st.sampled_from([None, 0, 3]), filled=st.sampled_from([0, 70_000])
)
def test_parts_are_the_document(document: dict[str, Any], escaped: bool, indent: int | None, filled: int) -> None:
    text = f" {json.dumps(document, ensure_ascii=escaped, indent=indent)}\n{' ' * filled}"
    assert rebuilt(text) == {name: value for name, value in document.items() if value != {}}


@pytest.mark.parametrize(
    "value", ["x" * 1_000_000, 'a"\\\n\u00e9' * 50_000, list(range(200_000)), ["]", "\\"] * 100_000]
)
def test_no_part_of_a_long_value_is_long(value: Any) -> None:
    text = json.dumps({"value": value})
    sizes = [size for _, _, size in parse_in_parts(text)]
    assert max(sizes) <= PART_SIZE
    assert len(text) * 0.9 < sum(sizes) <= len(text)
    assert rebuilt(text) == {"value": value}


def test_values_within_lists_have_paths_of_their_own() -> None:
    parts = [(path, value) for path, value, _ in parse_in_parts('{"a": [1, {"b": [2]}, [3], 4]}')]
    assert parts == [(("a",), [1]), (("a", "*", "b"), [2]), (("a", "*"), [3]), (("a",), [4])]


@given(
    document=DOCUMENTS,
    where=st.integers(0, 10_000),
    put=st.sampled_from(["", '"', "\\", "]", "}", "[", "{", ",", ":", "x"]),
)
def test_damaged_document_is_refused_as_it_is_by_json(document: dict[str, Any], where: int, put: str) -> None:
    text = json.dumps(document)
    at = where % (len(text) + 1)
    damaged = text[:at] + put + text[at + (not put) :]
    try:
        json.loads(damaged)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            list(parse_in_parts(damaged))
    else:
        list(parse_in_parts(damaged))


@pytest.mark.parametrize(
    "text", ["[" * 20 + "]" * 20, "1" * 10_000, '{"a":' + " " * 3 * PART_SIZE + "  1}", '{"a": "\\', "", "nul"]
)
def test_what_cannot_be_parsed_in_parts_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(parse_in_parts(text))
