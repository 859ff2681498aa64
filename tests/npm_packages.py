"""Packages from npm for tests, installed once into pytest's cache."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from tests.required_tools import require_tool


def install_npm_packages(manifest: Path, folder: Path) -> Path:
    """Install the packages of a `package.json` into a directory, unless they are installed already."""
    require_tool(shutil.which("node") is not None and shutil.which("npm") is not None, "node with npm")
    with (folder / "lock").open("w") as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        _fetch(manifest, folder)
    return folder


def _fetch(manifest: Path, folder: Path) -> None:
    pinned, stamp = manifest.read_text("utf-8"), folder / "installed.json"
    if not stamp.exists() or stamp.read_text("utf-8") != pinned:
        (folder / "package.json").write_text(pinned, "utf-8")
        # Without the packages' own scripts: tests run no code that is not needed.
        npm = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        result = subprocess.run(npm, cwd=folder, capture_output=True, text=True, check=False)
        require_tool(result.returncode == 0, f"npm packages ({result.stderr.strip()[-300:]})")
        # Written last: an interrupted installation is repeated.
        stamp.write_text(pinned, "utf-8")
