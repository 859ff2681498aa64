"""A circuit as /admin shows and changes it. Pure: settings in, settings or a refusal out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitConfigError
from steadyvoice.breaker.other_names import setting_in_files
from steadyvoice.gateway.plain import plain
from steadyvoice.gateway.refusal import RefusedError
from steadyvoice.service.settings import PRESETS, without_false

_IN_CODE = frozenset({"opens_when", "failure_on", "ignore", "failure_result", "failure_weight", "open_for"})
FIELDS = tuple(field.name for field in fields(CircuitBreakerConfig) if field.name not in _IN_CODE)
"""What a configuration can say, and so can be changed at run time."""
_PRESETS = {name: preset() for name, preset in PRESETS.items()}


def shown_config(config: CircuitBreakerConfig) -> dict[str, Any]:
    """All its settings; those that only code can make are there as text, when they are set."""
    told: dict[str, Any] = {name: plain(getattr(config, name)) for name in FIELDS}
    return told | {name: str(value) for name in sorted(_IN_CODE) if (value := getattr(config, name)) is not None}


def preset_of(config: CircuitBreakerConfig) -> str | None:
    """Which preset these settings are, if they are one."""
    if config.failure_threshold is None and config.consecutive_failures is not None:
        return "consecutive" if replace(config, consecutive_failures=5) == _PRESETS["consecutive"] else None
    return next((name for name, preset in _PRESETS.items() if preset == config), None)


def shown_circuit(circuit: CircuitBreaker) -> dict[str, Any]:
    """Everything that is known of a circuit: settings, numbers, and why it is in its state."""
    why = circuit.explain()
    return {
        "name": circuit.name,
        "state": circuit.state.value,
        "preset": preset_of(circuit.config),
        "config": shown_config(circuit.config),
        "snapshot": plain(circuit.snapshot()),
        "explanation": {"text": str(why), **plain(why)},
    }


def changed(config: CircuitBreakerConfig, wanted: Mapping[str, Any]) -> CircuitBreakerConfig:
    """These settings with others in their stead; with a `preset`, laid over it. Raises RefusedError.

    What only code can say stays as it is.
    """
    given = dict(wanted)
    base = config
    if (preset := given.pop("preset", None)) is not None:
        base = replace(_preset(preset), **{name: getattr(config, name) for name in _IN_CODE})
    for name in given:
        _check_name(name)
    try:
        return replace(base, **without_false(given))
    except CircuitConfigError as error:
        raise RefusedError(422, "invalid_setting", str(error), field=error.field) from None


def changes(before: CircuitBreakerConfig, after: CircuitBreakerConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that are not the same, as they were and as they are."""
    was, now = shown_config(before), shown_config(after)
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    return {name: was.get(name) for name in names}, {name: now.get(name) for name in names}


def _preset(name: object) -> CircuitBreakerConfig:
    if not isinstance(name, str) or name not in _PRESETS:
        told = f"preset: must be one of {', '.join(_PRESETS)}"
        raise RefusedError(422, "invalid_setting", told, field="preset")
    return _PRESETS[name]


def _check_name(name: str) -> None:
    if name in _IN_CODE:
        raise RefusedError(422, "invalid_setting", f"{name}: can be set in code only", field=name)
    if name not in FIELDS:
        near = get_close_matches(name, [*FIELDS, "preset"], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        if instead := setting_in_files(name):
            hint = f"; use {instead}"
        raise RefusedError(422, "unknown_field", f"{name[:100]}: there is no such setting{hint}", field=name[:100])
