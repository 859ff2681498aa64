"""Error responses: parsing of any body, redaction of keys, Retry-After."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steadyvoice.speech.errors import TTSError
from steadyvoice.wire.elevenlabs import errors as elevenlabs_errors
from steadyvoice.wire.error_response import (
    MAX_BODY_EXCERPT,
    MAX_RETRY_AFTER,
    body_excerpt,
    get_header,
    parse_error_details,
    parse_retry_after,
    redact,
    single_line,
)
from steadyvoice.wire.openai import errors as openai_errors

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEY = "sk_4f9aTheSecretOfThisAccount"

parsers = pytest.mark.parametrize("parse", [elevenlabs_errors.parse_error, openai_errors.parse_error])

documents = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just(KEY),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["detail", "error", "code"]), inner),
)
complaints = st.fixed_dictionaries(
    {},
    optional={
        name: documents | st.sampled_from(["quota_exceeded", "only_for_creator+", KEY, f"your key {KEY} is bad"])
        for name in ("code", "status", "message", "param", "type", "request_id", "loc", "msg")
    },
)
bodies = st.one_of(
    st.binary(),
    documents.map(lambda document: json.dumps(document).encode()),
    complaints.map(lambda complaint: json.dumps({"detail": complaint}).encode()),
    complaints.map(
        lambda complaint: json.dumps({"error": complaint}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ),
    complaints.map(lambda complaint: json.dumps({"detail": [complaint]}).encode()),
)
headers = st.dictionaries(
    st.sampled_from(["Retry-After", "retry-after-ms", "request-id", "x-request-id", "Location", "Content-Type"]),
    st.text() | st.just(KEY) | st.integers().map(str) | st.floats().map(str),
)


@parsers
@given(status=st.integers(100, 599), headers=headers, body=bodies)
@example(status=500, headers={}, body=b"[" * 60_000)
@example(status=500, headers={"retry-after": "9" * 400}, body=b"9" * 5_000)
@example(status=500, headers={"retry-after": "0\x1f"}, body=b"")
@example(status=400, headers={}, body=b'{"detail": "\\ud800"}')
def test_no_error_body_breaks_the_parser_or_reveals_the_key(
    parse: Callable[..., TTSError], status: int, headers: dict[str, str], body: bytes
) -> None:
    error = parse(status, headers, body, now=NOON, api_key=KEY, provider="vendor")

    shown = f"{error} {error!r} {error.code} {error.request_id}"
    shown.encode()  # no lone surrogates
    assert KEY not in shown + (error.body or "")
    assert "\n" not in str(error)
    assert error.body is not None
    assert len(error.body) <= MAX_BODY_EXCERPT
    assert error.retry_after is None or 0 <= error.retry_after <= MAX_RETRY_AFTER
    assert error.meaning.advice in str(error)


def test_key_across_the_cut_of_the_excerpt_is_redacted() -> None:
    body = b"x" * (MAX_BODY_EXCERPT - 8) + KEY.encode()

    error = elevenlabs_errors.parse_error(500, {}, body, now=NOON, api_key=KEY)

    assert error.body is not None
    assert error.body.endswith("x***")


@pytest.mark.parametrize(
    "text", ["key sk_0123456789abcdef0123 here", "sk-proj-0123456789abcdef", "Authorization: Bearer abcdefgh"]
)
def test_anything_that_looks_like_a_key_is_redacted(text: str) -> None:
    assert "***" in redact(text)
    assert "abcdef" not in redact(text)


def test_ordinary_message_is_not_changed() -> None:
    message = "You have 5 characters left; ask-me-anything about task-oriented voices"

    assert redact(message, None) == redact(message, "") == redact(message, "a") == message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "60"}, 0.25),
        ({"retry-after": format_datetime(NOON.replace(minute=2), usegmt=True)}, 120.0),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": format_datetime(NOON.replace(hour=11), usegmt=True)}, 0.0),
        ({"retry-after": "999999999"}, MAX_RETRY_AFTER),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_parsed_in_seconds_milliseconds_or_as_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert parse_retry_after(headers, NOON) == seconds


@pytest.mark.parametrize(
    ("document", "code", "message", "param"),
    [
        ({"detail": {"status": "quota_exceeded", "message": "Out"}}, "quota_exceeded", "Out", None),
        ({"detail": {"type": "t", "code": "c", "status": "s", "message": "m", "param": "p"}}, "c", "m", "p"),
        ({"detail": [{"type": "missing", "loc": ["body", "text"], "msg": "no"}]}, None, "body.text: no", "text"),
        ({"detail": "Voice gone"}, None, "Voice gone", None),
        ({"error": {"message": "m", "type": "t", "param": "voice", "code": None}}, "t", "m", "voice"),
        ({"error": {"message": "m", "type": "None", "param": "None", "code": "429"}}, None, "m", None),
        ({"error": "broken"}, None, "broken", None),
        ({"status": "busy", "message": "m"}, "busy", "m", None),
    ],
)
def test_every_form_of_error_body_is_parsed(document: Any, code: str | None, message: str, param: str | None) -> None:
    details = parse_error_details(json.dumps(document).encode())

    assert (details.code, details.message, details.param) == (code, message, param)
    assert details.recognized


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html><head><title>502 Bad\nGateway</title></head></html>", "502 Bad\nGateway"),
        (b"<p>hm", "a web page"),
        (b"upstream connect error", "upstream connect error"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"", ""),
    ],
)
def test_body_of_another_server_is_not_recognized(body: bytes, message: str) -> None:
    details = parse_error_details(body)

    assert details.message == message
    assert not details.recognized


def test_header_is_found_in_any_case() -> None:
    assert get_header({"Request-ID": "a"}, "request-id") == "a"
    assert get_header({"request-id": "a"}, "request-id") == "a"
    assert get_header({}, "request-id") is None


HIDDEN = {
    "bidirectional overrides and isolates": "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e",
    "tags": "\U000e0001\U000e0041\U000e007f",
    "fillers": "\u3164\u115f\u1160\uffa0\u2800\u034f\ufe0f",
    "interlinear annotations": "\ufff9\ufffa\ufffb",
    "lone surrogates": "\ud800\udfff\udc80",
    "control characters": "\x00\x07\x1b\x7f\x9b",
    "private use": "\ue000\U000f0000",
}


@pytest.mark.parametrize("what", HIDDEN)
def test_invisible_characters_of_a_vendor_are_removed(what: str) -> None:
    hidden = HIDDEN[what]
    text = f"quota{hidden} excee{hidden}ded"

    assert single_line(text) == "quota exceeded"
    assert single_line(hidden) == ""
    body = json.dumps({"detail": {"message": text, "status": f"no{hidden}such"}}).encode()
    readable = json.dumps({"detail": {"message": text}}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    headers = {"request-id": f"r{hidden}1", "content-type": "application/json"}
    for parse in (elevenlabs_errors.parse_error, openai_errors.parse_error):
        for source in (body, readable):
            error = parse(400, headers, source, now=NOON, provider="vendor")
            shown = f"{error} {error.message} {error.code} {error.request_id} {error.body}"
            assert not set(hidden) & set(shown)
            shown.encode()


@pytest.mark.parametrize("what", HIDDEN)
def test_key_with_invisible_characters_is_redacted(what: str) -> None:
    key = HIDDEN[what].join(["sk_4f9aTheSecret", "OfThisAccount"])
    assert "Secret" not in single_line(redact(f"bad key {key}", KEY))
    assert "Secret" not in body_excerpt(f"bad key {key}".encode("utf-8", "surrogatepass"), KEY)


def test_message_in_any_script_stays_as_it_is() -> None:
    for message in ("配额已用完", "الحصة مستنفدة", "कोटा समाप्त", "квота исчерпана 👍", "Schlüssel ungültig: “x” — no"):
        assert single_line(message) == message


@parsers
def test_page_with_endless_titles_is_parsed_in_linear_time(parse: Callable[..., TTSError]) -> None:
    page = b"<title" * 11_000  # as many beginnings, each with all the rest behind it, took a second
    error = parse(502, {}, page, now=NOON, provider="vendor")
    assert "a web page" in error.message


def by_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


@pytest.mark.parametrize(
    "wrong", [timedelta(hours=-9), timedelta(hours=7), timedelta(days=-20_000), timedelta(days=900)]
)
@pytest.mark.parametrize("named", ["as a date", "in Unix seconds", "in Unix milliseconds"])
def test_date_is_read_by_the_vendors_clock(wrong: timedelta, named: str) -> None:
    until = NOON + timedelta(seconds=90)
    sent_headers = {
        "as a date": by_date(until),
        "in Unix seconds": str(int(until.timestamp())),
        "in Unix milliseconds": str(int(until.timestamp()) * 1000),
    }[named]
    headers = {"Date": by_date(NOON), "Retry-After": sent_headers}
    assert parse_retry_after(headers, NOON + wrong) == pytest.approx(90.0, abs=0.01)


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Foo 2026", "0", by_date(datetime(1971, 1, 1, tzinfo=UTC))])
def test_implausible_vendor_clock_is_ignored(date: str) -> None:
    headers = {"date": date, "retry-after": by_date(NOON + timedelta(seconds=90))}
    assert parse_retry_after(headers, NOON) == pytest.approx(90.0)


@pytest.mark.parametrize(
    "headers",
    ["-1", "-1e9", "1" + "0" * 400, "1e400", "inf", "nan", "9" * 15,
     "Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "0x10", "1,5", "\u0661\u0662"],
)  # fmt: skip
def test_retry_after_is_bounded(headers: str) -> None:
    seconds = parse_retry_after({"date": by_date(NOON), "retry-after": headers}, NOON)
    assert seconds is None or 0.0 <= seconds <= MAX_RETRY_AFTER
