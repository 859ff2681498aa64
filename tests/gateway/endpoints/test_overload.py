"""Overload: every request is served or refused with Retry-After, and none is muted."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from steadyvoice import Accepted, AudioChunk, SpeechRequest, SynthesisOffer
from steadyvoice.gateway.observability.access_log import ACCESS_LOGGER
from tests.service.scripted_provider import ScriptedProvider, pcm

from ..conftest import Run
from ..running_gateway import ELEVENLABS, OPENAI, RunningGateway, elevenlabs_body, openai_body, running_gateway

PCM = {"output_format": "pcm_8000"}


class Gated(ScriptedProvider):
    """Speaks when it is let."""

    def __init__(self) -> None:
        super().__init__(name="gated")
        self.let = asyncio.Event()

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.requests.append(request)
        yield Accepted()
        await self.let.wait()
        yield AudioChunk(pcm(len(request.text) * 0.06))


async def until(gateway: RunningGateway, *, active: int, queued: int) -> None:
    """Wait until so many are spoken to, and so many wait."""
    admission = gateway.service.admission
    while (admission.active, admission.queued) != (active, queued):  # noqa: ASYNC110 - there is no notification
        await asyncio.sleep(0)


def speak(gateway: RunningGateway, **options: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(), params=PCM, **options))


def test_overload_refusal_has_retry_after_in_each_dialect(run: Run) -> None:
    async def scenario() -> None:
        gated = Gated()
        async with running_gateway(gated, max_active=1, max_queued=0) as gateway:
            first = speak(gateway)
            await until(gateway, active=1, queued=0)

            async with gateway.post(ELEVENLABS, elevenlabs_body(), params=PCM) as answer:
                assert answer.status == 503
                assert int(answer.headers["retry-after"]) >= 1
                detail = (await answer.json())["detail"]
                assert detail["status"] == "system_busy"
                assert "overloaded" in detail["message"]
            async with gateway.post(OPENAI, openai_body(response_format="pcm")) as answer:
                assert answer.status == 503
                assert int(answer.headers["retry-after"]) >= 1
                error = (await answer.json())["error"]
                assert (error["type"], error["code"]) == ("server_error", "overloaded")
            async with gateway.post(ELEVENLABS + "/stream", elevenlabs_body(), params=PCM) as answer:
                assert answer.status == 503
            assert len(gated.requests) == 1, "nothing was spent"

            gated.let.set()
            assert (await first).status == 200
            assert (await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(), params=PCM)).status == 200, (
                "it recovers"
            )
            assert gateway.service.get_error_state()["totals"]["failures"] == 0

    run(scenario())


def test_other_endpoints_are_served_under_overload(run: Run) -> None:
    async def scenario() -> None:
        gated = Gated()
        async with running_gateway(gated, max_active=1, max_queued=0) as gateway:
            first = speak(gateway)
            await until(gateway, active=1, queued=0)
            for path in ("/healthz", "/metrics", "/admin/state", "/admin/overview", "/", "/v1/voices", "/openapi.json"):
                assert (await gateway.fetch("GET", path)).status == 200, path
            async with gateway.get("/readyz") as answer:
                assert answer.status == 200, "what is taken out of rotation leaves its load to the others"
                assert (await answer.json())["overloaded"] is True
            gated.let.set()
            await first

    run(scenario())


def test_hangup_in_the_queue_gives_the_place_to_the_next(run: Run) -> None:
    async def scenario() -> None:
        gated = Gated()
        async with running_gateway(gated, max_active=1, queue_timeout=50.0) as gateway:
            first = speak(gateway)
            await until(gateway, active=1, queued=0)
            gone = speak(gateway)
            await until(gateway, active=1, queued=1)
            stays = speak(gateway)
            await until(gateway, active=1, queued=2)
            gone.cancel()
            await asyncio.wait([gone])
            await until(gateway, active=1, queued=1)
            gated.let.set()
            assert [(await task).status for task in (first, stays)] == [200, 200]
            assert len(gated.requests) == 2
            assert (gateway.service.admission.active, gateway.service.admission.queued) == (0, 0)

    run(scenario())


def test_queued_call_is_refused_after_queue_timeout(run: Run) -> None:
    async def scenario() -> None:
        gated = Gated()
        async with running_gateway(gated, max_active=1, queue_timeout=0.05) as gateway:
            first = speak(gateway)
            await until(gateway, active=1, queued=0)
            assert (await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(), params=PCM)).status == 503
            hurried = {"x-steadyvoice-deadline": "0.02"}
            answer = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(), params=PCM, headers=hurried)
            assert answer.status == 503
            refused = gateway.service.get_error_state()["overload"]["refused"]
            assert (refused["queue_timeout"], refused["deadline"]) == (1, 1)
            gated.let.set()
            await first

    run(scenario())


def test_overload_is_in_metrics_state_overview_and_log(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        gated = Gated()
        async with running_gateway(gated, max_active=1, max_queued=1, queue_timeout=50.0) as gateway:
            requests = [speak(gateway)]
            await until(gateway, active=1, queued=0)
            requests.append(speak(gateway))
            await until(gateway, active=1, queued=1)
            with caplog.at_level(logging.INFO, ACCESS_LOGGER):
                assert (await speak(gateway)).status == 503
            line = json.loads(caplog.messages[-1])
            assert (line["status"], line["outcome"], line["error"]) == (503, "failed", "overloaded")

            async with gateway.get("/metrics") as answer:
                metrics = (await answer.text()).splitlines()
            assert "steadyvoice_syntheses_active 1.0" in metrics
            assert "steadyvoice_syntheses_queued 1.0" in metrics
            assert "steadyvoice_overloaded 1.0" in metrics
            assert 'steadyvoice_overload_refused_total{cause="queue_full"} 1.0' in metrics
            assert any(line.startswith("steadyvoice_loop_lag_seconds ") for line in metrics)
            for path in ("/admin/state", "/admin/overview"):
                async with gateway.get(path) as answer:
                    overload = (await answer.json())["overload"]
                assert (overload["overloaded"], overload["active"], overload["queued"]) == (True, 1, 1)
                assert (overload["max_active"], overload["max_queued"], overload["queue_timeout"]) == (1, 1, 50.0)
            async with gateway.get("/admin/config") as answer:
                assert (await answer.json())["server"]["max_active"] == 1
            gated.let.set()
            assert [(await task).status for task in requests] == [200, 200]

    run(scenario())


def test_limits_come_from_the_configuration_file() -> None:
    from steadyvoice.service.config_file import ConfigFile, build_arguments

    table = {"server": {"max_active": 7, "max_queued": 0, "queue_timeout": 1.5}, "providers": [{"kind": "tone"}]}
    plan = build_arguments(ConfigFile.model_validate(table))
    assert (plan["max_active"], plan["max_queued"], plan["queue_timeout"]) == (7, 0, 1.5)
