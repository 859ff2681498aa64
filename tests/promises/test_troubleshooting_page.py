"""The troubleshooting page names every kind and cause that a user can see, and nothing that does not exist."""

from __future__ import annotations

import re

import pytest

from steadyvoice.breaker.states import Cause
from steadyvoice.service.metrics import metric_definitions
from steadyvoice.service.resilience.admission_control import CAUSES
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.wire.elevenlabs.errors import SocketClose, close_error

from .layers import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
SOURCE = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "src" / "steadyvoice").rglob("*.py")))
CODE = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", PAGE)


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    found = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert found, heading
    return found


def first_cells(text: str) -> list[str]:
    """Return what is set as code in the first column of tables."""
    cells = re.findall(r"^\| (.+?) \|", text, re.MULTILINE)
    return [each for cell in cells for each in re.findall(r"`([^`]+)`", cell)]


def test_every_kind_of_failure_has_a_row_and_no_other_word_has_one() -> None:
    named = first_cells(section("Kinds of failure"))

    assert sorted(named) == sorted({kind.value for kind in FailureKind})


def test_every_cause_of_a_transition_has_a_row_and_no_other_word_has_one() -> None:
    named = first_cells(section("Causes of transitions"))

    assert sorted(named) == sorted(cause.value for cause in Cause)


def test_every_cause_of_a_refusal_for_overload_has_a_row() -> None:
    assert set(first_cells(section("Overload: 503 and late answers"))) >= set(CAUSES)


def test_metrics_and_headers_that_are_named_exist() -> None:
    metrics = set(re.findall(r"`(steadyvoice_\w+)", PAGE))
    headers = set(re.findall(r"`(x-steadyvoice-[\w-]+)", PAGE))

    defined = [
        each for each in vars(metric_definitions).values() if isinstance(each, metric_definitions.MetricDefinition)
    ]
    assert metrics <= {metric.name for metric in defined}
    assert len(metrics) > 10
    known = SOURCE + " ".join(f"x-steadyvoice-{name}" for name in ("voice-substitution", "cache"))
    assert all(header in known for header in headers)
    assert len(headers) >= 4


@pytest.mark.parametrize("line", [code for code in CODE if "..." in code and " " in code])
def test_log_line_or_message_that_is_quoted_is_written_by_the_code(line: str) -> None:
    # What varies is "..." on the page, and a placeholder in the source.
    parts = [part.strip(" ?;:,->") for part in line.split("...")]
    missing = [part for part in parts if part not in SOURCE]
    assert missing == []


def test_close_codes_of_vendors_have_the_kinds_of_the_page() -> None:
    rows = re.findall(r"^\| ([\d, to]+) \| `(\w+)` \|", section("Websocket close codes"), re.MULTILINE)
    kinds = {int(code): kind for codes, kind in rows for code in re.findall(r"\d+", codes)}

    assert len(kinds) >= 10
    for code, kind in kinds.items():
        error: TTSError = close_error(SocketClose(code, received=True, delivered=True))
        assert error.kind.value == kind, code
    assert close_error(SocketClose(None)).kind.value == "socket_dropped"
    assert close_error(SocketClose(1008)).kind.value == "invalid_key"
    assert close_error(SocketClose(4401)).kind.value == "invalid_key"
    assert close_error(SocketClose(1000, delivered=True)).kind.value == "cut"
    assert close_error(SocketClose(1000)).kind.value == "no_answer"


@pytest.mark.parametrize(
    "symptom",
    ["muted", "too_short", "open for no reason", "429", "first word is cut", "voice differs", "first audio is slow",
     "does not close", "stuck at half-open", "Workers restart", "No local voice", "Fleet alone", "close codes"],
)  # fmt: skip
def test_symptom_has_a_heading(symptom: str) -> None:
    assert any(symptom in heading for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE))
