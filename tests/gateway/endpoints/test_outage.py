"""Short run of `benchmarks/outage.py`: many callers while the vendor fails and recovers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

STORY = Path(__file__).parents[3] / "benchmarks" / "outage.py"
SHORT = ["--callers", "30", "--before", "4", "--dies", "9", "--after", "12", "--pause", "2", "--slack", "5"]


@pytest.mark.timeout(180)  # it is lived through in real time
def test_outage_under_load() -> None:
    done = subprocess.run(
        [sys.executable, str(STORY), *SHORT], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("met      ") == 5
