"""What a vendor's provider is given, checked before anything is spent: key and addresses."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from hashlib import blake2b, scrypt
from urllib.parse import urlsplit

from steadyvoice.providers.api_keys import problem_with_key, stripped
from steadyvoice.providers.provider import Credential
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.wire.error_response import redact


def found_key(given: str | None, variable: str, *, provider: str, any_key: bool = True) -> str | None:
    """Return the key given, or that in the environment, where whitespace around it is left out.

    Raises TTSConfigurationError for what cannot be a key, without showing it. With `any_key`, a server may be content
    with one such as "none".
    """
    key = stripped(os.environ.get(variable, "")) if given is None else given
    where = f"{provider}.api_key: {f'the environment variable {variable} ' if given is None else ''}"
    if not isinstance(key, str):
        raise TTSConfigurationError(f"{where}must be text, got {type(key).__name__}")
    if key and (problem := problem_with_key(key, may_be_nothing=any_key)):
        raise TTSConfigurationError(f"{where}{problem}")
    return key or None


_SALT = os.urandom(16)


def checked_concurrency(most: int | None, *, provider: str) -> int | None:
    """A limit of the user's own to how many requests run at once. Raises TTSConfigurationError."""
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise TTSConfigurationError(f"{provider}.max_concurrency: must be a whole number, 1 or more, got {most!r}")
    return most


def credential_id(key: str | None, place: str) -> str:
    """Name the account of a key at a place, so that equal ones are known as equal within this process and nowhere else.

    Salted anew in every process, it can neither be looked up nor compared with one out of another log.
    """
    return blake2b(f"{place}\n{key or ''}".encode(), key=_SALT, digest_size=8).hexdigest()


def credential_of(key: str | None, place: str, *, at_once: int | None = None, most: int | None = None) -> Credential:
    """The account of a key at a place.

    Its mark may be kept on disk: it takes its time, and it is short, so that it says little of a key that somebody
    guesses, and nothing of any other.
    """
    secret = f"{place}\n{key or ''}".encode()
    mark = lru_cache(2)(lambda salt: scrypt(secret, salt=salt, n=2**14, r=8, p=1, dklen=4).hex())
    return Credential(credential_id(key, place), at_once, most, mark)


def needed_key(given: str | None, variable: str, *, provider: str) -> str:
    """The same, when there is no speaking without one."""
    key = found_key(given, variable, provider=provider, any_key=False)
    if key is None:
        raise TTSConfigurationError(f"{provider}.api_key: there is none; pass api_key=... or set {variable}")
    return key


def checked_url(base_url: str, *, provider: str, endpoints: str = "") -> str:
    """Return an http(s) address without a slash at its end. Raises TTSConfigurationError.

    Paths below it are often pasted along: what the regular expression `endpoints` matches at its end is left out.
    """
    if problem := _problem_with_url(base_url):
        raise TTSConfigurationError(f"{provider}.base_url: {problem}")
    parts = urlsplit(base_url)
    path = re.sub(r"/{2,}", "/", parts.path).rstrip("/")
    if endpoints:
        path = re.sub(rf"(?:{endpoints})\Z", "", path, flags=re.IGNORECASE).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _problem_with_url(base_url: str) -> str | None:
    if not isinstance(base_url, str):
        return f"must be text, got {type(base_url).__name__}"
    if not is_address(base_url):
        if re.match(r"wss?://", base_url, re.IGNORECASE):
            return "must begin with https:// or http://: it is the address for requests, not for sockets"
        if is_address(f"https://{base_url}") and "@" not in base_url:
            shown = f", as in https://{redact(base_url)}" if _HOST_FIRST.fullmatch(base_url) else ""
            return f"must be like https://host or http://host:port: begin it with https://{shown}"
        return "must be like https://host or http://host:port"
    parts = urlsplit(base_url)
    if parts.username is not None or "?" in base_url or "#" in base_url:
        return "must have no user, query or fragment; the key is api_key"
    if _STRANGE_PATH.search(parts.path):
        return "its path has quotes, braces or the like in it: is there a variable that nothing has replaced?"
    return None


def is_address(url: str) -> bool:
    """Whether this is an http(s) URL with a host that can be connected to."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        there = bool(host.encode("idna")) and parts.port != 0
    except ValueError:  # UnicodeError is one
        return False
    return there and parts.scheme in ("http", "https") and not _STRANGE.search(url) and not _STRANGE_HOST.search(host)


_HOST_FIRST = re.compile(
    r"(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+)(:\d+)?(/[a-z0-9./_-]*)?"
)  # what else it is may be a key
_STRANGE = re.compile(r"[\s\x00-\x1f\x7f]")
_STRANGE_HOST = re.compile(r"[$!*,;()=+~&{}<>\"'`\\^|]")
_STRANGE_PATH = re.compile(r"[{}<>\"'`\\^|]")
