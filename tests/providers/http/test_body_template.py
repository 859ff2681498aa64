"""Bodies of requests around a text."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.providers.http.body_template import BodyTemplate

XML_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xD7FF))


def filled(template: BodyTemplate, text: str) -> bytes:
    return template.before + template.quote(text).encode() + template.after


@given(st.text(st.characters(exclude_categories=["Cs"])))
@pytest.mark.parametrize(
    ("document", "field", "expected"),
    [
        ({}, "text", {"text": "T"}),
        ({"voice": "v"}, "text", {"voice": "v", "text": "T"}),
        ({"input": {"kind": "plain"}, "a": 1}, "input.text", {"input": {"kind": "plain", "text": "T"}, "a": 1}),
        ({"a": 1}, "x.y.z", {"a": 1, "x": {"y": {"z": "T"}}}),
    ],
)
def test_json_around_any_text(document: dict[str, Any], field: str, expected: dict[str, Any], text: str) -> None:
    got = json.loads(filled(BodyTemplate.of_json(document, field), text))
    assert got == json.loads(json.dumps(expected).replace('"T"', json.dumps(text)))


@given(XML_TEXT)
def test_ssml_around_any_text(text: str) -> None:
    template = BodyTemplate.of_ssml(language="en-US", voice='A "b" <c>', prosody={"rate": "+20%"})
    root = ElementTree.fromstring(filled(template, text))
    assert "".join(root.itertext()) == text
    (voice,) = root
    assert voice.get("name") == 'A "b" <c>'
    assert voice[0].get("rate") == "+20%"


def test_ssml_without_voice_and_prosody_has_the_text_alone() -> None:
    root = ElementTree.fromstring(filled(BodyTemplate.of_ssml(language="de"), "Hallo"))
    assert root.text == "Hallo"


@pytest.mark.parametrize("document", [{"speed": float("nan")}, {"voice": object()}])
def test_document_that_cannot_be_encoded_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        BodyTemplate.of_json(document, "text")
