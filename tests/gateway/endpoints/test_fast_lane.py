"""Fast lane: usual requests take it, unusual ones do not, and its requests end as those of the pipeline do.

STEADYVOICE_DEEP=1, which `make long` sets, breaks off five times as many streams.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
import uvicorn

import steadyvoice.simulator
from steadyvoice import (
    CircuitBreakerConfig,
    ElevenLabs,
    Google,
    HedgeConfig,
    OpenAICompatible,
    TimeoutConfig,
    Tone,
    TTSConnectTimeoutError,
)
from steadyvoice.audio.wav import wav_header
from steadyvoice.gateway.fast_lane.exchange import Exchange
from steadyvoice.gateway.fast_lane.lane import TICK
from steadyvoice.simulator import Fault, Simulator, words_in
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import OnMidstream
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, timed_audio_body
from tests.case_selection import DEEP
from tests.providers.scripted_vendor import chunked_response, scripted_vendor

from ..running_gateway import ELEVENLABS, OPENAI, TEXT, RunningGateway, elevenlabs_body, openai_body, running_gateway

pytestmark = pytest.mark.slow

STREAM = f"{ELEVENLABS}/stream"
MOST_BYTES_OF_A_STREAM = 9_000
"""Of Python objects, for a stream that waits for its vendor: the number that was reached, and a sixth."""

NEVER_OPENS = CircuitBreakerConfig(window_size=100, minimum_calls=100)


AS_SAMPLES = pytest.mark.parametrize("format", ["mp3", "wav"])
"""Formats of a test of audio that comes as it is, and of samples that are written behind a header."""


@asynccontextmanager
async def warm_gateway(
    *others: Any, path: str = STREAM, format: str = "mp3", **settings: Any
) -> AsyncIterator[RunningGateway]:
    """Run a gateway that passes audio through, and has an idle connection to its vendor."""
    async with running_gateway(*others, **{"on_midstream": "error", **settings}) as at:
        body = openai_body(response_format=format) if path == OPENAI else elevenlabs_body()
        await at.fetch("POST", path, json=body)
        await at.next_call()
        yield at


async def took_the_fast_lane(at: RunningGateway, *, finished: bool = True) -> bool:
    """Return whether the next call to be recorded began in the fast lane, and not `finished` elsewhere."""
    request, _ = await at.next_call()
    return isinstance(request, Exchange) and (request.continued is None or not finished)


@pytest.mark.parametrize("format", ["mp3_44100_128", "pcm_24000", "ulaw_8000", "opus_48000_64"])
async def test_usual_requests_take_the_fast_lane(format: str) -> None:
    async with warm_gateway(only_elevenlabs=True, path=f"{STREAM}?output_format={format}") as at:
        for number in range(20):
            text = f"{TEXT} And this is number {number}."
            answer = await at.fetch("POST", f"{STREAM}?output_format={format}", json=elevenlabs_body(text))
            assert (answer.status, answer.headers["x-steadyvoice-outcome"]) == (200, "spoken")
            assert answer.headers["character-cost"] == str(len(text))
            assert len(await answer.read()) > 1000
            assert await took_the_fast_lane(at)
        assert at.service.get_error_state()["totals"]["successes"] == 21


@pytest.mark.parametrize("format", ["mp3_44100_128", "pcm_24000", "ulaw_8000", "alaw_8000"])
async def test_usual_requests_that_resume_take_the_fast_lane(format: str) -> None:
    path = f"{STREAM}?output_format={format}"
    async with warm_gateway(path=path, on_midstream="resume") as at:
        for number in range(10):
            text = f"{TEXT} And this is number {number}."
            answer = await at.fetch("POST", path, json=elevenlabs_body(text))
            assert (answer.status, answer.headers["x-steadyvoice-outcome"]) == (200, "spoken")
            assert words_in(await answer.read(), format) == text.split()
            request, account = await at.next_call()
            assert isinstance(request, Exchange)
            assert request.continued is None
            assert account.alignment.text == text
            assert account.alignment.exact


@pytest.mark.parametrize("format", ["mp3", "wav", "pcm"])
async def test_packed_audio_that_is_passed_through_takes_the_fast_lane(format: str) -> None:
    """The vendor is asked for JSON with the time of each character, and the client gets the audio in it."""
    async with Simulator(voice="tones") as sim:
        vendor = ElevenLabs("any", base_url=sim.url, timestamps=True)
        async with warm_gateway(vendor, path=OPENAI, format=format) as at:
            for _ in range(3):
                answer = await at.fetch("POST", OPENAI, json=openai_body(TEXT, response_format=format))
                full = "mp3_44100_128" if format == "mp3" else f"{format}_24000"
                assert words_in(await answer.read(), full) == TEXT.split()
                request, account = await at.next_call()
                assert (isinstance(request, Exchange), request.continued, account.outcome) == (True, None, "spoken")
                assert account.alignment.exact


async def test_packed_audio_that_ends_in_half_a_line_is_broken_off() -> None:
    """Though all of the words have come, by their times."""
    audio = wav_header(24_000) + bytes(range(1, 255)) * 400
    times = Alignment.spread("Hello", len(audio) / 48_000)
    line = json.dumps(timed_audio_body(TimedAudio(audio[44:], times, times))).encode()
    async with scripted_vendor() as vendor:
        for lines in (line + b"\n", line + b"\n" + line[:100]):
            vendor.enqueue(chunked_response(lines, content_type="application/json"))
        provider = ElevenLabs("any", base_url=vendor.url, timestamps=True)
        async with running_gateway(provider, on_midstream="error") as at:
            whole = await at.fetch("POST", OPENAI, json=openai_body("Hello", response_format="wav"))
            assert await whole.read() == audio
            await at.next_call()
            with pytest.raises(aiohttp.ClientError):
                await at.fetch("POST", OPENAI, json=openai_body("Hello", response_format="wav"))
            request, account = await at.next_call()
            assert isinstance(request, Exchange)
            assert account.outcome == "failed"


@pytest.mark.parametrize("format", ["wav", "pcm"])
async def test_document_with_its_audio_takes_the_fast_lane(format: str) -> None:
    async with (
        Simulator(voice="tones") as sim,
        warm_gateway(Google("any", base_url=sim.url), path=OPENAI, format=format) as at,
    ):
        answer = await at.fetch("POST", OPENAI, json=openai_body(TEXT, response_format=format))
        assert words_in(await answer.read(), f"{format}_24000") == TEXT.split()
        assert await took_the_fast_lane(at)


async def test_wav_that_may_be_resumed_takes_the_fast_lane() -> None:
    """It is written from the vendor's samples, word by word, behind a header."""
    async with warm_gateway(path=OPENAI, format="wav", on_midstream="resume") as at:
        answer = await at.fetch("POST", OPENAI, json=openai_body(TEXT, response_format="wav"))
        assert words_in(await answer.read(), "wav_24000") == TEXT.split()
        request, account = await at.next_call()
        assert (isinstance(request, Exchange), request.continued, account.outcome) == (True, None, "spoken")


async def test_words_that_the_timestamps_place_in_silence_are_spoken_by_the_next_provider() -> None:
    """The vendor's audio ends in four seconds of silence, in which its timestamps go on."""
    text = "These words are heard, and all of the others are lost in a silence of four seconds."
    sound, rate = bytes(range(1, 255)) * 500, 24_000
    audio = sound + bytes(2 * rate * 4)
    times = Alignment.spread(text, len(audio) / 2 / rate)
    line = json.dumps(timed_audio_body(TimedAudio(audio, times, times))).encode() + b"\n"
    whole = Alignment.spread(TEXT, len(sound) / 2 / rate)
    usual = json.dumps(timed_audio_body(TimedAudio(sound, whole, whole))).encode() + b"\n"
    async with scripted_vendor() as vendor:
        for lines in (usual, line):
            vendor.enqueue(chunked_response(lines, content_type="application/json"))
        first = ElevenLabs("any", base_url=vendor.url, name="first")
        path = f"{STREAM}?output_format=pcm_24000"
        async with warm_gateway(first, Tone(), path=path, on_midstream="resume", muted=False) as at:
            await at.fetch("POST", path, json=elevenlabs_body(text))
            request, account = await at.next_call()
            assert isinstance(request, Exchange)
            assert account.outcome != "spoken"
            failed, *_ = account.report.attempts
            assert failed.provider == "first"
            assert failed.error is not None
            assert "where its timestamps place words" in failed.error.message
            assert account.alignment.text == text


BREAKS: list[Callable[[float], actions.FaultAction]] = [
    actions.Cut, actions.CutTerminated, actions.CutClose, actions.HalfLine, actions.Reset,
    lambda after: actions.ErrorLine(after=after),
]  # fmt: skip
_VOCABULARY = ["rain", "sun", "a", "I", "we", "don't", "42", "über", "home,", "now.", "stop!"]


@pytest.mark.parametrize("format", ["mp3_44100_128", "pcm_24000", "ulaw_8000", "wav_24000"])
async def test_streams_that_break_off_in_the_fast_lane_are_resumed_at_the_next_word(format: str) -> None:
    """The pipeline takes them over, and the second provider goes on, in the middle of the response."""
    random, path, body_of = Random(2026), f"{STREAM}?output_format={format}", elevenlabs_body
    if format == "wav_24000":
        path, body_of = OPENAI, partial(openai_body, response_format="wav")
    async with Simulator(voice="tones") as first, Simulator(voice="tones") as second:
        vendors = [ElevenLabs("any", name=each.url, base_url=each.url) for each in (first, second)]
        async with warm_gateway(*vendors, path=path, on_midstream="resume", circuit=NEVER_OPENS) as at:
            await at.fetch("POST", path, json=body_of())
            await at.next_call()
            outcomes = Counter[str]()
            for break_off in BREAKS * (10 if DEEP else 2):
                text = " ".join(random.choices(_VOCABULARY, k=random.randint(3, 12)))
                first.faults.set(Fault(break_off(random.uniform(0.05, 4.0)), endpoint="text-to-speech*"))
                answer = await at.fetch("POST", path, json=body_of(text))
                assert words_in(await answer.read(), format) == text.split()
                request, account = await at.next_call()
                assert isinstance(request, Exchange)
                assert account.alignment.text == text
                outcomes[account.outcome] += 1
                first.faults.clear()  # the idle connection was lost; another one is opened by the pipeline
                await at.fetch("POST", path, json=body_of())
                await at.next_call()
            assert outcomes["resumed"] >= outcomes.total() / 3, outcomes


@pytest.mark.parametrize("mode", ["error", "resume"])
@AS_SAMPLES
async def test_usual_requests_of_the_openai_dialect_take_the_fast_lane(mode: OnMidstream, format: str) -> None:
    async with warm_gateway(path=OPENAI, format=format, on_midstream=mode) as at:
        for _ in range(5):
            answer = await at.fetch("POST", OPENAI, json=openai_body(response_format=format))
            kind = AudioFormat.parse(format).mime_type
            assert (answer.status, answer.headers["content-type"]) == (200, kind)
            assert await took_the_fast_lane(at)


async def test_wav_of_a_vendor_that_has_it_takes_the_fast_lane() -> None:
    """It is parsed, and written behind a header that states no length, because the vendor's own may be wrong."""
    async with Simulator(voice="tones") as sim:
        vendor = OpenAICompatible("any", base_url=sim.url)
        async with warm_gateway(vendor, path=OPENAI, format="wav") as at:
            for number in range(5):
                text = f"{TEXT} And this is number {number}."
                answer = await at.fetch("POST", OPENAI, json=openai_body(text, response_format="wav"))
                audio = await answer.read()
                assert audio.startswith(wav_header(24_000))
                assert words_in(audio, "wav_24000") == text.split()
                assert await took_the_fast_lane(at)


@pytest.mark.parametrize("mode", ["error", "resume"])
async def test_request_without_an_idle_connection_waits_for_one_in_the_fast_lane(mode: OnMidstream) -> None:
    async with warm_gateway(only_elevenlabs=True, on_midstream=mode) as at:
        at.sim.faults.set(Fault(actions.Stall(0.3, seconds=0.3), endpoint="text-to-speech*"))
        answers = await asyncio.gather(*(at.fetch("POST", STREAM, json=elevenlabs_body()) for _ in range(6)))
        assert [answer.status for answer in answers] == [200] * 6
        for _ in answers:
            request, account = await at.next_call()
            assert isinstance(request, Exchange)
            assert request.continued is None
            (attempt,) = account.report.attempts
            # The time in which it was connected is the provider's, as in the pipeline.
            assert attempt.answered is not None
            assert attempt.first_audio is not None
            assert 0 < attempt.answered <= attempt.first_audio <= request.seconds_at(at.context.clock())


async def test_request_whose_connection_takes_long_is_left_to_the_pipeline() -> None:
    """Which waits for the same connection, for as long as the settings say."""
    connections: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.read(1 << 20)  # the client's part of a handshake, to which there is no answer
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    timeouts = TimeoutConfig(connection_timeout=0.5)
    vendor = ElevenLabs("sk_test", base_url=url, name="silent")
    settings: dict[str, Any] = {"on_midstream": "error", "muted": False, "timeouts": timeouts, "circuit": NEVER_OPENS}
    async with running_gateway(vendor, server={"max_connections": 1}, **settings) as at:
        for number in (1, 2):  # the first request also finds out that there are connections to be opened
            answer = await at.fetch("POST", STREAM, json=elevenlabs_body())
            assert answer.status >= 500
            _, account = await at.next_call()
            assert len(connections) == number
            assert [type(each.error) for each in account.report.attempts] == [TTSConnectTimeoutError]
        # A connection whose request waits is not idle: it is not closed in favour of another client's.
        waiting = asyncio.ensure_future(at.fetch("POST", STREAM, json=elevenlabs_body()))
        while len(connections) < 3:  # noqa: ASYNC110 - the server has no notification
            await asyncio.sleep(0.001)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(at.gateway.url.rpartition(":")[2]))
        assert await reader.readline() == b"HTTP/1.1 503 Service Unavailable\r\n"
        writer.close()
        assert (await waiting).status >= 500
        await at.next_call()
        # A client that leaves meanwhile is recorded as any.
        with pytest.raises(TimeoutError):
            await at.fetch("POST", STREAM, json=elevenlabs_body(), timeout=aiohttp.ClientTimeout(0.1))
        _, account = await at.next_call()
        assert account.outcome == "interrupted" or account.report.error
    server.close()


async def test_waiting_stream_takes_little_memory() -> None:
    """Counted are objects of the gateway, the service and the provider, but not those of the event loop."""
    count = 4  # at once, the limit of the simulated account
    async with warm_gateway(only_elevenlabs=True, circuit=NEVER_OPENS) as at:
        at.sim.faults.set(Fault(actions.Stall(0.3, seconds=50), endpoint="text-to-speech*"))
        port, body = int(at.gateway.url.rpartition(":")[2]), json.dumps(elevenlabs_body()).encode()
        request = _head(at, len(body)) + body
        writers = []
        with traced_memory() as traced:
            for _ in range(count):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                await reader.readuntil(b"\r\n\r\n")
                writers.append(writer)
            assert len(at.service.relays) == count
            assert traced() / count < MOST_BYTES_OF_A_STREAM
        for writer in writers:
            writer.transport.abort()
        for _ in writers:
            await at.next_call()


@contextmanager
def traced_memory() -> Iterator[Callable[[], int]]:
    """Trace memory that is allocated by the code under test, and yield a function that returns how much is used."""
    package, simulator = str(Path(steadyvoice.__file__).parent), str(Path(steadyvoice.simulator.__file__).parent)
    filters = [
        tracemalloc.Filter(False, f"{simulator}/*"),
        tracemalloc.Filter(True, f"{package}/*"),
        tracemalloc.Filter(True, f"{Path(uvicorn.__file__).parent}/*"),
    ]
    gc.collect()
    tracemalloc.start()
    try:

        def used() -> int:
            gc.collect()
            taken = tracemalloc.take_snapshot()
            package_only = taken.filter_traces([filters[0]]).filter_traces(filters[1:])
            return sum(each.size for each in package_only.statistics("filename"))

        yield used
    finally:
        tracemalloc.stop()


async def test_text_in_another_script_takes_the_fast_lane() -> None:
    async with warm_gateway(only_elevenlabs=True) as at:
        answer = await at.fetch("POST", STREAM, json=elevenlabs_body("Грузовик едет через мост в город."))
        assert answer.status == 200
        assert await took_the_fast_lane(at)


async def test_body_in_a_packet_of_its_own_takes_the_fast_lane() -> None:
    async with warm_gateway() as at:
        body = json.dumps(elevenlabs_body()).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(at.gateway.url.rpartition(":")[2]))
        for pause, is_fast in ((0.0, True), (0.3, False)):
            writer.write(_head(at, len(body)))
            await writer.drain()
            await asyncio.sleep(pause or 0.01)
            writer.write(body)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readuntil(b"\r\n0\r\n\r\n")
            assert await took_the_fast_lane(at) is is_fast
        writer.close()


async def test_request_whose_body_came_in_a_packet_of_its_own_stays_in_the_fast_lane() -> None:
    """It takes longer than the two ticks after which a missing body is left to the application."""
    async with warm_gateway(only_elevenlabs=True) as at:
        at.sim.faults.set(Fault(actions.Stall(0.3, seconds=3 * TICK), endpoint="text-to-speech*"))
        body = json.dumps(elevenlabs_body()).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(at.gateway.url.rpartition(":")[2]))
        writer.write(_head(at, len(body)))
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"\r\n0\r\n\r\n")
        assert await took_the_fast_lane(at)
        writer.close()


def _head(at: RunningGateway, length: int, *more: str, version: str = "1.1", path: str = STREAM) -> bytes:
    lines = [f"POST {path} HTTP/{version}", "host: localhost", "content-type: application/json",
             f"content-length: {length}", *more]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    "headers",
    [
        {"x-steadyvoice-on-midstream": "restart"},
        {"origin": "http://localhost:1"},
        {"connection": "close"},
        {"sec-fetch-site": "none"},
        {"content-encoding": "identity"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_unusual_head_does_not_take_the_fast_lane(headers: dict[str, str]) -> None:
    async with warm_gateway(server={"allowed_origins": ["http://localhost:1"]}) as at:
        answer = await at.fetch("POST", STREAM, json=elevenlabs_body(), headers=headers)
        assert answer.status == 200
        assert not await took_the_fast_lane(at)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (ELEVENLABS, elevenlabs_body()),
        (f"{STREAM}/with-timestamps", elevenlabs_body()),
        (f"{STREAM}?output_format=pcm_24000", elevenlabs_body(f'{TEXT} <break time="1s"/> {TEXT}')),
        (OPENAI, openai_body(response_format="flac")),
        (OPENAI, openai_body(stream_format="sse")),
    ],
)
async def test_unusual_request_does_not_take_the_fast_lane(path: str, body: dict[str, Any]) -> None:
    async with warm_gateway() as at:
        for _ in range(2):  # the first request with any options takes the pipeline
            answer = await at.fetch("POST", path, json=body)
            assert answer.status == 200
            assert not await took_the_fast_lane(at)


async def test_packed_audio_that_has_to_be_encoded_does_not_take_the_fast_lane() -> None:
    async with Simulator(voice="tones") as sim:
        vendor = ElevenLabs("any", base_url=sim.url, timestamps=True)
        async with warm_gateway(vendor, path=OPENAI, format="flac") as at:
            await at.fetch("POST", OPENAI, json=openai_body(response_format="flac"))
            assert not await took_the_fast_lane(at)


async def test_unusual_settings_keep_requests_from_the_fast_lane(tmp_path: Path) -> None:
    for settings in ({"on_midstream": "restart"}, {"cache": tmp_path}, {"hedging": HedgeConfig()}):
        async with warm_gateway(**settings) as at:
            await at.fetch("POST", STREAM, json=elevenlabs_body(f"{TEXT} Again."))
            assert not await took_the_fast_lane(at), settings


async def test_chunked_pipelined_and_old_requests_do_not_take_the_fast_lane() -> None:
    body = json.dumps(elevenlabs_body()).encode()
    async with warm_gateway() as at:
        await at.client.post(
            at.gateway.url + STREAM, data=body, headers={"content-type": "application/json"}, chunked=True
        )
        assert not await took_the_fast_lane(at)
        port = int(at.gateway.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((_head(at, len(body)) + body) * 3)
        for _ in range(3):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readuntil(b"\r\n0\r\n\r\n")
        # A second request behind it takes the first one out of the fast lane; the last one is alone again.
        assert not await took_the_fast_lane(at)
        assert not await took_the_fast_lane(at)
        await at.next_call()
        writer.write(_head(at, len(body), "expect: 100-continue"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(body)
        await reader.readuntil(b"\r\n0\r\n\r\n")
        assert not await took_the_fast_lane(at)
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_head(at, len(body), version="1.0") + body)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        assert not await took_the_fast_lane(at)
        writer.close()


async def test_invalid_key_and_body_are_refused_as_usual() -> None:
    async with running_gateway(on_midstream="error", server={"api_keys": ["right"]}) as at:
        for key, body, status in (("wrong", TEXT, 401), ("right", "", 422), ("right", TEXT, 200), ("wrong", TEXT, 401)):
            answer = await at.fetch("POST", STREAM, json=elevenlabs_body(body), headers={"xi-api-key": key})
            assert answer.status == status
        broken = await at.fetch("POST", STREAM, data=b"{", headers={"xi-api-key": "right"})
        assert broken.status == 422


async def test_body_over_the_limit_is_refused_as_usual() -> None:
    async with warm_gateway(only_elevenlabs=True, server={"max_body_bytes": 200}) as at:
        for text, status in ((TEXT, 200), (TEXT * 5, 413)):
            assert (await at.fetch("POST", STREAM, json=elevenlabs_body(text))).status == status


async def test_second_provider_speaks_in_the_fast_lane_while_the_first_is_refused() -> None:
    async with Simulator(voice="tones") as sim:
        first, second = (ElevenLabs(name, name=name, base_url=sim.url) for name in ("first", "second"))
        async with warm_gateway(first, second) as at:
            await _speak_while_refused(at)


async def _speak_while_refused(at: RunningGateway) -> None:
    at.service.circuits["first"].force_open()
    await at.fetch("POST", STREAM, json=elevenlabs_body())  # opens a connection
    await at.next_call()
    answer = await at.fetch("POST", STREAM, json=elevenlabs_body())
    assert (answer.status, answer.headers["x-steadyvoice-outcome"]) == (200, "substituted")
    request, account = await at.next_call()
    assert isinstance(request, Exchange)
    assert request.continued is None
    assert [(each.provider, each.refused) for each in account.attempts] == [("first", True), ("second", False)]
    states = at.service.get_error_state()["providers"]
    assert states["first"]["totals"]["refused"] == 2
    assert account.outcome == "substituted"
    [call, *_] = (await (await at.fetch("GET", "/admin/calls")).json())["calls"]
    assert [each["error"] and each["error"]["kind"] for each in call["attempts"]] == ["circuit_open", None]


async def test_fast_requests_are_in_metrics_calls_and_access_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "steadyvoice.access")
    async with warm_gateway(only_elevenlabs=True, server={"log_texts": True}) as at:
        answer = await at.fetch("POST", STREAM, json=elevenlabs_body(), headers={"x-request-id": "mine"})
        size = len(await answer.read())
        metrics = await (await at.fetch("GET", "/metrics")).text()
        assert 'steadyvoice_requests_total{api="elevenlabs",outcome="spoken",provider="elevenlabs"} 2.0' in metrics
        assert "steadyvoice_streams_in_flight 0.0" in metrics
        calls = (await (await at.fetch("GET", "/admin/calls")).json())["calls"]
        assert (calls[0]["request_id"], calls[0]["bytes_sent"], calls[0]["text"]) == ("mine", size, TEXT)
        assert calls[0]["seconds"] > 0
        [line] = [json.loads(each.getMessage()) for each in caplog.records if '"mine"' in each.getMessage()]
        assert (line["status"], line["bytes"], line["outcome"], line["complete"]) == (200, size, "spoken", True)


@AS_SAMPLES
async def test_hang_up_in_the_fast_lane_is_recorded_as_interrupted(format: str) -> None:
    async with warm_gateway(only_elevenlabs=True, path=OPENAI, format=format) as at:
        at.sim.faults.set(Fault(actions.Stall(0.3, seconds=20), endpoint="text-to-speech*"))
        answer = await at.post(OPENAI, openai_body(response_format=format))
        assert await answer.content.readany()
        assert at.service.relays
        assert "steadyvoice_streams_in_flight 1.0" in await (await at.fetch("GET", "/metrics")).text()
        answer.close()
        request, account = await at.next_call()
        assert isinstance(request, Exchange)
        assert (account.outcome, request.complete) == ("interrupted", False)
        assert not at.service.relays
        assert not at.service.streams
        assert at.service.admission.active == 0
        assert at.service.get_error_state()["concurrency"]["in_use"] == 0


@AS_SAMPLES
async def test_shutdown_completes_a_response_of_the_fast_lane(format: str) -> None:
    async with warm_gateway(only_elevenlabs=True, path=OPENAI, format=format) as at:
        healthy = await at.fetch("POST", OPENAI, json=openai_body(response_format=format))
        at.sim.faults.set(Fault(actions.Stall(0.3, seconds=0.3), endpoint="text-to-speech*"))
        answer = await at.post(OPENAI, openai_body(response_format=format))
        begun = await answer.content.readany()
        stopping = asyncio.ensure_future(at.gateway.stop())
        assert begun + await answer.read() == await healthy.read()
        assert await stopping == 0


@AS_SAMPLES
async def test_reload_in_the_middle_does_not_disturb_a_response(format: str) -> None:
    """The pipeline goes on with what was sent: behind a WAV's header, if there is one."""
    async with warm_gateway(only_elevenlabs=True, path=OPENAI, format=format) as at:
        healthy = await at.fetch("POST", OPENAI, json=openai_body(response_format=format))
        await at.next_call()
        at.sim.faults.set(Fault(actions.Stall(0.3, seconds=0.3), endpoint="text-to-speech*"))
        answer = await at.post(OPENAI, openai_body(response_format=format))
        begun = await answer.content.readany()
        assert at.service.relays
        await at.service.reconfigure(providers=[Tone()])
        assert not at.service.relays
        assert begun + await answer.read() == await healthy.read()
        _, account = await at.next_call()
        assert (account.outcome, account.provider) == ("spoken", "elevenlabs")
        substitute = await at.fetch("POST", STREAM, json=elevenlabs_body())
        assert substitute.headers["x-steadyvoice-provider"] == "tone"


@AS_SAMPLES
async def test_closing_the_service_ends_a_response_of_the_fast_lane(format: str) -> None:
    async with warm_gateway(only_elevenlabs=True, path=OPENAI, format=format) as at:
        at.sim.faults.set(Fault(actions.Stall(0.3, seconds=20), endpoint="text-to-speech*"))
        answer = await at.post(OPENAI, openai_body(response_format=format))
        assert await answer.content.readany()
        await at.service.aclose()
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
        _, account = await at.next_call()
        assert account.outcome == "interrupted"


@pytest.mark.parametrize(("format", "header"), [("pcm", b""), ("wav", wav_header(24_000))])
async def test_slow_reader_gets_everything_without_filling_memory(format: str, header: bytes) -> None:
    """The pipeline takes the response over, and the vendor's stream waits until the client reads again."""
    async with warm_gateway(only_elevenlabs=True, path=OPENAI, format=format) as at:
        body = json.dumps(openai_body(" ".join([TEXT] * 90), response_format=format)).encode()
        port = int(at.gateway.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
        writer.write(_head(at, len(body), path=OPENAI) + body)
        while not at.service.streams:  # noqa: ASYNC110 - the service has no notification
            await asyncio.sleep(0.01)
        assert not at.service.relays
        response = bytearray()
        while not response.endswith(b"\r\n0\r\n\r\n"):
            response += await reader.read(1 << 20)
        writer.close()
        request, account = await at.next_call()
        assert isinstance(request, Exchange)
        assert request.continued is not None
        assert account.outcome == "spoken"
        assert request.bytes_sent == len(header) + round(account.duration * 48_000)
        assert response.count(b"RIFF") == (format == "wav")
