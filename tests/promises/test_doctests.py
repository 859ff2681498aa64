"""Examples in docstrings are right."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import steadyvoice

# Running these is what importing them is for.
_PROGRAMS = ("steadyvoice.__main__", "steadyvoice.providers.espeak_ng.worker")

# They need frameworks, and say so: see tests/plugins/test_frameworks.py.
_PLUGINS = ("steadyvoice.livekit", "steadyvoice.pipecat")


def modules() -> Iterator[str]:
    yield "steadyvoice"
    found = pkgutil.walk_packages(steadyvoice.__path__, "steadyvoice.")
    yield from (module.name for module in found if module.name not in (*_PROGRAMS, *_PLUGINS))


def modules_with_examples() -> Iterator[str]:
    for name in modules():
        spec = find_spec(name)
        if spec and spec.origin and ">>>" in Path(spec.origin).read_text("utf-8"):
            yield name


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_examples_in_docstrings_hold(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert result.failed == 0


def test_modules_and_their_examples_were_found() -> None:
    expected = {
        "steadyvoice.wire.azure",
        "steadyvoice.speech.text",
        "steadyvoice.service.config_problems",
    }
    assert expected <= set(modules_with_examples())
    finder = doctest.DocTestFinder(exclude_empty=True)
    assert any(test.examples for test in finder.find(importlib.import_module("steadyvoice.speech.text")))


def test_every_module_imports_without_the_extras() -> None:
    script = "import sys; sys.modules['espeakng_loader'] = sys.modules['hibari'] = None; import importlib\n"
    script += f"for name in {list(modules())}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
