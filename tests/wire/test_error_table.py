"""Table of a vendor's errors: paths to its fields, mistakes in the table, documents of unknown form."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from steadyvoice.speech.errors import (
    TTSBusyError,
    TTSConfigurationError,
    TTSError,
    TTSNotAudioError,
    TTSVoiceUnknownError,
)
from steadyvoice.wire.error_table import ErrorTable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TABLE = ErrorTable(
    codes={"speaker.unknown": TTSVoiceUnknownError},
    code_fields=("fault.id", "code"),
    message_fields=("fault.explain", "message"),
)


def parse(document: Any, status: int = 404, table: ErrorTable = TABLE) -> TTSError:
    return table.parse(status, {"content-type": "application/json"}, json.dumps(document).encode(), now=NOW)


@pytest.mark.parametrize(
    "document",
    [
        {"fault": {"id": "speaker.unknown", "explain": "No such speaker."}},
        {"error": {"fault": {"id": "speaker.unknown", "explain": "No such speaker."}}},
        {"error": {"code": "speaker.unknown", "message": "No such speaker."}},
        {"code": "speaker.unknown", "message": "No such speaker."},
    ],
)
def test_fields_are_found_by_name_and_by_path(document: Any) -> None:
    error = parse(document)
    assert isinstance(error, TTSVoiceUnknownError)
    assert (error.code, error.message) == ("speaker.unknown", "HTTP 404 speaker.unknown: No such speaker.")


def test_code_without_a_message_is_read() -> None:
    assert isinstance(parse({"fault": {"id": "speaker.unknown"}}), TTSVoiceUnknownError)


@pytest.mark.parametrize("document", [{"fault": "x"}, {"fault": None}, {"fault": {"id": 3}}, {"fault": ["id"]}])
def test_unknown_document_is_quoted_with_what_to_check(document: Any) -> None:
    error = parse(document)
    assert isinstance(error, TTSNotAudioError)
    assert error.message == (
        f"HTTP 404: unknown error document {json.dumps(document)}; check base_url, or code_fields of the provider"
    )
    assert "base_url" not in parse(document, status=500).message


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"codes": {"busy": "TTSBusyError"}}, "'busy' means 'TTSBusyError', which is no class of TTSError"),
        ({"codes": {"busy": ValueError}}, "'busy' means <class 'ValueError'>"),
        ({"codes": {"busy": TTSBusyError("x")}}, "'busy' means TTSBusyError"),
        ({"codes": {}, "statuses": {429: 503}}, "429 means 503, which is no class of TTSError"),
        ({"codes": {}, "code_fields": "code"}, r"ErrorTable.code_fields: must be several names, such as \('code',\)"),
    ],
)
def test_mistake_in_a_table_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TTSConfigurationError, match=sentence):
        ErrorTable(**fields)
