"""Fixture: outcomes of every fault at a websocket, run once for all tests."""

from __future__ import annotations

import asyncio

import pytest

from .websocket_scenario import TurnOutcome, run_all_websocket_cases


@pytest.fixture(scope="session")
def websocket_outcomes() -> list[TurnOutcome]:
    return asyncio.run(run_all_websocket_cases())
