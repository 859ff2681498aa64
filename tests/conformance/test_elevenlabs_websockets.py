"""ElevenLabs' websockets, with its realtime client and its models of the messages.

The client speaks TLS whatever its base URL says, so the simulator does too, and the client trusts its certificate.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from elevenlabs import ElevenLabs, VoiceSettings
from elevenlabs.core.api_error import ApiError
from elevenlabs.types import (
    AudioOutput,
    AudioOutputMulti,
    CloseContext,
    CloseSocket,
    FinalOutput,
    FinalOutputMulti,
    FlushContext,
    GenerationConfig,
    InitializeConnection,
    InitializeConnectionMulti,
    KeepContextAlive,
    RealtimeVoiceSettings,
    SendText,
    SendTextMulti,
)
from pydantic import BaseModel
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from steadyvoice.simulator import Ending, words_in
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.wire.elevenlabs.catalog import VOICES

from .background_simulator import KEY, BackgroundSimulator, background_simulator
from .strict_models import validate_strictly

# The official client reads close codes and reasons in a way that the websockets library has given up.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:ConnectionClosed\.(code|reason) is deprecated:DeprecationWarning:websockets\.exceptions"
)

GEORGE = VOICES["George"]
TEXT = "Good evening, this is the news. It is read to you by somebody who is not there."
WORDS = TEXT.split()


# The official client


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch) -> Iterator[BackgroundSimulator]:
    with background_simulator(tls=True, keys=(KEY,)) as background:
        monkeypatch.setenv("SSL_CERT_FILE", str(background.simulator.ca_file))
        yield background


def client_of(tls: BackgroundSimulator, key: str = KEY) -> ElevenLabs:
    return ElevenLabs(api_key=key, base_url=tls.url)


def spoken(eleven: ElevenLabs) -> list[str]:
    words = (f"{word} " for word in WORDS)
    chunks = eleven.text_to_speech.convert_realtime(
        GEORGE, text=words, output_format="pcm_16000", voice_settings=VoiceSettings(stability=0.5, speed=1.0)
    )
    return words_in(b"".join(chunks), "pcm_16000")


def test_official_realtime_client_receives_every_word(tls: BackgroundSimulator) -> None:
    assert spoken(client_of(tls)) == WORDS
    (entry,) = tls.ledger()
    assert entry.ending is Ending.COMPLETED


def test_official_client_works_over_https(tls: BackgroundSimulator) -> None:
    with httpx.Client() as http:
        eleven = ElevenLabs(api_key=KEY, base_url=tls.url, httpx_client=http)
        assert len(eleven.voices.get_all().voices) == len(VOICES)


def code_of_what_ends(eleven: ElevenLabs) -> int | None:
    """Return the close code. The client raises it as an ApiError, unless it happens to be sending just then."""
    with pytest.raises((ApiError, ConnectionClosed)) as ended:
        spoken(eleven)
    error = ended.value
    if isinstance(error, ConnectionClosed):
        return error.rcvd.code if error.rcvd else None
    assert isinstance(error, ApiError)
    return error.status_code


def test_bad_key_has_the_vendors_close_code(tls: BackgroundSimulator) -> None:
    assert code_of_what_ends(client_of(tls, "wrong")) == 1008
    assert tls.ledger()[-1].ending is Ending.REFUSED


@pytest.mark.parametrize("act", [actions.Refuse("quota_exceeded"), actions.IdleTimeout()])
def test_refusal_has_the_vendors_close_code(tls: BackgroundSimulator, act: actions.FaultAction) -> None:
    tls.set_faults(act)
    assert code_of_what_ends(client_of(tls)) == 1008


def test_restart_of_the_server_has_its_close_code(tls: BackgroundSimulator) -> None:
    tls.set_faults(actions.Restart())
    assert code_of_what_ends(client_of(tls)) == 1012


def test_official_realtime_client_takes_missing_audio_for_the_end(tls: BackgroundSimulator) -> None:
    tls.set_faults(actions.FinalWithoutAudio())
    assert spoken(client_of(tls)) == []


# Its models of what is said


@asynccontextmanager
async def connected(sim: BackgroundSimulator, end: str) -> AsyncIterator[ClientConnection]:
    url = f"{sim.url.replace('http', 'ws')}/v1/text-to-speech/{GEORGE}/{end}?output_format=pcm_8000"
    async with connect(url, additional_headers={"xi-api-key": KEY}) as socket:
        yield socket


async def say(socket: ClientConnection, *messages: BaseModel) -> None:
    for message in messages:
        await socket.send(message.model_dump_json(by_alias=True, exclude_none=True))


async def heard(socket: ClientConnection) -> list[dict[str, object]]:
    """Return all messages until the normal close."""
    messages = [json.loads(message) async for message in socket]
    assert socket.close_code == 1000
    return messages


async def test_one_context_in_the_clients_own_models(sim: BackgroundSimulator) -> None:
    async with connected(sim, "stream-input") as socket:
        settings = RealtimeVoiceSettings(stability=0.5, similarity_boost=0.8, speed=1.0)
        schedule = GenerationConfig(chunk_length_schedule=[50, 120])
        await say(socket, InitializeConnection(text=" ", voice_settings=settings, generation_config=schedule))
        await say(socket, *[SendText(text=f"{word} ", try_trigger_generation=True) for word in WORDS])
        await say(socket, SendText(text=""))
        *sounds, last = await heard(socket)
    assert validate_strictly(FinalOutput, last).is_final
    pieces = [validate_strictly(AudioOutput, sound) for sound in sounds]
    assert words_in(b"".join(base64.b64decode(piece.audio) for piece in pieces), "pcm_8000") == WORDS
    timed = [piece.alignment for piece in pieces if piece.alignment]
    assert "".join("".join(times.chars or ()) for times in timed).split() == WORDS


async def test_two_contexts_in_the_clients_own_models(sim: BackgroundSimulator) -> None:
    async with connected(sim, "multi-stream-input") as socket:
        for name in ("one", "two"):
            await say(socket, InitializeConnectionMulti(text=" ", context_id=name))
        for name, word in ((name, word) for word in WORDS for name in ("one", "two")):
            await say(socket, SendTextMulti(text=f"{word if name == 'one' else word.upper()} ", context_id=name))
        await say(socket, KeepContextAlive(text="", context_id="two"))
        await say(socket, FlushContext(context_id="one", flush=True), FlushContext(context_id="two", flush=True))
        await say(socket, CloseContext(context_id="one", close_context=True))
        await say(socket, CloseSocket(close_socket=True))
        messages = await heard(socket)
    finals = [validate_strictly(FinalOutputMulti, message) for message in messages if message.get("isFinal")]
    assert sorted(final.context_id or "" for final in finals) == ["one", "two"]
    pieces = [validate_strictly(AudioOutputMulti, message) for message in messages if not message.get("isFinal")]
    words = {
        name: words_in(b"".join(base64.b64decode(p.audio) for p in pieces if p.context_id == name), "pcm_8000")
        for name in ("one", "two")
    }
    assert words == {"one": WORDS, "two": [word.upper() for word in WORDS]}
