"""Fixtures and settings of all tests."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.leaked_objects import frozen_heap as frozen_heap

# No test asserts on time, so that a busy machine does not make one fail.
settings.register_profile("steadyvoice", deadline=None, max_examples=60)
settings.register_profile("deep", deadline=None, max_examples=500)  # of `make long`
settings.register_profile("quick", deadline=None, max_examples=20)
settings.load_profile("steadyvoice")

# Simulated vendors listen on loopback, which a proxy from the environment cannot reach.
for _name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.upper(), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run files with slow tests first, and deselect tests marked `long`, unless `-m` names the mark.

    At the end, one worker would run a slow file while the others have nothing left; so the files with the longest time
    limit are the very first. The deselection is no `-m "not long"` among the default options, because a `-m` on the
    command line would replace it.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    limits: dict[Path, float] = {}
    for item in items:
        if limit := item.get_closest_marker("timeout"):
            limits[item.path] = max(limits.get(item.path, 0.0), limit.args[0])
    items.sort(key=lambda item: (-limits.get(item.path, 0.0), item.path not in slow))
    if "long" in config.getoption("markexpr"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the tests themselves out of garbage collection: millions of objects, of which none is garbage.

    Collecting the tests takes a third longer with the garbage collector, and each collection later would take a second.
    Nor does it look at young objects after every 700 later on, which took 3 % of the time of all tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _no_event_loop_left_over() -> None:
    """Remove the event loop of synchronous tests, which looptime would otherwise create and never close."""
    asyncio.set_event_loop(None)
