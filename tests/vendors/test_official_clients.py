"""Vendors' official Python clients at the simulator."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any, get_args

import deepgram
import httpx
import pytest
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment
from deepgram.speak.v1.audio.types import AudioGenerateRequestEncoding, AudioGenerateRequestModel

from steadyvoice.simulator import words_in
from steadyvoice.simulator.fault_injection.actions import Refuse
from steadyvoice.wire import deepgram as deepgram_wire
from tests.conformance.background_simulator import BackgroundSimulator, background_simulator

from .vendors import KEY

TEXT = "Good evening, this is the news."
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def sim() -> Iterator[BackgroundSimulator]:
    with background_simulator() as background:
        yield background


def _values(annotation: Any) -> set[str]:
    if isinstance(annotation, str):
        return {annotation}
    return {value for each in get_args(annotation) for value in _values(each)}


with warnings.catch_warnings():  # Deepgram's client uses the former interface of `websockets`
    warnings.simplefilter("ignore", DeprecationWarning)
    import_module("deepgram.speak.v1.client")


class TestDeepgram:
    @pytest.fixture
    def client(self, sim: BackgroundSimulator) -> Iterator[deepgram.DeepgramClient]:
        hosts = DeepgramClientEnvironment(base=sim.url, production=sim.url, agent=sim.url, agent_rest=sim.url)
        sim.set_faults()
        with httpx.Client(timeout=30, follow_redirects=True) as http:
            yield deepgram.DeepgramClient(api_key=KEY, environment=hosts, max_retries=0, httpx_client=http)

    def test_formats_and_voices_of_the_client_are_known(self) -> None:
        assert {params["encoding"] for params in deepgram_wire.FORMATS.values()} == _values(
            AudioGenerateRequestEncoding
        ) - {"aac"}  # at a rate that no format here has
        assert all(map(deepgram_wire.language_of_voice, _values(AudioGenerateRequestModel)))
        assert deepgram_wire.DEFAULT_VOICE in _values(AudioGenerateRequestModel)

    @pytest.mark.parametrize("format", deepgram_wire.FORMATS, ids=lambda format: format.name)
    def test_every_format_contains_every_word(self, client: deepgram.DeepgramClient, format: Any) -> None:
        params: dict[str, Any] = {**deepgram_wire.FORMATS[format]}
        audio = b"".join(client.speak.v1.audio.generate(text=TEXT, model="aura-2-thalia-en", **params))
        assert words_in(audio, format) == WORDS

    def test_default_is_wav(self, client: deepgram.DeepgramClient) -> None:
        assert words_in(b"".join(client.speak.v1.audio.generate(text=TEXT)), "wav_24000") == WORDS

    def test_headers_of_a_success(self, client: deepgram.DeepgramClient) -> None:
        with client.speak.v1.audio.with_raw_response.generate(text=TEXT, model="aura-2-zeus-en") as response:
            b"".join(response.data)
            assert response.headers["dg-char-count"] == str(len(TEXT))
            assert response.headers["dg-model-name"] == "aura-2-zeus-en"
            assert response.headers["dg-request-id"]

    @pytest.mark.parametrize(
        ("params", "status", "code"),
        [
            ({"text": "a" * 2001}, 413, "PAYLOAD_TOO_LARGE"),
            ({"text": " "}, 400, "Bad Request"),
            ({"model": "nobody"}, 400, "Bad Request"),
            ({"encoding": "mp3", "sample_rate": 44_100}, 400, "UNSUPPORTED_AUDIO_FORMAT"),
            ({"speed": 2.5}, 400, "Bad Request"),
        ],
    )
    def test_refusals(self, client: deepgram.DeepgramClient, params: dict[str, Any], status: int, code: str) -> None:
        with pytest.raises(ApiError) as refused:
            b"".join(client.speak.v1.audio.generate(**{"text": TEXT, **params}))
        assert (refused.value.status_code, refused.value.body["err_code"]) == (status, code)

    @pytest.mark.parametrize(
        ("fault", "status", "code"),
        [
            (Refuse("invalid_api_key"), 401, "INVALID_AUTH"),
            (Refuse("quota_exceeded"), 402, "ASR_PAYMENT_REQUIRED"),
            (Refuse("system_busy"), 429, "TOO_MANY_REQUESTS"),
            (Refuse(status=503), 503, "INTERNAL_SERVER_ERROR"),
        ],
    )
    def test_faults(
        self, sim: BackgroundSimulator, client: deepgram.DeepgramClient, fault: Refuse, status: int, code: str
    ) -> None:
        sim.set_faults(fault)
        with pytest.raises(ApiError) as refused:
            b"".join(client.speak.v1.audio.generate(text=TEXT))
        assert (refused.value.status_code, refused.value.body["err_code"]) == (status, code)
