"""The table of errors in the documentation agrees with the classes, the failure table and the gateway."""

from __future__ import annotations

import re

import pytest

import steadyvoice
from steadyvoice import CircuitOpenError, TTSAllProvidersFailedError, TTSCircuitOpenError, TTSError
from steadyvoice.gateway.dialects.base import http_error
from steadyvoice.speech.failure_kinds import FailureMeaning, RetryAdvice

from .layers import ROOT

PAGE = (ROOT / "docs" / "errors.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if re.match(r"\| `TTS\w+Error` \| `\w+` \|", line)
]
RETRIES = {
    RetryAdvice.NO: "no retry",
    RetryAdvice.NOW: "retry at once",
    RetryAdvice.AFTER: "retry after backoff",
    RetryAdvice.LAST: "retry if no other provider is left",
}


def subclasses(kind: type[TTSError]) -> set[type[TTSError]]:
    """Return all classes below an error class, at any depth, that belong to the package.

    Those of a replay are never raised.
    """
    found = {each for each in kind.__subclasses__() if each.__module__.startswith("steadyvoice.")}
    found = {each for each in found if not each.__module__.startswith("steadyvoice.service.replay.")}
    return found.union(*(subclasses(each) for each in found))


def reaction(meaning: FailureMeaning) -> str:
    """Describe the reaction to a failure as the page does."""
    parts = [
        RETRIES[meaning.retry],
        "failover" if meaning.fail_over else "no failover",
        f"weight {meaning.circuit_weight:g}",
    ]
    if meaning.hold:
        length = f"{meaning.hold / 60:g} min" if meaning.hold >= 60 else f"{meaning.hold:g} s"
        parts.append(f"{meaning.scope.value} on hold for {length}")
    return ", ".join(parts)


def instance(kind: type[TTSError]) -> TTSError:
    """Make an error of a class."""
    if kind is TTSCircuitOpenError:
        return TTSCircuitOpenError(CircuitOpenError(name="vendor"))
    return kind("what happened")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_row_agrees_with_the_code(row: list[str]) -> None:
    name, kind, cause, fault, reacts, status, advice = row
    error = instance(getattr(steadyvoice, name.strip("`")))

    assert kind == f"`{error.kind.value}`"
    assert cause
    assert fault == error.meaning.blame.value
    assert reacts == reaction(error.meaning)
    assert status == str(http_error(error).status)
    assert advice == error.meaning.advice


def test_table_has_each_kind_of_error_once() -> None:
    listed = [row[0].strip("`") for row in ROWS]
    raised = {each for each in subclasses(TTSError) if not subclasses(each) or each is TTSCircuitOpenError}
    raised -= {each for each in raised if issubclass(each, TTSAllProvidersFailedError)}

    assert len(listed) == len(set(listed))
    assert set(listed) == {each.__name__ for each in raised}


def test_page_names_every_error_class() -> None:
    named = set(re.findall(r"\b(?:TTS|Circuit)\w*Error\b", PAGE))
    exported = {name for name in steadyvoice.__all__ if name.endswith("Error")}

    assert named == exported
    assert {each.__name__ for each in subclasses(TTSError)} <= exported
