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
NOTES = HOME / "not-installed.json"


def move_in(script: str, distributions: Iterable[str]) -> dict[str, str]:
    """Run on inside the peers' environment, made at need; answers with what could not be installed, and why."""
    if Path(sys.prefix).resolve() != HOME.resolve():
        _furnish(sorted(distributions))
        python = str(HOME / "bin" / "python")
        os.execve(python, [python, script, *sys.argv[1:]], {**os.environ, "PYTHONPATH": _where_we_are()})
    missing: dict[str, str] = json.loads(NOTES.read_text())
    return missing


def _where_we_are() -> str:
    spec = find_spec("steadyvoice")
    if spec is None or spec.origin is None:
        raise SystemExit("steadyvoice is not installed for this Python: run `make bench`")
    return str(Path(spec.origin).parent.parent)


def _furnish(distributions: list[str]) -> None:
    wanted = distributions
    if NOTES.exists():
        wanted = sorted(json.loads(NOTES.read_text()))
    else:
        subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
    if wanted:
        print(f"installing {', '.join(wanted)} ...", flush=True)
    missing = {name: reason for name in wanted if (reason := _install(name))}
    NOTES.write_text(json.dumps(missing))


def _install(distribution: str) -> str:
    """An empty string, or why it could not be installed."""
    command = [str(HOME / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, distribution], capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["pip failed"])[-1]
