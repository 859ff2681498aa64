"""Wheel and source distribution, and environments into which they are installed."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EPOCH = "1700000000"


def copy_of_the_repository(folder: Path) -> Path:
    """Copy the files that a checkout has, with the times and permissions of this moment."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return folder


def build(source: Path, target: Path, *kinds: str) -> list[Path]:
    """Build the distributions `wheel` or `sdist` of a folder with the build backend, and return their files."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(target)]
    command += [part for kind in kinds for part in ("-t", kind)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)
    return sorted(target.iterdir())


@dataclass(frozen=True)
class Environment:
    """Virtual environment, and the folder in which its programs run: outside the repository."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def install(self, *requirements: str) -> None:
        """Install with this process's pip, or raise with its messages."""
        command = [sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", "--no-input"]
        done = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def run(self, *arguments: str, status: int = 0, timeout: float = 50.0) -> str:
        """Run the interpreter without the settings and folders of this process; return its output and messages."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
        done = subprocess.run(
            [self.python, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
            timeout=timeout,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def packages(self) -> set[str]:
        """Return the names of the installed distributions."""
        script = "from importlib.metadata import distributions as d; print(*(each.name for each in d()))"
        return set(self.run("-c", script).split())


def environment(folder: Path, requirements: Sequence[str], *, python: str = sys.executable) -> Environment:
    """Create an environment for a Python, and install the requirements."""
    if python == sys.executable:
        venv.create(folder, with_pip=False, symlinks=True)
    else:
        subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True, capture_output=True)
    made = Environment(folder)
    made.install(*requirements)
    return made


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel of this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = build(copy_of_the_repository(folder / "source"), folder / "dist", "wheel")
    return built
