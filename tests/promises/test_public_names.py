"""The public surface: what it names, and what looking at it drags in."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import steadyvoice

NAMES = [name for name in steadyvoice.__all__ if name != "__version__"]

THIRD_PARTIES = ("aiohttp", "anyio", "av", "elevenlabs", "httpx", "httpx2", "openai", "pydantic", "rich", "typer")


def shown_to_type_checkers() -> Iterator[tuple[str, str]]:
    """Each name imported under `if TYPE_CHECKING`, and the module it is said to come from."""
    source = Path(steadyvoice.__file__).read_text("utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                yield from ((alias.asname or alias.name, line.module or "") for alias in line.names)


def loaded_by(statement: str) -> set[str]:
    """The modules a fresh interpreter has loaded after a statement, and had not before."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_explains_itself(name: str) -> None:
    thing = getattr(steadyvoice, name)
    assert thing.__name__ == name
    said = vars(thing).get("__doc__")  # its own words, not its parent's
    assert said
    assert not said.startswith(f"{name}(")  # what @dataclass writes when nobody has


@pytest.mark.parametrize("name", NAMES)
def test_what_can_be_called_on_a_public_class_explains_itself(name: str) -> None:
    thing = getattr(steadyvoice, name)
    methods = {key: value for key, value in vars(thing).items() if inspect.isfunction(value) and key[0] != "_"}
    assert [key for key, value in methods.items() if not inspect.getdoc(value)] == []


def test_the_version_is_one_of_pythons_kind() -> None:
    assert all(part.isdigit() for part in steadyvoice.__version__.split(".")[:2])


def test_dir_shows_the_public_names() -> None:
    assert dir(steadyvoice) == sorted(steadyvoice.__all__)


def test_names_are_listed_once() -> None:
    assert len(set(steadyvoice.__all__)) == len(steadyvoice.__all__)


def test_type_checkers_and_the_interpreter_are_told_the_same_names_and_homes() -> None:
    promised = dict(shown_to_type_checkers())
    looked_up = {name: f"steadyvoice.{home}" for name, home in steadyvoice._HOME_OF.items()}
    assert promised == looked_up
    assert set(promised) == set(NAMES)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'steadyvoice' has no attribute 'TTSServise'"):
        _ = steadyvoice.TTSServise  # type: ignore[attr-defined]


def test_importing_the_package_loads_nobody_elses() -> None:
    loaded = loaded_by("import steadyvoice")
    assert "steadyvoice" in loaded
    assert loaded.isdisjoint(THIRD_PARTIES)
    assert {name for name in loaded if name.startswith("steadyvoice.")} == {"steadyvoice._version"}


def test_importing_the_breaker_loads_neither_asyncio_nor_logging_nor_the_rest_of_the_house() -> None:
    loaded = loaded_by("import steadyvoice.breaker")
    assert "steadyvoice.breaker.machine" in loaded
    assert loaded.isdisjoint({"asyncio", "logging", *THIRD_PARTIES})
    rooms = {name.split(".")[1] for name in loaded if name.startswith("steadyvoice.")}
    assert rooms == {"_version", "breaker"}


def test_what_an_import_loads_is_seen() -> None:
    assert "pydantic" in loaded_by("import steadyvoice, pydantic")
    assert "asyncio" in loaded_by("import steadyvoice.breaker, asyncio")
