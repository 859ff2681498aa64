"""Credentials: validation of API keys and tokens, and the account that a key belongs to.

Whitespace around a key is stripped, and a key that cannot be one is refused before anything is sent. No error message
shows any part of a key.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from hashlib import blake2b, scrypt

from steadyvoice._option_rules import COUNT
from steadyvoice.providers.base import Credential
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.option_validation import validate_option

# Keys from env files came with quotes, as ${VAR} or with a trailing carriage return. They were sent as they were: every
# request failed with 401, and nothing said why. So everything that certainly is not a key is refused at start.

_SURROUNDING = " \t\r\n\v\f\0\ufeff\u00a0\u200b\u200c\u200d\u2060"  # whitespace and characters of no width
_QUOTES = "\"'`\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u2032\u2033\uff02\uff07"

_ASSIGNMENT = re.compile(r"(export\s+|set\s+)?\w*(KEY|TOKEN|SECRET)\s*=\s*\S|\w*(api_?key|token|secret)\s*[=:]\s*\S")
_HEADER_NAME = re.compile(r"(bearer|basic|token|authorization|(x-|xi-)?api-key)(\s*:|\s)", re.IGNORECASE)
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
_NO_VALUE = re.compile(r"none|null|nil|undefined|([\w-]*[-_])?x{3,}|[-_.*]+", re.IGNORECASE)
_TRUNCATED = re.compile(r"\.\.\.|\*\*\*|\u2026|\u2022")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


def strip_secret(secret: str) -> str:
    """Return a key without the whitespace, line ends and zero-width characters that copying or files put around it."""
    return secret.strip(_SURROUNDING)


def api_key_problem(key: str, *, may_be_nothing: bool = False) -> str | None:
    """Return why this cannot be a vendor's API key, without showing any of it; None if it can be one.

    With `may_be_nothing`, a word such as "none" passes: a self-hosted server may accept any key.
    """
    if any(character in _QUOTES for character in key):
        return "contains quotes: remove them"
    if _UNEXPANDED_LOWER.fullmatch(key):
        return _NOT_EXPANDED
    if not may_be_nothing and _NO_VALUE.fullmatch(key):
        return _IS_PLACEHOLDER
    if _TRUNCATED.search(key):
        return "is truncated or masked: copy the whole key"
    return _common_problem(key)


def token_problem(token: str) -> str | None:
    """Return why this cannot be a key or token of the user's own choice, in which nearly any character may be."""
    if len(token) > 1 and token[0] in _QUOTES and token[-1] in _QUOTES:
        return "is wrapped in quotes: remove them"
    return _IS_PLACEHOLDER if _NO_VALUE.fullmatch(token) else _common_problem(token)


_NOT_EXPANDED = "is an environment variable that has not been expanded: pass its value"
_IS_PLACEHOLDER = "is a placeholder: replace it with the key"


def _common_problem(key: str) -> str | None:
    if _UNEXPANDED.fullmatch(key):
        return _NOT_EXPANDED
    if _PLACEHOLDER.fullmatch(key):
        return _IS_PLACEHOLDER
    if _ASSIGNMENT.match(key):
        return "contains the name of a setting before its value: copy the value only"
    if _HEADER_NAME.match(key):
        return "begins with a header name or scheme such as `Bearer`: copy the key only"
    if not _VISIBLE_ASCII.fullmatch(key):
        return "contains a space, a line break or a non-ASCII character: copy it again"
    return None


def resolve_api_key(api_key: str | None, variable: str, *, provider: str, any_key: bool = True) -> str | None:
    """Return the key given, or that of the environment variable without the whitespace around it; None if neither.

    With `any_key`, a key such as "none" passes: a self-hosted server may accept it. Raises TTSConfigurationError for
    text that cannot be a key, without showing it.
    """
    key = strip_secret(os.environ.get(variable, "")) if api_key is None else api_key
    where = f"{provider}.api_key: {f'the environment variable {variable} ' if api_key is None else ''}"
    if not isinstance(key, str):
        raise TTSConfigurationError(f"{where}must be text, got {type(key).__name__}")
    if key and (problem := api_key_problem(key, may_be_nothing=any_key)):
        raise TTSConfigurationError(f"{where}{problem}")
    return key or None


_PROCESS_SALT = os.urandom(16)


def validate_concurrency(max_concurrency: int | None, *, provider: str) -> int | None:
    """Return the user's limit of simultaneous requests if it is one. Raises TTSConfigurationError."""
    return None if max_concurrency is None else validate_option(f"{provider}.max_concurrency", max_concurrency, COUNT)


def credential_id(key: str | None, host: str) -> str:
    """Return an id for the account of a key at a host, equal for equal accounts within this process only."""
    # The salt differs in every process, so that an id in a log can neither be looked up nor compared with other logs.
    return blake2b(f"{host}\n{key or ''}".encode(), key=_PROCESS_SALT, digest_size=8).hexdigest()


def credential_for(
    key: str | None, host: str, *, initial_concurrency: int | None = None, max_concurrency: int | None = None
) -> Credential:
    """Return the account of a key at a host."""
    # The fingerprint may be stored on disk. It is slow to compute (scrypt) and short (4 bytes), so that it confirms
    # little about a guessed key, and reveals nothing about any other.
    secret = f"{host}\n{key or ''}".encode()
    fingerprint = lru_cache(2)(lambda salt: scrypt(secret, salt=salt, n=2**14, r=8, p=1, dklen=4).hex())
    return Credential(credential_id(key, host), initial_concurrency, max_concurrency, fingerprint)


def require_api_key(api_key: str | None, variable: str, *, provider: str) -> str:
    """Return the key as `resolve_api_key` does, for a vendor that requires one. Raises TTSConfigurationError.

    - `api_key`: the key; the variable's value if None.
    - `variable`: name of the environment variable.
    - `provider`: name of the provider, for errors.
    """
    key = resolve_api_key(api_key, variable, provider=provider, any_key=False)
    if key is None:
        raise TTSConfigurationError(f"{provider}.api_key: missing; pass api_key=... or set {variable}")
    return key
