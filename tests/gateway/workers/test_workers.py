"""Several workers on one port: one gateway to whoever asks, and no worker's end touches another's calls."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .running_workers import SPEECH, RunningWorkers, is_running, running_workers, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LONG = "One two three four five six seven eight nine ten eleven twelve. " * 4


async def read_events(gateway: RunningWorkers, client: aiohttp.ClientSession, last: str, kind: str) -> list[str]:
    """Return the ids of all events after one, up to the first of a kind."""
    ids: list[str] = []
    async with client.get(f"{gateway.url}/admin/events", headers={"last-event-id": last}) as answer:
        async for line in answer.content:
            if line.startswith(b"id: "):
                ids.append(line[4:].decode().strip())
            if line == f"event: {kind}\n".encode():
                return ids
    raise AssertionError("the stream ended")


async def test_workers_are_one_gateway(tmp_path: Path) -> None:
    async with running_workers(tmp_path, "max_connections = 12") as gateway:
        await asyncio.gather(*(gateway.speak() for _ in range(8)))
        spoken = 'steadyvoice_requests_total{api="elevenlabs",outcome="spoken",provider="elevenlabs"}'

        async def all_counted() -> bool:
            return (await gateway.metrics()).get(spoken) == 8

        await until(all_counted)
        async with gateway.connected_to(1) as first, gateway.connected_to(2) as second:
            for client in (first, second):
                state = await gateway.get("/admin/state", client)
                assert state["totals"]["calls"] == 8
                assert len((await gateway.get("/admin/calls", client))["calls"]) == 8
                overview = await gateway.get("/admin/overview", client)
                assert sum(sum(counts.values()) for _, counts in overview["outcomes"]) == 8
                assert len(overview["workers"]["workers"]) == 2
                assert (await gateway.get("/readyz", client))["ready"]

            # What one worker is told, all do.
            await gateway.send("POST", "/admin/circuits/elevenlabs/open", {"reason": "maintenance"})
            await gateway.send("PATCH", "/admin/circuits/elevenlabs", {"window_size": 33})
            views = [await gateway.get("/admin/circuits/elevenlabs", each) for each in (first, second)]
            assert [(view["state"], view["config"]["window_size"]) for view in views] == [("forced_open", 33)] * 2
            assert not (await gateway.get("/readyz", first))["ready"]

            # An id of one worker's event log goes on at the other.
            ids = await read_events(gateway, first, "0", "config")
            assert [int(each.partition("-")[2]) for each in ids[1:]] == list(range(1, len(ids)))
            again = await read_events(gateway, second, ids[-3], "config")
            assert again[1:] == ids[-2:]

            # The limit of connections is that of all workers. Idle ones are closed for newcomers, so it may be fewer.
            assert 1 <= await count_held_connections(gateway.url, of=24) <= 12

        # SIGHUP reaches all, and the file's settings are in force again.
        gateway.config.write_text(gateway.config.read_text("utf-8") + "[circuit]\nwindow_size = 44\n", "utf-8")
        gateway.process.send_signal(signal.SIGHUP)
        async with gateway.connected_to(1) as first, gateway.connected_to(2) as second:
            for client in (first, second):

                async def reloaded(client: aiohttp.ClientSession = client) -> bool:
                    view = await gateway.get("/admin/config", client)
                    return bool(view["circuits"]["elevenlabs"]["window_size"] == 44)

                await until(reloaded)
        assert await gateway.stopped() == (0, STOPPED.format("No responses were"))


STOPPED = (
    "Shutting down: no new requests; running responses are completed. Press Ctrl-C again to cut them short.\n"
    "Stopped. {} cut short.\n"
)


async def count_held_connections(url: str, of: int) -> int:
    """Open connections without a request, and return how many of them the gateway keeps once it has closed half."""
    host, port = url.removeprefix("http://").split(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(of)]
    # A connection that is refused or closed ends; one that is kept does not.
    ends = [asyncio.create_task(reader.read()) for reader, _ in opened]

    async def half_has_ended() -> bool:
        return sum(end.done() for end in ends) >= of // 2

    await until(half_has_ended, 30)
    held = sum(not end.done() for end in ends)
    for _, writer in opened:
        writer.close()
    await asyncio.gather(*ends, return_exceptions=True)
    return held


async def test_connection_has_room_while_another_worker_has_idle_ones(tmp_path: Path) -> None:
    async with running_workers(tmp_path, "max_connections = 12", pace=1) as gateway, AsyncExitStack() as opened:
        for _ in range(4):
            busy = await connected(gateway, opened, worker=1)
            assert await begin_to_speak(busy, gateway.url, opened) == 200
        for _ in range(4):
            await connected(gateway, opened, worker=2)  # and stays idle
        # Four more fit. For the next four, whichever worker accepts them, the second one closes its idle connections.
        clients = [await opened.enter_async_context(one_connection()) for _ in range(11)]
        assert [await begin_to_speak(each, gateway.url, opened) for each in clients] == [200] * 8 + [503] * 3


def one_connection() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))


async def connected(gateway: RunningWorkers, opened: AsyncExitStack, worker: int) -> aiohttp.ClientSession:
    """Return a client with one connection to this worker; connections to others are closed."""
    while True:
        client = one_connection()
        state = await gateway.get("/admin/state", client)
        if state["workers"]["answered_by"] == worker:
            return await opened.enter_async_context(client)
        await client.close()


async def begin_to_speak(client: aiohttp.ClientSession, url: str, opened: AsyncExitStack) -> int:
    """Begin to read a long answer, and return its status; the connection is busy until `opened` is closed."""
    answer = await client.post(url + SPEECH, json={"text": 8 * LONG})
    opened.callback(answer.close)
    return answer.status


async def test_killed_worker_touches_no_other_call_and_comes_back(tmp_path: Path) -> None:
    async with running_workers(tmp_path, pace=0.05) as gateway:
        await gateway.send("PATCH", "/admin/circuits/elevenlabs", {"window_size": 33})
        await asyncio.gather(*(gateway.speak() for _ in range(8)))
        workers = await gateway.workers()
        async with gateway.connected_to(2) as survivor:
            kept = await survivor.post(gateway.url + SPEECH, json={"text": 8 * LONG})
            async with gateway.connected_to(1) as victim:
                lost = await victim.post(gateway.url + SPEECH, json={"text": 8 * LONG})
                before, calls_before = await gateway.metrics(), await count_calls(gateway)
                os.kill(workers[0]["pid"], signal.SIGKILL)
                with pytest.raises(aiohttp.ClientError):
                    await lost.read()
            assert len(await kept.read()) > 800_000
            after = await gateway.metrics()
            assert all(now >= then for now, then in zip(await count_calls(gateway), calls_before, strict=True))
        counters = [name for name in before if "_total" in name]
        assert [name for name in counters if after.get(name, 0) < before[name]] == []
        await gateway.until_ready(restarts=1)
        async with gateway.connected_to(1) as client:
            state = await gateway.get("/admin/state", client)
            assert state["workers"]["workers"][0]["last_exit"] == "killed by SIGKILL"
            assert (await gateway.get("/admin/config", client))["circuits"]["elevenlabs"]["window_size"] == 33
        await gateway.speak()


async def count_calls(gateway: RunningWorkers) -> tuple[int, int]:
    """Return the number of calls in the state, and in the hour of the dashboard."""
    state, overview = await gateway.get("/admin/state"), await gateway.get("/admin/overview")
    return state["totals"]["calls"], sum(sum(counts.values()) for _, counts in overview["outcomes"])


async def speak_on(client: aiohttp.ClientSession, url: str) -> bytes:
    async with client.post(url + SPEECH, json={"text": LONG}) as answer:
        return await answer.read()


async def test_streams_end_before_the_workers_do(tmp_path: Path) -> None:
    async with running_workers(tmp_path, f"state_file = '{tmp_path}/state.json'", pace=0.05) as gateway:
        async with gateway.connected_to(1) as first, gateway.connected_to(2) as second:
            streams = [asyncio.create_task(speak_on(each, gateway.url)) for each in (first, second)]
            await asyncio.sleep(0.2)
            status, last_words = await gateway.stopped()
            whole = [len(await stream) for stream in streams]
        assert (status, last_words) == (0, STOPPED.format("No responses were"))
        assert min(whole) == max(whole) > 100_000
        assert "elevenlabs" in (tmp_path / "state.json").read_text("utf-8")


@pytest.mark.long
async def test_second_signal_cuts_streams_short(tmp_path: Path) -> None:
    async with running_workers(tmp_path, pace=5) as gateway, gateway.connected_to(2) as client:
        stream = asyncio.create_task(speak_on(client, gateway.url))
        await asyncio.sleep(0.5)
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.stdout is not None
        assert b"Press Ctrl-C again" in await gateway.process.stdout.readline()
        status, last_words = await gateway.stopped(signal.SIGINT)
        assert (status, last_words) == (0, "Stopped. 1 response was cut short.\n")
        (cut,) = await asyncio.gather(stream, return_exceptions=True)
        # 503, if no byte was sent yet
        assert len(cut) < 100 if isinstance(cut, bytes) else isinstance(cut, aiohttp.ClientError)


@pytest.mark.long
async def test_worker_that_gets_sigterm_is_replaced(tmp_path: Path) -> None:
    async with running_workers(tmp_path, pace=0.05) as gateway:
        first, _ = await gateway.workers()
        async with gateway.connected_to(1) as client:
            stream = asyncio.create_task(speak_on(client, gateway.url))
            await asyncio.sleep(0.2)
            os.kill(first["pid"], signal.SIGTERM)
            assert len(await stream) > 100_000
        await gateway.until_ready(restarts=1)
        assert (await gateway.workers())[0]["last_exit"] == "exit status 0"


async def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    async with running_workers(tmp_path, pace=0.05) as gateway:
        pids = [each["pid"] for each in await gateway.workers()]
        async with gateway.connected_to(1) as client:
            stream = asyncio.create_task(speak_on(client, gateway.url))
            await asyncio.sleep(0.2)
            gateway.process.kill()
            assert len(await stream) > 100_000, "what has begun is completed"

        async def all_ended() -> bool:
            return not any(is_running(pid) for pid in pids)

        await until(all_ended)


@pytest.mark.long
async def test_crash_loop_is_slowed_down_and_shown(tmp_path: Path) -> None:
    async with running_workers(tmp_path) as gateway:
        killed: set[int] = set()

        async def killed_again() -> bool:
            first: dict[str, Any] = (await gateway.workers())[0]
            if first["pid"] and first["pid"] not in killed:
                killed.add(first["pid"])
                os.kill(first["pid"], signal.SIGKILL)
            return len(killed) >= 3

        async with gateway.connected_to(2):
            await until(killed_again)

            async def is_shown() -> bool:
                first = (await gateway.workers())[0]
                return bool(first["state"] == "restarting" and first["restart_in"] > 0 and first["restarts"] == 3)

            await until(is_shown)
            assert (await gateway.metrics())['steadyvoice_workers{state="restarting"}'] == 1
            assert (await gateway.metrics())["steadyvoice_worker_restarts_total"] == 3
            await gateway.speak()
        await gateway.until_ready()
        ends = [each["message"] for each in gateway.logged("it is restarted in")]
        pauses = [float(each.split()[-2]) for each in ends]
        assert pauses[1:] in ([0.5, 1.0], [1.0, 2.0])  # the first process may have run long enough to be trusted
        assert all("killed by SIGKILL" in each for each in ends)


@pytest.mark.long
async def test_stopped_worker_changes_nothing_and_goes_on(tmp_path: Path) -> None:
    async with running_workers(tmp_path) as gateway:
        first, _ = await gateway.workers()
        async with gateway.connected_to(2) as other:
            os.kill(first["pid"], signal.SIGSTOP)

            async def is_shown() -> bool:
                state = await gateway.get("/admin/state", other)
                return bool(state["workers"]["workers"][0]["state"] == "not responding")

            await until(is_shown)
            for _ in range(10):
                async with other.post(gateway.url + SPEECH, json={"text": "Hello."}) as answer:
                    assert answer.status == 200
                    await answer.read()
                await asyncio.sleep(1)
            os.kill(first["pid"], signal.SIGCONT)
            await gateway.until_ready()
            state = await gateway.get("/admin/state", other)
            assert [each["restarts"] for each in state["workers"]["workers"]] == [0, 0]
            assert state["providers"]["elevenlabs"]["last_transition"] is None
        assert await gateway.stopped() == (0, STOPPED.format("No responses were"))
