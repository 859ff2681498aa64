"""Configuration reference: tables of docs/configuration.md, from the classes that check the file.

python docs/builder/configuration_reference.py           # regenerate the tables in the page
python docs/builder/configuration_reference.py --check   # exit with an error if one of them is out of date
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from descriptions import fields_of
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from signatures import code, table

from steadyvoice import CacheConfig, CircuitBreakerConfig, HedgeConfig, JournalConfig, RetryConfig, TimeoutConfig
from steadyvoice._option_rules import Number
from steadyvoice.fleet import FleetConfig
from steadyvoice.gateway.reload import RESTART_KEYS
from steadyvoice.service.config_file import PRESETS, TIMEOUT_PRESETS, FallbackConfig, ServerConfig, TelemetryTable

PAGE = Path(__file__).parents[1] / "configuration.md"

TABLES: Mapping[str, type] = {
    "server": ServerConfig,
    "fallback": FallbackConfig,
    "timeouts": TimeoutConfig,
    "retry": RetryConfig,
    "circuit": CircuitBreakerConfig,
    "cache": CacheConfig,
    "journal": JournalConfig,
    "hedge": HedgeConfig,
    "fleet": FleetConfig,
    "telemetry": TelemetryTable,
}
"""Class of each table of the file."""

IN_CODE_ONLY = {"opens_when", "failure_on", "ignore", "failure_result", "failure_weight", "cooldown_from_error"}
"""Settings of a circuit that are functions or types, which a file cannot hold."""

PRESETS_OF = {"circuit": PRESETS, "timeouts": TIMEOUT_PRESETS}

DETAILS = {
    "server.max_answer_bytes": "[memory](limits.md#memory)",
    "server.max_active": "[overload](operations.md#overload)",
    "server.workers": "[workers](operations.md#workers)",
    "fallback.on_midstream": "[resume](resume.md)",
    "fallback.voice_substitution": "[voices](voices.md)",
    "fallback.recorded": "[recorded message](failover.md#recorded-message)",
    "telemetry.metrics": "[OpenTelemetry](metrics.md#opentelemetry)",
    "timeouts.overdue_after": "[silent providers](timeouts.md#silent-providers)",
}
"""Links behind the effect of a key."""

_UNITS = {"timeout": "seconds", "delay": "seconds", "bytes": "bytes", "characters": "characters"}
_HEAD = ("key", "value", "default", "change", "effect")


def rows(name: str) -> Iterator[list[str]]:
    """Yield the rows of a table of the file: key, value, default, how it is changed at run time, effect."""
    kind, effects = TABLES[name], fields_of(TABLES[name])
    change = "reload, admin API" if name == "circuit" else "reload"
    if name in PRESETS_OF:
        presets = _choices(PRESETS_OF[name])
        yield [code("preset"), presets, '`"default"`', change, "settings that the other keys of the table override"]
    for key, value, default in _keys(kind):
        fixed = name == "telemetry" or (name == "server" and key in RESTART_KEYS)
        details = DETAILS.get(f"{name}.{key}")
        effect = effects.get(key, "") + (f": {details}" if details else "")
        yield [code(key), value, default, "restart" if fixed else change, effect]


def _keys(kind: type) -> Iterator[tuple[str, str, str]]:
    if issubclass(kind, BaseModel):
        for key, field in kind.model_fields.items():
            yield key, _model_value(key, field), _default(field.default)
    else:
        for each in fields(kind):  # type: ignore[arg-type]
            if each.name not in IN_CODE_ONLY:
                required = inspect.signature(kind).parameters[each.name].default is inspect.Parameter.empty
                yield each.name, _checked_value(kind, each.name), "required" if required else _default(each.default)


def _model_value(key: str, field: FieldInfo) -> str:
    """Describe the values of a field of a model, by its type and bounds."""
    kind = field.annotation
    if get_origin(kind) is Literal:
        return _choices(get_args(kind))
    if kind in (int, float):
        bounds = {name: getattr(each, name) for each in field.metadata for name in _BOUNDS if hasattr(each, name)}
        named = {_BOUNDS[name]: bound for name, bound in bounds.items()}
        unit = next((unit for ending, unit in _UNITS.items() if key.endswith(ending)), "")
        return _words(Number(unit, integer=kind is int, **named).expected)
    return {bool: "true or false"}.get(kind, "list of text" if get_origin(kind) is list else "text")  # type: ignore[arg-type]


_BOUNDS = {"ge": "minimum", "gt": "above", "le": "maximum", "lt": "below"}


def _checked_value(kind: type, key: str) -> str:
    """Describe the values of a field of a class, by the message with which the class refuses a wrong one."""
    given: dict[str, Any] = {"url": "redis://localhost"} if kind is FleetConfig else {}
    try:
        kind(**given | {key: "no such value"})
    except ValueError as error:
        return _words(str(error)) if "must be" in str(error) else "text"
    return "text"


def _words(message: str) -> str:
    """Return the requirement of a message: "must be a number, 1 or more, got 0" is "number, 1 or more"."""
    requirement = re.sub(r".*must be (?:an? )?", "", message)
    return re.split(r", got |[;:]", requirement)[0].replace("sequence", "list")


def _choices(choices: Any) -> str:
    quoted = [code(json.dumps(each)) for each in choices]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _default(value: object) -> str:
    if value is None:
        return "none"
    return code(repr(value) if isinstance(value, float) else json.dumps(value))


def render(page: str) -> str:
    """Return the page with a new table in the section of each table of the file."""
    for name in TABLES:
        heading = f"\n## `[{name}]`\n"
        before, found, rest = page.partition(heading)
        section, _, after = rest.partition("\n## ")
        if not found:
            raise ValueError(f"{PAGE.name} has no section [{name}]")
        former = re.search(r"^\| key .*\n(?:\|.*\n?)*", section, re.MULTILINE)
        if not former:
            raise ValueError(f"{PAGE.name} has no table in its section [{name}]")
        new = "\n".join(table(_HEAD, rows(name)))
        section = section[: former.start()] + new + section[former.end() :]
        page = before + heading + section + ("\n## " + after if after else "")
    return page


def main() -> str | None:
    """Regenerate or check the page; return an error message or None."""
    page = PAGE.read_text("utf-8")
    if "--check" in sys.argv[1:]:
        return None if render(page) == page else f"{PAGE.name} is out of date: make reference"
    PAGE.write_text(render(page), "utf-8")
    return None


if __name__ == "__main__":
    sys.exit(main())
