"""Virtual environment for the peers, beside the benchmarks, so that the project's stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / ".venv" / f"python{sys.version_info.major}.{sys.version_info.minor}"


def run_in_own_venv(script: str, distributions: Iterable[str]) -> dict[str, str]:
    """Continue in the peers' environment, created when missing. Return a reason for each package not installed."""
    if Path(sys.prefix).resolve() != HOME.resolve():
        install_peers(HOME, distributions)
        # The process is replaced, so that interrupts and the exit status need no forwarding.
        python = str(HOME / "bin" / "python")
        os.execve(python, [python, script, *sys.argv[1:]], {**os.environ, "PYTHONPATH": source_folder()})
    return _missing(HOME)


def install_peers(home: Path, distributions: Iterable[str]) -> dict[str, str]:
    """Create the environment when missing. Return a reason for each package not installed."""
    names = sorted(distributions)
    results: dict[str, str] = {}
    if _results_file(home).exists():
        results = json.loads(_results_file(home).read_text())
        # What failed before is tried again: the network may have been the reason.
        names = [name for name in names if results.get(name, "not tried")]
    else:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    if names:
        print(f"installing {', '.join(names)} ...", flush=True)
    results |= {name: _install(home, name) for name in names}
    _results_file(home).write_text(json.dumps(results))
    return _missing(home)


def source_folder() -> str:
    """Return the folder from which this process imports steadyvoice."""
    spec = find_spec("steadyvoice")
    if spec is None or spec.origin is None:
        raise SystemExit("steadyvoice is not installed for this Python: run `make bench`")
    return str(Path(spec.origin).parent.parent)


def _results_file(home: Path) -> Path:
    return home / "installed.json"


def _missing(home: Path) -> dict[str, str]:
    results: dict[str, str] = json.loads(_results_file(home).read_text())
    return {name: reason for name, reason in results.items() if reason}


def _install(home: Path, distribution: str) -> str:
    """Install a package; return the reason if that failed, else an empty string."""
    command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, distribution], capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["pip failed"])[-1]
