"""Hostile vendor responses: the caller gets another provider or an error, and other calls are served."""

from __future__ import annotations

import asyncio

import pytest

from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions

from ..conftest import Run
from ..running_gateway import ELEVENLABS, RunningGateway, elevenlabs_body, running_gateway

STREAM = f"{ELEVENLABS}/stream?output_format=mp3_44100_128"
HOSTILE = [
    actions.GzipBomb(megabytes=200),
    actions.EndlessTag(),
    actions.EndlessHeader(),
    actions.UnknownCoding("zstd"),
]


@pytest.mark.slow
@pytest.mark.parametrize("midstream", ["resume", "error"])
@pytest.mark.parametrize("act", HOSTILE, ids=actions.action_name)
def test_gateway_fails_over_and_serves_other_requests_during_a_hostile_response(
    run: Run, act: actions.FaultAction, midstream: str
) -> None:
    async def scenario() -> None:
        async with running_gateway() as gateway:
            gateway.sim.faults.set(Fault(act, times=1))
            asked = asyncio.create_task(outcome(gateway, midstream))
            served = 0
            while not asked.done():
                async with gateway.get("/healthz") as answer:
                    assert answer.status == 200
                served += 1
            assert await asked == (200, "substituted")
            assert served > 1
            assert await outcome(gateway, midstream) == (200, "spoken")

    run(scenario())


def test_gzip_body_of_several_members_is_decompressed_completely(run: Run) -> None:
    async def scenario() -> None:
        async with running_gateway() as gateway:
            whole = await gateway.fetch(
                "POST", STREAM, json=elevenlabs_body(), headers={"x-steadyvoice-on-midstream": "error"}
            )
            gateway.sim.faults.set(Fault(actions.Gzip(members=3)))
            packed = await gateway.fetch(
                "POST", STREAM, json=elevenlabs_body(), headers={"x-steadyvoice-on-midstream": "error"}
            )
            assert packed.headers["x-steadyvoice-outcome"] == "spoken"
            assert await packed.read() == await whole.read()

    run(scenario())


async def outcome(gateway: RunningGateway, midstream: str) -> tuple[int, str]:
    answer = await gateway.fetch(
        "POST", STREAM, json=elevenlabs_body(), headers={"x-steadyvoice-on-midstream": midstream}
    )
    return answer.status, answer.headers["x-steadyvoice-outcome"]
