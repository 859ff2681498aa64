"""What is wrong with a request that a server cannot read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Issue:
    """One field that could not be accepted."""

    type: str  # such as "missing" or "string_type"
    loc: tuple[str, ...]  # such as ("body", "text")
    msg: str
    input: Any = None


class UnreadableRequestError(ValueError):
    """A request whose shape is wrong; each dialect has its `validation_body(issues)` to answer with."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__("; ".join(f"{'.'.join(issue.loc)}: {issue.msg}" for issue in issues))
        self.issues = tuple(issues)


def read_document(body: bytes) -> dict[str, Any]:
    """Read the JSON object that a request's body is. Raises UnreadableRequestError."""
    if not body:
        raise UnreadableRequestError([Issue("missing", ("body",), "Field required")])
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise UnreadableRequestError([Issue("json_invalid", ("body",), "JSON decode error")]) from None
    if not isinstance(document, dict):
        raise UnreadableRequestError([Issue("model_attributes_type", ("body",), "Input should be an object")])
    return document


def issues_of_text(name: str, text: Any) -> list[Issue]:
    """Check the text to be spoken: there, a string, and not blank."""
    if text is None:
        return [Issue("missing", ("body", name), "Field required")]
    if not isinstance(text, str):
        return [string_expected(name, text)]
    if not text.strip():
        return [Issue("string_too_short", ("body", name), "String should have at least 1 character", text)]
    return []


def string_expected(name: str, value: Any) -> Issue:
    """Say that a field of the body should be a string."""
    return Issue("string_type", ("body", name), "Input should be a valid string", value)
