"""Error responses of vendors, proxies and firewalls: parsing, redaction, Retry-After, failure kind by HTTP status.

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
"""Characters of a vendor's body that an error keeps."""

MAX_RETRY_AFTER = 86_400.0
"""Seconds. A longer Retry-After is taken for a day, for longer ones are mistakes."""

_KEY_LIKE = re.compile(r"\b(?:sk|xi|pk)[-_][A-Za-z0-9_\-]{12,}|(?<=Bearer )[^\s\"']{4,}|(?<=Signature=)[0-9a-f]{16,}")
_MIN_SECRET_LENGTH = 4  # a shorter "key" is one of a test, and would be removed from every word that contains it

# Bounded, because a page of nothing but "<title" took a second to search, and blocked the event loop for as long.
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,200})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """Content of an error response: its code, message, the field it is about, and the vendor's id of the request."""

    code: str | None = None
    message: str = ""
    param: str | None = None
    request_id: str | None = None
    recognized: bool = False  # whether the body has a form that speech servers use


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """HTTP response that is not audio. `now` is wall time with a zone; `secret` is the API key, to be redacted."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    now: datetime
    secret: str | None = None


def build_error(
    kind: type[TTSError], details: ErrorDetails, response: ErrorResponse, provider: str | None = None
) -> TTSError:
    """Build an error of class `kind` from a response and its parsed details, with the limit of a text too long."""
    code = details.code and single_line(redact(details.code, response.secret), 64)
    error = kind(
        _message(details, response),
        provider=provider,
        status=response.status,
        code=code or None,
        request_id=_request_id(details, response),
        retry_after=parse_retry_after(response.headers, response.now),
        body=body_excerpt(response.body, response.secret),
    )
    if isinstance(error, speech.TTSTextTooLongError):
        error.limit = parse_length_limit(details.message)
    return error


def build_error_in_stream(
    kind: type[TTSError], body: bytes, secret: str | None, provider: str | None, details: ErrorDetails | None = None
) -> TTSError:
    """Build an error from an error object in the middle of an audio stream, where the status was 200 already.

    - `kind`: class of the error.
    - `body`: the error object, encoded.
    - `secret`: API key, which is removed from the message.
    - `provider`: name of the provider.
    - `details`: code and message, if they have been parsed already.
    """
    details = details or parse_error_details(body)
    code = details.code and single_line(redact(details.code, secret), 64)
    message = single_line(redact(f"{code or 'error'} in the middle of the answer: {details.message}", secret))
    return kind(message, provider=provider, code=code or None, body=body_excerpt(body, secret))


def parse_error_details(body: bytes) -> ErrorDetails:
    """Parse an error body. A body of unknown form becomes the message."""
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
    """Replace the secret, and whatever looks like an API key, by `***`, after removing invisible characters."""
    text = strip_invisible(text)
    if secret and len(secret) >= _MIN_SECRET_LENGTH:
        text = text.replace(secret, "***")
    return _KEY_LIKE.sub("***", text)


def single_line(text: str, limit: int = 200) -> str:
    """Return a text fit for a message: nothing invisible, no line breaks, at most `limit` characters."""
    if text.isascii() and text.isprintable() and " " not in text and len(text) <= limit:
        return text
    line = " ".join(clean_text(strip_invisible(text[:_MAX_SCANNED])).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def body_excerpt(body: bytes, secret: str | None = None) -> str:
    """Return the beginning of a body, without secrets."""
    # Redacted before it is cut, because a key across the cut would leave its beginning.
    return redact(clean_text(strip_invisible(body[:_MAX_SCANNED].decode("utf-8", "replace"))), secret)[
        :MAX_BODY_EXCERPT
    ]


_MAX_SCANNED = 8 * 1024  # characters or bytes of a body or message that are examined; the result is much shorter


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds to wait by `retry-after-ms` or `Retry-After` (seconds or a date), None without such a header.

    `now` is wall time with a zone; a `Date` header of the response wins over it. RFC 9110, 10.2.3; `retry-after-ms` is
    OpenAI's. Some servers send the time as Unix seconds or milliseconds.
    """
    milliseconds = _parse_number(get_header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000.0, MAX_RETRY_AFTER)
    value = get_header(headers, "retry-after")
    seconds = _parse_number(value)
    if seconds is not None and seconds >= _MIN_UNIX_TIME:
        seconds = _seconds_until_plausible(seconds, headers, now)
    elif seconds is None and value:
        moment = _parse_date(value)
        seconds = None if moment is None else _seconds_until_plausible(moment.timestamp(), headers, now)
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER)


_MIN_UNIX_TIME = 1e9  # seconds: 32 years, or the year 2001
_MILLISECONDS = 1e11
_CLOCK_TOLERANCE = 5.0  # seconds by which two clocks may differ; the header has whole seconds, and was on its way


def seconds_until(unix_time: float, headers: Mapping[str, str], now: datetime) -> float:
    """Return the seconds until a Unix time that the vendor named, by its own clock if there is a `Date` header.

    This machine's clock may be wrong by hours. `now` is wall time with a zone.
    """
    own_time = now.timestamp()
    header = get_header(headers, "date")
    date = _parse_date(header) if header else None
    vendor_time = own_time if date is None or abs(date.timestamp() - own_time) <= _CLOCK_TOLERANCE else date.timestamp()
    return unix_time - vendor_time


def _seconds_until_plausible(unix_time: float, headers: Mapping[str, str], now: datetime) -> float:
    """Return the seconds until a Unix time by the vendor's clock, or by ours if that is more than a day away."""
    if unix_time >= _MILLISECONDS:
        unix_time /= 1000.0
    seconds = seconds_until(unix_time, headers, now)
    return seconds if abs(seconds) <= MAX_RETRY_AFTER else unix_time - now.timestamp()


def get_header(headers: Mapping[str, str], name: str) -> str | None:
    """Return a header's value by its lower-case name, whatever the case in the mapping; None if it is missing."""
    # The HTTP client of this package has lower-case names; other mappings keep the vendor's case.
    if name in headers:
        return headers[name]
    return next((headers[key] for key in headers if key.lower() == name), None)


def _message(details: ErrorDetails, response: ErrorResponse) -> str:
    reason = f": {details.message}" if details.message else ""
    if response.status < 300:
        media_type = get_header(response.headers, "content-type") or "something"
        message = f" with {media_type} instead of audio{reason}"
    elif response.status < 400:
        target = get_header(response.headers, "location") or "nowhere"
        message = f": redirect to {target}, not followed because the API key would be sent along"
    else:
        message = reason
    code = f" {details.code}" if details.code else ""
    return single_line(redact(f"HTTP {response.status}{code}{message}", response.secret))


def _request_id(details: ErrorDetails, response: ErrorResponse) -> str | None:
    """Return the request's id: ElevenLabs sends `request-id`, OpenAI `x-request-id`, others put it into the body."""
    headers = response.headers
    found = get_header(headers, "request-id") or get_header(headers, "x-request-id") or details.request_id
    found = found or get_header(headers, "cf-ray")  # Cloudflare's id of a request that it did not pass on
    return single_line(redact(found, response.secret), 100) or None if found else None


def _details_of(content: Any, document: Mapping[str, Any]) -> ErrorDetails:
    match content:
        case str():
            request_id = _string(document.get("request_id"))
            return ErrorDetails(None, content, request_id=request_id, recognized=content != "Not Found")
        case [dict() as first, *_]:
            field = ".".join(str(part) for part in _list(first.get("loc")))
            param = field.rpartition(".")[2] or None
            return ErrorDetails(None, f"{field}: {first.get('msg', 'invalid')}", param, recognized=True)
        case dict():
            code = _string(content.get("code")) or _string(content.get("status")) or _string(content.get("type"))
            message = _string(content.get("message")) or _string(content.get("msg")) or ""
            request_id = _string(content.get("request_id"))
            known = code is not None or bool(message)
            return ErrorDetails(code, message, _string(content.get("param")), request_id, recognized=known)
        case _:
            return ErrorDetails(message=str(content))


def _plain_text(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    if "<" in text:  # a proxy's page, of which the title is the message
        title = _TITLE.search(text)
        return title.group(1) if title else "a web page"
    return text


def _string(value: Any) -> str | None:
    # LiteLLM writes absent fields as "None"; a number in place of a code repeats the HTTP status.
    return value if isinstance(value, str) and value not in ("", "None") and not value.isdigit() else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _parse_number(value: str | None) -> float | None:
    found = re.fullmatch(r"[ \t]*(\d{1,15}(\.\d{1,6})?)[ \t]*", value, re.ASCII) if value else None
    return float(found.group(1)) if found else None


def _parse_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


# A firewall's 403 used to be taken for a bad key, which put the key on hold although another request would have passed.
_INTERMEDIARY_SERVERS = re.compile(
    r"cloudflare|akamai|cloudfront|awselb|sucuri|imperva|incapsula|ddos-guard|qrator|big-?ip", re.I
)
_INTERMEDIARY_HEADERS = ("x-sucuri-id", "x-iinfo", "x-amzn-waf-action", "x-datadome", "x-akamai-reference-id")
_INTERMEDIARY_TEXT = re.compile(rb"\s*(error code: 1\d{3}|RBAC: access denied)\s*\Z")  # Cloudflare; Envoy
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|(html|head|title|body|center|h1)\b|!--|\?xml)", re.IGNORECASE)
_MAX_SCANNED_BODY = 4096  # bytes of a body


def intermediary_error_class(response: ErrorResponse, details: ErrorDetails) -> type[TTSError] | None:
    """Return the error class of a response by a firewall, bot protection or proxy; None if it may be the vendor's."""
    if response.status < 400:
        return None
    if get_header(response.headers, "cf-mitigated"):
        return speech.TTSBlockedError
    if response.status in (401, 403) and _is_from_intermediary(response, details):
        return speech.TTSBlockedError
    if response.status in (400, 422) and not details.recognized and _is_html(response):
        return speech.TTSNotAudioError  # the vendors' own 400 and 422 are JSON
    return None


def _is_from_intermediary(response: ErrorResponse, details: ErrorDetails) -> bool:
    body = response.body[:_MAX_SCANNED_BODY]
    if b'"cloudflare_error"' in body:
        return True
    of_aws = get_header(response.headers, "x-amzn-errortype") is not None
    if response.status == 403 and of_aws and (details.code, details.message) == (None, "Forbidden"):
        return True  # Amazon's API Gateway, which answers in JSON
    # Vendors themselves stand behind Cloudflare, so that its name in `server` means nothing when the body has
    # a form that speech servers use.
    if details.recognized:
        return False
    # A vendor's own 403 is JSON, which would have been recognized.
    if response.status == 403 or _is_html(response) or _INTERMEDIARY_TEXT.match(body):
        return True
    server = get_header(response.headers, "server") or ""
    return bool(_INTERMEDIARY_SERVERS.search(server)) or any(
        get_header(response.headers, mark) is not None for mark in _INTERMEDIARY_HEADERS
    )


def _is_html(response: ErrorResponse) -> bool:
    media = (get_header(response.headers, "content-type") or "").strip().lower()
    is_declared = media.startswith(("text/html", "application/xhtml"))
    return is_declared or _HTML.match(response.body[:_MAX_SCANNED_BODY]) is not None


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
# "Maximum number of requests per minute exceeded" is no limit of length.
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


def is_text_too_long(status: int, details: ErrorDetails) -> bool:
    """Return whether an error says that the text is too long, by its code or the wording of its message."""
    if status not in _LENGTH_STATUSES or details.param not in _TEXT_FIELDS:
        return False
    if details.code and _LENGTH_CODE.fullmatch(details.code):
        return True
    message = _without_echo(details.message)
    return _LENGTH_MESSAGE.search(message) is not None and _OTHER_LIMIT.search(message) is None


def concerns_text(details: ErrorDetails) -> bool:
    """Return whether an error is about the text to be spoken, as far as it names a field."""
    return (details.param or "") in ("", "input", "text")


def parse_length_limit(message: str) -> int | None:
    """Return the limit in characters that a message names, the smallest if there are several; None without one."""
    found = [re.sub(r"\D", "", number) for number in _NAMED_LIMIT.findall(_without_echo(message))]
    return min((int(number) for number in found if 0 < len(number) < 8), default=None)


def _without_echo(message: str) -> str:
    return _ECHOED_INPUT.split(message[:_MAX_SCANNED_MESSAGE], maxsplit=1)[0]


def error_class_by_status(status: int) -> type[TTSError]:
    """Return the error class of an HTTP status, as the last resort. A success here is a response that is not audio."""
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
        case 404 | 405 | 410 | 421:  # no speech endpoint at this address
            return speech.TTSNotAudioError
        case 408:
            return speech.TTSServerError
        case 400 | 422:
            return speech.TTSBadRequestError
        case _ if 400 <= status < 500:  # no mistake of the caller is known to have such a status
            return speech.TTSRefusedError
        case _ if status >= 500:
            return speech.TTSServerError
        case _:  # a success that is not audio, or a redirect
            return speech.TTSNotAudioError
