"""Packages from npm that tests need: fetched once, and kept in pytest's cache."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from tests.required_tools import require_tool


def install_npm_packages(manifest: Path, folder: Path) -> Path:
    """Have npm fetch into a folder what a `package.json` pins, unless it is there already."""
    require_tool(shutil.which("node") is not None and shutil.which("npm") is not None, "node with npm")
    with (folder / "lock").open("w") as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        _fetch(manifest, folder)
    return folder


def _fetch(manifest: Path, folder: Path) -> None:
    wanted, stamp = manifest.read_text("utf-8"), folder / "installed.json"
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        (folder / "package.json").write_text(wanted, "utf-8")
        npm = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(npm, cwd=folder, capture_output=True, text=True, check=False)
        require_tool(done.returncode == 0, f"what npm should fetch ({done.stderr.strip()[-300:]})")
        stamp.write_text(wanted, "utf-8")
