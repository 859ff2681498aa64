"""`steadyvoice serve` and its workers with a collector: what arrives, once, and what a collector that hangs delays."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steadyvoice.service.journal.records import read_journal
from tests.gateway.gateway_process import gateway_process
from tests.gateway.running_gateway import ELEVENLABS
from tests.gateway.workers.running_workers import running_workers
from tests.service.telemetry.otlp_receiver import ReceivedTelemetry, attributes_of, otlp_receiver
from tests.service.telemetry.test_export import hanging_collector

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TONE = '[[providers]]\nkind = "tone"\n'
PATH = f"{ELEVENLABS}/stream"


def totals(received: ReceivedTelemetry, name: str) -> float:
    """Return the sum of a counter over all processes and labels."""
    return sum(value for points in received.last_values(name).values() for _, value in points)


async def test_gateway_exports_its_calls_and_its_metrics_until_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_receiver() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "hotline")
        async with gateway_process(tmp_path, f"[telemetry]\n{TONE}") as gateway:
            for _ in range(3):
                assert (await gateway.post(PATH, {"text": "My secret words."})).status == 200
    utterances = [(resource, span) for resource, span in received.spans() if span.name == "utterance"]
    assert len(utterances) == 3
    for resource, span in utterances:
        assert resource["service.name"] == "hotline"
        assert attributes_of(span)["http.response.status_code"] == 200
    assert totals(received, "steadyvoice.requests") == 3
    assert len(received.last_values("steadyvoice.build_info")) == 1
    assert b"secret" not in received.raw


async def test_workers_export_what_each_has_done_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_receiver() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        more = f'[telemetry]\n[journal]\npath = "{tmp_path / "journal"}"'
        async with running_workers(tmp_path, more=more) as gateway:
            for number in (1, 2):
                async with (
                    gateway.connected_to(number) as client,
                    client.post(gateway.url + PATH, json={"text": "Hi."}),
                ):
                    pass
            await gateway.stopped(signal.SIGTERM)
    utterances = [(resource, span) for resource, span in received.spans() if span.name == "utterance"]
    assert sorted(resource["steadyvoice.worker"] for resource, _ in utterances) == [1, 2]
    assert len({resource["service.instance.id"] for resource, _ in utterances}) == 2
    assert len({span.span_id for _, span in received.spans()}) == len(list(received.spans()))
    assert totals(received, "steadyvoice.requests") == 2
    states = [points for points in received.last_values("steadyvoice.workers").values() if points]
    assert [sum(value for _, value in points) for points in states] == [2], "counted by one of them"
    journal = read_journal([tmp_path / "journal"])
    assert [len(run.utterances) for run in journal.runs] == [1, 1], "each worker writes files of its own"
    assert journal.damaged == []
    assert b'"sk"' not in received.raw


async def test_collector_that_hangs_delays_neither_calls_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hanging_collector() as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        async with gateway_process(tmp_path, f"[telemetry]\n{TONE}") as gateway:
            for _ in range(5):
                assert (await gateway.post(PATH, {"text": "Hello."})).status == 200
            log, stopping = gateway.log, asyncio.get_running_loop().time()
        # The SDK waits for 10 seconds for an answer, and for 30 at its end.
        assert asyncio.get_running_loop().time() - stopping < 9
    assert "did not take the last spans and metrics within 2 s" in log.read_text("utf-8")


def test_missing_extra_is_a_line_with_the_command_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(f"[telemetry]\n{TONE}", "utf-8")
    script = (
        "import sys; sys.modules['opentelemetry'] = None; sys.argv = ['steadyvoice', *sys.argv[1:]]\n"
        "from steadyvoice.cli import main; main()"
    )
    arguments: list[Any] = ["serve", "--config", tmp_path / "c.toml", "--port", "0"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert 'OpenTelemetry is not installed: pip install "steadyvoice[otel]"' in done.stderr
    assert "Traceback" not in done.stderr
