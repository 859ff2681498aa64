"""What an error answer says, read from any of the shapes that vendors send; nothing here raises on nonsense.

ElevenLabs sends `{"detail": {...}}` in two generations, FastAPI `{"detail": [...]}` or `{"detail": "..."}`,
OpenAI and its imitators `{"error": {...}}` or `{"error": "..."}`; proxies in between send HTML or nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.text import cleaned, visible

BODY_KEPT = 500
"""How many characters of a vendor's body an error carries."""

LONGEST_WAIT = 86_400.0
"""Seconds: a Retry-After beyond a day is taken for a day, for it would outlive whoever reads it."""

_KEY_LIKE = re.compile(r"\b(?:sk|xi|pk)[-_][A-Za-z0-9_\-]{12,}|(?<=Bearer )[^\s\"']{4,}")
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,200})", re.IGNORECASE)  # bounded: a page may be all beginnings
_SHORTEST_KEY = 4  # a shorter "key" is a test's, and would be struck out of every word


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error answer: its code, message, the field it is about, and the vendor's id of the request."""

    code: str | None = None
    message: str = ""
    param: str | None = None
    request_id: str | None = None
    spoken: bool = False  # whether it came in a shape that speech servers use


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as it came. `now` is wall time with a zone; `secret` must not be told to anybody."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    now: datetime
    secret: str | None = None


def as_error(kind: type[TTSError], complaint: Complaint, answer: Answer, provider: str | None = None) -> TTSError:
    """Make an error of an answer and what it complains of."""
    code = complaint.code and one_line(redacted(complaint.code, answer.secret), 64)
    return kind(
        _told(complaint, answer),
        provider=provider,
        status=answer.status,
        code=code or None,
        request_id=_request_id(complaint, answer),
        retry_after=retry_after(answer.headers, answer.now),
        body=kept_body(answer.body, answer.secret),
    )


def error_midway(kind: type[TTSError], body: bytes, secret: str | None, provider: str | None) -> TTSError:
    """Make an error of one that stands where audio belongs: there is no status left to go by, only its code."""
    complaint = read_complaint(body)
    code = complaint.code and one_line(redacted(complaint.code, secret), 64)
    message = one_line(redacted(f"{code or 'error'} in the middle of the answer: {complaint.message}", secret))
    return kind(message, provider=provider, code=code or None, body=kept_body(body, secret))


def read_complaint(body: bytes) -> Complaint:
    """Read an error body. Whatever cannot be read is told as text."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return Complaint(message=_text_of(body))
    if not isinstance(document, dict):
        return Complaint(message=_text_of(body))
    for name in ("detail", "error"):
        if document.get(name):
            return _about(document[name], document)
    return _about(document, document)


def redacted(text: str, secret: str | None = None) -> str:
    """Strike out the secret, and whatever looks like an API key, once what is hidden in between is gone."""
    text = visible(text)
    if secret and len(secret) >= _SHORTEST_KEY:
        text = text.replace(secret, "***")
    return _KEY_LIKE.sub("***", text)


def one_line(text: str, limit: int = 200) -> str:
    """Make it fit for a message: nothing invisible, no line breaks, at most `limit` characters."""
    if text.isascii() and text.isalnum() and len(text) <= limit:
        return text
    line = " ".join(cleaned(visible(text[:_READ_AT_MOST])).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def kept_body(body: bytes, secret: str | None = None) -> str:
    """Keep the beginning of a body, without secrets."""
    # Redacted first: a key across the cut would leave its beginning.
    return redacted(cleaned(visible(body[:_READ_AT_MOST].decode("utf-8", "replace"))), secret)[:BODY_KEPT]


_READ_AT_MOST = 8 * 1024  # characters or bytes: what is kept of them is much shorter


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds the vendor asks us to wait, from `retry-after-ms` or `Retry-After` (seconds, or a date).

    `now` is wall time with a zone, where the vendor does not tell its own. RFC 9110, 10.2.3; the milliseconds are
    OpenAI's. Some send the time as Unix seconds or milliseconds.
    """
    milliseconds = _number(header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000.0, LONGEST_WAIT)
    said = header(headers, "retry-after")
    seconds = _number(said)
    if seconds is not None and seconds >= _UNIX_TIMES:
        seconds = _plausible(seconds, headers, now)
    elif seconds is None and said:
        moment = _date(said)
        seconds = None if moment is None else _plausible(moment.timestamp(), headers, now)
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT)


_UNIX_TIMES = 1e9  # seconds: 32 years, or the year 2001
_MILLISECONDS = 1e11
_SAME_CLOCK = 5.0  # seconds by which two clocks may differ; the header has whole seconds, and was on its way


def seconds_until(unix_time: float, headers: Mapping[str, str], now: datetime) -> float:
    """Seconds from now to a moment that the vendor names, by the vendor's own clock if its answer tells the time.

    This machine's may be wrong by hours. `now` is wall time with a zone.
    """
    ours = now.timestamp()
    told = header(headers, "date")
    date = _date(told) if told else None
    theirs = ours if date is None or abs(date.timestamp() - ours) <= _SAME_CLOCK else date.timestamp()
    return unix_time - theirs


def _plausible(unix_time: float, headers: Mapping[str, str], now: datetime) -> float:
    """Read a moment to wait for. If that makes no sense by the vendor's clock, it is read by ours."""
    if unix_time >= _MILLISECONDS:
        unix_time /= 1000.0
    seconds = seconds_until(unix_time, headers, now)
    return seconds if abs(seconds) <= LONGEST_WAIT else unix_time - now.timestamp()


def header(headers: Mapping[str, str], name: str) -> str | None:
    """Look a header up by its lower-case name, however the mapping spells it."""
    if name in headers:
        return headers[name]
    return next((headers[key] for key in headers if key.lower() == name), None)


def _told(complaint: Complaint, answer: Answer) -> str:
    said = f": {complaint.message}" if complaint.message else ""
    if answer.status < 300:
        told = header(answer.headers, "content-type") or "something"
        message = f" with {told} instead of audio{said}"
    elif answer.status < 400:
        target = header(answer.headers, "location") or "nowhere"
        message = f": a redirect to {target}, not followed because the key would go along"
    else:
        message = said
    code = f" {complaint.code}" if complaint.code else ""
    return one_line(redacted(f"HTTP {answer.status}{code}{message}", answer.secret))


def _request_id(complaint: Complaint, answer: Answer) -> str | None:
    """ElevenLabs says `request-id`, OpenAI `x-request-id`, and some say it in the body."""
    headers = answer.headers
    said = header(headers, "request-id") or header(headers, "x-request-id") or complaint.request_id
    said = said or header(headers, "cf-ray")  # by which Cloudflare finds what it kept from the vendor
    return one_line(redacted(said, answer.secret), 100) or None if said else None


def _about(told: Any, document: Mapping[str, Any]) -> Complaint:
    match told:
        case str():
            return Complaint(None, told, request_id=_string(document.get("request_id")), spoken=told != "Not Found")
        case [dict() as first, *_]:
            field = ".".join(str(part) for part in _list(first.get("loc")))
            param = field.rpartition(".")[2] or None
            return Complaint(None, f"{field}: {first.get('msg', 'invalid')}", param, spoken=True)
        case dict():
            code = _string(told.get("code")) or _string(told.get("status")) or _string(told.get("type"))
            message = _string(told.get("message")) or _string(told.get("msg")) or ""
            request_id = _string(told.get("request_id"))
            known = code is not None or bool(message)
            return Complaint(code, message, _string(told.get("param")), request_id, spoken=known)
        case _:
            return Complaint(message=str(told))


def _text_of(body: bytes) -> str:
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


def _number(said: str | None) -> float | None:
    found = re.fullmatch(r"[ \t]*(\d{1,15}(\.\d{1,6})?)[ \t]*", said, re.ASCII) if said else None
    return float(found.group(1)) if found else None


def _date(said: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(said)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
