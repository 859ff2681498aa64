"""Clients set up as docs/clients.md says receive every word from the gateway."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.simulator import Simulator, words_in
from steadyvoice.simulator.fault_injection.actions import Refuse
from tests.npm_packages import install_npm_packages
from tests.required_tools import require_tool

from .background_simulator import KEY, BackgroundSimulator, background_simulator, gateway_with_all_providers
from .test_javascript import HERE as JAVASCRIPT

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]  # the first run fetches clients

PAGE = (Path(__file__).parents[2] / "docs/clients.md").read_text("utf-8")
FRAMEWORKS = Path(__file__).parent / "frameworks"
ADDRESS = "http://127.0.0.1:8040"
WORDS = ["Good", "evening,", "this", "is", "the", "news."]
FORMAT = "mp3_44100_128"  # both vendors' usual one
OLD_ELEVENLABS = "elevenlabs==1.59.0"


@pytest.fixture(scope="module")
def gateway() -> Iterator[BackgroundSimulator]:
    with background_simulator(gateway_with_all_providers) as background:
        yield background


def snippets(heading: str) -> list[str]:
    """Return the code under a heading of the page."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = [each for each in section if each.startswith(f"{heading}\n")]
    found = re.findall(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found


def at_gateway(url: str, code: str) -> str:
    """Replace address and key in a piece of code by those of a gateway."""
    moved = code.replace(ADDRESS, url).replace(ADDRESS.replace("http", "ws"), url.replace("http", "ws"))
    assert moved != code
    return moved


def run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_client_of_the_table_has_its_section() -> None:
    linked = set(re.findall(r"^\| \[[^\]]*\]\(#([^)]*)\)", PAGE, re.MULTILINE))
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert linked == {_anchor(heading) for heading in headings if not heading.startswith("Voice agents")}


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("heading", ["elevenlabs, Python 2.x", "openai, Python"])
def test_python_client(gateway: BackgroundSimulator, heading: str) -> None:
    assert words_in(heard_by_python(gateway, heading), FORMAT) == WORDS


def test_old_elevenlabs_client(gateway: BackgroundSimulator, pytestconfig: pytest.Config) -> None:
    folder = pytestconfig.cache.mkdir("elevenlabs-1") / OLD_ELEVENLABS
    if not folder.exists():
        unpacking = folder.with_suffix(".new")
        shutil.rmtree(unpacking, ignore_errors=True)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(unpacking),
            OLD_ELEVENLABS,
        ]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        require_tool(done.returncode == 0, f"{OLD_ELEVENLABS} ({done.stderr.strip()[-300:]})")
        unpacking.rename(folder)
    audio = heard_by_python(gateway, "elevenlabs, Python 1.x", PYTHONPATH=str(folder))
    assert words_in(audio, FORMAT) == WORDS


def heard_by_python(gateway: BackgroundSimulator, heading: str, **environment: str) -> bytes:
    (code,) = snippets(heading)
    tell = "import base64, sys; sys.stdout.write(base64.b64encode(audio).decode())"
    return base64.b64decode(run([sys.executable, "-c", f"{at_gateway(gateway.url, code)}\n{tell}"], **environment))


@pytest.mark.parametrize(
    "heading",
    [
        "@elevenlabs/elevenlabs-js",
        "elevenlabs, npm's old one",
        "openai, npm",
        "AI SDK, @ai-sdk/openai",
        "AI SDK, @ai-sdk/elevenlabs",
    ],
)
def test_javascript_client(gateway: BackgroundSimulator, pytestconfig: pytest.Config, heading: str) -> None:
    clients = install_npm_packages(JAVASCRIPT / "package.json", pytestconfig.cache.mkdir("javascript"))
    (code,) = snippets(heading)
    tell = "let heard = []; for await (const part of audio) heard.push(Buffer.from(part));\n"
    tell += "process.stdout.write(Buffer.concat(heard).toString('base64'));"
    script = clients / f"{_anchor(heading)}.mjs"  # where its imports are found
    script.write_text(f"{at_gateway(gateway.url, code)}\n{tell}", "utf-8")
    audio = base64.b64decode(run(["node", "--no-warnings", str(script)], AI_SDK_LOG_WARNINGS="false").split("\n")[-1])
    assert words_in(audio, FORMAT) == WORDS


def test_curl(gateway: BackgroundSimulator, tmp_path: Path) -> None:
    require_tool(shutil.which("curl") is not None, "curl")
    (code,) = snippets("curl")
    done = subprocess.run(
        ["sh", "-ec", at_gateway(gateway.url, code)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert words_in((tmp_path / "news.mp3").read_bytes(), FORMAT) == WORDS


def test_requests_of_open_webui_and_sillytavern(gateway: BackgroundSimulator) -> None:
    """Send requests as in the sources: Open WebUI's `audio.py`, SillyTavern's `openai.js` ("OpenAI Compatible")."""
    bearer = {"authorization": "Bearer any"}
    assert {"id": "tts-1"} in gateway.document("/v1/audio/models", **bearer)["models"]
    assert {"id": "alloy", "name": "alloy"} in gateway.document("/v1/audio/voices", **bearer)["voices"]
    orders: list[dict[str, Any]] = [
        {"input": " ".join(WORDS), "model": "tts-1", "voice": "alloy"},
        {"input": " ".join(WORDS), "model": "tts-1", "voice": "alloy", "response_format": "mp3", "speed": 1},
    ]
    for order in orders:
        assert words_in(gateway.sent("/v1/audio/speech", order, **bearer), FORMAT) == WORDS


@asynccontextmanager
async def mute(simulator: Simulator) -> AsyncIterator[str]:
    """Run a gateway without a working provider that answers with silence."""
    async with _without_provider(simulator, muted=True) as url:
        yield url


@asynccontextmanager
async def unmuted(simulator: Simulator) -> AsyncIterator[str]:
    """Run a gateway without a working provider that answers with an error."""
    async with _without_provider(simulator, muted=False) as url:
        yield url


@asynccontextmanager
async def _without_provider(simulator: Simulator, *, muted: bool) -> AsyncIterator[str]:
    simulator.faults.set(Refuse(status=503))
    providers = [ElevenLabs(KEY, base_url=simulator.url)]
    async with AsyncTTSService(providers, muted=muted) as service, Gateway(service, ServerConfig(port=0)) as opened:
        yield opened.url


def run_framework(framework: str, gateway: BackgroundSimulator, config: pytest.Config, heading: str) -> dict[str, Any]:
    python = installed(config.cache.mkdir(f"{framework}-tts"), (FRAMEWORKS / f"{framework}.txt").read_text("utf-8"))
    with ExitStack() as stack:
        others = [stack.enter_context(background_simulator(gate)).url for gate in (mute, unmuted)]
        code = json.dumps(snippets(heading))
        script = str(FRAMEWORKS / f"{framework}_tts.py")
        results: dict[str, Any] = json.loads(run([str(python), "-W", "ignore", script, gateway.url, *others, code]))
    return results


def installed(folder: Path, requirements: str) -> Path:
    """Create a virtual environment with these packages, unless it exists."""
    stamp, python = folder / "installed.txt", folder / "bin/python"
    if not stamp.exists() or stamp.read_text("utf-8") != requirements:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        (folder / "requirements.txt").write_text(requirements, "utf-8")
        subprocess.run([str(python), "-m", "pip", "install", "-qq", "-r", str(folder / "requirements.txt")], check=True)
        stamp.write_text(requirements, "utf-8")
    return python


@pytest.mark.long  # installs half a gigabyte
def test_livekit_framework(gateway: BackgroundSimulator, pytestconfig: pytest.Config) -> None:
    results = run_framework("livekit", gateway, pytestconfig, "LiveKit Agents")
    for name in ("openai", "elevenlabs", "fallback unmuted"):
        answer = results[name]
        assert words_in(base64.b64decode(answer["audio"]), f"pcm_{answer['rate']}") == WORDS, name
    assert results["fallback unmuted"]["available"] == [False, True]
    silence = results["fallback muted"]
    assert (silence["loudest"], silence["available"]) == (0, [True, True]), "silence is taken for speech"


@pytest.mark.long  # installs half a gigabyte
def test_pipecat_framework(gateway: BackgroundSimulator, pytestconfig: pytest.Config) -> None:
    results = run_framework("pipecat", gateway, pytestconfig, "Pipecat")
    for name in ("openai", "elevenlabs"):
        assert words_in(base64.b64decode(results[name]["audio"]), "pcm_24000") == WORDS, name
        assert not results[name]["errors"]
        silence, error = results[f"{name} muted"], results[f"{name} unmuted"]
        assert (silence["loudest"], silence["text"].split(), silence["errors"]) == (0, WORDS, [])
        assert (error["audio"], bool(error["errors"])) == ("", True)
    assert results["openai unmuted"]["text"] == ""
