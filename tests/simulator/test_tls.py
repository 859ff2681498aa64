"""https and wss, for clients that trust the simulator's certificate authority."""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path

import aiohttp
import pytest

from steadyvoice.simulator import Simulator, words_in
from steadyvoice.simulator.http.listener import Certificates

from .client import STREAM, TEXT, WORDS
from .websocket_client import KEY, WHOLE_TEXT, address, listen, send

SPEECH = {"text": TEXT}


async def spoken(sim: Simulator, trusted: ssl.SSLContext, host: str = "127.0.0.1") -> list[str]:
    async with aiohttp.ClientSession(headers=KEY) as session:
        url = sim.url.replace("127.0.0.1", host)
        async with session.post(f"{url}{STREAM}", json=SPEECH, ssl=trusted) as answer:
            return words_in(await answer.read(), "pcm_8000")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_client_that_trusts_the_ca_is_served(host: str) -> None:
    async with Simulator(voice="tones", tls=True) as sim:
        assert sim.url.startswith("https://127.0.0.1:")
        assert await spoken(sim, ssl.create_default_context(cafile=sim.ca_file), host) == WORDS


async def test_websockets_are_served_over_tls() -> None:
    async with Simulator(voice="tones", tls=True) as sim:
        trusted = ssl.create_default_context(cafile=sim.ca_file)
        url = address(sim).replace("https", "wss")
        async with aiohttp.ClientSession(headers=KEY) as session, session.ws_connect(url, ssl=trusted) as socket:
            for message in WHOLE_TEXT:
                await send(socket, message)
            assert (await listen(socket)).words() == WORDS


async def test_client_that_does_not_trust_the_ca_is_not_served() -> None:
    async with Simulator(voice="tones", tls=True) as sim:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await spoken(sim, ssl.create_default_context())
        assert len(sim.ledger) == 0


async def test_ca_file_is_deleted_at_the_end() -> None:
    async with Simulator(voice="tones", tls=True) as sim:
        ca_file = sim.ca_file
        assert ca_file is not None
        assert "PRIVATE" not in ca_file.read_text()
        assert [each.name for each in ca_file.parent.iterdir()] == ["ca.pem"]
    assert not ca_file.parent.exists()


async def test_ca_file_is_deleted_when_the_port_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with Simulator(voice="tones", tls=True) as sim:
        left = set(os.listdir(tmp_path))
        with pytest.raises(OSError, match="in use"):
            await Simulator(voice="tones", tls=True, port=int(sim.url.rpartition(":")[2])).__aenter__()
        assert set(os.listdir(tmp_path)) == left


async def test_without_tls_there_is_no_ca_file() -> None:
    async with Simulator(voice="tones") as sim:
        assert sim.ca_file is None


def test_missing_tls_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r'pip install "steadyvoice\[tls\]"'):
        Certificates("127.0.0.1")
