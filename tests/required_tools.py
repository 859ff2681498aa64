"""Tools that some tests need and not every machine has."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def require_tool(available: bool, name: str) -> None:
    """Skip the test if a tool is missing, or fail it with STEADYVOICE_REQUIRE_ALL=1."""
    if available:
        return
    if os.environ.get("STEADYVOICE_REQUIRE_ALL") == "1":
        pytest.fail(f"{name} is not installed, and STEADYVOICE_REQUIRE_ALL=1 forbids skipping")
    pytest.skip(f"{name} is not installed", allow_module_level=True)


def release_tool(name: str) -> str:
    """Return the path of a tool for releases: from `make tools`, or the PATH. Skip or fail the test without it."""
    folder = Path(sys.prefix) / "tools" / "bin"
    found = shutil.which(name, path=str(folder)) or (None if name == "python" else shutil.which(name))
    require_tool(found is not None, f"{name} of `make tools`")
    assert found
    return found
