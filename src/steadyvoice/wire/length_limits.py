"""What a refusal says of a text's length: whether that is its reason, and the limit it names."""

from __future__ import annotations

import re

from steadyvoice.wire.complaint import Complaint

_STATUSES = (400, 413, 422)
_FIELDS = (None, "", "text", "input", "prompt", "body")

_CODE = re.compile(
    r"(text|input|string|prompt|content|request|message)\w*(too_(long|large)|length_exceeded|limit_exceeded)"
    r"|max_(character|input|text|prompt|length)\w*|string_above_max_length|too_(long|many_characters)"
)
_MESSAGE = re.compile(
    r"too (long|many (characters|tokens))"
    r"|at most [\d,.]+ (characters|tokens|bytes)"
    r"|(exceed|(longer|more|greater) than|above|over)\w*\b.{0,80}\b(limit|maximum|max|length|characters|tokens)\b"
    r"|\b(maximum|max)\b.{0,60}\b(length|characters|tokens)\b",
    re.IGNORECASE | re.DOTALL,
)
_OTHER_LIMIT = re.compile(
    r"\b(rate|quota|credits?|concurren\w*|requests? per|per (minute|second|day))\b", re.IGNORECASE
)
_ECHO = re.compile(r"['\"]input['\"]\s*:")  # behind it, validators quote the text
_NAMED = re.compile(
    r"(?:at most|maximum|max|limit|up to|no more than|exceed\w*|(?:longer|greater|less|fewer) than|below|under|<=?)"
    r"\D{0,60}?(\d[\d,._\u00a0\u202f]*)",
    re.IGNORECASE,
)
_READ = 2000  # characters of a message


def is_about_length(status: int, complaint: Complaint) -> bool:
    """Whether a vendor refuses a text for being too long, in whatever words."""
    if status not in _STATUSES or complaint.param not in _FIELDS:
        return False
    if complaint.code and _CODE.fullmatch(complaint.code):
        return True
    message = _own_words(complaint.message)
    return _MESSAGE.search(message) is not None and _OTHER_LIMIT.search(message) is None


def names_text(complaint: Complaint) -> bool:
    """Whether a complaint is about the text to be spoken, as far as it names a field."""
    return (complaint.param or "") in ("", "input", "text")


def limit_in(message: str) -> int | None:
    """Find the number of characters that a refusal names as its limit: the smallest of those it may be."""
    found = [re.sub(r"\D", "", number) for number in _NAMED.findall(_own_words(message))]
    return min((int(number) for number in found if 0 < len(number) < 8), default=None)


def _own_words(message: str) -> str:
    return _ECHO.split(message[:_READ], maxsplit=1)[0]
