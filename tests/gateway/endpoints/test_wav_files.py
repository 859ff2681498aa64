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

from steadyvoice import AsyncTTSService, OpenAICompatible
from steadyvoice.audio.conversion import convert
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.speech.format import AudioFormat
from tests.audio.wav_files import ParsedWav, chunk, fmt, parse_strictly, pcm, samples, wav
from tests.providers.scripted_vendor import ScriptedVendor, chunked_response, scripted_vendor

PCM = pcm()
FILES = {
    "sizes of 0xFFFFFFFF": wav(fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), size=0xFFFFFFFF),
    "two files": wav(fmt(), chunk(b"data", PCM[:8_000])) + wav(fmt(), chunk(b"data", PCM[8_000:])),
    "floats": wav(fmt((3, 32)), chunk(b"data", samples((3, 32)), size=0)),
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
