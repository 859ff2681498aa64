"""ElevenLabs errors: classification by code or status, and error bodies."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire.elevenlabs.errors import CODES, ErrorBodyVersion, error_body, parse_error, validation_body
from steadyvoice.wire.request_validation import ValidationIssue

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def read(status: int, document: Any, **headers: str) -> TTSError:
    return parse_error(status, headers, json.dumps(document).encode(), now=NOON, provider="elevenlabs")


@pytest.mark.parametrize("generation", ErrorBodyVersion)
@pytest.mark.parametrize("code", CODES)
def test_each_code_means_the_same_in_both_generations(code: str, generation: ErrorBodyVersion) -> None:
    known = CODES[code]

    error = read(known.status, error_body(code, "Told so.", generation=generation))

    assert type(error) is known.error
    assert (error.code, error.status) == (code, known.status)
    assert error.message == f"HTTP {known.status} {code}: Told so."


@pytest.mark.parametrize(
    ("param", "kind"),
    [
        ("previous_text", speech.TTSBadRequestError),
        ("text", speech.TTSTextTooLongError),
        (None, speech.TTSTextTooLongError),
    ],
)
@pytest.mark.parametrize("code", ["text_too_long", "max_character_limit_exceeded"])
def test_length_error_is_about_the_text_unless_another_field_is_named(
    code: str, param: str | None, kind: type[TTSError]
) -> None:
    assert type(read(400, error_body(code, "Too long.", param=param))) is kind


def test_out_of_credit_is_not_a_bad_key_though_both_are_401() -> None:
    assert type(read(401, error_body("quota_exceeded", ""))) is speech.TTSQuotaExceededError
    assert type(read(401, error_body("invalid_api_key", ""))) is speech.TTSInvalidKeyError


@pytest.mark.parametrize("status", [400, 404])
def test_unknown_voice_is_recognized_by_any_status(status: int) -> None:
    assert type(read(status, error_body("voice_not_found", ""))) is speech.TTSVoiceUnknownError


@pytest.mark.parametrize("status", [401, 402])
def test_voice_outside_the_plan_is_recognized_by_any_status(status: int) -> None:
    assert type(read(status, error_body("payment_required", ""))) is speech.TTSPlanRequiredError


def test_every_larger_plan_is_known_by_the_beginning_of_its_code() -> None:
    assert type(read(403, error_body("only_for_scale+", ""))) is speech.TTSPlanRequiredError


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, speech.TTSNotAudioError),
        (307, speech.TTSNotAudioError),
        (400, speech.TTSBadRequestError),
        (401, speech.TTSInvalidKeyError),
        (402, speech.TTSQuotaExceededError),
        (403, speech.TTSInvalidKeyError),
        (404, speech.TTSVoiceUnknownError),
        (405, speech.TTSNotAudioError),
        (408, speech.TTSServerError),
        (409, speech.TTSBusyError),
        (413, speech.TTSTextTooLongError),
        (418, speech.TTSRefusedError),
        (425, speech.TTSBusyError),
        (429, speech.TTSBusyError),
        (500, speech.TTSServerError),
        (503, speech.TTSServerError),
        (529, speech.TTSServerError),
    ],
)
def test_unknown_code_is_classified_by_status(status: int, kind: type[TTSError]) -> None:
    error = read(status, error_body("brand_new", "Never seen.", status=status))

    assert type(error) is kind
    assert error.code == "brand_new"


def test_unrecognized_404_means_a_wrong_address() -> None:
    error = parse_error(404, {}, b"<html><title>Nothing here</title></html>", now=NOON)

    assert type(error) is speech.TTSNotAudioError
    assert "Nothing here" in str(error)
    assert "base_url" in str(error)


def test_list_of_a_422_names_the_field() -> None:
    error = read(422, validation_body([ValidationIssue("missing", ("body", "text"), "Field required")]))

    assert type(error) is speech.TTSBadRequestError
    assert error.message == "HTTP 422: body.text: Field required"


def test_request_id_comes_from_the_header_or_else_from_the_body() -> None:
    body = error_body("system_busy", "", request_id="from-body")

    assert read(429, body, **{"request-id": "from-header"}).request_id == "from-header"
    assert read(429, body).request_id == "from-body"


def test_current_error_body_has_the_type_of_its_status() -> None:
    assert error_body("invalid_api_key", "No.", request_id="r", param="key") == {
        "detail": {
            "type": "authentication_error",
            "code": "invalid_api_key",
            "message": "No.",
            "status": "invalid_api_key",
            "request_id": "r",
            "param": "key",
        }
    }
    assert error_body("odd", "")["detail"]["type"] == "internal_error"


def test_legacy_error_body_has_a_status_and_a_message() -> None:
    body = error_body("system_busy", "Later.", generation=ErrorBodyVersion.LEGACY, request_id="r")

    assert body == {"detail": {"status": "system_busy", "message": "Later."}}
