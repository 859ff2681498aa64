"""Error responses of vendors: parsing, redaction, Retry-After, and classification by status or origin.

ElevenLabs sends `{"detail": {...}}` in two generations, FastAPI `{"detail": [...]}` or `{"detail": "..."}`,
OpenAI and its imitators `{"error": {...}}` or `{"error": "..."}`; proxies in between send HTML or nothing. No function
here raises on malformed input.

Sources for firewalls and bot protection:
https://developers.cloudflare.com/cloudflare-challenges/challenge-types/challenge-pages/detect-response/ and
https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-1xxx-errors/; the others by
answers that public reports quote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.text import clean_text, strip_invisible

MAX_BODY_EXCERPT = 500
"""How many characters of a vendor's body an error carries."""

MAX_RETRY_AFTER = 86_400.0
"""Seconds: a Retry-After beyond a day is taken for a day, for it would outlive whoever reads it."""

_KEY_LIKE = re.compile(r"\b(?:sk|xi|pk)[-_][A-Za-z0-9_\-]{12,}|(?<=Bearer )[^\s\"']{4,}")
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,200})", re.IGNORECASE)  # bounded: a page may be all beginnings
_MIN_SECRET_LENGTH = 4  # a shorter "key" is a test's, and would be struck out of every word


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """An error answer: its code, message, the field it is about, and the vendor's id of the request."""

    code: str | None = None
    message: str = ""
    param: str | None = None
    request_id: str | None = None
    spoken: bool = False  # whether it came in a shape that speech servers use


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An HTTP answer as it came. `now` is wall time with a zone; `secret` must not be told to anybody."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    now: datetime
    secret: str | None = None


def build_error(
    kind: type[TTSError], complaint: ErrorDetails, answer: ErrorResponse, provider: str | None = None
) -> TTSError:
    """Make an error of an answer and what it complains of."""
    code = complaint.code and single_line(redact(complaint.code, answer.secret), 64)
    return kind(
        _message(complaint, answer),
        provider=provider,
        status=answer.status,
        code=code or None,
        request_id=_request_id(complaint, answer),
        retry_after=parse_retry_after(answer.headers, answer.now),
        body=body_excerpt(answer.body, answer.secret),
    )


def build_error_in_stream(kind: type[TTSError], body: bytes, secret: str | None, provider: str | None) -> TTSError:
    """Make an error of one that stands where audio belongs: there is no status left to go by, only its code."""
    complaint = parse_error_details(body)
    code = complaint.code and single_line(redact(complaint.code, secret), 64)
    message = single_line(redact(f"{code or 'error'} in the middle of the answer: {complaint.message}", secret))
    return kind(message, provider=provider, code=code or None, body=body_excerpt(body, secret))


def parse_error_details(body: bytes) -> ErrorDetails:
    """Read an error body. Whatever cannot be read is told as text."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ErrorDetails(message=_plain_text(body))
    if not isinstance(document, dict):
        return ErrorDetails(message=_plain_text(body))
    for name in ("detail", "error"):
        if document.get(name):
            return _details_of(document[name], document)
    return _details_of(document, document)


def redact(text: str, secret: str | None = None) -> str:
    """Strike out the secret, and whatever looks like an API key, once what is hidden in between is gone."""
    text = strip_invisible(text)
    if secret and len(secret) >= _MIN_SECRET_LENGTH:
        text = text.replace(secret, "***")
    return _KEY_LIKE.sub("***", text)


def single_line(text: str, limit: int = 200) -> str:
    """Make it fit for a message: nothing invisible, no line breaks, at most `limit` characters."""
    if text.isascii() and text.isalnum() and len(text) <= limit:
        return text
    line = " ".join(clean_text(strip_invisible(text[:_MAX_SCANNED])).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def body_excerpt(body: bytes, secret: str | None = None) -> str:
    """Keep the beginning of a body, without secrets."""
    # Redacted first: a key across the cut would leave its beginning.
    return redact(clean_text(strip_invisible(body[:_MAX_SCANNED].decode("utf-8", "replace"))), secret)[
        :MAX_BODY_EXCERPT
    ]


_MAX_SCANNED = 8 * 1024  # characters or bytes: what is kept of them is much shorter


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds the vendor asks us to wait, from `retry-after-ms` or `Retry-After` (seconds, or a date).

    `now` is wall time with a zone, where the vendor does not tell its own. RFC 9110, 10.2.3; the milliseconds are
    OpenAI's. Some send the time as Unix seconds or milliseconds.
    """
    milliseconds = _parse_number(get_header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000.0, MAX_RETRY_AFTER)
    said = get_header(headers, "retry-after")
    seconds = _parse_number(said)
    if seconds is not None and seconds >= _MIN_UNIX_TIME:
        seconds = _seconds_until_plausible(seconds, headers, now)
    elif seconds is None and said:
        moment = _parse_date(said)
        seconds = None if moment is None else _seconds_until_plausible(moment.timestamp(), headers, now)
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER)


_MIN_UNIX_TIME = 1e9  # seconds: 32 years, or the year 2001
_MILLISECONDS = 1e11
_CLOCK_TOLERANCE = 5.0  # seconds by which two clocks may differ; the header has whole seconds, and was on its way


def seconds_until(unix_time: float, headers: Mapping[str, str], now: datetime) -> float:
    """Seconds from now to a moment that the vendor names, by the vendor's own clock if its answer tells the time.

    This machine's may be wrong by hours. `now` is wall time with a zone.
    """
    ours = now.timestamp()
    told = get_header(headers, "date")
    date = _parse_date(told) if told else None
    theirs = ours if date is None or abs(date.timestamp() - ours) <= _CLOCK_TOLERANCE else date.timestamp()
    return unix_time - theirs


def _seconds_until_plausible(unix_time: float, headers: Mapping[str, str], now: datetime) -> float:
    """Read a moment to wait for. If that makes no sense by the vendor's clock, it is read by ours."""
    if unix_time >= _MILLISECONDS:
        unix_time /= 1000.0
    seconds = seconds_until(unix_time, headers, now)
    return seconds if abs(seconds) <= MAX_RETRY_AFTER else unix_time - now.timestamp()


def get_header(headers: Mapping[str, str], name: str) -> str | None:
    """Look a header up by its lower-case name, however the mapping spells it."""
    if name in headers:
        return headers[name]
    return next((headers[key] for key in headers if key.lower() == name), None)


def _message(complaint: ErrorDetails, answer: ErrorResponse) -> str:
    said = f": {complaint.message}" if complaint.message else ""
    if answer.status < 300:
        told = get_header(answer.headers, "content-type") or "something"
        message = f" with {told} instead of audio{said}"
    elif answer.status < 400:
        target = get_header(answer.headers, "location") or "nowhere"
        message = f": a redirect to {target}, not followed because the key would go along"
    else:
        message = said
    code = f" {complaint.code}" if complaint.code else ""
    return single_line(redact(f"HTTP {answer.status}{code}{message}", answer.secret))


def _request_id(complaint: ErrorDetails, answer: ErrorResponse) -> str | None:
    """ElevenLabs says `request-id`, OpenAI `x-request-id`, and some say it in the body."""
    headers = answer.headers
    said = get_header(headers, "request-id") or get_header(headers, "x-request-id") or complaint.request_id
    said = said or get_header(headers, "cf-ray")  # by which Cloudflare finds what it kept from the vendor
    return single_line(redact(said, answer.secret), 100) or None if said else None


def _details_of(told: Any, document: Mapping[str, Any]) -> ErrorDetails:
    match told:
        case str():
            return ErrorDetails(None, told, request_id=_string(document.get("request_id")), spoken=told != "Not Found")
        case [dict() as first, *_]:
            field = ".".join(str(part) for part in _list(first.get("loc")))
            param = field.rpartition(".")[2] or None
            return ErrorDetails(None, f"{field}: {first.get('msg', 'invalid')}", param, spoken=True)
        case dict():
            code = _string(told.get("code")) or _string(told.get("status")) or _string(told.get("type"))
            message = _string(told.get("message")) or _string(told.get("msg")) or ""
            request_id = _string(told.get("request_id"))
            known = code is not None or bool(message)
            return ErrorDetails(code, message, _string(told.get("param")), request_id, spoken=known)
        case _:
            return ErrorDetails(message=str(told))


def _plain_text(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    if "<" in text:  # a proxy's page: its title says most, its markup nothing
        title = _TITLE.search(text)
        return title.group(1) if title else "a web page"
    return text


def _string(value: Any) -> str | None:
    # LiteLLM writes absent fields as "None"; a number in their place is an HTTP status told twice.
    return value if isinstance(value, str) and value not in ("", "None") and not value.isdigit() else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _parse_number(said: str | None) -> float | None:
    found = re.fullmatch(r"[ \t]*(\d{1,15}(\.\d{1,6})?)[ \t]*", said, re.ASCII) if said else None
    return float(found.group(1)) if found else None


def _parse_date(said: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(said)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


_INTERMEDIARY_SERVERS = re.compile(
    r"cloudflare|akamai|cloudfront|awselb|sucuri|imperva|incapsula|ddos-guard|qrator|big-?ip", re.I
)
_INTERMEDIARY_HEADERS = ("x-sucuri-id", "x-iinfo", "x-amzn-waf-action", "x-datadome", "x-akamai-reference-id")
_INTERMEDIARY_TEXT = re.compile(rb"\s*(error code: 1\d{3}|RBAC: access denied)\s*\Z")  # Cloudflare; Envoy
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|(html|head|title|body|center|h1)\b|!--|\?xml)", re.IGNORECASE)
_MAX_SCANNED_BODY = 4096  # bytes of a body


def intermediary_error_class(answer: ErrorResponse, complaint: ErrorDetails) -> type[TTSError] | None:
    """Return the class of error of an answer that is not the vendor's own, or None if it may be."""
    if answer.status < 400:
        return None
    if get_header(answer.headers, "cf-mitigated"):
        return speech.TTSBlockedError
    if answer.status in (401, 403) and _is_from_intermediary(answer, complaint):
        return speech.TTSBlockedError
    if answer.status in (400, 422) and not complaint.spoken and _is_html(answer):
        return speech.TTSNotAudioError  # a vendor tells callers their mistakes in JSON
    return None


def _is_from_intermediary(answer: ErrorResponse, complaint: ErrorDetails) -> bool:
    body = answer.body[:_MAX_SCANNED_BODY]
    if b'"cloudflare_error"' in body:
        return True
    of_aws = get_header(answer.headers, "x-amzn-errortype") is not None
    if answer.status == 403 and of_aws and (complaint.code, complaint.message) == (None, "Forbidden"):
        return True  # its API Gateway says so in JSON
    if complaint.spoken:  # vendors stand behind Cloudflare, too, and its name is on all that they say
        return False
    if (
        answer.status == 403 or _is_html(answer) or _INTERMEDIARY_TEXT.match(body)
    ):  # a vendor says in JSON what it forbids
        return True
    server = get_header(answer.headers, "server") or ""
    return bool(_INTERMEDIARY_SERVERS.search(server)) or any(
        get_header(answer.headers, mark) is not None for mark in _INTERMEDIARY_HEADERS
    )


def _is_html(answer: ErrorResponse) -> bool:
    media = (get_header(answer.headers, "content-type") or "").strip().lower()
    return (
        media.startswith(("text/html", "application/xhtml")) or _HTML.match(answer.body[:_MAX_SCANNED_BODY]) is not None
    )


_LENGTH_STATUSES = (400, 413, 422)
_TEXT_FIELDS = (None, "", "text", "input", "prompt", "body")

_LENGTH_CODE = re.compile(
    r"(text|input|string|prompt|content|request|message)\w*(too_(long|large)|length_exceeded|limit_exceeded)"
    r"|max_(character|input|text|prompt|length)\w*|string_above_max_length|too_(long|many_characters)"
)
_LENGTH_MESSAGE = re.compile(
    r"too (long|many (characters|tokens))"
    r"|at most [\d,.]+ (characters|tokens|bytes)"
    r"|(exceed|(longer|more|greater) than|above|over)\w*\b.{0,80}\b(limit|maximum|max|length|characters|tokens)\b"
    r"|\b(maximum|max)\b.{0,60}\b(length|characters|tokens)\b",
    re.IGNORECASE | re.DOTALL,
)
_OTHER_LIMIT = re.compile(
    r"\b(rate|quota|credits?|concurren\w*|requests? per|per (minute|second|day))\b", re.IGNORECASE
)
_ECHOED_INPUT = re.compile(r"['\"]input['\"]\s*:")  # behind it, validators quote the text
_NAMED_LIMIT = re.compile(
    r"(?:at most|maximum|max|limit|up to|no more than|exceed\w*|(?:longer|greater|less|fewer) than|below|under|<=?)"
    r"\D{0,60}?(\d[\d,._\u00a0\u202f]*)",
    re.IGNORECASE,
)
_MAX_SCANNED_MESSAGE = 2000  # characters of a message


def is_text_too_long(status: int, complaint: ErrorDetails) -> bool:
    """Whether a vendor refuses a text for being too long, in whatever words."""
    if status not in _LENGTH_STATUSES or complaint.param not in _TEXT_FIELDS:
        return False
    if complaint.code and _LENGTH_CODE.fullmatch(complaint.code):
        return True
    message = _without_echo(complaint.message)
    return _LENGTH_MESSAGE.search(message) is not None and _OTHER_LIMIT.search(message) is None


def concerns_text(complaint: ErrorDetails) -> bool:
    """Whether a complaint is about the text to be spoken, as far as it names a field."""
    return (complaint.param or "") in ("", "input", "text")


def parse_length_limit(message: str) -> int | None:
    """Find the number of characters that a refusal names as its limit: the smallest of those it may be."""
    found = [re.sub(r"\D", "", number) for number in _NAMED_LIMIT.findall(_without_echo(message))]
    return min((int(number) for number in found if 0 < len(number) < 8), default=None)


def _without_echo(message: str) -> str:
    return _ECHOED_INPUT.split(message[:_MAX_SCANNED_MESSAGE], maxsplit=1)[0]


def error_class_by_status(status: int) -> type[TTSError]:
    """Choose the class of error. Whatever is not an error's status is an answer that is not audio."""
    match status:
        case 401 | 403:
            return speech.TTSInvalidKeyError
        case 402:
            return speech.TTSQuotaExceededError
        case 413:
            return speech.TTSTextTooLongError
        case 407:  # a proxy wants a name and a password
            return speech.TTSConnectError
        case 409 | 423 | 425 | 429:
            return speech.TTSBusyError
        case 404 | 405 | 410 | 421:  # nobody at this address speaks
            return speech.TTSNotAudioError
        case 408:
            return speech.TTSServerError
        case 400 | 422:
            return speech.TTSBadRequestError
        case _ if 400 <= status < 500:  # no caller's mistake is known to be told so: somebody else may speak
            return speech.TTSRefusedError
        case _ if status >= 500:
            return speech.TTSServerError
        case _:  # a success that is not audio, or a redirect
            return speech.TTSNotAudioError
