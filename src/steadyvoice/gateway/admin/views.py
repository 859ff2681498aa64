"""JSON views of circuits and configuration for the admin API, without secrets, and the settings that it can change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitConfigError, CircuitState
from steadyvoice.breaker.migration_hints import setting_in_files
from steadyvoice.gateway.admin.request import AdminRequestError
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.http import to_json
from steadyvoice.providers.base import HasCredential, Provider
from steadyvoice.service.config_file import PRESETS, ServerConfig, false_to_none
from steadyvoice.service.pipeline.timeouts import TimeoutConfig

_CODE_ONLY = frozenset(
    {"opens_when", "failure_on", "ignore", "failure_result", "failure_weight", "cooldown_from_error"}
)
CHANGEABLE_FIELDS = tuple(field.name for field in fields(CircuitBreakerConfig) if field.name not in _CODE_ONLY)
"""Settings that can be changed at run time: those that a configuration file can contain."""
_PRESETS = {name: preset() for name, preset in PRESETS.items()}


def config_view(config: CircuitBreakerConfig) -> dict[str, Any]:
    """Return all settings of a circuit; those that can be set in code only appear as text, when they are set."""
    view: dict[str, Any] = {name: to_json(getattr(config, name)) for name in CHANGEABLE_FIELDS}
    return view | {name: str(value) for name in sorted(_CODE_ONLY) if (value := getattr(config, name)) is not None}


def preset_name(config: CircuitBreakerConfig) -> str | None:
    """Return the name of the preset that these settings equal, or None."""
    if config.failure_threshold is None and config.consecutive_failures is not None:
        return "consecutive" if replace(config, consecutive_failures=5) == _PRESETS["consecutive"] else None
    return next((name for name, preset in _PRESETS.items() if preset == config), None)


def circuit_view(circuit: CircuitBreaker) -> dict[str, Any]:
    """Return settings and snapshot of a circuit, and the explanation of its state."""
    explanation = circuit.explain()
    return {
        "name": circuit.name,
        "state": circuit.state.value,
        "preset": preset_name(circuit.config),
        "config": config_view(circuit.config),
        "snapshot": to_json(circuit.snapshot()),
        "explanation": {"text": str(explanation), **to_json(explanation)},
    }


def merged_circuit_view(views: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the views of one circuit at several workers as one: that of the worst state, and all results."""
    order = list(CircuitState)
    worst = max(views, key=lambda view: (view["state"] != "closed", order.index(CircuitState(view["state"]))))
    snapshots = [view["snapshot"] for view in views]
    calls, failures = (sum(each[name] for each in snapshots) for name in ("calls", "failures"))
    totals = {name: sum(each["totals"][name] for each in snapshots) for name in worst["snapshot"]["totals"]}
    return {**worst, "snapshot": {**worst["snapshot"], "calls": calls, "failures": failures, "totals": totals}}


def apply_changes(config: CircuitBreakerConfig, changes: Mapping[str, Any]) -> CircuitBreakerConfig:
    """Return the settings with these changes; with a `preset`, the changes are laid over it.

    Settings that can be set in code only stay as they are. Raises AdminRequestError.
    """
    changes = dict(changes)
    base = config
    if (preset := changes.pop("preset", None)) is not None:
        base = replace(_preset(preset), **{name: getattr(config, name) for name in _CODE_ONLY})
    for name in changes:
        _check_name(name)
    try:
        return replace(base, **false_to_none(changes))
    except CircuitConfigError as error:
        raise AdminRequestError(422, "invalid_setting", str(error), field=error.field) from None


def _preset(name: object) -> CircuitBreakerConfig:
    if not isinstance(name, str) or name not in _PRESETS:
        message = f"preset: must be one of {', '.join(_PRESETS)}"
        raise AdminRequestError(422, "invalid_setting", message, field="preset")
    return _PRESETS[name]


def _check_name(name: str) -> None:
    if name in _CODE_ONLY:
        raise AdminRequestError(422, "invalid_setting", f"{name}: can be set in code only", field=name)
    if name not in CHANGEABLE_FIELDS:
        near = get_close_matches(name, [*CHANGEABLE_FIELDS, "preset"], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        if instead := setting_in_files(name):
            hint = f"; use {instead}"
        raise AdminRequestError(422, "unknown_field", f"{name[:100]}: unknown setting{hint}", field=name[:100])


# Circuits have a table of their own in the view.
_NOT_SHOWN = frozenset({"circuit", "circuits", "clock", "wall_clock", "rng"})


def configuration_view(context: GatewayContext) -> dict[str, Any]:
    """Return the configuration in force, in the order of the file."""
    service = context.service
    settings: Mapping[str, Any] = service.settings
    # In the file these are keys of [server]; the values in force are the service's.
    admission = {name: settings[name] for name in ("max_active", "max_queued", "queue_timeout")}
    return {
        "server": server_view(context.server) | admission,
        **{name: to_json(value) for name, value in settings.items() if name not in (*_NOT_SHOWN, *admission)},
        "timeouts": timeouts_view(settings.get("timeouts") or TimeoutConfig()),
        "providers": [provider_view(each) for each in service.providers],
        "circuits": {name: config_view(circuit.config) for name, circuit in service.circuits.items()},
    }


def timeouts_view(timeouts: TimeoutConfig) -> dict[str, Any]:
    """Return the general timeouts, and whether `read_timeout` was set: the wait for first audio depends on that."""
    view: dict[str, Any] = to_json(timeouts)
    return view | {"read_timeout_is_set": timeouts.read_timeout_is_set}


def server_view(server: ServerConfig) -> dict[str, Any]:
    """Return the `[server]` table with the number of API keys instead of the keys, and without the token."""
    view: dict[str, Any] = to_json(server.model_dump())
    return view | {"api_keys": len(server.api_keys), "admin_token": server.admin_token is not None}


def provider_view(provider: Provider) -> dict[str, Any]:
    """Return the settings of a provider.

    `credential` is equal for providers that share an account, and reveals nothing about the key.
    """
    view: dict[str, Any] = {"name": provider.name, "kind": type(provider).__name__, "local": provider.local}
    if url := getattr(provider, "base_url", None):
        view["base_url"] = _without_credentials(str(url))
    if model := getattr(provider, "model", None):
        view["model"] = str(model)
    if isinstance(voices := getattr(provider, "voices", None), Mapping):
        view["voices"] = to_json(voices)
    if isinstance(provider, HasCredential):
        view["credential"] = provider.credential.id
    return view


def _without_credentials(url: str) -> str:
    """Return a URL without user info and query, where keys may stand."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
