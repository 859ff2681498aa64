"""What a vendor's provider is given, checked before anything is spent: key and addresses."""

from __future__ import annotations

import os
from functools import lru_cache
from hashlib import blake2b, scrypt

from steadyvoice.providers.api_keys import problem_with_key, stripped
from steadyvoice.providers.provider import Credential
from steadyvoice.speech.errors import TTSConfigurationError


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
