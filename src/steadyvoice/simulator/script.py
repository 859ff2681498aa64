"""A script says how a simulator behaves and when it misbehaves. What cannot be is refused with its line.

voice = "tones"
concurrency = 5

[[faults]]
fault = "refuse"
code = "system_busy"
retry_after = 2
start = 10
end = 40
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from steadyvoice.simulator.acts import FaultError
from steadyvoice.simulator.faults import Fault
from steadyvoice.simulator.notation import read_fault, read_value
from steadyvoice.simulator.settings import Settings
from steadyvoice.wire.text_file import UnreadableFileError, parse_toml, read_text_file


@dataclass(frozen=True, slots=True)
class Script:
    """Settings, the faults from the start, and what its first comment says about it. `source` is the text it was read
    from, and `name` that of its file.
    """

    settings: Settings = field(default_factory=Settings)
    faults: tuple[Fault, ...] = ()
    about: str = ""
    name: str = field(default="script", compare=False)
    source: str = field(default="", compare=False, repr=False)

    def mistake(self, fault: int, error: FaultError) -> ScriptError | FaultError:
        """Say of an error that is seen only later where the script has it: in the fault of this number, from 0."""
        if not self.source:
            return error
        own = [error.key] if error.key else []
        return _placed(_MistakeError(str(error), "faults", fault, *own), self)


class ScriptError(ValueError):
    """A script that cannot be played; says where and why."""


def load_script(path: Path) -> Script:
    """Read a file. Raises ScriptError, and OSError when it cannot be opened."""
    try:
        source = read_text_file(path)
    except UnreadableFileError as error:
        raise ScriptError(f"{path}: {error}") from error
    return read_script(source, str(path))


def read_script(source: str, name: str = "script") -> Script:
    """Read TOML. Raises ScriptError."""
    try:
        document = parse_toml(source)
    except UnreadableFileError as error:
        raise ScriptError(f"{name}: {error}") from error
    try:
        return Script(_settings(document), _faults(document), _about(source), name, source)
    except _MistakeError as mistake:
        raise _placed(mistake, Script(name=name, source=source)) from mistake.__cause__


class _MistakeError(Exception):
    """What is wrong, and the way to it through the document."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


_LISTS = ("keys", "voices", "models")


def _settings(document: Mapping[str, Any]) -> Settings:
    known = [each.name for each in fields(Settings)]
    told: dict[str, Any] = {}
    for key, value in document.items():
        if key == "faults":
            continue
        if key not in known:
            raise _MistakeError(f"unknown setting {key!r}: there are {', '.join(known)}, and faults", key)
        try:
            told[key] = _texts(key, value) if key in _LISTS else read_value(Settings, key, value)
        except FaultError as error:
            raise _MistakeError(str(error), key) from error
    try:
        return Settings(**told)
    except FaultError as error:
        raise _MistakeError(str(error), error.key or next(iter(told))) from error


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        raise FaultError(f"{key}: a list of texts, got {value!r}", key)
    return tuple(value)


def _faults(document: Mapping[str, Any]) -> tuple[Fault, ...]:
    tables = document.get("faults", [])
    if not (isinstance(tables, list) and all(isinstance(table, dict) for table in tables)):
        raise _MistakeError("faults: write each as a table, [[faults]]", "faults")
    return tuple(_fault(table, index) for index, table in enumerate(tables))


def _fault(table: Mapping[str, Any], index: int) -> Fault:
    try:
        return read_fault(table)
    except FaultError as error:
        own = [error.key] if error.key and error.key in table else []
        raise _MistakeError(str(error), "faults", index, *own) from error


def _placed(mistake: _MistakeError, script: Script) -> ScriptError:
    return ScriptError(f"{script.name}, line {_line_of(mistake.path, script.source)}: {mistake}")


def _line_of(path: tuple[str | int, ...], source: str) -> int:
    """The first line with which the parser has seen it: right for every way of writing TOML there is.

    A list that goes on is closed behind the line.
    """
    lines = source.splitlines()
    so_far = ("\n".join(lines[:n]) for n in range(1, len(lines)))
    seen = (any(_holds(text + closed, path) for closed in ("", "]")) for text in so_far)
    return next((n for n, there in enumerate(seen, start=1) if there), len(lines))


def _holds(source: str, path: tuple[str | int, ...]) -> bool:
    try:
        found: Any = tomllib.loads(source)
        for step in path:
            found = found[step]
    except (tomllib.TOMLDecodeError, LookupError):
        return False
    return True


def _about(source: str) -> str:
    first = source.partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
