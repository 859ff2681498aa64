"""Ready-made scripts that read like weather: `outage`, `brownout`, `flapping` and their kin."""

from __future__ import annotations

from importlib.resources import files

from steadyvoice.simulator.script import Script, ScriptError, read_script

_WEATHER = files("steadyvoice.simulator") / "weather"


def names() -> list[str]:
    """All there are."""
    return sorted(entry.name.removesuffix(".toml") for entry in _WEATHER.iterdir() if entry.name.endswith(".toml"))


def load(name: str) -> Script:
    """Read one. Raises ScriptError, which lists what there is."""
    if name not in names():
        raise ScriptError(f"unknown profile {name!r}: there are {', '.join(names())}")
    return read_script((_WEATHER / f"{name}.toml").read_text("utf-8"), f"profile {name}")
