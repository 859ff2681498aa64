"""https and wss: believed by whoever trusts the simulator's own authority, and by nobody else."""

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
async def test_who_trusts_its_authority_is_served(host: str) -> None:
    async with Simulator(voice="tones", tls=True) as sim:
        assert sim.url.startswith("https://127.0.0.1:")
        assert await spoken(sim, ssl.create_default_context(cafile=sim.ca_file), host) == WORDS


async def test_websockets_are_served_too() -> None:
    async with Simulator(voice="tones", tls=True) as sim:
        trusted = ssl.create_default_context(cafile=sim.ca_file)
        url = address(sim).replace("https", "wss")
        async with aiohttp.ClientSession(headers=KEY) as session, session.ws_connect(url, ssl=trusted) as socket:
            for message in WHOLE_TEXT:
                await send(socket, message)
            assert (await listen(socket)).words() == WORDS


async def test_who_trusts_others_is_not() -> None:
    async with Simulator(voice="tones", tls=True) as sim:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await spoken(sim, ssl.create_default_context())
        assert len(sim.ledger) == 0


async def test_the_authority_is_gone_with_the_simulator() -> None:
    async with Simulator(voice="tones", tls=True) as sim:
        ca_file = sim.ca_file
        assert ca_file is not None
        assert "PRIVATE" not in ca_file.read_text()
        assert [each.name for each in ca_file.parent.iterdir()] == ["ca.pem"]
    assert not ca_file.parent.exists()


async def test_nothing_is_left_behind_when_the_port_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with Simulator(voice="tones", tls=True) as sim:
        left = set(os.listdir(tmp_path))
        with pytest.raises(OSError, match="in use"):
            await Simulator(voice="tones", tls=True, port=int(sim.url.rpartition(":")[2])).__aenter__()
        assert set(os.listdir(tmp_path)) == left


async def test_without_tls_there_is_nothing_to_trust() -> None:
    async with Simulator(voice="tones") as sim:
        assert sim.ca_file is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r'pip install "steadyvoice\[tls\]"'):
        Certificates("127.0.0.1")
