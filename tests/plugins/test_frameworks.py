"""The plugins inside the frameworks: each suite runs in an environment of its own, which `make long` creates.

LiveKit Agents brings 400 MB of packages, Pipecat 500 MB. pip installs them as a user would, with the extra, into
pytest's cache folder; the versions are pinned here, and the extras' bounds are checked against them.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import wave
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from steadyvoice.simulator import words_in
from tests.promises.documentation import all_blocks

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PINNED = {
    "livekit": ("livekit-agents==1.8.9", "livekit-plugins-elevenlabs==1.8.9"),
    "pipecat": ("pipecat-ai==1.14.0",),
}
TEST_TOOLS = ("pytest>=8.4,<10", "pytest-asyncio>=1.1,<2", "pytest-timeout>=2.4,<3")
CONFIGURATION = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\ntimeout = 60\n"

PAGES = {"livekit": ("docs/livekit.md", "docs/guides/migrate-livekit-fallback.md"), "pipecat": ("docs/pipecat.md",)}
EXAMPLES = {
    name: [
        block
        for block in all_blocks()
        if block.page in pages and block.language == "python" and block.mark.argument.endswith(Path(__file__).name)
    ]
    for name, pages in PAGES.items()
}
"""Pieces of code of the pages about each framework."""

KEYS = dict.fromkeys(("ELEVENLABS_API_KEY", "ELEVEN_API_KEY", "CARTESIA_API_KEY"), "sk_" + "0" * 48)

# What the pages leave out: the application's own service, session and context.
SETUPS = {
    "livekit": """
from types import SimpleNamespace
import livekit.agents.tts
from livekit.agents import AgentSession
from livekit.plugins import elevenlabs
from steadyvoice import AsyncTTSService, Cartesia, ElevenLabs, Espeak, Tone
from steadyvoice.livekit import TTS
fallback = livekit.agents.tts.FallbackAdapter
tts = TTS(AsyncTTSService([Tone()]))
tts.FallbackAdapter, cartesia = fallback, elevenlabs
ctx = SimpleNamespace(add_shutdown_callback=lambda callback: None)
session = AgentSession(tts=tts)
""",
    "pipecat": """
from steadyvoice import AsyncTTSService, Tone
from steadyvoice.pipecat import TTSService
tts = TTSService(AsyncTTSService([Tone()]))
""",
}
RUN = """
import ast, asyncio, sys
text = sys.stdin.read() + "\\nawait asyncio.sleep(0)"
asyncio.run(eval(compile(text, "example.py", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)))
"""


@pytest.fixture
def framework(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> tuple[str, Path]:
    """Name of a framework, and the interpreter of an environment with it and this package."""
    name: str = request.param
    folder = pytestconfig.cache.mkdir(f"{name}-plugin")
    python, stamp = folder / "bin/python", folder / "installed.txt"
    packages = [f"{ROOT}[{name},local]", *PINNED[name], *TEST_TOOLS]
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


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("framework", sorted(PINNED), indirect=True)
def test_code_of_the_pages_runs(framework: tuple[str, Path], tmp_path: Path) -> None:
    name, python = framework
    for block in EXAMPLES[name]:
        command = [str(python), "-W", "ignore", "-c", RUN]
        code, environment = SETUPS[name] + block.code, {**os.environ, **KEYS}
        done = subprocess.run(
            command, input=code, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("name", sorted(PINNED))
def test_code_of_the_pages_is_valid_python(name: str) -> None:
    assert len(EXAMPLES[name]) >= 3
    for block in EXAMPLES[name]:
        ast.parse(block.code)
