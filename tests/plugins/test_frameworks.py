"""The plugins inside the frameworks: each suite runs in an environment of its own, which `make long` creates.

LiveKit Agents brings 400 MB of packages, Pipecat 500 MB. pip installs them as a user would, with the extra, into
pytest's cache folder; the versions are pinned here, and the extras' bounds are checked against them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import wave
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from steadyvoice.simulator import words_in

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PINNED = {
    "livekit": ("livekit-agents==1.8.9", "livekit-plugins-elevenlabs==1.8.9"),
    "pipecat": ("pipecat-ai==1.14.0",),
}
TEST_TOOLS = ("pytest>=8.4,<10", "pytest-asyncio>=1.1,<2", "pytest-timeout>=2.4,<3")
CONFIGURATION = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\ntimeout = 60\n"


@pytest.fixture
def framework(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> tuple[str, Path]:
    """Name of a framework, and the interpreter of an environment with it and this package."""
    name: str = request.param
    folder = pytestconfig.cache.mkdir(f"{name}-plugin")
    python, stamp = folder / "bin/python", folder / "installed.txt"
    packages = [f"{ROOT}[{name}]", *PINNED[name], *TEST_TOOLS]
    if not stamp.exists() or stamp.read_text("utf-8") != repr(packages):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", "-e", *packages], check=True)
        (folder / "pytest.ini").write_text(CONFIGURATION, "utf-8")
        stamp.write_text(repr(packages), "utf-8")
    return name, python


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("framework", sorted(PINNED), indirect=True)
def test_plugin_inside_its_framework(framework: tuple[str, Path]) -> None:
    name, python = framework
    command = [str(python), "-m", "pytest", "-c", str(python.parents[1] / "pytest.ini"), "--noconftest", "-q", "-x"]
    suite = str(HERE / f"{name}_suite.py")
    paths = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--rootdir", str(ROOT), "--import-mode=importlib", "--show-capture=no", suite],
        cwd=ROOT,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("framework", sorted(PINNED), indirect=True)
def test_example_speaks_the_whole_reply_in_two_voices(framework: tuple[str, Path], tmp_path: Path) -> None:
    name, python = framework
    command = [str(python), str(ROOT / "examples" / f"{name}_agent.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "elevenlabs -> tone" in done.stdout
    assert "said: Of course. It will rain all day, so take an umbrella with you." in done.stdout
    with wave.open(str(tmp_path / "reply.wav")) as file:
        audio = file.readframes(file.getnframes())
    assert len(words_in(audio, "pcm_24000")) == 13


@pytest.mark.parametrize("name", sorted(PINNED))
def test_version_that_the_suite_runs_with_is_within_the_bounds_of_the_extra(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    framework = [each for each in project["optional-dependencies"][name] if not each.startswith("steadyvoice[")]
    (bounds,) = map(Requirement, framework)
    pinned = {each.name: each.specifier for each in map(Requirement, PINNED[name])}[bounds.name]
    (version,) = [each.version for each in pinned]
    assert bounds.specifier.contains(version)


@pytest.mark.parametrize(("module", "extra"), [("livekit", "LiveKit Agents"), ("pipecat", "Pipecat")])
def test_import_without_the_extra_names_the_command_that_installs_it(module: str, extra: str) -> None:
    code = f"import sys; sys.modules['{module}'] = None; import steadyvoice.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f'MissingExtraError: {extra} is not installed: pip install "steadyvoice[{module}]"' in done.stderr
