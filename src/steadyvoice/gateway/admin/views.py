"""JSON views of circuits and configuration, without secrets, and checked changes of settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitConfigError
from steadyvoice.breaker.migration_hints import setting_in_files
from steadyvoice.gateway.admin.request import AdminRequestError
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.json_values import to_json
from steadyvoice.providers.base import HasCredential, Provider
from steadyvoice.service.config_file import PRESETS, ServerConfig, false_to_none
from steadyvoice.service.pipeline.timeouts import TimeoutConfig

_CODE_ONLY = frozenset(
    {"opens_when", "failure_on", "ignore", "failure_result", "failure_weight", "cooldown_from_error"}
)
CHANGEABLE_FIELDS = tuple(field.name for field in fields(CircuitBreakerConfig) if field.name not in _CODE_ONLY)
"""What a configuration can say, and so can be changed at run time."""
_PRESETS = {name: preset() for name, preset in PRESETS.items()}


def config_view(config: CircuitBreakerConfig) -> dict[str, Any]:
    """All its settings; those that only code can make are there as text, when they are set."""
    told: dict[str, Any] = {name: to_json(getattr(config, name)) for name in CHANGEABLE_FIELDS}
    return told | {name: str(value) for name in sorted(_CODE_ONLY) if (value := getattr(config, name)) is not None}


def preset_name(config: CircuitBreakerConfig) -> str | None:
    """Which preset these settings are, if they are one."""
    if config.failure_threshold is None and config.consecutive_failures is not None:
        return "consecutive" if replace(config, consecutive_failures=5) == _PRESETS["consecutive"] else None
    return next((name for name, preset in _PRESETS.items() if preset == config), None)


def circuit_view(circuit: CircuitBreaker) -> dict[str, Any]:
    """Everything that is known of a circuit: settings, numbers, and why it is in its state."""
    why = circuit.explain()
    return {
        "name": circuit.name,
        "state": circuit.state.value,
        "preset": preset_name(circuit.config),
        "config": config_view(circuit.config),
        "snapshot": to_json(circuit.snapshot()),
        "explanation": {"text": str(why), **to_json(why)},
    }


def apply_changes(config: CircuitBreakerConfig, wanted: Mapping[str, Any]) -> CircuitBreakerConfig:
    """These settings with others in their stead; with a `preset`, laid over it. Raises RefusedError.

    What only code can say stays as it is.
    """
    given = dict(wanted)
    base = config
    if (preset := given.pop("preset", None)) is not None:
        base = replace(_preset(preset), **{name: getattr(config, name) for name in _CODE_ONLY})
    for name in given:
        _check_name(name)
    try:
        return replace(base, **false_to_none(given))
    except CircuitConfigError as error:
        raise AdminRequestError(422, "invalid_setting", str(error), field=error.field) from None


def changed_settings(
    before: CircuitBreakerConfig, after: CircuitBreakerConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that are not the same, as they were and as they are."""
    was, now = config_view(before), config_view(after)
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    return {name: was.get(name) for name in names}, {name: now.get(name) for name in names}


def _preset(name: object) -> CircuitBreakerConfig:
    if not isinstance(name, str) or name not in _PRESETS:
        told = f"preset: must be one of {', '.join(_PRESETS)}"
        raise AdminRequestError(422, "invalid_setting", told, field="preset")
    return _PRESETS[name]


def _check_name(name: str) -> None:
    if name in _CODE_ONLY:
        raise AdminRequestError(422, "invalid_setting", f"{name}: can be set in code only", field=name)
    if name not in CHANGEABLE_FIELDS:
        near = get_close_matches(name, [*CHANGEABLE_FIELDS, "preset"], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        if instead := setting_in_files(name):
            hint = f"; use {instead}"
        raise AdminRequestError(422, "unknown_field", f"{name[:100]}: there is no such setting{hint}", field=name[:100])


_NOT_SHOWN = frozenset({"circuit", "circuits", "clock", "wall_clock", "rng"})  # the circuits are told one by one


def configuration_view(context: GatewayContext) -> dict[str, Any]:
    """All of it, in the order of the file."""
    service = context.service
    settings: Mapping[str, Any] = service.settings
    # The file has these in its table of the server; the service has the last word on them.
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
    told: dict[str, Any] = to_json(timeouts)
    return told | {"read_timeout_is_set": timeouts.read_timeout_is_set}


def server_view(server: ServerConfig) -> dict[str, Any]:
    """How many keys there are, and whether there is a token; not which."""
    told: dict[str, Any] = to_json(server.model_dump())
    return told | {"api_keys": len(server.api_keys), "admin_token": server.admin_token is not None}


def provider_view(provider: Provider) -> dict[str, Any]:
    """What is known of a provider. Providers of one `credential` share an account; it says nothing about the key."""
    told: dict[str, Any] = {"name": provider.name, "kind": type(provider).__name__, "local": provider.local}
    if url := getattr(provider, "base_url", None):
        told["base_url"] = _without_credentials(str(url))
    if model := getattr(provider, "model", None):
        told["model"] = str(model)
    if isinstance(voices := getattr(provider, "voices", None), Mapping):
        told["voices"] = to_json(voices)
    if isinstance(provider, HasCredential):
        told["credential"] = provider.credential.id
    return told


def _without_credentials(url: str) -> str:
    """An address, without the places where people put keys."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
