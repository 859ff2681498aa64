"""The installed wheel on every Python of this machine: `make wheels`.

Pythons are looked for on the PATH, under pyenv, and in STEADYVOICE_PYTHONS, a list of interpreters separated by colons,
such as a free-threaded build. Packages come from the index that pip is configured for, in the pinned versions.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .conftest import ROOT, environment
from .test_wheel import BREAKER

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "looptime", "trio")
OLDER_TOOLS = (*TOOLS, "hypothesis<6.140")  # later ones have an extension, without a wheel for free-threaded builds
_TELL = """
import sys, sysconfig
print("%d.%d" % sys.version_info[:2] + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED")))
"""


@cache
def pythons() -> dict[str, str]:
    """Return an interpreter for each version found, such as "3.12"; "3.13t" is a free-threaded build."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates: list[str | None] = [sys.executable, *os.environ.get("STEADYVOICE_PYTHONS", "").split(":")]
    for number in SUPPORTED:
        candidates += [shutil.which(f"python{number}"), shutil.which(f"python{number}t")]
        candidates += [str(each) for each in sorted(versions.glob(f"{number}*/bin/python3"))]
    found: dict[str, str] = {}
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-c", _TELL], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip().rstrip("t") in SUPPORTED:
            found.setdefault(done.stdout.strip(), candidate)
    return dict(sorted(found.items()))


def interpreter(version: str) -> str:
    """Return the interpreter of a version; skip the test where there is none."""
    if version not in pythons():
        pytest.skip(f"no Python {version} on this machine")
    return pythons()[version]


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Constraints with the pinned versions, without hashes, which pip would demand of the wheel, too."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    kept = [re.sub(r" *\\$", "", line) for line in lines if "--hash=" not in line]
    file = tmp_path_factory.mktemp("pins") / "pins.txt"
    file.write_text("\n".join(kept), "utf-8")
    return file


@pytest.mark.parametrize("version", [f"{number}{threads}" for number in SUPPORTED for threads in ("", "t")])
def test_breaker_passes_its_tests_where_nothing_else_is_installed(
    version: str, wheel: Path, pins: Path, tmp_path: Path
) -> None:
    installed = environment(tmp_path / "env", ["--no-index", str(wheel)], python=interpreter(version))
    assert installed.run("-I", "-c", BREAKER) == "loaded: []\n"
    installed.install(*(OLDER_TOOLS if version.endswith("t") else (*TOOLS, "--constraint", str(pins))))
    printed = installed.run(
        "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider",
        "-m", "not slow", "--hypothesis-profile=quick", "--timeout=300", str(ROOT / "tests" / "breaker"), timeout=1200,
    )  # fmt: skip
    assert re.search(r"\d+ passed", printed)
    assert "failed" not in printed


GATEWAY = """
import json, subprocess, sys, urllib.request
import importlib.util
assert importlib.util.find_spec("uvloop") is None
process = subprocess.Popen([sys.executable, "-m", "steadyvoice", "serve", "--port", "0", "--config", sys.argv[1]],
                           stdout=subprocess.PIPE, text=True)
url = next(line for line in process.stdout if "http://" in line).split("http://")[1].split()[0].strip(",")
body = json.dumps({"input": "Good morning.", "voice": "alloy", "model": "tts-1", "response_format": "mp3"}).encode()
request = urllib.request.Request(f"http://{url}/v1/audio/speech", body, {"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=30) as answer:
    audio = answer.read()
    print(json.dumps({"outcome": answer.headers["x-steadyvoice-outcome"], "bytes": len(audio)}))
process.terminate()
process.wait(30)
"""


@pytest.mark.parametrize("version", SUPPORTED)
def test_gateway_without_uvloop_converts_and_serves(version: str, wheel: Path, pins: Path, tmp_path: Path) -> None:
    installed = environment(
        tmp_path / "env", [f"{wheel}[gateway]", "--constraint", str(pins)], python=interpreter(version)
    )
    remove = [sys.executable, "-m", "pip", "--python", installed.python, "uninstall", "--quiet", "--yes", "uvloop"]
    subprocess.run(remove, check=True, capture_output=True)
    config = tmp_path / "tone.toml"
    config.write_text('[[providers]]\nkind = "tone"\n', "utf-8")
    for arguments in _commands(tmp_path, config):
        installed.run("-m", "steadyvoice", *arguments)
    answer = json.loads(installed.run("-I", "-c", GATEWAY, str(config)).splitlines()[-1])
    assert answer["outcome"] == "spoken"
    assert answer["bytes"] > 1000


def _commands(folder: Path, config: Path) -> Iterator[list[str]]:
    yield ["say", "Good morning.", "-o", str(folder / "a.mp3"), "--config", str(config)]
    yield ["check", "--config", str(config), "--json"]
    yield ["init", "-o", str(folder / "new.toml")]
    yield ["--version"]
