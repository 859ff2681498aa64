"""What a vendor's provider is given, checked before anything is spent: key, address, voices."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from hashlib import blake2b
from urllib.parse import urlsplit

from steadyvoice.speech.errors import TTSBadRequestError, TTSConfigurationError
from steadyvoice.speech.request import DEFAULT_VOICE, SpeechRequest


def found_key(given: str | None, variable: str, *, provider: str) -> str | None:
    """The key given, or that in the environment. Raises TTSConfigurationError for one no header can carry."""
    key = os.environ.get(variable) if given is None else given
    if not key:
        return None
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise TTSConfigurationError(
            f"{provider}.api_key: has a space, a line break or a character beyond ASCII in it; copy it again"
        )
    return key


_SALT = os.urandom(16)


def credential_id(key: str | None, place: str) -> str:
    """Name the account of a key at a place, so that equal ones are known as equal within this process and nowhere else.

    Salted anew in every process, it can neither be looked up nor compared with one out of another log.
    """
    return blake2b(f"{place}\n{key or ''}".encode(), key=_SALT, digest_size=8).hexdigest()


def needed_key(given: str | None, variable: str, *, provider: str) -> str:
    """The same, when there is no speaking without one."""
    key = found_key(given, variable, provider=provider)
    if key is None:
        raise TTSConfigurationError(f"{provider}.api_key: there is none; pass api_key=... or set {variable}")
    return key


def checked_url(base_url: str, *, provider: str) -> str:
    """An http(s) address without a slash at its end. Raises TTSConfigurationError."""
    if not _is_address(base_url):
        raise TTSConfigurationError(f"{provider}.base_url: must be like https://host or http://host:port")
    parts = urlsplit(base_url)
    if parts.username is not None or parts.query or parts.fragment:
        raise TTSConfigurationError(f"{provider}.base_url: must have no user, query or fragment; the key is api_key")
    return base_url.rstrip("/")


def checked_proxy(proxy: str | None, *, provider: str) -> str | None:
    """The address of a proxy; it may hold a password, so it is not shown. Raises TTSConfigurationError."""
    if proxy is not None and not _is_address(proxy):
        raise TTSConfigurationError(f"{provider}.proxy: must be like http://host:port")
    return proxy


def checked_voices(voices: Mapping[str, str] | None, default: str, *, provider: str) -> dict[str, str]:
    """The voices by the caller's names, with a `default` among them. Raises TTSConfigurationError."""
    named = {DEFAULT_VOICE: default, **(voices or {})}
    for name, voice in named.items():
        if not _sound_voice(voice):
            raise TTSConfigurationError(f"{provider}.voices.{name}: not a voice id: {voice!r}")
    return named


def chosen_voice(request: SpeechRequest, voices: Mapping[str, str], dialect: str, *, provider: str) -> tuple[str, bool]:
    """The provider's own id for the voice asked for, and whether it is that voice or one that stands in for it.

    A voice that is passed on in the vendor's own dialect is none that anybody here has a name for: as long as another
    provider has, it is not the first choice. Raises TTSBadRequestError when it cannot be a voice at all.
    """
    if request.voice in voices:
        return voices[request.voice], True
    if request.foreign_voice == "pass" and request.dialect in (None, dialect):
        if not _sound_voice(request.voice):
            raise TTSBadRequestError(f"voice: not a voice id: {request.voice[:100]!r}", provider=provider)
        return request.voice, request.dialect is None
    return voices[DEFAULT_VOICE], request.foreign_voice == "default"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        there = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return there and parts.scheme in ("http", "https") and not re.search(r"[\s\x00-\x1f\x7f]", url)


def _sound_voice(voice: object) -> bool:
    """Dots alone would walk up the path of a URL, and control characters have no business in one."""
    return isinstance(voice, str) and bool(re.fullmatch(r"[^\x00-\x1f\x7f]{1,200}", voice)) and voice.strip(". ") != ""
