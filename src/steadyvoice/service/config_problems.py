"""All errors of a configuration file at once, each with its key and line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from steadyvoice.service.config_file import (
    LoadedConfig,
    build_arguments,
    parse_document,
    read_document,
    resolve_secrets,
)
from steadyvoice.service.options import ServiceSettings, validate_settings
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.wire.text_file import read_text_file


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """Error of a configuration file.

    `key` is the full path of the key, empty for the file as a whole; `line` counts from 1, and is None if unknown.
    """

    key: str
    message: str
    line: int | None = None


def find_problems(path: Path, environ: Mapping[str, str]) -> tuple[LoadedConfig | None, list[ConfigProblem]]:
    """Load a configuration file, and return it with all errors that can be told apart; None if there are any.

    No I/O over the network.
    """
    errors: list[TTSConfigurationError] = []
    try:
        document = read_document(path)
    except TTSConfigurationError as error:
        return None, [ConfigProblem("", error.message)]
    file = parse_document(resolve_secrets(document, environ, errors.append), errors.append)
    plan = build_arguments(file, report=errors.append)
    if not errors:
        settings = {name: value for name, value in plan.items() if name != "providers"}
        try:
            validate_settings(plan["providers"], cast(ServiceSettings, settings))
        except TTSConfigurationError as error:
            errors.append(error)
    if not errors:
        return LoadedConfig(file, file.server, plan), []
    text = read_text_file(path)
    messages = dict.fromkeys(message for error in errors for message in _messages(error))
    problems = [_located(message, text) for message in messages]
    return None, sorted(problems, key=lambda problem: problem.line or 0)


def _messages(error: TTSConfigurationError) -> Sequence[str]:
    return [error.message, *getattr(error, "__notes__", ())]  # further errors of one table are notes


_KEY_BEFORE_MESSAGE = re.compile(r"([\w-]+(?:\.[\w-]+)*)(?:=.*?)?: ", re.DOTALL)


def _located(message: str, text: str) -> ConfigProblem:
    found = _KEY_BEFORE_MESSAGE.match(message)
    key = found[1] if found else ""
    return ConfigProblem(key, message, find_line(text, key))


_LONG_QUOTES = ('"' * 3, "'" * 3)
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]\]?\s*(?:#.*)?")
_SETTING = re.compile(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"|'[^']*'))*)\s*=")


def find_line(text: str, key: str) -> int | None:
    r"""Return the line of a key, or of the table in which it is missing; None if neither is found.

    >>> find_line("[server]\nport = 1\n[[providers]]\nkind = 'tone'", "providers.0.kind")
    4
    """
    wanted = key.split(".")
    line, depth = None, 0
    for number, place in _places(text):
        if len(place) > depth and place == wanted[: len(place)]:
            line, depth = number, len(place)
    return line


def _places(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each line with a table or a key, and the full path of it; tables of an array are numbered from 0."""
    counts: dict[tuple[str, ...], int] = {}
    table: list[str] = []
    quotes: str | None = None  # of a text of several lines
    for number, line in enumerate(text.splitlines(), 1):
        if quotes is not None:
            quotes = None if quotes in line else quotes
            continue
        if header := _HEADER.fullmatch(line):
            names = _names(header[2])
            if header[1] == "[[":
                counts[tuple(names)] = counts.get(tuple(names), -1) + 1
            table = _numbered(names, counts)
            yield number, table
        elif setting := _SETTING.match(line):
            yield number, table + _names(setting[1])
            quotes = next((each for each in _LONG_QUOTES if line.count(each) == 1), None)


def _names(path: str) -> list[str]:
    return [name.strip().strip("\"'") for name in path.split(".")]


def _numbered(names: Sequence[str], counts: Mapping[tuple[str, ...], int]) -> list[str]:
    """Return a table's path with the number of each array of tables in it behind its name."""
    path: list[str] = []
    for depth, name in enumerate(names, 1):
        path.append(name)
        if (count := counts.get(tuple(names[:depth]))) is not None:
            path.append(str(count))
    return path
