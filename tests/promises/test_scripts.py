"""The scripts in docs/ and deploy/ run, and write the files that are committed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.required_tools import require_tool

from .layers import ROOT

WRITTEN_FILES = {
    "deploy/grafana/draw.py": "deploy/grafana/*.json",
    "docs/draw_crossfade.py": "docs/listen/*",
    "docs/draw_dashboard.py": "docs/dashboard-*.png",
}
"""Files that each script writes, into a folder that is its argument."""

CHECKED = ["docs/draw_states.py"]
"""Scripts that change a page, or with `--check` compare it."""

TOOLS = ["deploy/check_release.py", "deploy/prometheus/record.py", "deploy/sbom.py", "deploy/unpack_helm.py"]
"""Scripts that tests of their own, and `make tools`, run."""

SITE = "docs/builder/"
"""Folder of the documentation site's builder, which test_documentation_site.py runs."""


def test_every_script_is_run() -> None:
    found = {path.relative_to(ROOT).as_posix() for name in ("docs", "deploy") for path in (ROOT / name).rglob("*.py")}
    assert {path for path in found if not path.startswith(SITE)} == {*WRITTEN_FILES, *CHECKED, *TOOLS}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "script",
    [
        "deploy/grafana/draw.py",
        "docs/draw_crossfade.py",
        pytest.param("docs/draw_dashboard.py", marks=pytest.mark.long),  # an hour of calls, in more than a minute
    ],
)
def test_script_writes_the_committed_files(script: str, tmp_path: Path) -> None:
    if script == "docs/draw_dashboard.py":
        chromium = os.environ.get("STEADYVOICE_CHROMIUM", "/usr/bin/chromium")
        require_tool(Path(chromium).exists(), "chromium")
    run(script, str(tmp_path))
    written = {path.name for path in tmp_path.iterdir() if path.stat().st_size}
    assert written == {path.name for path in ROOT.glob(WRITTEN_FILES[script])}


@pytest.mark.parametrize("script", CHECKED)
def test_page_of_the_script_is_up_to_date(script: str) -> None:
    run(script, "--check")


def run(script: str, argument: str) -> None:
    done = subprocess.run([sys.executable, ROOT / script, argument], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
