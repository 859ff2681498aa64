"""Fixtures: a scripted vendor on a socket, and an HTTP client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

import pytest

from steadyvoice.providers.http.client import HTTPClient
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire.elevenlabs.errors import parse_error
from tests.providers.scripted_vendor import ScriptedVendor, scripted_vendor


@pytest.fixture
async def vendor() -> AsyncIterator[ScriptedVendor]:
    async with scripted_vendor() as listening:
        yield listening


@pytest.fixture
async def client(vendor: ScriptedVendor) -> AsyncIterator[HTTPClient]:
    made = HTTPClient("vendor", vendor.url, parse_vendor_error, headers={"x-key": "k"})
    yield made
    await made.aclose()


def parse_vendor_error(status: int, headers: Mapping[str, str], body: bytes) -> TTSError:
    return parse_error(status, headers, body, now=datetime.now(UTC), provider="vendor")
