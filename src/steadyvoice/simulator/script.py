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

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from steadyvoice._option_rules import COUNT, SECONDS, Number, OneOf
from steadyvoice.simulator.fault_injection.actions import ErrorForm, FaultError, validate_fields
from steadyvoice.simulator.fault_injection.matching import Fault
from steadyvoice.simulator.fault_injection.syntax import fault_from_table, parse_value
from steadyvoice.wire.text_file import UnreadableFileError, parse_toml, read_text_file

VoiceEngine = Literal["auto", "tones", "speech"]
SocketTimes = Literal["message", "context"]


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Settings of a simulator, all of which a script can set. Raises FaultError for invalid values.

    Without `keys`, any API key is accepted. `voices` and `models` are ids that exist besides the vendors' own.
    """

    tls: bool = False  # https and wss, with a certificate made at start
    voice: VoiceEngine = "auto"  # speech where eSpeak NG is installed, tones elsewhere
    seed: int = 0  # of the voice and of chance
    real_time_factor: float = 0.0  # seconds that sending a second of audio takes; 0 is as fast as possible
    keys: tuple[str, ...] = ()  # valid API keys; any, if there are none
    voices: tuple[str, ...] = ()  # ids of voices besides the vendors' own
    models: tuple[str, ...] = ()  # ids of models besides the vendors' own
    errors: ErrorForm = "current"  # form of ElevenLabs' errors
    socket_times: SocketTimes = "message"  # beginning from which websockets count times; servers of both kinds exist
    concurrency: int = 10  # ElevenLabs requests at once; its Pro plan's
    queue_seconds: float = 0.05  # seconds that a request beyond the limit waits for a slot
    character_count: int = 0  # characters of ElevenLabs' subscription that are used
    character_limit: int = 500_000  # characters of ElevenLabs' subscription
    character_reset: int = 0  # Unix seconds of its reset, as reported; 0: not reported

    def __post_init__(self) -> None:
        validate_fields(self, ("voice",), OneOf(get_args(VoiceEngine)))
        validate_fields(self, ("errors",), OneOf(get_args(ErrorForm)))
        validate_fields(self, ("socket_times",), OneOf(get_args(SocketTimes)))
        validate_fields(self, ("real_time_factor",), Number(minimum=0))
        validate_fields(self, ("queue_seconds",), SECONDS)
        validate_fields(self, ("concurrency",), COUNT)
        validate_fields(
            self, ("character_count", "character_limit", "character_reset"), Number(integer=True, minimum=0)
        )
        if not all(self.keys):
            raise FaultError("keys: must not be empty strings", "keys")


@dataclass(frozen=True, slots=True)
class Script:
    """Script: settings, the faults in force from the start, and its description from the first comment.

    `source` is the text that it was parsed from, and `name` the name of its file.
    """

    settings: SimulatorSettings = field(default_factory=SimulatorSettings)  # settings of the simulator
    faults: tuple[Fault, ...] = ()  # faults that are in force from the start
    about: str = ""  # description, from the first comment
    name: str = field(default="script", compare=False)
    source: str = field(default="", compare=False, repr=False)

    def locate(self, fault: int, error: FaultError) -> ScriptError | FaultError:
        """Return an error of the fault with this index with its line in the script, if there is a text."""
        if not self.source:
            return error
        keys = [error.key] if error.key else []
        return _with_line(_LocatedError(str(error), "faults", fault, *keys), self)


class ScriptError(ValueError):
    """Invalid script; the message has the line and the reason."""


def load_script(path: Path) -> Script:
    """Load a script from the file at `path`. Raises ScriptError, and OSError when the file cannot be opened."""
    try:
        source = read_text_file(path)
    except UnreadableFileError as error:
        raise ScriptError(f"{path}: {error}") from error
    return read_script(source, str(path))


def read_script(source: str, name: str = "script") -> Script:
    """Parse `source`, a script in TOML; errors begin with its `name`. Raises ScriptError."""
    try:
        document = parse_toml(source)
    except UnreadableFileError as error:
        raise ScriptError(f"{name}: {error}") from error
    try:
        return Script(_settings(document), _faults(document), _about(source), name, source)
    except _LocatedError as error:
        raise _with_line(error, Script(name=name, source=source)) from error.__cause__


class _LocatedError(Exception):
    """Error in a script, with the path of its key in the document."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


_LISTS = ("keys", "voices", "models")


def _settings(document: Mapping[str, Any]) -> SimulatorSettings:
    known = [each.name for each in fields(SimulatorSettings)]
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key == "faults":
            continue
        if key not in known:
            raise _LocatedError(f"unknown setting {key!r}: there are {', '.join(known)}, and faults", key)
        try:
            values[key] = _string_list(key, value) if key in _LISTS else parse_value(SimulatorSettings, key, value)
        except FaultError as error:
            raise _LocatedError(str(error), key) from error
    try:
        return SimulatorSettings(**values)
    except FaultError as error:
        raise _LocatedError(str(error), error.key or next(iter(values))) from error


def _string_list(key: str, value: Any) -> tuple[str, ...]:
    if not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        raise FaultError(f"{key}: must be a list of strings, got {value!r}", key)
    return tuple(value)


def _faults(document: Mapping[str, Any]) -> tuple[Fault, ...]:
    tables = document.get("faults", [])
    if not (isinstance(tables, list) and all(isinstance(table, dict) for table in tables)):
        raise _LocatedError("faults: must be tables, each headed [[faults]]", "faults")
    return tuple(_fault(table, index) for index, table in enumerate(tables))


def _fault(table: Mapping[str, Any], index: int) -> Fault:
    try:
        return fault_from_table(table)
    except FaultError as error:
        keys = [error.key] if error.key and error.key in table else []
        raise _LocatedError(str(error), "faults", index, *keys) from error


def _with_line(error: _LocatedError, script: Script) -> ScriptError:
    return ScriptError(f"{script.name}, line {_line_of(error.path, script.source)}: {error}")


def _line_of(path: tuple[str | int, ...], source: str) -> int:
    """Return the number of the line in which a key is defined, however it is written.

    The parser reports no positions, so longer and longer beginnings of the text are parsed until one has the key. A
    list that continues behind the line is closed for that.
    """
    lines = source.splitlines()
    so_far = ("\n".join(lines[:n]) for n in range(1, len(lines)))
    defines_key = (any(_contains(text + closed, path) for closed in ("", "]")) for text in so_far)
    return next((n for n, there in enumerate(defines_key, start=1) if there), len(lines))


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


_RENAMED_PROFILES = {"slow-morning": "high-latency"}
_PROFILES = files("steadyvoice.simulator") / "profiles"


def profile_names() -> list[str]:
    """Return the names of all profiles."""
    return sorted(entry.name.removesuffix(".toml") for entry in _PROFILES.iterdir() if entry.name.endswith(".toml"))


def load_profile(name: str) -> Script:
    """Load a profile by its `name`. Raises ScriptError, which lists all profiles, for an unknown one."""
    if (renamed := _RENAMED_PROFILES.get(name)) is not None:
        raise ScriptError(f"unknown profile {name!r}: it is now called {renamed}")
    if name not in profile_names():
        raise ScriptError(f"unknown profile {name!r}: there are {', '.join(profile_names())}")
    return read_script((_PROFILES / f"{name}.toml").read_text("utf-8"), f"profile {name}")
