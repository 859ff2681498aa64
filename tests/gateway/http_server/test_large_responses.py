"""Responses too large to be buffered are streamed; others are held in memory once."""

from __future__ import annotations

import asyncio
import base64
import json
import tracemalloc
from typing import Any

import aiohttp
import pytest

from steadyvoice.service.pipeline.audio_limits import MIN_AUDIO_BYTES
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions

from ..conftest import Run
from ..running_gateway import ELEVENLABS, RunningGateway, elevenlabs_body, openai_body, running_gateway

pytestmark = pytest.mark.slow  # large bodies, over sockets

MOST = MIN_AUDIO_BYTES
LONG = "A long scenario, with many words. " * 100  # 186 s: 6 MB as pcm_16000
SHORT = "A short scenario."
PCM = f"{ELEVENLABS}?output_format=pcm_16000"
TIMED = f"{ELEVENLABS}/with-timestamps?output_format=pcm_16000"


async def post(
    gateway: RunningGateway, path: str, document: Any, **options: Any
) -> tuple[aiohttp.ClientResponse, bytes]:
    answer = await gateway.fetch("POST", path, json=document, **options)
    return answer, await answer.read()


def limited(**settings: Any) -> Any:
    return running_gateway(max_audio_bytes=MOST, server={"max_answer_bytes": MOST}, **settings)


def test_buffered_response_over_the_limit_is_streamed(run: Run) -> None:
    async def scenario() -> None:
        async with limited() as gateway:
            for path, document in (
                (PCM, elevenlabs_body(LONG)),
                ("/v1/audio/speech", openai_body(LONG, response_format="pcm")),
            ):
                answer, body = await post(gateway, path, document)
                assert answer.status == 200
                assert "content-length" not in answer.headers
                assert len(body) > 2 * MOST

    run(scenario())


def test_buffered_response_below_the_limit_has_a_content_length(run: Run) -> None:
    async def scenario() -> None:
        async with limited() as gateway:
            for path in (PCM, TIMED):
                answer, body = await post(gateway, path, elevenlabs_body(SHORT))
                assert int(answer.headers["content-length"]) == len(body)

    run(scenario())


@pytest.mark.parametrize("text", [SHORT, LONG])
def test_audio_with_times_is_the_same_object_held_or_written_through(run: Run, text: str) -> None:
    async def scenario() -> None:
        async with limited() as gateway:
            answer, body = await post(gateway, TIMED, elevenlabs_body(text))
            assert ("content-length" in answer.headers) == (text is SHORT)
            document = json.loads(body)
            assert list(document) == ["audio_base64", "alignment", "normalized_alignment"]
            audio = base64.b64decode(document["audio_base64"], validate=True)
            times = document["alignment"]
            assert "".join(times["characters"]) == text.strip()
            assert times["character_end_times_seconds"][-1] == pytest.approx(len(audio) / 32_000, abs=1.0)
            assert document["normalized_alignment"] == times
            _, bare = await post(gateway, PCM, elevenlabs_body(text))
            assert len(audio) == len(bare)

    run(scenario())


def test_answer_written_through_that_breaks_has_no_end(run: Run) -> None:
    async def scenario() -> None:
        async with limited(only_elevenlabs=True, muted=False, on_midstream="error") as gateway:
            gateway.sim.faults.set(Fault(actions.Cut(after=60.0)))
            for path in (PCM, TIMED):
                with pytest.raises(aiohttp.ClientPayloadError):
                    await post(gateway, path, elevenlabs_body(LONG))

    run(scenario())


def test_error_before_the_first_audio_has_an_error_status_even_when_streamed(run: Run) -> None:
    async def scenario() -> None:
        async with limited(only_elevenlabs=True, muted=False) as gateway:
            gateway.sim.faults.set(Fault(actions.Refuse(status=500)))
            for path in (PCM, TIMED):
                answer, _ = await post(gateway, path, elevenlabs_body(LONG))
                assert answer.status >= 500

    run(scenario())


def test_http_1_0_client_gets_an_error_for_a_response_over_the_limit(run: Run) -> None:
    async def scenario() -> None:
        async with limited() as gateway, aiohttp.ClientSession(version=aiohttp.HttpVersion10) as old:
            async with old.post(gateway.url + PCM, json=elevenlabs_body(LONG)) as answer:
                assert answer.status == 413
                assert "HTTP/1.1" in await answer.text()
            async with old.post(gateway.url + PCM, json=elevenlabs_body(SHORT)) as answer:
                assert answer.status == 200
                assert int(answer.headers["content-length"]) == len(await answer.read())
            await gateway.sim.idle()

    run(scenario())


def test_three_concurrent_large_responses_buffer_at_most_the_limit_each(run: Run) -> None:
    async def scenario() -> None:
        async with limited() as gateway:

            async def discard(path: str) -> int:
                async with gateway.post(path, elevenlabs_body(LONG)) as answer:
                    return sum([len(data) async for data in answer.content.iter_chunked(65_536)])

            await discard(PCM)
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                sizes = await asyncio.gather(discard(PCM), discard(PCM), discard(TIMED))
                held = tracemalloc.get_traced_memory()[1] - before
            finally:
                tracemalloc.stop()
            assert sum(sizes) > 15 * MOST
            assert held < 3 * 3 * MOST  # of which the simulator and the client, in the same process, have a part

    run(scenario())
