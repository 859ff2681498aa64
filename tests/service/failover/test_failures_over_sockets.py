"""Failures of an ElevenLabs-shaped server over a real socket, in real time.

Where it hangs, the service's timeouts are short; the circuits' clock is moved by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from steadyvoice import (
    AsyncTTSService,
    CircuitBreakerConfig,
    CircuitState,
    ElevenLabs,
    RetryConfig,
    TimeoutConfig,
    Tone,
    TTSCircuitOpenError,
)
from steadyvoice.speech.errors import TTSQuotaExceededError, TTSServerError
from steadyvoice.wire.elevenlabs.errors import ErrorBodyVersion, error_body
from tests.providers.scripted_vendor import (
    ConnectionAction,
    ScriptedVendor,
    chunked_response,
    error_response,
    http_response,
    scripted_vendor,
)

from ..scripted_provider import pcm

TEXT = "Good morning"
SPEECH = pcm(len(TEXT) * 0.06)
SPOKEN = chunked_response(SPEECH, content_type="audio/pcm")
HASTY = TimeoutConfig(connection_timeout=1.0, read_timeout=0.15, total_timeout=0.5)
CIRCUIT = CircuitBreakerConfig(failure_threshold=0.5, window_size=4, cooldown_period=0.2, success_threshold=2)
QUICK = RetryConfig(base_delay=0.001, max_delay=0.001)


class SteppedClock:
    """Clock of the circuits, moved by hand, so that no test waits for a cooldown."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead


@pytest.fixture
async def vendor() -> AsyncIterator[ScriptedVendor]:
    async with scripted_vendor() as listening:
        yield listening


@asynccontextmanager
async def service(
    vendor: ScriptedVendor, *others: Any, clock: Callable[[], float] | None = None, **settings: Any
) -> AsyncIterator[AsyncTTSService]:
    elevenlabs = ElevenLabs("sk_test", base_url=vendor.url)
    settings = {"circuit": CIRCUIT, "retry": QUICK, **settings}
    async with AsyncTTSService([elevenlabs, *others], clock=clock or SteppedClock(), **settings) as tts:
        yield tts


async def test_503s_open_the_circuit_which_probes_reopens_and_closes(vendor: ScriptedVendor) -> None:
    clock = SteppedClock()
    for _ in range(2):
        vendor.enqueue(error_response(503, {"detail": {"status": "internal", "message": "down"}}))
    async with service(vendor, clock=clock, muted=False) as tts:
        with pytest.raises(TTSServerError):
            await tts.synthesize(TEXT, format="pcm_8000")
        state = tts.get_error_state()
        assert state["circuit_state"] == "open"
        assert state["window"] == {"size": 4, "calls": 2, "failures": 2}
        assert state["last_transition"]["reason"]

        with pytest.raises(TTSCircuitOpenError):
            await tts.synthesize(TEXT, format="pcm_8000")
        assert len(vendor.requests) == 2, "short-circuited: nothing was sent"
        assert tts.get_error_state()["totals"]["refused"] == 1

        clock.ahead += 1.0
        vendor.enqueue(error_response(503, {"detail": "still down"}))
        with pytest.raises(TTSServerError):
            await tts.synthesize(TEXT, format="pcm_8000")
        state = tts.get_error_state()
        assert (state["last_transition"]["from"], state["last_transition"]["to"]) == ("half_open", "open")

        clock.ahead += 1.0
        vendor.enqueue(SPOKEN)
        vendor.enqueue(SPOKEN)
        for expected in ("half_open", "closed"):
            speech = await tts.synthesize(TEXT, format="pcm_8000")
            assert (speech.outcome, speech.audio) == ("spoken", SPEECH)
            assert tts.get_error_state()["circuit_state"] == expected
        assert tts.get_error_state()["recoveries"]["count"] == 1


async def test_hanging_request_ends_at_the_read_timeout(vendor: ScriptedVendor) -> None:
    async with service(vendor, Tone(), timeouts=HASTY) as tts:
        speech = await tts.synthesize(TEXT, format="pcm_8000")
        assert (speech.outcome, speech.provider) == ("substituted", "tone")
        error = speech.attempts[0].error
        assert error is not None
        assert error.kind.value == "read_timeout"
        assert len(vendor.requests) == 1, "it may be billed: another voice says it, not the same vendor again"
        assert tts.get_error_state()["totals"]["failures"] == 1


async def test_endless_drip_of_bytes_ends_on_time(vendor: ScriptedVendor) -> None:
    async def drip_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: audio/pcm\r\ntransfer-encoding: chunked\r\n\r\n")
            ticks = 0
            while ticks < 10_000:
                writer.write(b"1\r\n\x00\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
                ticks += 1
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip_bytes, "127.0.0.1", 0)
    vendor.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, service(vendor, Tone(), timeouts=HASTY) as tts:
        speech = await tts.synthesize(TEXT, format="pcm_8000")
        assert speech.provider == "tone"
        error = speech.attempts[0].error
        assert error is not None
        assert error.kind.value == "total_timeout"
        assert tts.get_error_state()["totals"]["failures"] == 1


@pytest.mark.parametrize("body", [b'{"detail": "sorry"}', b"<!doctype html><title>Welcome</title>"])
@pytest.mark.parametrize("kind", ["application/json", "audio/mpeg"])
async def test_json_or_html_with_status_200_is_not_audio(vendor: ScriptedVendor, body: bytes, kind: str) -> None:
    vendor.enqueue(http_response(200, body, content_type=kind))
    async with service(vendor, Tone()) as tts:
        speech = await tts.synthesize(TEXT, format="mp3_44100_128")
        assert speech.provider == "tone"
        state = tts.get_error_state()
        assert state["last_error"]["kind"] == "not_audio"
        assert state["totals"]["failures"] == 1
        assert len(vendor.requests) == 1, "who says yes may charge for it: another voice says it"
        vendor.enqueue(SPOKEN)
        await tts.synthesize(TEXT, format="pcm_8000")
        assert "/with-timestamps" in vendor.requests[1].target, "one bad answer is no lack of times"


@pytest.mark.parametrize("ending", [ConnectionAction.CLOSE, ConnectionAction.RESET])
async def test_request_on_a_closed_kept_connection_is_not_billed_twice(
    vendor: ScriptedVendor, ending: ConnectionAction
) -> None:
    vendor.enqueue(SPOKEN)
    vendor.enqueue(ending)
    async with service(vendor, Tone()) as tts:
        assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "elevenlabs"
        assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "tone"
        assert len(vendor.requests) == 2
        assert tts.get_error_state()["totals"]["failures"] == 0, "it may have lain idle too long"


async def test_stale_connection_is_replaced_when_no_other_provider_is_left(vendor: ScriptedVendor) -> None:
    vendor.enqueue(SPOKEN)
    vendor.enqueue(ConnectionAction.CLOSE)
    vendor.enqueue(SPOKEN)
    async with service(vendor) as tts:
        for _ in range(2):
            assert (await tts.synthesize(TEXT, format="pcm_8000")).outcome == "spoken"


async def test_retry_after_of_a_429_is_kept_and_counts_half(vendor: ScriptedVendor) -> None:
    clock = SteppedClock()
    busy = error_body("system_busy", "too much", generation=ErrorBodyVersion.LEGACY)
    vendor.enqueue(error_response(429, busy, retry_after="30"))
    async with service(vendor, Tone(), clock=clock) as tts:
        assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "tone"
        state = tts.get_error_state()
        assert (state["last_error"]["kind"], state["window"]["failures"]) == ("busy", 0.5)
        assert [hold["key"] for hold in state["holds"]] == ["elevenlabs"]
        clock.ahead += 29
        assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "tone"
        assert len(vendor.requests) == 1
        clock.ahead += 1.5
        vendor.enqueue(SPOKEN)
        assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "elevenlabs"


@pytest.mark.parametrize("generation", ErrorBodyVersion)
async def test_quota_exceeded_holds_the_key_and_not_the_circuit(
    vendor: ScriptedVendor, generation: ErrorBodyVersion
) -> None:
    vendor.enqueue(error_response(401, error_body("quota_exceeded", "no credit left", generation=generation)))
    async with service(vendor, Tone()) as tts:
        for _ in range(3):
            assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "tone"
        assert [request.method for request in vendor.requests] in (["POST"], ["POST", "GET"]), (
            "asked once, and what is left"
        )
        state = tts.get_error_state()
        assert state["circuit_state"] == "closed"
        assert state["totals"]["failures"] == 0
        assert [(hold["key"], hold["kind"]) for hold in state["holds"]] == [("elevenlabs/credential", "quota_exceeded")]
    vendor.enqueue(error_response(401, error_body("quota_exceeded", "no credit left", generation=generation)))
    async with service(vendor, muted=False) as tts:
        with pytest.raises(TTSQuotaExceededError, match="buy credit"):
            await tts.synthesize(TEXT, format="pcm_8000")


async def test_stream_cut_without_its_end_is_a_failure(vendor: ScriptedVendor) -> None:
    vendor.enqueue(chunked_response(SPEECH[:1000], end=False, content_type="audio/pcm"), ConnectionAction.CLOSE)
    async with service(vendor, Tone()) as tts:
        speech = await tts.synthesize(TEXT, format="pcm_8000")
        assert (speech.outcome, speech.provider) == ("substituted", "tone")
        assert tts.get_error_state()["last_error"]["kind"] == "cut"


async def test_refused_connection_is_a_connection_failure(vendor: ScriptedVendor) -> None:
    vendor.url = "http://127.0.0.1:1"
    async with service(vendor, Tone()) as tts:
        assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "tone"
        assert tts.get_error_state()["last_error"]["kind"] == "connect_failed"
        assert tts.circuits["elevenlabs"].state is CircuitState.OPEN


async def test_vendor_notices_at_once_when_the_caller_hangs_up(vendor: ScriptedVendor) -> None:
    vendor.enqueue(chunked_response(SPEECH, end=False, content_type="audio/pcm"), ConnectionAction.HANG)
    async with service(vendor) as tts:
        async with tts.stream(TEXT, format="pcm_8000", on_midstream="error") as stream:
            await anext(stream)
        async with asyncio.timeout(2):
            await vendor.client_left.wait()
        assert tts.get_error_state()["totals"]["failures"] == 0
