"""Tools that some tests need and not every machine has."""

from __future__ import annotations

import os

import pytest


def require_tool(available: bool, name: str) -> None:
    """Skip the test if a tool is missing, or fail it with STEADYVOICE_REQUIRE_ALL=1."""
    if available:
        return
    if os.environ.get("STEADYVOICE_REQUIRE_ALL") == "1":
        pytest.fail(f"{name} is not installed, and STEADYVOICE_REQUIRE_ALL=1 forbids skipping")
    pytest.skip(f"{name} is not installed", allow_module_level=True)
