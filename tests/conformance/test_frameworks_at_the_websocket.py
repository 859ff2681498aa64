"""LiveKit's and Pipecat's own ElevenLabs services, unmodified, at the gateway's websocket: faults and a total outage.

Run by `make long` only, because each framework is half a gigabyte.
"""

from __future__ import annotations

import asyncio
import base64
import json
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from steadyvoice.simulator import Fault, words_in
from steadyvoice.simulator.fault_injection import actions
from tests.gateway.running_gateway import RunningGateway, running_gateway
from tests.plugins.scenarios import FAULTS

from .test_client_settings import FRAMEWORKS as HERE
from .test_client_settings import installed

pytestmark = [pytest.mark.timeout(600), pytest.mark.long]

TURNS = ["Good morning, here is a voice. It rains all day.", "And here is a second answer for you."]
OUTAGE = [f"Turn number {number} is not spoken." for number in ("one", "two", "three", "four", "five")]
FRAMEWORKS = pytest.mark.parametrize("framework", ["livekit", "pipecat"])


async def heard(
    framework: str, gateway: RunningGateway, turns: list[str | None], config: pytest.Config
) -> list[dict[str, Any]]:
    """Have a framework speak turns through a gateway; the vendor's faults end before the turn that is None."""

    async def end_of_outage(request: web.Request) -> web.Response:
        gateway.sim.faults.clear()
        gateway.service.reset_circuit_breaker()
        return web.Response()

    folder, requirements = config.cache.mkdir(f"{framework}-tts"), (HERE / f"{framework}.txt").read_text("utf-8")
    python = await asyncio.to_thread(installed, folder, requirements)
    application = web.Application()
    application.router.add_post("/", end_of_outage)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    control = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    process = await asyncio.create_subprocess_exec(
        str(python), "-W", "ignore", str(HERE / f"{framework}_turns.py"), gateway.url, json.dumps(turns), control,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 200)
    await runner.cleanup()
    assert process.returncode == 0, err.decode()[-3000:]
    results: list[dict[str, Any]] = json.loads(out.decode().splitlines()[-1])
    return results


def assert_whole(turn: dict[str, Any], text: str) -> None:
    words = [word for word, _ in turn["words"]]
    times = [time for _, time in turn["words"]]
    assert words_in(base64.b64decode(turn["audio"]), "pcm_24000") == words == text.split()
    assert all(earlier < later for earlier, later in pairwise(times))
    assert turn["error"] is None


@FRAMEWORKS
@pytest.mark.parametrize("fault", FAULTS)
async def test_answers_are_whole_and_words_are_timed(framework: str, fault: str, pytestconfig: pytest.Config) -> None:
    async with running_gateway() as gateway:
        if action := FAULTS[fault]:
            gateway.sim.faults.set(Fault(action, endpoint="text-to-speech*"))
        turns = await heard(framework, gateway, list(TURNS), pytestconfig)
        for turn, text in zip(turns, TURNS, strict=True):
            assert_whole(turn, text)


@FRAMEWORKS
async def test_framework_speaks_again_after_a_total_outage_of_five_answers(
    framework: str, pytestconfig: pytest.Config
) -> None:
    async with running_gateway(only_elevenlabs=True) as gateway:
        gateway.sim.faults.set(actions.Refuse(status=503))
        turns = await heard(framework, gateway, [*OUTAGE, None, *TURNS], pytestconfig)
        assert all(turn["audio"] == "" for turn in turns[:5])
        for turn, text in zip(turns[5:], TURNS, strict=True):
            assert_whole(turn, text)
