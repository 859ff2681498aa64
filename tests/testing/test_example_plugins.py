"""Conformance of the example plugins, by their own tests."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from steadyvoice.testing import ProviderCheck

PLUGINS = Path(__file__).parents[2] / "examples" / "plugins"
NAMES = sorted(path.name for path in PLUGINS.iterdir() if (path / "pyproject.toml").is_file())


def checks_of(name: str) -> list[ProviderCheck]:
    """Return the checks that a plugin's own test module runs."""
    sys.path.insert(0, str(PLUGINS / name))
    try:
        found: list[ProviderCheck] = importlib.import_module(f"test_steadyvoice_{name}").CHECKS
    finally:
        sys.path.remove(str(PLUGINS / name))
    return found


CHECKS = [pytest.param(check, id=f"{name}-{check}") for name in NAMES for check in checks_of(name)]


@pytest.mark.parametrize("check", CHECKS)
def test_example_plugin_conforms(check: ProviderCheck) -> None:
    check()


@pytest.mark.parametrize("name", NAMES)
def test_entry_point_of_an_example_plugin_names_its_class(name: str) -> None:
    entry = re.search(rf'^{name} = "(\w+):(\w+)"$', (PLUGINS / name / "pyproject.toml").read_text(), re.MULTILINE)
    assert entry
    assert hasattr(sys.modules[entry[1]], entry[2])
