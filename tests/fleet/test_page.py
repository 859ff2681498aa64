"""Examples of docs/fleet.md run with a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steadyvoice.breaker import CircuitRegistry
from steadyvoice.fleet import Fleet
from tests.promises.documentation import blocks

from .redis_server import RedisServer, redis_server

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text("utf-8")
EXAMPLES = [block.code for block in blocks("docs/fleet.md", PAGE) if block.language == "python" and not block.runs]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


def test_example_runs(redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", "k" * 32)
    with Fleet(redis.url, CircuitRegistry(), name="shop") as fleet:
        for example in EXAMPLES:
            names: dict[str, Any] = {"fleet": fleet}
            exec(example.replace("127.0.0.1:6379", f"127.0.0.1:{redis.port}"), names)
    printed = capsys.readouterr().out

    assert len(EXAMPLES) == 4
    assert "somewhere near Turin" in printed
    assert "quota used up" in printed
