"""Public names of the package, and the modules that an import loads."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import steadyvoice
import steadyvoice.breaker

FRONTS = (steadyvoice, steadyvoice.breaker)
NAMES = [name for name in steadyvoice.__all__ if name != "__version__"]

THIRD_PARTIES = ("aiohttp", "anyio", "av", "elevenlabs", "httpx", "httpx2", "openai", "pydantic", "rich", "typer")


def shown_to_type_checkers(front: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield each name imported under `if TYPE_CHECKING` with its module."""
    source = Path(front.__file__ or "").read_text("utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                yield from ((alias.asname or alias.name, line.module or "") for alias in line.names)


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a statement loads in a fresh interpreter."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_exists_and_has_a_docstring(name: str) -> None:
    thing = getattr(steadyvoice, name)
    assert thing.__name__ == name
    docstring = vars(thing).get("__doc__")  # its own words, not its parent's
    assert docstring
    assert not docstring.startswith(f"{name}(")  # what @dataclass writes when nobody has


@pytest.mark.parametrize("name", NAMES)
def test_public_methods_of_public_classes_have_docstrings(name: str) -> None:
    thing = getattr(steadyvoice, name)
    methods = {key: value for key, value in vars(thing).items() if inspect.isfunction(value) and key[0] != "_"}
    assert [key for key, value in methods.items() if not inspect.getdoc(value)] == []


def test_version_has_two_numbers() -> None:
    assert all(part.isdigit() for part in steadyvoice.__version__.split(".")[:2])


@pytest.mark.parametrize("front", FRONTS)
def test_dir_shows_the_public_names(front: ModuleType) -> None:
    assert dir(front) == sorted(front.__all__)


@pytest.mark.parametrize("front", FRONTS)
def test_names_are_listed_once(front: ModuleType) -> None:
    assert len(set(front.__all__)) == len(front.__all__)


@pytest.mark.parametrize("front", FRONTS)
def test_type_checkers_and_the_interpreter_see_the_same_names(front: ModuleType) -> None:
    promised = dict(shown_to_type_checkers(front))
    looked_up = {name: f"{front.__name__}.{home}" for name, home in front._HOME_OF.items()}
    assert promised == looked_up
    assert set(promised) == set(front.__all__) - {"__version__"}


@pytest.mark.parametrize("name", steadyvoice.breaker.__all__)
def test_every_public_name_of_the_breaker_exists(name: str) -> None:
    assert getattr(steadyvoice.breaker, name) is not None


@pytest.mark.parametrize("front", FRONTS)
def test_unknown_name_is_an_attribute_error(front: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{front.__name__}' has no attribute 'TTSServise'"):
        _ = front.TTSServise


def test_importing_the_package_loads_no_third_party_package() -> None:
    loaded = loaded_by("import steadyvoice")
    assert "steadyvoice" in loaded
    assert loaded.isdisjoint(THIRD_PARTIES)
    assert {name for name in loaded if name.startswith("steadyvoice.")} == {"steadyvoice._version"}


def test_importing_the_breaker_loads_its_modules_on_first_use() -> None:
    loaded = loaded_by("import steadyvoice.breaker")
    ours = {name for name in loaded if name.startswith("steadyvoice.")}
    assert ours == {"steadyvoice._version", "steadyvoice.breaker"}
    assert loaded.isdisjoint({"asyncio", "dataclasses", "datetime", "logging", *THIRD_PARTIES})


def test_unobserved_breaker_loads_no_modules_for_events_and_snapshots() -> None:
    opened = "CircuitBreaker('voice').acquire().failure('down', trip=True)"
    loaded = loaded_by(f"from steadyvoice.breaker import CircuitBreaker; {opened}")
    assert "steadyvoice.breaker.state_machine" in loaded
    assert loaded.isdisjoint({"asyncio", "datetime", "logging", *THIRD_PARTIES})
    unneeded = ("events", "failure_record", "snapshot")
    assert loaded.isdisjoint({f"steadyvoice.breaker.{module}" for module in unneeded})
    assert {name.split(".")[1] for name in loaded if name.startswith("steadyvoice.")} == {
        "_version",
        "_option_rules",
        "breaker",
    }


def test_importing_circuit_open_error_loads_no_state_machine() -> None:
    assert "steadyvoice.breaker.state_machine" not in loaded_by("from steadyvoice.breaker import CircuitOpenError")


def test_modules_loaded_by_an_import_are_listed() -> None:
    assert "pydantic" in loaded_by("import steadyvoice, pydantic")
    assert "asyncio" in loaded_by("import steadyvoice.breaker, asyncio")
