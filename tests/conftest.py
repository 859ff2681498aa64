"""For all stories alike."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import settings

from tests.leaked_objects import set_aside as set_aside

# No test asserts on time, and a busy machine is no failure.
settings.register_profile("steadyvoice", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=20)
settings.load_profile("steadyvoice")

# Vendors stand on loopback, where the proxy of whoever runs the tests cannot reach them.
for _name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.upper(), None)


@pytest.fixture(scope="session", autouse=True)
def _no_event_loop_left_over() -> None:
    """A synchronous test has no event loop; without this, looptime makes it one and nobody closes it."""
    asyncio.set_event_loop(None)
