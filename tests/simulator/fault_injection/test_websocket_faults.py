"""Each fault of websockets, as a client sees it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import aiohttp
import pytest
import websockets

from steadyvoice.simulator import Ending, Fault, Simulator, words_in
from steadyvoice.simulator.fault_injection import actions

from ..client import TEXT, WORDS, Client, until
from ..websocket_client import BEGIN, END, KEY, WHOLE_TEXT, Received, address, listen, send, talk

AT_WEBSOCKETS = sorted(
    name for name, action in actions.ACTIONS.items() if actions.FaultTarget.WEBSOCKET in action.targets
)
LIMIT = 2**20  # bytes of a message that Python's `websockets` takes


async def silence(sim: Simulator, fault: str, patience: int = 200) -> Received | None:
    """Send everything, and return what was received within some iterations of the event loop."""
    talking = asyncio.create_task(talk(sim, fault=fault))
    for _ in range(patience):
        await asyncio.sleep(0)
    if talking.done():
        return await talking
    talking.cancel()
    await asyncio.gather(talking, return_exceptions=True)
    return None


async def test_idle_timeout_is_reported_at_once(sim: Simulator) -> None:
    received = await talk(sim, fault="idle-timeout")
    assert (received.code, received.error, received.words()) == (1008, "input_timeout_exceeded", [])
    assert sim.ledger.charged == 0


@pytest.mark.parametrize("multi", [False, True])
async def test_final_without_audio(sim: Simulator, multi: bool) -> None:
    messages: Any = [{"text": "Hi ", "context_id": "a", "flush": True}, {"close_socket": True}] if multi else WHOLE_TEXT
    received = await talk(sim, messages, multi=multi, fault="final-without-audio")
    assert (received.sounds, received.error, received.code) == ([], None, 1000)
    assert [message["isFinal"] for message in received.messages] == [True]
    assert sim.ledger.charged == 0


async def test_restart_in_the_middle(sim: Simulator) -> None:
    received = await talk(sim, fault="restart;after=0.8")
    assert (received.code, received.reason) == (1012, "service restart")
    assert 1 <= len(received.words()) < len(WORDS)
    assert not any(message["isFinal"] for message in received.messages)
    await sim.idle()
    assert sim.ledger[-1].ending is Ending.CUT


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 4401])
async def test_close_in_the_middle_has_its_code_and_reason(sim: Simulator, code: int) -> None:
    received = await talk(sim, fault=f"close;code={code};reason=No.;after=0.8")
    assert (received.code, received.reason) == (code, "No.")
    assert 1 <= len(received.words()) < len(WORDS)


def test_impossible_close_code_is_refused() -> None:
    for code in (999, 1005, 1006, 1015, 2000, 5000):
        with pytest.raises(actions.FaultError, match="code"):
            actions.Close(code)


@pytest.mark.parametrize("name", ["html", "json"])
async def test_page_in_place_of_the_upgrade(sim: Simulator, name: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await talk(sim, fault=name)
    assert refused.value.status == 200
    await sim.idle()
    assert (sim.ledger[-1].status, sim.ledger[-1].ending) == (200, Ending.REFUSED)


async def test_drip_sends_audio_in_small_messages(sim: Simulator) -> None:
    received = await talk(sim, fault="drip;bytes=2000;every=0.001")
    assert received.words() == WORDS
    assert max(len(base64.b64decode(sound["audio"])) for sound in received.sounds) == 2000


@pytest.mark.parametrize(("name", "code"), [("cut", 1006), ("reset;after=0", None), ("cut-terminated", 1000)])
@pytest.mark.parametrize("text", [TEXT, "I"])
async def test_cuts_end_in_the_middle(sim: Simulator, name: str, code: int | None, text: str) -> None:
    messages: Any = [BEGIN, {"text": f"{text} "}, END]
    whole, received = await talk(sim, messages), await talk(sim, messages, fault=name)
    assert 0 < len(received.audio()) < len(whole.audio())
    assert whole.audio().startswith(received.audio())
    assert code is None or received.code == code
    assert not any(message.get("isFinal") for message in received.messages)


async def test_final_message_is_lost_when_the_text_is_too_short(sim: Simulator) -> None:
    received = await talk(sim, fault="cut;after=600")
    assert (received.words(), received.code) == (WORDS, 1006)
    assert not any(message["isFinal"] for message in received.messages)


async def test_half_open_websocket_answers_nothing(sim: Simulator) -> None:
    headers = {**KEY, "x-sim-fault": "half-open"}
    async with aiohttp.ClientSession(headers=headers) as session:
        socket = await session.ws_connect(address(sim))
        for message in WHOLE_TEXT:
            await send(socket, message)
        await socket.ping()
        answer = asyncio.create_task(socket.receive())
        for _ in range(300):
            await asyncio.sleep(0)
        assert not answer.done(), "no audio, no pong, no close"
        assert sim.ledger.charged == 0
        answer.cancel()
    await sim.idle()
    assert sim.ledger[-1].ending is Ending.CLIENT_LEFT


async def test_hang_does_not_open_the_websocket(sim: Simulator) -> None:
    assert await silence(sim, "hang") is None
    await sim.idle()
    assert (sim.ledger[-1].status, sim.ledger.charged) == (None, 0)


async def test_hang_after_headers_opens_and_sends_nothing(sim: Simulator) -> None:
    assert await silence(sim, "hang-after-headers", 500) is None
    await sim.idle()
    assert (sim.ledger[-1].status, sim.ledger[-1].bytes_sent) == (101, 0)
    assert sim.ledger.charged == len(TEXT) + 1


async def test_reset_instead_of_the_upgrade(sim: Simulator) -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        await talk(sim, fault="reset")


@pytest.mark.parametrize("fault", ["stall;after=0.5;seconds=0.01", "slow-first-byte;seconds=0.01"])
async def test_pause_loses_nothing(sim: Simulator, fault: str) -> None:
    assert (await talk(sim, fault=fault)).words() == WORDS


@pytest.mark.looptime(noop_cycles=50)
@pytest.mark.parametrize("fault", ["stall;after=0.5;seconds=7", "slow-first-byte;seconds=7"])
async def test_pause_happens_once(fault: str) -> None:
    async with Simulator(voice="tones") as sim:
        assert (await talk(sim, fault=fault)).words() == WORDS
        await sim.idle()
        (entry,) = sim.ledger
        assert entry.ended is not None
        assert 7 <= entry.ended - entry.received < 8


async def test_stall_keeps_the_connection_open(sim: Simulator) -> None:
    headers = {**KEY, "x-sim-fault": "stall;after=0.8"}
    async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(address(sim)) as socket:
        for message in WHOLE_TEXT:
            await send(socket, message)
        first = await socket.receive_json()
        assert first["audio"]
        await until(lambda: sim.ledger[-1].audio_sent > 0.4)
        assert sim.ledger[-1].audio_sent <= 0.8
        assert sim.ledger[-1].ending is Ending.RUNNING


async def test_documented_spelling(sim: Simulator) -> None:
    messages: Any = [{"text": "Hi ", "context_id": "a", "flush": True}, {"close_socket": True}]
    received = await talk(sim, messages, multi=True, fault="other-spelling")
    assert received.words("a") == ["Hi"]
    assert all("contextId" not in message for message in received.messages)
    assert "charsDurationsMs" in received.sounds[0]["alignment"]
    assert received.messages[-1] == {"is_final": True, "context_id": "a"}


async def test_mixed_spelling(sim: Simulator) -> None:
    messages: Any = [{"text": "Hi ", "context_id": "a", "flush": True}, {"close_socket": True}]
    received = await talk(sim, messages, multi=True, fault="other-spelling;style=mixed")
    assert received.words("a") == ["Hi"]
    assert received.messages[-1] == {"isFinal": True, "context_id": "a"}


async def test_absolute_times_count_from_the_beginning_of_the_text(sim: Simulator) -> None:
    messages: Any = [BEGIN, {"text": "The first of them. ", "flush": True}, {"text": "The second. "}, END]
    relative, absolute = await talk(sim, messages), await talk(sim, messages, fault="absolute-times")
    assert absolute.audio() == relative.audio()
    base = 0.0
    for own, reported in zip(relative.sounds, absolute.sounds, strict=True):
        starts = [base + start for start in own["alignment"]["charStartTimesMs"]]
        assert reported["alignment"]["charStartTimesMs"] == pytest.approx(starts, abs=1)
        base += len(base64.b64decode(own["audio"])) / 16


async def test_big_frame_is_valid(sim: Simulator) -> None:
    received = await talk(sim, fault="big-frame")
    assert received.words() == WORDS
    assert [len(frame) > LIMIT for frame in received.frames] == [True] + [False] * (len(received.frames) - 1)


async def test_client_with_the_default_limit_rejects_a_big_frame(sim: Simulator) -> None:
    headers = {**KEY, "x-sim-fault": "big-frame"}
    url = address(sim)
    async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(url, max_msg_size=LIMIT) as socket:
        for message in WHOLE_TEXT:
            await send(socket, message)
        received = await listen(socket)
    assert (received.messages, received.code) == ([], 1009)


@pytest.mark.parametrize(
    "code", ["detected_unusual_activity", "invalid_api_key", "quota_exceeded", "system_busy", "voice_not_found"]
)
async def test_code_is_sent_in_a_message_before_the_close(sim: Simulator, code: str) -> None:
    received = await talk(sim, fault=f"refuse;code={code};message=No.")
    assert received.messages == [{"message": "No.", "error": code, "code": 1008}]
    assert (received.code, received.reason) == (1008, "No.")
    await sim.idle()
    assert (sim.ledger[-1].ending, sim.ledger.charged) == (Ending.REFUSED, 0)


async def test_status_without_a_code_refuses_the_upgrade(sim: Simulator) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await talk(sim, fault="refuse;status=503")
    assert refused.value.status == 503


async def test_error_in_the_middle(sim: Simulator) -> None:
    received = await talk(sim, fault="error-line;code=system_busy;after=0.8")
    assert 1 <= len(received.words()) < len(WORDS)
    assert (received.error, received.code) == ("system_busy", 1008)
    assert (await talk(sim, fault="error-line")).code == 1011


async def test_half_message_ends_properly(sim: Simulator) -> None:
    received = await talk(sim, fault="half-line;after=0.5")
    *whole, truncated = received.frames
    assert whole
    assert received.code == 1000
    with pytest.raises(json.JSONDecodeError):
        json.loads(truncated)


async def test_audio_faults_apply_to_messages(sim: Simulator) -> None:
    whole = (await talk(sim)).audio()
    assert (await talk(sim, fault="silent")).audio() == bytes(len(whole))
    assert (await talk(sim, fault="odd-splits;bytes=333")).audio() == whole
    short = (await talk(sim, fault="too-short;fraction=0.5")).words()
    assert short == WORDS[: len(short)]
    assert 1 <= len(short) < len(WORDS)
    assert words_in((await talk(sim, fault="wrong-rate;rate=24000")).audio(), "pcm_24000") == WORDS


async def test_odd_splits_split_samples(sim: Simulator) -> None:
    received = await talk(sim, fault="odd-splits;bytes=333")
    assert {len(base64.b64decode(message["audio"])) for message in received.sounds} >= {333}


@pytest.mark.parametrize("name", ["gzip", "wrong-length", "empty", "unknown-coding"])
async def test_http_fault_at_a_websocket_is_rejected(sim: Simulator, name: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await talk(sim, fault=name)
    assert refused.value.status == 400


async def test_websocket_fault_over_http_is_rejected(client: Client) -> None:
    seen = await client.speak(fault="restart")
    assert (seen.status, seen.json) == (400, {"error": "x-sim-fault: restart happens to websockets only"})


async def test_fault_applies_to_its_target(sim: Simulator, client: Client) -> None:
    sim.faults.set(actions.Restart(), Fault(actions.Gzip()))
    assert (await talk(sim)).code == 1012
    assert (await client.speak()).headers["content-encoding"] == "gzip"
    assert [entry.fault for entry in sim.ledger] == ["restart", "gzip"]


async def test_nth_counts_websocket_connections(sim: Simulator) -> None:
    sim.faults.set(Fault(actions.Restart(), nth=2, endpoint="*/stream-input"))
    assert [(await talk(sim)).code for _ in range(3)] == [1000, 1012, 1000]


@pytest.mark.parametrize("name", AT_WEBSOCKETS)
@pytest.mark.parametrize("multi", [False, True])
async def test_next_connection_is_served_after_every_fault(sim: Simulator, name: str, multi: bool) -> None:
    messages: Any = [{"text": f"{TEXT} ", "context_id": "a", "flush": True}, {"close_socket": True}]
    sim.faults.set(Fault(actions.ACTIONS[name](), times=1))
    talking = asyncio.create_task(talk(sim, messages if multi else WHOLE_TEXT, multi=multi))
    for _ in range(500):
        await asyncio.sleep(0)
    talking.cancel()
    await asyncio.gather(talking, return_exceptions=True)
    await sim.idle()
    received = await talk(sim, messages if multi else WHOLE_TEXT, multi=multi)
    assert (received.words("a" if multi else None), received.code) == (WORDS, 1000)
    await sim.idle()
    faulty, served = sim.ledger[0], sim.ledger[-1]  # aiohttp's client tries a reset upgrade twice
    assert faulty.fault == name
    assert faulty.ending is not Ending.RUNNING
    assert (served.fault, served.ending) == (None, Ending.COMPLETED)
    assert sim.request_limit.running == 0


async def test_websockets_library_rejects_a_big_frame(sim: Simulator) -> None:
    url = address(sim).replace("http", "ws", 1)
    async with websockets.connect(url, additional_headers={**KEY, "x-sim-fault": "big-frame"}) as socket:
        for message in WHOLE_TEXT:
            await socket.send(json.dumps(message))
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await socket.recv()
    assert closed.value.sent is not None
    assert closed.value.sent.code == 1009


async def test_websockets_library_with_a_higher_limit_accepts_a_big_frame(sim: Simulator) -> None:
    url = address(sim).replace("http", "ws", 1)
    headers = {**KEY, "x-sim-fault": "big-frame"}
    async with websockets.connect(url, additional_headers=headers, max_size=2**24) as socket:
        for message in WHOLE_TEXT:
            await socket.send(json.dumps(message))
        audio = b"".join([base64.b64decode(json.loads(frame)["audio"] or "") async for frame in socket])
    assert (words_in(audio, "pcm_8000"), socket.close_code) == (WORDS, 1000)
