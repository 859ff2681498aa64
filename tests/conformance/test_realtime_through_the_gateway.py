"""ElevenLabs' realtime client at the gateway, through a proxy that terminates TLS, because the client forces `wss`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
from elevenlabs import ElevenLabs, VoiceSettings
from elevenlabs.core.api_error import ApiError

from steadyvoice import AsyncTTSService, Tone
from steadyvoice import ElevenLabs as ElevenLabsProvider
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.simulator import Fault, Simulator, words_in
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.http.listener import Certificates
from steadyvoice.wire.elevenlabs.catalog import VOICES

from .background_simulator import KEY, BackgroundSimulator, background_simulator

# The official client reads close codes and reasons in a way that the websockets library has given up.
pytestmark = [
    pytest.mark.filterwarnings(
        r"ignore:ConnectionClosed\.(code|reason) is deprecated:DeprecationWarning:websockets\.exceptions"
    ),
    pytest.mark.slow,
]

TEXT = "Good evening, this is the news. It is read to you by somebody who is not there."
WORDS = TEXT.split()


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward bytes until either side ends."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def tls_proxy(port: int, certificates: Certificates) -> AsyncIterator[str]:
    """Run a proxy that terminates TLS in front of a port, and yield its URL."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(forward(reader, inner_writer), forward(inner_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=certificates.context())
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextmanager
def realtime_gateway(monkeypatch: pytest.MonkeyPatch, *others: Any) -> Iterator[BackgroundSimulator]:
    """Run a gateway behind a proxy with TLS, whose certificate this process trusts."""
    certificates = Certificates("127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))

    @asynccontextmanager
    async def gateway(simulator: Simulator) -> AsyncIterator[str]:
        providers = (ElevenLabsProvider(KEY, base_url=simulator.url), *others)
        async with (
            AsyncTTSService(providers) as service,
            Gateway(service, ServerConfig(port=0, api_keys=[KEY])) as opened,
            tls_proxy(int(opened.url.rpartition(":")[2]), certificates) as url,
        ):
            yield url

    with ExitStack() as stack:
        stack.callback(certificates.close)
        yield stack.enter_context(background_simulator(gateway))


def spoken(background: BackgroundSimulator) -> list[str]:
    """Return the words that the client hears of a text that is given word by word."""
    chunks = ElevenLabs(api_key=KEY, base_url=background.url).text_to_speech.convert_realtime(
        VOICES["George"],
        text=(f"{word} " for word in WORDS),
        output_format="pcm_16000",
        voice_settings=VoiceSettings(stability=0.5, speed=1.0),
    )
    return words_in(b"".join(chunks), "pcm_16000")


@pytest.mark.parametrize(
    "fault",
    [None, actions.Refuse(status=503), actions.Cut(after=1.0), actions.Stall(after=1.0, seconds=60), actions.Hang()],
    ids=["well", "503", "cut", "stall", "hang"],
)
def test_realtime_client_receives_every_word(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    with realtime_gateway(monkeypatch, Tone()) as background:
        background.set_faults(*([Fault(fault)] if fault else []))
        assert spoken(background) == WORDS


def test_realtime_client_gets_an_error_if_no_provider_can_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    with realtime_gateway(monkeypatch) as background:
        background.set_faults(Fault(actions.Refuse(code="quota_exceeded")))
        with pytest.raises(ApiError) as failed:
            spoken(background)
        assert failed.value.status_code == 1008
        assert "quota_exceeded" in str(failed.value.body)
