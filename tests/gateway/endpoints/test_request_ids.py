"""Request ids and request stitching: every response has an id, and ids reach only their own account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from elevenlabs import AsyncElevenLabs

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible, Tone
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection import actions

from ..raw_http import RawClient
from ..recording_vendor import RecordingVendor, recording_vendor
from ..running_gateway import ELEVENLABS, TEXT, RunningGateway, elevenlabs_body, running_gateway

OURS = "steadyvoice-"
FORMS = ["", "/stream", "/with-timestamps", "/stream/with-timestamps"]


@asynccontextmanager
async def recorded(*others: Any, **settings: Any) -> AsyncIterator[tuple[RunningGateway, RecordingVendor, Simulator]]:
    """A gateway in front of ElevenLabs, whose requests are remembered, and of further providers."""
    async with Simulator(voice="tones") as sim, recording_vendor(sim.url) as vendor:
        eleven = ElevenLabs("sk_one", base_url=vendor.url)
        async with running_gateway(eleven, *others, **settings) as gateway:
            yield gateway, vendor, sim


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("midstream", ["resume", "error"])
async def test_vendor_response_has_the_vendors_id(form: str, midstream: Any) -> None:
    async with running_gateway(only_elevenlabs=True, on_midstream=midstream) as gateway:
        answer = await gateway.fetch("POST", ELEVENLABS + form, json=elevenlabs_body())
        assert answer.headers.getall("request-id") == [gateway.sim.ledger[-1].request_id]


@pytest.mark.parametrize("form", FORMS)
async def test_fallback_audio_and_silence_have_an_own_id(form: str) -> None:
    async with running_gateway() as gateway:
        for down in ("elevenlabs", "openai", "tone"):
            gateway.service.circuits[down].force_open()
            answer = await gateway.fetch("POST", ELEVENLABS + form, json=elevenlabs_body())
            assert answer.headers["x-steadyvoice-outcome"] == ("muted" if down == "tone" else "substituted")
            assert answer.headers.getall("request-id") == [OURS + answer.headers["x-request-id"]]


async def test_buffered_response_ending_in_silence_has_an_own_id() -> None:
    async with running_gateway(only_elevenlabs=True) as gateway:
        gateway.sim.faults.set(Fault(actions.Cut(after=1.0), endpoint="text-to-speech*"))
        answer = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        assert answer.headers["x-steadyvoice-outcome"] == "muted"
        assert answer.headers["request-id"].startswith(OURS)


async def test_cached_response_has_an_own_id(tmp_path: Path) -> None:
    async with running_gateway(cache=tmp_path) as gateway:
        first = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        second = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())
        assert not first.headers["request-id"].startswith(OURS)
        assert second.headers["x-steadyvoice-outcome"] == "cached"
        assert second.headers["request-id"].startswith(OURS)


async def test_every_error_has_an_own_id() -> None:
    async with running_gateway(only_elevenlabs=True, muted=False, server={"api_keys": ["key"]}) as gateway:
        gateway.sim.faults.set(actions.Refuse("invalid_api_key"))
        key = {"xi-api-key": "key"}
        for method, path, headers, body in (
            ("POST", ELEVENLABS, {}, elevenlabs_body()),
            ("POST", ELEVENLABS, key, elevenlabs_body("")),
            ("POST", ELEVENLABS, key, elevenlabs_body()),
            ("POST", ELEVENLABS, {**key, "host": "elsewhere.example"}, elevenlabs_body()),
            ("PUT", ELEVENLABS, key, elevenlabs_body()),
            ("POST", "/v1/text-to-speech", key, elevenlabs_body()),
            ("GET", "/v1/voices/nobody", key, None),
            ("GET", "/v2/voices?page_size=0", key, None),
        ):
            answer = await gateway.fetch(method, path, headers=headers, json=body)
            assert answer.status >= 400
            assert answer.headers.getall("request-id") == [OURS + answer.headers["x-request-id"]], (method, path)


async def test_malformed_request_error_has_an_own_id() -> None:
    async with running_gateway() as gateway:
        port = int(gateway.url.rpartition(":")[2])
        for request in (b"nonsense\r\n\r\n", b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n"):
            client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
            await client.send(request)
            status, headers, _ = await client.read_response()
            assert status >= 400
            assert headers["request-id"] == OURS + headers["x-request-id"]
            client.disconnect()


async def test_every_list_has_an_own_id() -> None:
    async with running_gateway() as gateway:
        for path in ("/v1/voices", "/v2/voices", "/v1/models", "/v1/user", "/v1/user/subscription", "/v1/history"):
            for method in ("GET", "HEAD"):
                answer = await gateway.fetch(method, path)
                assert (answer.status, answer.headers["request-id"][: len(OURS)]) == (200, OURS)


async def test_cors_exposes_the_request_id() -> None:
    async with running_gateway(server={"allowed_origins": ["https://page.example"]}) as gateway:
        answer = await gateway.fetch(
            "POST", ELEVENLABS, json=elevenlabs_body(), headers={"origin": "https://page.example"}
        )
        shown = answer.headers["access-control-expose-headers"].split(", ")
        assert {"request-id", "character-cost", "x-request-id", "retry-after"} <= set(shown)


async def test_vendors_request_stitching_guide_works_in_an_outage() -> None:
    """https://elevenlabs.io/docs/developers/guides/cookbooks/text-to-speech/request-stitching, word for word."""
    async with recorded(Tone()) as (gateway, vendor, sim), httpx.AsyncClient(verify=False) as http:
        client = AsyncElevenLabs(api_key="any", base_url=gateway.url, httpx_client=http)
        request_ids: list[str | None] = []
        for number in range(4):
            circuit = gateway.service.circuits["elevenlabs"]
            circuit.force_open() if number == 1 else circuit.close()
            speech = client.text_to_speech.with_raw_response.stream(
                "JBFqnCBsd6RMkjVDRZzb", text=TEXT, previous_request_ids=request_ids
            )
            async with speech as answer:
                request_ids.append(answer.headers.get("request-id"))
                assert b"".join([chunk async for chunk in answer.data])
        first, second, third, _ = request_ids
        assert str(second).startswith(OURS)
        assert [first, third] == [entry.request_id for entry in sim.ledger][:2]
        assert vendor.ids() == [None, [first], [first, third]]


@pytest.mark.parametrize("name", ["previous_request_ids", "next_request_ids"])
async def test_invalid_and_own_ids_are_not_sent_to_the_vendor(name: str) -> None:
    async with recorded() as (gateway, vendor, _):
        for sent, received in TOLERATED:
            answer = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(**{name: sent}))
            assert (answer.status, vendor.ids(name)[-1]) == (200, received), sent


TOLERATED: list[tuple[Any, Any]] = [
    (None, None),
    ([], None),
    ([None], None),
    (["", "  ", "null", "None", "undefined"], None),
    (["abc", "abc", None, "def", " def "], ["abc", "def"]),
    ([None, "a", "b", "c", "a"], ["a", "b", "c"]),
    ([f"{OURS}1"], None),
    ([f"{OURS}1", "abc", f"{OURS}2"], ["abc"]),
]


@pytest.mark.parametrize("name", ["previous_request_ids", "next_request_ids"])
async def test_too_many_ids_are_refused_as_by_the_vendor(name: str) -> None:
    async with recorded() as (gateway, vendor, _):
        refused: list[Any] = [["a", "b", "c", "d"], ["a", "b", "c", f"{OURS}1"], "a", [1], [["a"]], {"a": 1}]
        for sent in refused:
            answer = await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(**{name: sent}))
            assert answer.status == 422
            assert (await answer.json())["detail"][0]["loc"] == ["body", name]
        assert not vendor.bodies


async def test_ids_are_not_sent_to_another_account() -> None:
    async with Simulator(voice="tones", seed=1) as other, recording_vendor(other.url) as elsewhere:
        second = ElevenLabs("sk_two", name="second", base_url=elsewhere.url)
        async with recorded(second) as (gateway, vendor, _):
            ids = [(await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body())).headers["request-id"]]
            gateway.service.circuits["elevenlabs"].force_open()
            for _ in range(2):
                answer = await gateway.fetch(
                    "POST", ELEVENLABS, json=elevenlabs_body(previous_request_ids=[*ids, "from before"])
                )
                assert answer.headers["x-steadyvoice-provider"] == "second"
                ids.append(answer.headers["request-id"])
            assert elsewhere.ids() == [["from before"], [ids[1], "from before"]]
            gateway.service.circuits["elevenlabs"].close()
            await gateway.fetch("POST", ELEVENLABS, json=elevenlabs_body(previous_request_ids=ids))
            assert vendor.ids() == [None, [ids[0]]]


@pytest.mark.parametrize("ids", [[None], [""], (None, "x", "x"), [f"{OURS}7", "x"]])
async def test_library_cleans_ids_in_the_same_way(ids: Any) -> None:
    async with Simulator(voice="tones") as sim, recording_vendor(sim.url) as vendor:
        async with AsyncTTSService([ElevenLabs("sk_one", base_url=vendor.url)], muted=False) as tts:
            speech = await tts.synthesize(TEXT, options={"previous_request_ids": ids})
        assert speech.outcome == "spoken"
        assert vendor.ids() == [["x"] if "x" in ids else None]


async def test_library_sends_no_ids_of_another_vendor() -> None:
    async with Simulator(voice="tones") as sim, recording_vendor(sim.url) as vendor:
        providers = (OpenAICompatible("sk_one", base_url=f"{sim.url}/v1"), ElevenLabs("sk_one", base_url=vendor.url))
        async with AsyncTTSService(providers, muted=False) as tts:
            first = await tts.synthesize(TEXT)
            ids = [attempt.request_id for attempt in first.attempts]
            tts.circuits["openai"].force_open()
            second = await tts.synthesize(TEXT, options={"previous_request_ids": ids})
            assert second.provider == "elevenlabs"
        assert ids[0]
        assert vendor.ids() == [None]
