"""What some tests need that not every machine has."""

from __future__ import annotations

import os

import pytest


def require_tool(available: bool, name: str) -> None:
    """Skip what cannot be tried here, saying what is missing; fail where STEADYVOICE_REQUIRE_ALL=1 forbids to skip."""
    if available:
        return
    if os.environ.get("STEADYVOICE_REQUIRE_ALL") == "1":
        pytest.fail(f"{name} is not installed, and STEADYVOICE_REQUIRE_ALL=1 lets no test be skipped")
    pytest.skip(f"{name} is not installed", allow_module_level=True)
