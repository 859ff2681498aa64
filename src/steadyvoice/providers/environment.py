"""Providers found without a configuration file: vendors by their environment variables, and installed local voices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steadyvoice.providers import espeak, neural, plugins
from steadyvoice.providers.base import Provider
from steadyvoice.providers.credentials import api_key_problem, strip_secret
from steadyvoice.speech.errors import TTSConfigurationError


@dataclass(frozen=True, slots=True)
class Vendor:
    """Vendor, and the environment variables by which it is found.

    One of the `credentials`, each a group of variables that belong together, has to be set, and for each of the
    `settings` one of its variables. The settings are written as references to these variables.
    """

    kind: str
    credentials: tuple[tuple[str, ...], ...]
    settings: Mapping[str, tuple[str, ...]]


def _with_key(kind: str, variable: str, **settings: tuple[str, ...]) -> Vendor:
    return Vendor(kind, ((variable,),), {"api_key": (variable,), **settings})


VENDORS = (
    _with_key("elevenlabs", "ELEVENLABS_API_KEY"),
    _with_key("openai", "OPENAI_API_KEY"),
    _with_key("cartesia", "CARTESIA_API_KEY"),
    _with_key("deepgram", "DEEPGRAM_API_KEY"),
    _with_key("azure", "AZURE_SPEECH_KEY", region=("AZURE_SPEECH_REGION",)),
    _with_key("google", "GOOGLE_API_KEY"),
    # The key of AWS is not written, not even by reference: temporary credentials have a token besides, and a profile
    # may renew them. botocore finds all of them by itself, but not the region in AWS_REGION.
    Vendor(
        "polly",
        (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_PROFILE",)),
        {"region": ("AWS_REGION", "AWS_DEFAULT_REGION")},
    ),
)
"""Vendors in the order of preference."""


@dataclass(frozen=True, slots=True)
class FoundProvider:
    """Provider that can be used: its kind, and the environment variable of each setting that is not a default."""

    kind: str
    variables: Mapping[str, str]
    provider: Provider


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Vendor that is left out, and why; `by_its_key`: the variable holds no key, but a placeholder or the like."""

    message: str
    by_its_key: bool = False


@dataclass(frozen=True, slots=True)
class FoundProviders:
    """Providers in order of preference, and the reasons for which others are left out."""

    providers: Sequence[FoundProvider]
    left_out: Sequence[LeftOut] = ()


def installed_voices() -> list[str]:
    """Return the kinds of the local voices that are installed, in order of preference. The last one is the tone."""
    found = {"neural": neural.is_installed(), "espeak": espeak.is_installed(), "tone": True}
    return [kind for kind, installed in found.items() if installed]


def find_providers(environ: Mapping[str, str], local_kinds: Sequence[str]) -> FoundProviders:
    """Return the vendors whose credentials are in the environment, followed by local voices. No I/O over the network.

    A vendor whose key cannot be one, or whose extra is not installed, is left out with the reason.
    """
    found: list[FoundProvider] = []
    left_out: list[LeftOut] = []
    for vendor in VENDORS:
        if any(all(_value(environ, name) for name in group) for group in vendor.credentials):
            used = _use(vendor, environ)
            if isinstance(used, LeftOut):
                left_out.append(used)
            else:
                found.append(used)
    found += [FoundProvider(kind, {}, plugins.load_kind(kind)()) for kind in local_kinds]
    return FoundProviders(found, left_out)


def _value(environ: Mapping[str, str], name: str) -> str:
    return strip_secret(environ.get(name, ""))


def _use(vendor: Vendor, environ: Mapping[str, str]) -> FoundProvider | LeftOut:
    """Return a vendor with its settings, or what is missing or impossible."""
    variables = {}
    for setting, names in vendor.settings.items():
        name = next((name for name in names if _value(environ, name)), None)
        if name is None:
            return LeftOut(f"{vendor.kind}: {' or '.join(names)} is not set")
        if setting == "api_key" and (problem := api_key_problem(_value(environ, name))):
            return LeftOut(f"{vendor.kind}: the environment variable {name} {problem}", by_its_key=True)
        variables[setting] = name
    settings = {setting: _value(environ, name) for setting, name in variables.items()}
    try:
        return FoundProvider(vendor.kind, variables, plugins.load_kind(vendor.kind)(**settings))
    except TTSConfigurationError as error:  # such as an extra that is not installed
        return LeftOut(error.message)
