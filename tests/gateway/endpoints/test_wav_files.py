"""WAV and FLAC from the gateway and the command: true lengths where buffered, placeholders in streams."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible
from steadyvoice.audio.conversion import convert
from steadyvoice.audio.wav import wav_header
from steadyvoice.gateway.fast_lane.exchange import Exchange
from steadyvoice.gateway.server import Gateway
from steadyvoice.providers.vendor import VendorProvider
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.speech.format import AudioFormat
from tests.audio.wav_files import ParsedWav, chunk, fmt, parse_strictly, pcm, samples, wav
from tests.providers.scripted_vendor import ScriptedVendor, chunked_response, scripted_vendor

from ..running_gateway import OPENAI, openai_body, running_gateway

PCM = pcm()
FILES = {
    "sizes of 0xFFFFFFFF": wav(fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), size=0xFFFFFFFF),
    "two files": wav(fmt(), chunk(b"data", PCM[:8_000])) + wav(fmt(), chunk(b"data", PCM[8_000:])),
    "floats": wav(fmt((3, 32)), chunk(b"data", samples((3, 32)), size=0)),
    "floats in the second": wav(fmt(), chunk(b"data", PCM[:8_000]))
    + wav(fmt((3, 32)), chunk(b"data", samples((3, 32))[16_000:])),
}
SPOKEN = ParsedWav(1, 1, 24_000, 16, PCM)
WHOLE = "/v1/text-to-speech/alloy?output_format=wav_24000"


async def answered(vendor: ScriptedVendor, path: str, document: dict[str, Any], **settings: Any) -> tuple[Any, bytes]:
    provider = OpenAICompatible("sk-test", base_url=vendor.url)
    service = AsyncTTSService([provider], muted=False, **settings)
    async with (
        service,
        Gateway(service, ServerConfig(port=0)) as gateway,
        aiohttp.ClientSession() as client,
        client.post(gateway.url + path, json=document) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return answer.headers, await answer.read()


@pytest.mark.parametrize("how", FILES)
@pytest.mark.parametrize("on_midstream", ["error", "resume"])
async def test_wav_at_each_endpoint(how: str, on_midstream: str) -> None:
    async with scripted_vendor() as vendor:
        for _ in range(3):
            vendor.enqueue(chunked_response(FILES[how][:5_000], FILES[how][5_000:], content_type="audio/wav"))

        headers, audio = await answered(vendor, WHOLE, {"text": "Hello"}, on_midstream=on_midstream)
        assert parse_strictly(audio) == SPOKEN
        assert int(headers["content-length"]) == len(audio)

        timed = "/v1/text-to-speech/alloy/with-timestamps?output_format=wav_24000"
        _, body = await answered(vendor, timed, {"text": "Hello"}, on_midstream=on_midstream)
        encoded = body.partition(b'"audio_base64":"')[2].partition(b'"')[0]
        assert parse_strictly(b64decode(encoded)) == SPOKEN

        document = {"model": "tts-1", "input": "Hello", "voice": "alloy", "response_format": "wav"}
        headers, audio = await answered(vendor, "/v1/audio/speech", document, on_midstream=on_midstream)
        assert parse_strictly(audio, open_end="content-length" not in headers) == SPOKEN


@pytest.mark.parametrize("how", FILES)
async def test_wav_of_a_vendor_is_passed_through_by_the_fast_lane_as_by_the_pipeline(how: str) -> None:
    async with scripted_vendor() as vendor:
        for _ in range(3):
            vendor.enqueue(chunked_response(FILES[how][:5_000], FILES[how][5_000:], content_type="audio/wav"))
        audio, continued = await _fast_and_slow(OpenAICompatible("sk-test", base_url=vendor.url), "wav")
    assert parse_strictly(audio, open_end=True) == SPOKEN
    assert continued is how.startswith("floats")  # which are converted in a thread


@pytest.mark.parametrize(("how", "reloads"), [("two files", True), ("floats in the second", False)])
async def test_wav_that_is_handed_over_midway_is_written_on_behind_its_header(how: str, reloads: bool) -> None:
    """It is handed over by a reload, or because its samples become others."""
    begin, end, goes_on = FILES[how][:5_000], FILES[how][5_000:], asyncio.Event()
    head = chunked_response(begin, end=False, content_type="audio/wav")
    body = openai_body("Hello", response_format="wav")
    async with scripted_vendor() as vendor:
        vendor.enqueue(chunked_response(FILES[how], content_type="audio/wav"))
        vendor.enqueue(head, goes_on, b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))
        provider = OpenAICompatible("sk-test", base_url=vendor.url)
        async with running_gateway(provider, on_midstream="error") as at:
            await at.fetch("POST", OPENAI, json=body)
            await at.next_call()
            answer = await at.post(OPENAI, body)
            audio = await answer.content.readany()
            assert at.service.relays
            if reloads:
                await at.service.reconfigure(muted=False)
            goes_on.set()
            audio += await answer.read()
            request, account = await at.next_call()
            assert isinstance(request, Exchange)
            assert request.continued is not None
            assert account.outcome == "spoken"
    assert parse_strictly(audio, open_end=True) == SPOKEN


@pytest.mark.parametrize("format", ["wav", "pcm"])
async def test_odd_byte_at_the_end_is_treated_by_the_fast_lane_as_by_the_pipeline(format: str) -> None:
    async with scripted_vendor() as vendor:
        for _ in range(3):
            vendor.enqueue(chunked_response(PCM[:1_001], PCM[1_001:], b"\x7f", content_type="audio/pcm"))
        audio, _ = await _fast_and_slow(ElevenLabs("sk-test", base_url=vendor.url), format)
    assert audio == (wav_header(24_000) + PCM if format == "wav" else PCM + b"\x7f\0")


async def _fast_and_slow(provider: VendorProvider, format: str) -> tuple[bytes, bool]:
    """Return the audio that passes through in either way, and whether the request left the fast lane for the pipeline.

    A request whose body comes in chunks is unusual, so that the pipeline serves it.
    """
    async with running_gateway(provider, on_midstream="error") as at:
        await at.fetch("POST", OPENAI, json=openai_body("Hello", response_format=format))
        await at.next_call()
        audio, accounts = [], []
        for chunked in (None, True):
            body = openai_body("Hello", response_format=format)
            answer = await at.fetch("POST", OPENAI, json=body, chunked=chunked)
            audio.append(await answer.read())
            request, account = await at.next_call()
            assert isinstance(request, Exchange) is (chunked is None)
            if isinstance(request, Exchange):
                continued = request.continued is not None
            accounts.append((account.outcome, account.duration, account.alignment, account.provider))
        assert audio[0] == audio[1]
        assert accounts[0] == accounts[1]
        return audio[0], continued


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
async def test_file_written_by_the_command_has_its_true_length(tmp_path: Path, name: str) -> None:
    async with scripted_vendor() as vendor:
        kind = name.partition(".")[2]
        flac = convert(PCM, AudioFormat.parse("pcm_24000"), AudioFormat.parse("flac_24000"))
        body = FILES["two files"] if kind == "wav" else flac + flac
        vendor.enqueue(chunked_response(body, content_type=f"audio/{kind}"))
        (tmp_path / "c.toml").write_text(f'[[providers]]\nkind = "openai"\nbase_url = "{vendor.url}"\n')
        command = [sys.executable, "-m", "steadyvoice", "say", "Hello", "-o", name, "--config", "c.toml"]
        ended = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, timeout=50)
        assert ended.returncode == 0, ended.stderr.decode()
    audio = (tmp_path / name).read_bytes()
    if kind == "wav":
        assert parse_strictly(audio) == SPOKEN
    else:
        assert int.from_bytes(audio[18:26], "big") & 0xF_FFFF_FFFF == len(PCM)  # twice as many samples of two bytes
