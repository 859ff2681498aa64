"""Providers of a command: from the configuration file or the environment, narrowed to one that the caller names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from steadyvoice.cli.errors import UsageError
from steadyvoice.providers import plugins
from steadyvoice.providers.base import Provider
from steadyvoice.service.settings import from_environment, read_file
from steadyvoice.service.wishes import Plan
from steadyvoice.speech.errors import TTSConfigurationError


def load_plan(config: Path | None, provider: str | None, environ: Mapping[str, str]) -> Plan:
    """Build what a service is made of. Raises TTSConfigurationError, and UsageProblem for an unknown provider."""
    plan = read_file(config, environ) if config else from_environment(environ)
    if provider is None:
        return plan
    there = _named(plan, provider)
    if there is None and (config or environ.get("STEADYVOICE_CONFIG")):
        raise UsageError(f"no provider {provider!r}: the configuration has {_names(plan)}")
    return _only(plan, there or _create_provider(provider))


def _named(plan: Plan, provider: str) -> Provider | None:
    """Find one by its name, or else the first of that kind."""
    by_name = [one for one in plan["providers"] if one.name == provider]
    return next(iter(by_name or _of_kind(plan, provider)), None)


def _of_kind(plan: Plan, kind: str) -> list[Provider]:
    try:
        factory = plugins.load_kind(kind)
    except TTSConfigurationError:
        return []
    return [one for one in plan["providers"] if isinstance(factory, type) and isinstance(one, factory)]


def _create_provider(kind: str) -> Provider:
    if kind not in plugins.installed_kinds():
        raise UsageError(f"no provider {kind!r}: there is {', '.join(plugins.installed_kinds())}")
    provider: Provider = plugins.load_kind(kind)()
    return provider


def _only(plan: Plan, provider: Provider) -> Plan:
    circuits = {name: circuit for name, circuit in plan.get("circuits", {}).items() if name == provider.name}
    return Plan(**{**plan, "providers": [provider], "circuits": circuits})


def _names(plan: Plan) -> str:
    return ", ".join(one.name for one in plan["providers"])
