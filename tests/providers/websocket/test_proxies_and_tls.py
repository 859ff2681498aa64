"""Websockets through proxies and TLS, with the key and the proxy's password where they belong."""

from __future__ import annotations

import pytest

from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.simulator import Simulator
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech.errors import TTSConnectError
from tests.providers.http.test_proxies import proxy_on_a_socket

from .collected import KEY, WORDS, collect, open_stream, say


async def test_websocket_over_tls_trusts_the_configured_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Simulator(voice="tones", tls=True, keys=(KEY,)) as sim:
        unknown = ElevenLabs(KEY, base_url=sim.url)
        assert type((await collect(say(open_stream(unknown)))).error) is TTSConnectError
        await unknown.aclose()
        monkeypatch.setenv("SSL_CERT_FILE", str(sim.ca_file))
        provider = ElevenLabs(KEY, base_url=sim.url)
        assert (await collect(say(open_stream(provider)))).words == WORDS
        sim.faults.set(actions.TlsFailure())
        await provider.aclose()
        assert type((await collect(say(open_stream(provider)))).error) is TTSConnectError
        await provider.aclose()


@pytest.mark.parametrize("tls", [False, True])
async def test_websocket_goes_through_the_proxy(monkeypatch: pytest.MonkeyPatch, tls: bool) -> None:
    async with Simulator(voice="tones", tls=tls, keys=(KEY,)) as sim, proxy_on_a_socket("user:secret") as proxy:
        if tls:
            monkeypatch.setenv("SSL_CERT_FILE", str(sim.ca_file))
        provider = ElevenLabs(KEY, base_url=sim.url, proxy=f"http://user:secret@127.0.0.1:{proxy.port}")
        assert (await collect(say(open_stream(provider)))).words == WORDS
        await provider.aclose()
        assert len(proxy.heads) == 1
        assert bool(proxy.tunnels) is tls
        assert not (tls and KEY in proxy.heads[0]), "the proxy sees no key"


async def test_refusal_of_the_proxy_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Simulator(voice="tones", tls=True) as sim, proxy_on_a_socket("user:secret") as proxy:
        monkeypatch.setenv("SSL_CERT_FILE", str(sim.ca_file))
        provider = ElevenLabs(KEY, base_url=sim.url, proxy=f"http://user:wrong_one@127.0.0.1:{proxy.port}")
        heard = await collect(say(open_stream(provider)))
        await provider.aclose()
    assert type(heard.error) is TTSConnectError
    assert "wrong_one" not in f"{heard.error} {heard.error.__cause__!r}"
