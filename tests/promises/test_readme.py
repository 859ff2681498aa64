"""README: its table of failures agrees with the table that the code goes by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from steadyvoice.speech.failure_kinds import FAILURE_TABLE, Billed, FailureKind, FailureMeaning, RetryAdvice

from .documentation import README


def failure_rows() -> list[tuple[list[str], str, str]]:
    """Return the kinds, the reaction and the weight of each row of README's table of failures."""
    section = README.read_text("utf-8").partition("\n## What happens at each failure\n")[2].partition("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [(re.findall(r"`(\w+)`", kinds), reaction, weight) for _, kinds, reaction, weight in rows[2:]]


REACTIONS = [(kind, reaction) for kinds, reaction, _ in failure_rows() for kind in kinds]
WEIGHTS = [(kind, weight) for kinds, _, weight in failure_rows() for kind in kinds]

_RETRIES: dict[str, Callable[[FailureMeaning], bool]] = {
    r"^one retry at once": lambda row: row.retry is RetryAdvice.NOW and row.billed is Billed.NO,
    r"^one retry,": lambda row: row.retry is RetryAdvice.AFTER and row.billed is Billed.NO,
    r"one retry if none is left": lambda row: row.retry is RetryAdvice.LAST,
    r"not asked before `Retry-After`": lambda row: row.retry is RetryAdvice.AFTER,
    r"no retry, because it may be billed": lambda row: row.billed is not Billed.NO,
    r"no retry, because it is billed": lambda row: row.billed is Billed.YES,
    r"no retry$": lambda row: row.retry is RetryAdvice.NO,
}
"""Phrases about retries, and their meaning. A row without any of them is one of no retry at all."""


def false_claims(reaction: str, row: FailureMeaning) -> Iterator[str]:
    """Yield what a reaction says, or leaves out, against the row of the failure table."""
    matched = {phrase: holds for phrase, holds in _RETRIES.items() if re.search(phrase, reaction)}
    if not matched and row.retry is not RetryAdvice.NO:
        yield f"retry: {row.retry}"
    yield from (f"{phrase}: {row.retry}, {row.billed}" for phrase, holds in matched.items() if not holds(row))
    if bool(re.search("the next provider", reaction)) != row.fail_over and not re.search("is closed at once", reaction):
        yield f"failover: {row.fail_over}"
    minutes = re.search(r"on hold for (\d+) minutes", reaction)
    if minutes and row.hold != 60 * int(minutes[1]):
        yield f"hold: {row.hold} s"
    if (row.hold is not None) != ("on hold" in reaction):
        yield f"hold: {row.hold} s"


def test_failures_of_readme_are_found() -> None:
    assert len(REACTIONS) > 30
    assert sum(bool(re.search("|".join(_RETRIES), reaction)) for _, reaction in REACTIONS) > 20


@pytest.mark.parametrize(("kind", "reaction"), REACTIONS)
def test_reaction_in_readme_is_that_of_the_failure_table(kind: str, reaction: str) -> None:
    assert list(false_claims(reaction, FAILURE_TABLE[FailureKind(kind)])) == []


@pytest.mark.parametrize(
    ("kind", "reaction"),
    [
        ("server_error", "the next provider"),
        ("server_error", "one retry at once, then the next provider"),
        ("connect_failed", "one retry, then the next provider"),
        ("cut", "one retry, then the next provider"),
        ("refused", "one retry, then the next provider"),
        ("busy", "the next provider; no retry, because it may be billed"),
        ("not_audio", "the next provider; no retry, because it is billed"),
        ("invalid_key", "the next provider; the key is on hold for 11 minutes"),
        ("invalid_key", "the next provider"),
        ("bad_request", "the next provider"),
        ("server_error", "one retry"),
    ],
)
def test_false_reaction_is_found(kind: str, reaction: str) -> None:
    assert list(false_claims(reaction, FAILURE_TABLE[FailureKind(kind)]))


@pytest.mark.parametrize(("kind", "weight"), WEIGHTS)
def test_failure_in_readme_has_the_weight_that_the_circuit_counts(kind: str, weight: str) -> None:
    counts = FAILURE_TABLE[FailureKind(kind)].circuit_weight
    if re.fullmatch(r"[\d.]+", weight):
        assert float(weight) == counts
    else:  # such as "1 if the vendor's own timestamps show it, 0 if only the length does"
        assert f"{counts:g}" in re.findall(r"[\d.]+", weight)
