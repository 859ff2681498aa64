"""The peers live in a virtual environment of their own, beside the benchmarks; the project's stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / ".venv" / f"python{sys.version_info.major}.{sys.version_info.minor}"


def move_in(script: str, distributions: Iterable[str]) -> dict[str, str]:
    """Run on inside the peers' environment, made at need; answers with what could not be installed, and why."""
    if Path(sys.prefix).resolve() != HOME.resolve():
        furnish(HOME, distributions)
        python = str(HOME / "bin" / "python")
        os.execve(python, [python, script, *sys.argv[1:]], {**os.environ, "PYTHONPATH": _where_we_are()})
    return _missing(HOME)


def furnish(home: Path, distributions: Iterable[str]) -> dict[str, str]:
    """Make an environment there at need; answers with what could not be installed, and why."""
    wanted = sorted(distributions)
    if _notes(home).exists():
        wanted = sorted(_missing(home))
    else:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    if wanted:
        print(f"installing {', '.join(wanted)} ...", flush=True)
    missing = {name: reason for name in wanted if (reason := _install(home, name))}
    _notes(home).write_text(json.dumps(missing))
    return missing


def _where_we_are() -> str:
    spec = find_spec("steadyvoice")
    if spec is None or spec.origin is None:
        raise SystemExit("steadyvoice is not installed for this Python: run `make bench`")
    return str(Path(spec.origin).parent.parent)


def _notes(home: Path) -> Path:
    return home / "not-installed.json"


def _missing(home: Path) -> dict[str, str]:
    missing: dict[str, str] = json.loads(_notes(home).read_text())
    return missing


def _install(home: Path, distribution: str) -> str:
    """An empty string, or why it could not be installed."""
    command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, distribution], capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["pip failed"])[-1]
