"""Programs of docs/guides/queue-worker.md for Celery and RQ, in an environment of their own with a real Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.background_simulator import BackgroundSimulator, background_simulator
from tests.fleet.redis_server import RedisServer, redis_server

from .followed_pages import steps
from .layers import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

PAGE = ROOT / "docs" / "guides" / "queue-worker.md"
PACKAGES = (f"{ROOT}[fleet,local]", "celery[redis]>=5.5,<6", "rq>=2,<3")
PATIENCE = 60.0


@pytest.fixture(scope="module")
def python(pytestconfig: pytest.Config) -> Path:
    """Interpreter of an environment with both and this package."""
    folder = pytestconfig.cache.mkdir("queue-workers")
    stamp, python = folder / "installed.txt", folder / "bin/python"
    if not stamp.exists() or stamp.read_text("utf-8") != repr(PACKAGES):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", "-e", *PACKAGES], check=True)
        stamp.write_text(repr(PACKAGES), "utf-8")
    return python


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
def vendor() -> Iterator[BackgroundSimulator]:
    with background_simulator() as running:
        yield running


@pytest.mark.parametrize(
    ("program", "worker", "order"),
    [
        (
            "tasks.py",
            ["celery", "-A", "tasks", "worker", "--concurrency", "1"],
            "import tasks; tasks.narrate.delay('It rains.', 'one.mp3')",
        ),
        (
            "jobs.py",
            ["rq", "worker", "--with-scheduler"],
            "import os, redis, rq, jobs; server = redis.from_url(os.environ['REDIS_URL']); "
            "rq.Queue(connection=server).enqueue(jobs.narrate, 'It rains.', 'one.mp3')",
        ),
    ],
)
def test_worker_of_the_page_writes_the_file(
    python: Path,
    redis: RedisServer,
    vendor: BackgroundSimulator,
    tmp_path: Path,
    program: str,
    worker: list[str],
    order: str,
) -> None:
    (code,) = [step.body for step in steps(PAGE.read_text("utf-8")) if (step.verb, step.name) == ("file", program)]
    (tmp_path / program).write_text(code, "utf-8")
    address = {"BROKER_URL": redis.url, "REDIS_URL": redis.url, "RQ_REDIS_URL": redis.url, "VENDOR_URL": vendor.url}
    environment = {**os.environ, **address, "PYTHONPATH": str(tmp_path)}
    subprocess.run([python, "-c", order], cwd=tmp_path, env=environment, check=True)
    with (tmp_path / "worker.log").open("wb") as log:
        command = [str(python.parent / worker[0]), *worker[1:]]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        limit = time.monotonic() + PATIENCE
        while not (tmp_path / "one.mp3").exists() and time.monotonic() < limit:
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(30)
    assert (tmp_path / "one.mp3").exists(), (tmp_path / "worker.log").read_text("utf-8")
