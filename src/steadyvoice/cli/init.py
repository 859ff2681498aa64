"""`steadyvoice init`: a commented configuration file for the keys and local voices that are found."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steadyvoice._extras import install_command
from steadyvoice.breaker import CircuitBreakerConfig
from steadyvoice.cli.audio_output import check_target
from steadyvoice.cli.errors import ExitStatus, UsageError
from steadyvoice.cli.standard_streams import print_error, was_closed
from steadyvoice.providers.environment import VENDORS, FoundProvider, FoundProviders, find_providers, installed_voices
from steadyvoice.service.cache.keys import CacheConfig
from steadyvoice.service.config_file import FallbackConfig, ServerConfig
from steadyvoice.service.journal.writer import JournalConfig
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.hedging import HedgeConfig
from steadyvoice.service.resilience.retry import RetryConfig

STDOUT = "-"
EXAMPLE = "steadyvoice.toml"


@dataclass(frozen=True, slots=True)
class Table:
    """Table of the file: what it does, and the settings that are changed first with their meanings.

    `values` are written as settings in force, `defaults` has the values of the others. An `optional` table switches
    something on by its presence, and is commented out as a whole.
    """

    purpose: str
    meanings: Mapping[str, str]
    defaults: object
    values: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False


_VOICES = "the callers' names of voices, with the vendor's ids"

PROVIDERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "elevenlabs": (
        "ElevenLabs.",
        {"model": "unless a request names another", "voices": _VOICES, "max_concurrency": "requests at the same time"},
    ),
    "openai": (
        "OpenAI, or with base_url a server with the same API.",
        {"model": "unless a request names another", "voices": _VOICES, "base_url": "where requests go"},
    ),
    "cartesia": (
        "Cartesia. Set max_concurrency to the limit of your plan.",
        {"model": "unless a request names another", "voices": _VOICES, "max_concurrency": "requests at the same time"},
    ),
    "deepgram": (
        "Deepgram.",
        {"voices": "the callers' names of voices, each with a model", "max_concurrency": "requests at the same time"},
    ),
    "azure": (
        "Azure AI Speech.",
        {"voices": _VOICES, "max_concurrency": "requests at the same time"},
    ),
    "google": (
        "Google Cloud Text-to-Speech. The API must be enabled for the key's project.",
        {"voices": _VOICES, "max_concurrency": "requests at the same time"},
    ),
    "polly": (
        "Amazon Polly, with the credentials that every AWS client finds.",
        {"model": "engine: standard, neural, long-form or generative", "voices": _VOICES, "profile": "of AWS"},
    ),
    "neural": (
        "Neural voice on this machine: English only, without network or key.",
        {"prewarm": "load the voice with the first request, whichever provider speaks it"},
    ),
    "espeak": (
        "eSpeak NG on this machine: many languages, without network or key.",
        {"voices": "en-us, de, fr+f3, ...", "words_per_minute": "80 to 450", "pitch": "0 to 99"},
    ),
    "tone": ("Soft tones in place of words: the last audible fallback. It cannot fail.", {"name": "of its circuit"}),
}
"""Purpose of each kind of provider, and the settings that are changed first with their meanings."""

TABLES: Mapping[str, Table] = {
    "server": Table(
        "Gateway of `steadyvoice serve`: address and access.",
        {
            "host": "address to listen on; beyond this machine it needs api_keys",
            "port": "0: any free port",
            "api_keys": 'keys of clients, such as ["env:GATEWAY_KEY"]',
        },
        ServerConfig(),
    ),
    "timeouts": Table(
        "Seconds until a provider has failed. The preset `conversation` fails over sooner.",
        {
            "connection_timeout": "to connect",
            "first_audio_timeout": "from the request to the first audio",
            "total_timeout": "for the whole utterance, plus the seconds of audio delivered",
        },
        TimeoutConfig(),
        {"preset": "default"},
    ),
    "retry": Table(
        "Retries at the last provider that is left. Before that, the next provider is asked instead.",
        {"max_attempts": "the first one included", "base_delay": "seconds of backoff before the first retry"},
        RetryConfig(),
    ),
    "circuit": Table(
        "Circuit breaker of each provider: when it is passed over, and when it is tried again.",
        {
            "failure_threshold": "failure rate that opens the circuit",
            "cooldown_period": "seconds before the first probe",
            "max_cooldown": "seconds, upper bound of the cooldown",
        },
        CircuitBreakerConfig.adaptive(),
        {"preset": "adaptive"},
    ),
    "fallback": Table(
        "What is heard when a provider fails, or all do.",
        {
            "on_midstream": "when a stream breaks off: resume, restart or error",
            "voice_substitution": "never: no provider speaks with another voice than the requested one",
            "muted": "silence when no provider can speak; false: an error",
        },
        FallbackConfig(),
    ),
    "cache": Table(
        "Recordings of what was spoken, on disk. Without this table there is no cache.",
        {"path": "directory", "max_megabytes": "size limit", "max_age_days": "after them, played only in an outage"},
        CacheConfig(),
        optional=True,
    ),
    "journal": Table(
        "What every attempt did, without texts, for `steadyvoice replay`. Without this table there is no journal.",
        {"path": "directory", "max_megabytes": "size limit"},
        JournalConfig(),
        optional=True,
    ),
    "hedge": Table(
        "A second provider is asked when the first is late. Without this table there is no hedging.",
        {"percentile": "share of answers that are in time", "budget": "share of characters requested twice"},
        HedgeConfig(),
        optional=True,
    ),
}
"""Tables of the file besides providers, fleet and telemetry, in their order."""

_HEAD = """\
# Configuration of steadyvoice, written by `steadyvoice init`.
#
# Lines such as `#name = value` are settings with their defaults: remove the # and change the value. "env:NAME" is the
# value of an environment variable, so that no key is in this file. docs/configuration.md lists every key.

# Providers in order of preference: when one fails, the next one continues.
"""

_FURTHER = """\
# Table [fleet]: gateways on several machines share their circuits through Redis or Valkey. docs/fleet.md
# Table [telemetry]: traces and metrics for OpenTelemetry, with the extra [otel]. docs/tracing.md
"""


def configuration_text(providers: Sequence[FoundProvider]) -> str:
    """Return the configuration file: equal for equal providers, and without any value of the environment."""
    blocks = [_provider_lines(each) for each in providers]
    blocks += [_table_lines(name, table) for name, table in TABLES.items()]
    return _HEAD + "\n" + "\n".join("".join(f"{line}\n" for line in block) for block in blocks) + "\n" + _FURTHER


def _provider_lines(found: FoundProvider) -> Iterator[str]:
    purpose, meanings = PROVIDERS[found.kind]
    yield f"# {purpose}"
    yield "[[providers]]"
    yield f"kind = {_toml(found.kind)}"
    for setting, variable in found.variables.items():
        yield f"{setting} = {_toml(f'env:{variable}')}"
    parameters = inspect.signature(type(found.provider)).parameters
    for name, meaning in meanings.items():
        # The constructor's default of voices is None; which voice that is, only the provider knows.
        known = getattr(found.provider, "voices", {}) if name == "voices" else {}
        default = {own: voice.id for own, voice in known.items()} or parameters[name].default
        yield _default_line(name, default, meaning)


def _table_lines(name: str, table: Table) -> Iterator[str]:
    yield f"# {table.purpose}"
    yield f"#[{name}]" if table.optional else f"[{name}]"
    for setting, value in table.values.items():
        yield f"{setting} = {_toml(value)}"
    for setting, meaning in table.meanings.items():
        yield _default_line(setting, getattr(table.defaults, setting), meaning)


def _default_line(name: str, default: Any, meaning: str) -> str:
    """Return a setting that is commented out. One without a default is only described: TOML has no null."""
    return f"# {name}: {meaning}; not set by default" if default is None else f"#{name} = {_toml(default)}  # {meaning}"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def init(output: Path, *, force: bool = False) -> ExitStatus:
    """Write the configuration file, and print what was found and what to do next.

    Raises UsageError if the file exists, unless forced, or cannot be written.
    """
    if to_file := str(output) != STDOUT:
        _check_output(output, force=force)
    elif was_closed(1):
        raise UsageError("standard output is closed; write a file: --output steadyvoice.toml")
    findings = find_providers(os.environ, installed_voices())
    text = configuration_text(findings.providers)
    if to_file:
        _write(output.resolve(), text)  # a symbolic link is kept, and its target replaced
    else:
        sys.stdout.write(text)
    for line in _report(findings, output if to_file else None):
        print_error(line)
    return ExitStatus.SPOKEN


def _check_output(path: Path, *, force: bool) -> None:
    check_target(path, example=EXAMPLE)
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a regular file; use --output - for standard output")
    if path.exists() and not force:
        raise UsageError(f"{path} exists; replace it with --force, or write another file: --output other.toml")


def _write(path: Path, text: str) -> None:
    """Write a file that appears only when complete."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(text.encode())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _report(findings: FoundProviders, path: Path | None) -> Iterator[str]:
    """Yield what was found, what was left out with the reasons, and the next commands."""
    kinds = [each.kind for each in findings.providers]
    yield f"{'configuration' if path is None else path}: providers, in order of preference: {', '.join(kinds)}"
    yield from (f"left out: {reason.message}" for reason in findings.left_out)
    found_one = any(each.variables for each in findings.providers)
    if not found_one and findings.left_out:
        yield "no vendor can be used yet; correct what is named above and run the command again with --force"
    elif not found_one:
        names = ", ".join(vendor.credentials[0][0] for vendor in VENDORS)
        yield f"no vendor's key was found ({names}); set one and run the command again with --force"
    if "espeak" not in kinds:
        yield f"no local voice for all languages is installed: {install_command('local')}"
    if path is not None:
        config = f"--config {shlex.quote(str(path))}"
        yield "next:"
        yield f"  steadyvoice check {config}"
        yield f'  steadyvoice say "Good morning." -o morning.wav {config}'
        yield f"  steadyvoice serve {config}"
