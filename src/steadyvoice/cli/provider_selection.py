"""Providers of a command: from the configuration file or the environment, narrowed to one that the caller names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from steadyvoice.cli.errors import UsageError
from steadyvoice.providers import plugins
from steadyvoice.providers.base import Provider
from steadyvoice.service.config_file import arguments_from_environment, load_arguments
from steadyvoice.service.options import ServiceArguments
from steadyvoice.speech.errors import TTSConfigurationError


def load_plan(config: Path | None, provider: str | None, environ: Mapping[str, str]) -> ServiceArguments:
    """Return the arguments of the service, narrowed to one provider if it is named.

    Raises TTSConfigurationError for an invalid configuration, UsageError for an unknown provider.
    """
    plan = load_arguments(config, environ) if config else arguments_from_environment(environ)
    if provider is None:
        return plan
    found = _named(plan, provider)
    # A provider that the configuration lacks must not be created with defaults, which would bypass the configuration.
    if found is None and (config or environ.get("STEADYVOICE_CONFIG")):
        raise UsageError(f"unknown provider {provider!r}; configured: {_names(plan)}")
    return _only(plan, found or _create_provider(provider))


def _named(plan: ServiceArguments, provider: str) -> Provider | None:
    """Return the provider with a name, or else the first one of that kind, or None."""
    by_name = [one for one in plan["providers"] if one.name == provider]
    return next(iter(by_name or _of_kind(plan, provider)), None)


def _of_kind(plan: ServiceArguments, kind: str) -> list[Provider]:
    try:
        factory = plugins.load_kind(kind)
    except TTSConfigurationError:
        return []
    return [one for one in plan["providers"] if isinstance(factory, type) and isinstance(one, factory)]


def _create_provider(kind: str) -> Provider:
    if kind not in plugins.installed_kinds():
        raise UsageError(f"unknown provider {kind!r}; available kinds: {', '.join(plugins.installed_kinds())}")
    provider: Provider = plugins.load_kind(kind)()
    return provider


def _only(plan: ServiceArguments, provider: Provider) -> ServiceArguments:
    circuits = {name: circuit for name, circuit in plan.get("circuits", {}).items() if name == provider.name}
    return ServiceArguments(**{**plan, "providers": [provider], "circuits": circuits})


def _names(plan: ServiceArguments) -> str:
    return ", ".join(one.name for one in plan["providers"])
