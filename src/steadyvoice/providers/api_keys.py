"""API keys and tokens as people paste them: what is harmless is stripped, what cannot be a key is refused unshown."""

from __future__ import annotations

import re

_SURROUNDING = " \t\r\n\v\f\0\ufeff\u00a0\u200b\u200c\u200d\u2060"  # whitespace and marks of no width
_QUOTES = "\"'`\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u2032\u2033\uff02\uff07"

_LINE = re.compile(r"(export\s+|set\s+)?\w*(KEY|TOKEN|SECRET)\s*=\s*\S|\w*(api_?key|token|secret)\s*[=:]\s*\S")
_HEADER = re.compile(r"(bearer|basic|token|authorization|(x-|xi-)?api-key)(\s*:|\s)", re.IGNORECASE)
_UNEXPANDED = re.compile(
    r".*(\$\{|\{\{).*"  # shells, Compose; Helm, Jinja
    r"|\$\(.*\)|%\w+%|\$env:\w+|env:\w+|process\.env\b.*|os\.(environ|getenv)\b.*"
    r"|\$[A-Z][A-Z0-9_]+",
    re.DOTALL,
)
_UNEXPANDED_LOWER = re.compile(r"\$\w+")
_PLACEHOLDER = re.compile(
    r"<.*>|\[.*\]"
    r"|([a-z]{2}[-_.])?your.*(key|token|secret|here|value).*"
    r"|(insert|enter|paste|put|add|replace|change)[-_. ].*(key|token|secret|here|me|this|it)"
    r"|(change|replace)[-_]?me\W*"
    r"|.*(key|token|secret|value)[-_. ]?(goes[-_. ]?)?here"
    r"|todo|fixme|placeholder|example[-_. ]?(api)?[-_. ]?(key|token)",
    re.IGNORECASE | re.DOTALL,
)
_NOTHING = re.compile(r"none|null|nil|undefined|([\w-]*[-_])?x{3,}|[-_.*]+", re.IGNORECASE)
_SHORTENED = re.compile(r"\.\.\.|\*\*\*|\u2026|\u2022")
_READABLE = re.compile(r"[\x21-\x7e]+")


def stripped(secret: str) -> str:
    """Strip what surrounds a key when it is copied or read from a file: whitespace, line ends, marks of no width."""
    return secret.strip(_SURROUNDING)


def problem_with_key(key: str, *, may_be_nothing: bool = False) -> str | None:
    """Say why this cannot be a vendor's API key, without showing any of it; None if it can be one.

    It `may_be_nothing`, such as "none", where a server of one's own takes any key.
    """
    if any(character in _QUOTES for character in key):
        return "has quotes in it: remove them"
    if _UNEXPANDED_LOWER.fullmatch(key):
        return _NOT_EXPANDED
    if not may_be_nothing and _NOTHING.fullmatch(key):
        return _NO_KEY
    if _SHORTENED.search(key):
        return "is shortened or masked: copy the whole key"
    return _problem(key)


def problem_with_token(token: str) -> str | None:
    """The same for a key or token that users of this program choose themselves, in which nearly anything may be."""
    if len(token) > 1 and token[0] in _QUOTES and token[-1] in _QUOTES:
        return "is wrapped in quotes: remove them"
    return _NO_KEY if _NOTHING.fullmatch(token) else _problem(token)


_NOT_EXPANDED = "is the name of a variable that nothing has replaced by its value"
_NO_KEY = "is a placeholder: put the key in its place"


def _problem(key: str) -> str | None:
    if _UNEXPANDED.fullmatch(key):
        return _NOT_EXPANDED
    if _PLACEHOLDER.fullmatch(key):
        return _NO_KEY
    if _LINE.match(key):
        return "holds the name of a setting before its value: copy the value alone"
    if _HEADER.match(key):
        return "begins as a header does, such as `Bearer`: copy the key alone"
    if not _READABLE.fullmatch(key):
        return "has a space, a line break or a character beyond ASCII in it: copy it again"
    return None
