"""Finished requests leave nothing for the garbage collector, in every format and way of ending."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
import pytest

from steadyvoice import Tone
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions
from tests.leaked_objects import live_objects, native_threads, native_threads_back_to, no_garbage

from ..running_gateway import ELEVENLABS, OPENAI, TEXT, RunningGateway, elevenlabs_body, openai_body, running_gateway

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("frozen_heap")]

LONG = " ".join([TEXT] * 40)

ELEVENLABS_FORMATS = ["mp3_44100_128", "pcm_24000", "opus_48000_64"]
OPENAI_FORMATS = ["opus", "aac", "flac", "wav"]

Request = Callable[[RunningGateway, str, str], Awaitable[aiohttp.ClientResponse]]
Ending = Callable[[RunningGateway, Request, str], Awaitable[None]]


async def streamed(gateway: RunningGateway, text: str, format: str) -> aiohttp.ClientResponse:
    if format in OPENAI_FORMATS:
        return await gateway.client.post(gateway.url + OPENAI, json=openai_body(text, response_format=format))
    return await gateway.client.post(
        f"{gateway.url}{ELEVENLABS}/stream?output_format={format}", json=elevenlabs_body(text)
    )


async def fetch(gateway: RunningGateway, text: str, format: str) -> aiohttp.ClientResponse:
    return await gateway.client.post(f"{gateway.url}{ELEVENLABS}?output_format={format}", json=elevenlabs_body(text))


async def timed(gateway: RunningGateway, text: str, format: str) -> aiohttp.ClientResponse:
    path = f"{ELEVENLABS}/stream/with-timestamps?output_format={format}"
    return await gateway.client.post(gateway.url + path, json=elevenlabs_body(text))


async def read(gateway: RunningGateway, request: Request, format: str) -> None:
    answer = await request(gateway, TEXT, format)
    assert (answer.status, bool(await answer.read())) == (200, True)


async def left_in_the_middle(gateway: RunningGateway, request: Request, format: str) -> None:
    answer = await request(gateway, LONG, format)
    await answer.content.readany()
    answer.close()


async def left_before_the_first_byte(gateway: RunningGateway, request: Request, format: str) -> None:
    gateway.sim.faults.set(Fault(actions.Hang(), endpoint="text-to-speech*"))
    calls = gateway.sim.ledger
    before = len(calls)
    asking = asyncio.ensure_future(request(gateway, TEXT, format))
    while len(calls) == before:  # noqa: ASYNC110 - the simulator has no notification
        await asyncio.sleep(0)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    gateway.sim.faults.clear()


async def cut_by_the_vendor(gateway: RunningGateway, request: Request, format: str) -> None:
    gateway.sim.faults.set(Fault(actions.Cut(after=0.5), endpoint="text-to-speech*"))
    with suppress(aiohttp.ClientError):
        answer = await request(gateway, TEXT, format)
        await answer.read()
    gateway.sim.faults.clear()


async def refused_by_the_vendor(gateway: RunningGateway, request: Request, format: str) -> None:
    gateway.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))
    with suppress(aiohttp.ClientError):
        answer = await request(gateway, TEXT, format)
        await answer.read()
    gateway.sim.faults.clear()


ENDINGS: list[Ending] = [
    read, left_in_the_middle, left_before_the_first_byte, cut_by_the_vendor, refused_by_the_vendor,
]  # fmt: skip
REQUESTS: list[tuple[Request, str]] = [
    *((streamed, format) for format in ELEVENLABS_FORMATS + OPENAI_FORMATS),
    (fetch, "mp3_44100_128"),
    (fetch, "opus_48000_64"),
    (timed, "mp3_44100_128"),
]


CASES = [("error", streamed, "mp3_44100_128"), *(("resume", *each) for each in REQUESTS)]


@pytest.mark.parametrize(("midstream", "request_of", "format"), CASES, ids=lambda each: getattr(each, "__name__", each))
async def test_finished_responses_leave_no_garbage(midstream: str, request_of: Request, format: str) -> None:
    async with running_gateway(only_elevenlabs=True, on_midstream=midstream, muted=False) as gateway:
        for ending in ENDINGS:
            await left_over(gateway, lambda: ending(gateway, request_of, format), ending.__name__)  # noqa: B023


@pytest.mark.parametrize("format", ["mp3_44100_128", "opus_48000_64"])
async def test_disconnects_leave_no_threads_and_encoders(format: str) -> None:
    async with running_gateway(Tone()) as gateway:

        async def forty() -> None:
            await asyncio.gather(*(left_in_the_middle(gateway, streamed, format) for _ in range(40)))

        await left_over(gateway, forty, "hung up", calls=40)


async def left_over(gateway: RunningGateway, work: Callable[[], Awaitable[None]], name: str, *, calls: int = 1) -> None:
    """Do it twice, and twice more under watch: fail if anything is alive afterwards that was not before."""

    async def once() -> None:
        gateway.service.reset_circuit_breaker()
        await work()
        for _ in range(calls):
            await gateway.next_call()

    for _ in range(2):
        await once()
    await settled(gateway)
    foreign, before = native_threads(), live_objects()
    with no_garbage():
        for _ in range(2):
            await once()
        left = live_objects() - before
        for _ in range(200):  # sockets are closed, and threads put their work away, a moment later
            if not left:
                break
            await settled(gateway)
            threading.Event().wait(0.005)
            left = live_objects() - before
    assert not left, f"{name}: still alive: {dict(left)}"
    assert native_threads_back_to(foreign)


async def settled(gateway: RunningGateway) -> None:
    for _ in range(10):
        await asyncio.sleep(0)
