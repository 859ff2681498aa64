"""Refusals and faults in OpenAI's official Python client: exceptions, retries, and what they cost."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

from steadyvoice.simulator import Ending, Fault, words_in
from steadyvoice.simulator.fault_injection import actions

from .background_simulator import BackgroundSimulator, background_simulator

TEXT = "Good evening, this is the news."
WORDS = TEXT.split()
ORDER: dict[str, Any] = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": TEXT, "response_format": "pcm"}
AT_ONCE = 0.001  # seconds, as retry-after-ms tells them: the client keeps to them


def spoken(client: openai.OpenAI, **more: Any) -> bytes:
    return client.audio.speech.create(**{**ORDER, **more}).content


# Refusals, and how often they are asked for


@pytest.mark.parametrize(
    ("act", "error", "requests"),
    [
        (actions.Refuse(status=400), openai.BadRequestError, 1),
        (actions.Refuse("invalid_api_key"), openai.AuthenticationError, 1),
        (actions.Refuse(status=403), openai.PermissionDeniedError, 1),
        (actions.Refuse("model_not_found"), openai.NotFoundError, 1),
        (actions.Refuse(status=409), openai.ConflictError, 3),
        (actions.Refuse(status=422), openai.UnprocessableEntityError, 1),
        (actions.Refuse("rate_limit_exceeded"), openai.RateLimitError, 3),
        (actions.Refuse("insufficient_quota"), openai.RateLimitError, 3),  # though no waiting will help
        (actions.Refuse("server_error"), openai.InternalServerError, 3),
        (actions.Refuse(status=502), openai.InternalServerError, 3),
        (actions.Refuse(status=503), openai.InternalServerError, 3),
        (actions.Refuse(status=504), openai.InternalServerError, 3),
    ],
)
def test_every_refusal_has_its_class_and_number_of_retries(
    sim: BackgroundSimulator,
    openai_client: openai.OpenAI,
    act: actions.Refuse,
    error: type[openai.APIStatusError],
    requests: int,
) -> None:
    sim.set_faults(actions.Refuse(act.code, act.status, retry_after=AT_ONCE))
    with pytest.raises(error) as refused:
        spoken(openai_client)
    assert type(refused.value) is error
    assert (refused.value.code, refused.value.type) == (
        refused.value.body["code"],  # type: ignore[index]
        refused.value.body["type"],  # type: ignore[index]
    )
    assert act.code in (None, refused.value.code)
    assert refused.value.request_id == sim.ledger()[-1].request_id
    assert len(sim.ledger()) == requests
    assert sim.charged == 0


@pytest.mark.parametrize(
    ("order", "error", "param"),
    [
        ({"input": ""}, openai.BadRequestError, "input"),
        ({"input": "a" * 4097}, openai.BadRequestError, "input"),
        ({"voice": "nobody"}, openai.BadRequestError, "voice"),
        ({"speed": 9.0}, openai.BadRequestError, "speed"),
        ({"response_format": "m4a"}, openai.BadRequestError, "response_format"),
        ({"model": "tts-0"}, openai.NotFoundError, "model"),
        ({"model": "tts-1", "stream_format": "sse"}, openai.BadRequestError, "stream_format"),
    ],
)
def test_refused_value_names_its_field(
    openai_client: openai.OpenAI, order: dict[str, Any], error: type[openai.APIStatusError], param: str
) -> None:
    with pytest.raises(error) as refused:
        spoken(openai_client, **order)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"


def test_bad_key_is_an_authentication_error() -> None:
    with (
        background_simulator(keys=("right",)) as sim,
        openai.OpenAI(api_key="wrong", base_url=f"{sim.url}/v1") as client,
    ):
        with pytest.raises(openai.AuthenticationError) as refused:
            spoken(client)
        assert refused.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


async def test_async_client_retries_as_often(sim: BackgroundSimulator, async_openai_client: openai.AsyncOpenAI) -> None:
    sim.set_faults(actions.Refuse("rate_limit_exceeded", retry_after=AT_ONCE))
    with pytest.raises(openai.RateLimitError):
        await async_openai_client.audio.speech.create(**ORDER)
    assert len(sim.ledger()) == 3


def test_temporary_refusal_is_retried(sim: BackgroundSimulator, openai_client: openai.OpenAI) -> None:
    sim.set_faults(Fault(actions.Refuse(status=503, retry_after=AT_ONCE), times=2))
    assert words_in(spoken(openai_client), "pcm_24000") == WORDS
    assert [entry.ending for entry in sim.ledger()] == [Ending.REFUSED, Ending.REFUSED, Ending.COMPLETED]


# Faults: what a user of this client lives with


def test_silence_is_a_timeout_and_every_attempt_is_charged(
    sim: BackgroundSimulator, openai_client: openai.OpenAI
) -> None:
    sim.set_faults(actions.Hang())
    with pytest.raises(openai.APITimeoutError):
        spoken(openai_client.with_options(timeout=0.2, max_retries=1))
    assert len(sim.ledger()) == 2
    assert sim.charged == 2 * len(TEXT)


def test_cut_response_is_a_connection_error_and_charged_again(
    sim: BackgroundSimulator, openai_client: openai.OpenAI
) -> None:
    sim.set_faults(actions.Cut(after=0.5))
    with pytest.raises(openai.APIConnectionError):
        spoken(openai_client.with_options(max_retries=1))
    assert sim.charged == 2 * len(TEXT)


def test_cut_stream_is_a_transport_error(sim: BackgroundSimulator, openai_client: openai.OpenAI) -> None:
    sim.set_faults(actions.Cut(after=0.5))
    with (
        openai_client.audio.speech.with_streaming_response.create(**ORDER) as answer,
        pytest.raises(httpx2.RemoteProtocolError),
    ):
        list(answer.iter_bytes())
    assert sim.charged == len(TEXT)


def test_stalled_stream_is_a_transport_error(sim: BackgroundSimulator, openai_client: openai.OpenAI) -> None:
    sim.set_faults(actions.Stall(after=0.2))
    with (
        openai_client.with_options(timeout=0.3).audio.speech.with_streaming_response.create(**ORDER) as answer,
        pytest.raises(httpx2.ReadTimeout),
    ):
        list(answer.iter_bytes())


def test_reset_is_a_connection_error(sim: BackgroundSimulator, openai_client: openai.OpenAI) -> None:
    sim.set_faults(actions.Reset())
    with pytest.raises(openai.APIConnectionError):
        spoken(openai_client.with_options(max_retries=0))


def test_refused_connection_is_a_connection_error(sim: BackgroundSimulator, openai_client: openai.OpenAI) -> None:
    sim.set_faults(actions.RefuseConnection())
    with pytest.raises(openai.APIConnectionError):
        spoken(openai_client.with_options(max_retries=0))
    sim.set_faults()
    assert words_in(spoken(openai_client), "pcm_24000") == WORDS
    assert len(sim.ledger()) == 1


@pytest.mark.parametrize(
    "act", [actions.Json(declared=True), actions.Json(declared=False), actions.Html(declared=False), actions.Empty()]
)
def test_official_client_returns_another_body_as_audio(
    sim: BackgroundSimulator, openai_client: openai.OpenAI, act: actions.FaultAction
) -> None:
    sim.set_faults(act)
    assert spoken(openai_client)[:1] in (b"{", b"<", b"")
    assert sim.charged == len(TEXT)


@pytest.mark.parametrize("act", [actions.CutClose(after=0.5), actions.CutTerminated(after=0.5), actions.TooShort()])
def test_official_client_returns_half_the_audio_without_an_error(
    sim: BackgroundSimulator, openai_client: openai.OpenAI, act: actions.FaultAction
) -> None:
    sim.set_faults(act)
    audio = spoken(openai_client)
    assert audio
    assert words_in(audio, "pcm_24000") != WORDS


def test_error_event_replaces_the_final_event(sim: BackgroundSimulator, openai_client: openai.OpenAI) -> None:
    sim.set_faults(actions.ErrorLine("server_error", after=0.5))
    with openai_client.audio.speech.with_streaming_response.create(**ORDER, stream_format="sse") as answer:
        *deltas, last = [line for line in answer.iter_lines() if line]
    assert deltas
    assert '"type": "error"' in last
