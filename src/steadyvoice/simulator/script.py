"""Simulator scripts: settings and faults in TOML, and the profiles that ship with the package.

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

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from steadyvoice.simulator.fault_injection.actions import ErrorForm, FaultError
from steadyvoice.simulator.fault_injection.matching import Fault
from steadyvoice.simulator.fault_injection.syntax import fault_from_table, parse_value
from steadyvoice.wire.text_file import UnreadableFileError, parse_toml, read_text_file

VoiceEngine = Literal["auto", "tones", "speech"]


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """All of it may stand in a script. Raises FaultError for impossible values.

    Without `keys`, any API key will do. `voices` and `models` are ids that are known besides the vendors' own.
    """

    tls: bool = False  # https and wss, with a certificate made at start
    voice: VoiceEngine = "auto"  # speech where eSpeak NG is installed, tones elsewhere
    seed: int = 0  # of the voice and of chance
    real_time_factor: float = 0.0  # seconds taken to send a second of audio; 0 is as fast as it goes
    keys: tuple[str, ...] = ()
    voices: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    errors: ErrorForm = "current"
    concurrency: int = 10  # ElevenLabs requests at once; its Pro plan's
    queue_seconds: float = 0.05  # how long one more may wait for its turn
    character_count: int = 0  # of ElevenLabs' subscription: used
    character_limit: int = 500_000
    character_reset: int = 0  # when it says that it starts again, in Unix seconds; 0: it does not say

    def __post_init__(self) -> None:
        for name, choices in (("voice", get_args(VoiceEngine)), ("errors", get_args(ErrorForm))):
            if getattr(self, name) not in choices:
                raise FaultError(f"{name}: one of {', '.join(choices)}, got {getattr(self, name)!r}", name)
        for name in ("real_time_factor", "queue_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise FaultError(f"{name}: 0 or more, got {getattr(self, name)}", name)
        if self.concurrency < 1:
            raise FaultError(f"concurrency: at least 1, got {self.concurrency}", "concurrency")
        for name in ("character_count", "character_limit", "character_reset"):
            if getattr(self, name) < 0:
                raise FaultError(f"{name}: 0 or more, got {getattr(self, name)}", name)
        if not all(self.keys):
            raise FaultError("keys: an empty key is none", "keys")


@dataclass(frozen=True, slots=True)
class Script:
    """Settings, the faults from the start, and what its first comment says about it. `source` is the text it was read
    from, and `name` that of its file.
    """

    settings: SimulatorSettings = field(default_factory=SimulatorSettings)
    faults: tuple[Fault, ...] = ()
    about: str = ""
    name: str = field(default="script", compare=False)
    source: str = field(default="", compare=False, repr=False)

    def mistake(self, fault: int, error: FaultError) -> ScriptError | FaultError:
        """Say of an error that is seen only later where the script has it: in the fault of this number, from 0."""
        if not self.source:
            return error
        own = [error.key] if error.key else []
        return _with_line(_LocatedError(str(error), "faults", fault, *own), self)


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
    except _LocatedError as mistake:
        raise _with_line(mistake, Script(name=name, source=source)) from mistake.__cause__


class _LocatedError(Exception):
    """What is wrong, and the way to it through the document."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


_LISTS = ("keys", "voices", "models")


def _settings(document: Mapping[str, Any]) -> SimulatorSettings:
    known = [each.name for each in fields(SimulatorSettings)]
    told: dict[str, Any] = {}
    for key, value in document.items():
        if key == "faults":
            continue
        if key not in known:
            raise _LocatedError(f"unknown setting {key!r}: there are {', '.join(known)}, and faults", key)
        try:
            told[key] = _string_list(key, value) if key in _LISTS else parse_value(SimulatorSettings, key, value)
        except FaultError as error:
            raise _LocatedError(str(error), key) from error
    try:
        return SimulatorSettings(**told)
    except FaultError as error:
        raise _LocatedError(str(error), error.key or next(iter(told))) from error


def _string_list(key: str, value: Any) -> tuple[str, ...]:
    if not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        raise FaultError(f"{key}: a list of texts, got {value!r}", key)
    return tuple(value)


def _faults(document: Mapping[str, Any]) -> tuple[Fault, ...]:
    tables = document.get("faults", [])
    if not (isinstance(tables, list) and all(isinstance(table, dict) for table in tables)):
        raise _LocatedError("faults: write each as a table, [[faults]]", "faults")
    return tuple(_fault(table, index) for index, table in enumerate(tables))


def _fault(table: Mapping[str, Any], index: int) -> Fault:
    try:
        return fault_from_table(table)
    except FaultError as error:
        own = [error.key] if error.key and error.key in table else []
        raise _LocatedError(str(error), "faults", index, *own) from error


def _with_line(mistake: _LocatedError, script: Script) -> ScriptError:
    return ScriptError(f"{script.name}, line {_line_of(mistake.path, script.source)}: {mistake}")


def _line_of(path: tuple[str | int, ...], source: str) -> int:
    """The first line with which the parser has seen it: right for every way of writing TOML there is.

    A list that goes on is closed behind the line.
    """
    lines = source.splitlines()
    so_far = ("\n".join(lines[:n]) for n in range(1, len(lines)))
    seen = (any(_contains(text + closed, path) for closed in ("", "]")) for text in so_far)
    return next((n for n, there in enumerate(seen, start=1) if there), len(lines))


def _contains(source: str, path: tuple[str | int, ...]) -> bool:
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


_PROFILES = files("steadyvoice.simulator") / "profiles"


def profile_names() -> list[str]:
    """All there are."""
    return sorted(entry.name.removesuffix(".toml") for entry in _PROFILES.iterdir() if entry.name.endswith(".toml"))


def load_profile(name: str) -> Script:
    """Read one. Raises ScriptError, which lists what there is."""
    if name not in profile_names():
        raise ScriptError(f"unknown profile {name!r}: there are {', '.join(profile_names())}")
    return read_script((_PROFILES / f"{name}.toml").read_text("utf-8"), f"profile {name}")
