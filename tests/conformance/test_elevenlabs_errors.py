"""Refusals and faults in ElevenLabs' official Python client: exceptions, and number of retries."""

from __future__ import annotations

import base64
from typing import Any, get_args

import httpx
import pytest
from elevenlabs import AsyncElevenLabs, ElevenLabs, VoiceSettings
from elevenlabs.core.api_error import ApiError
from elevenlabs.errors import UnprocessableEntityError

from steadyvoice.simulator import Ending, Fault, words_in
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.actions import TlsFlaw
from steadyvoice.wire.elevenlabs.catalog import VOICES
from steadyvoice.wire.elevenlabs.errors import CODES

from .background_simulator import KEY, BackgroundSimulator, background_simulator

GEORGE = VOICES["George"]
TEXT = "Good evening, this is the news."
WORDS = TEXT.split()
SOON = 1  # seconds of Retry-After, of which this client reads whole ones only; its own waits are longer


def spoken(eleven: ElevenLabs, voice: str = GEORGE, **order: Any) -> bytes:
    return b"".join(eleven.text_to_speech.convert(voice, **{"text": TEXT, "output_format": "pcm_8000", **order}))


# Refusals


@pytest.mark.parametrize("form", ["current", "legacy"])
@pytest.mark.parametrize("code", CODES)
def test_every_code_is_an_api_error_with_its_status(
    sim: BackgroundSimulator, eleven: ElevenLabs, code: str, form: actions.ErrorForm
) -> None:
    sim.set_faults(actions.Refuse(code, form=form))
    with pytest.raises(ApiError) as refused:
        spoken(eleven)
    assert refused.value.status_code == CODES[code].status
    status = refused.value.body["detail"]["status"]
    assert status == code or form == "legacy"
    assert CODES[status].error is CODES[code].error
    assert refused.value.headers is not None
    assert refused.value.headers["request-id"] == sim.ledger()[-1].request_id


@pytest.mark.parametrize("status", [401, 402, 403, 404, 409, 425, 500, 502, 503, 504])
def test_every_status_is_an_api_error(sim: BackgroundSimulator, eleven: ElevenLabs, status: int) -> None:
    sim.set_faults(actions.Refuse(status=status))
    with pytest.raises(ApiError) as refused:
        spoken(eleven)
    assert refused.value.status_code == status


@pytest.mark.parametrize(
    ("order", "field"),
    [({"text": ""}, "text"), ({"output_format": "mp3_1"}, "output_format"), ({"seed": -1}, "seed")],
)
def test_invalid_request_is_an_unprocessable_entity(eleven: ElevenLabs, order: dict[str, Any], field: str) -> None:
    with pytest.raises(UnprocessableEntityError) as refused:
        spoken(eleven, **order)
    (issue,) = refused.value.body["detail"]
    assert issue["loc"][-1] == field
    assert {"type", "msg", "input"} <= issue.keys()


def test_invalid_request_with_timestamps_is_an_unprocessable_entity(eleven: ElevenLabs) -> None:
    with pytest.raises(UnprocessableEntityError):
        eleven.text_to_speech.convert_with_timestamps(GEORGE, text="")
    with pytest.raises(UnprocessableEntityError):
        list(eleven.text_to_speech.stream_with_timestamps(GEORGE, text=""))
    with pytest.raises(UnprocessableEntityError):
        eleven.voices.search(page_size=1000)


@pytest.mark.parametrize(
    ("voice", "order", "status", "code"),
    [
        ("nobody", {}, 404, "voice_not_found"),
        (GEORGE, {"model_id": "eleven_v0"}, 400, "model_not_found"),
        (GEORGE, {"text": "a" * 10_001}, 400, "max_character_limit_exceeded"),
        (GEORGE, {"voice_settings": VoiceSettings(stability=2.0)}, 400, "invalid_voice_settings"),
    ],
)
def test_refused_value_is_named(eleven: ElevenLabs, voice: str, order: dict[str, Any], status: int, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        spoken(eleven, voice, **order)
    assert (refused.value.status_code, refused.value.body["detail"]["code"]) == (status, code)


def test_bad_key_and_an_empty_account_share_a_status() -> None:
    with background_simulator(keys=("right",), character_limit=10) as sim, httpx.Client() as http:
        for key, code in (("wrong", "invalid_api_key"), ("right", "quota_exceeded")):
            with pytest.raises(ApiError) as refused:
                spoken(ElevenLabs(api_key=key, base_url=sim.url, httpx_client=http))
            assert (refused.value.status_code, refused.value.body["detail"]["code"]) == (401, code)


def test_missing_key_is_an_authorization_error(sim: BackgroundSimulator) -> None:
    with httpx.Client() as http, pytest.raises(ApiError) as refused:
        ElevenLabs(api_key=None, base_url=sim.url, httpx_client=http).user.get()
    assert (refused.value.status_code, refused.value.body["detail"]["code"]) == (401, "needs_authorization")


# Asking again


def test_audio_is_requested_once_and_timestamps_three_times(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    sim.set_faults(actions.Refuse("system_busy", retry_after=SOON))
    with pytest.raises(ApiError):
        spoken(eleven)
    assert len(sim.ledger()) == 1
    with pytest.raises(ApiError):
        list(eleven.text_to_speech.stream_with_timestamps(GEORGE, text=TEXT))
    assert len(sim.ledger()) == 2
    with pytest.raises(ApiError):
        eleven.text_to_speech.convert_with_timestamps(GEORGE, text=TEXT)
    assert len(sim.ledger()) == 2 + 3
    assert sim.charged == 0


async def test_async_client_retries_too(sim: BackgroundSimulator, async_eleven: AsyncElevenLabs) -> None:
    sim.set_faults(actions.Refuse(status=503, retry_after=SOON))
    with pytest.raises(ApiError):
        [chunk async for chunk in async_eleven.text_to_speech.convert(GEORGE, text=TEXT)]
    assert len(sim.ledger()) == 1
    sim.set_faults(Fault(actions.Refuse(status=503, retry_after=SOON), times=1))
    assert (await async_eleven.text_to_speech.convert_with_timestamps(GEORGE, text=TEXT)).audio_base_64
    assert len(sim.ledger()) == 1 + 2


def test_client_without_retries_asks_once(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    sim.set_faults(actions.Refuse("system_busy", retry_after=SOON))
    with pytest.raises(ApiError):
        eleven.text_to_speech.convert_with_timestamps(GEORGE, text=TEXT, request_options={"max_retries": 0})
    assert len(sim.ledger()) == 1


# Faults: what a user of this client lives with


@pytest.mark.parametrize(
    "act", [actions.Json(declared=True), actions.Json(declared=False), actions.Html(declared=False)]
)
def test_official_client_returns_another_body_as_audio(
    sim: BackgroundSimulator, eleven: ElevenLabs, act: actions.FaultAction
) -> None:
    sim.set_faults(act)
    assert spoken(eleven)[:1] in (b"{", b"<")
    assert sim.charged == len(TEXT)


def test_official_client_returns_an_empty_body_as_audio(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    sim.set_faults(actions.Empty())
    assert spoken(eleven) == b""


@pytest.mark.parametrize("act", [actions.CutClose(after=0.5), actions.CutTerminated(after=0.5), actions.TooShort()])
def test_official_client_returns_half_the_audio_without_an_error(
    sim: BackgroundSimulator, eleven: ElevenLabs, act: actions.FaultAction
) -> None:
    sim.set_faults(act)
    audio = spoken(eleven)
    assert audio
    assert words_in(audio, "pcm_8000") != WORDS


def test_visible_cut_is_a_transport_error(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    sim.set_faults(actions.Cut(after=0.5))
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        spoken(eleven)
    sim.set_faults(actions.WrongLength(factor=2.0))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        spoken(eleven)
    sim.set_faults(actions.Reset(after=0.5))
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        spoken(eleven)
    assert [entry.ending for entry in sim.ledger()] == [Ending.CUT] * 3
    assert sim.charged == 3 * len(TEXT)


def test_refused_connection_is_a_transport_error_without_retry(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    sim.set_faults(actions.RefuseConnection())
    with pytest.raises(httpx.ConnectError):
        spoken(eleven)
    with pytest.raises(httpx.ConnectError):
        eleven.text_to_speech.convert_with_timestamps(GEORGE, text=TEXT)
    sim.set_faults()
    assert words_in(spoken(eleven), "pcm_8000") == WORDS
    assert len(sim.ledger()) == 1


@pytest.mark.parametrize("flaw", get_args(TlsFlaw))
def test_untrusted_certificate_is_refused(monkeypatch: pytest.MonkeyPatch, flaw: TlsFlaw) -> None:
    with background_simulator(tls=True) as sim:
        monkeypatch.setenv("SSL_CERT_FILE", str(sim.simulator.ca_file))
        sim.set_faults(actions.TlsFailure(flaw))
        with httpx.Client() as http, pytest.raises(httpx.ConnectError):
            spoken(ElevenLabs(api_key=KEY, base_url=sim.url, httpx_client=http))
        assert [(entry.endpoint, entry.charged) for entry in sim.ledger()] == [("connection", 0)]


@pytest.mark.parametrize("act", [actions.Hang(), actions.HangAfterHeaders(), actions.Stall(after=0.5)])
def test_silence_ends_at_the_read_timeout_and_is_charged(
    sim: BackgroundSimulator, eleven: ElevenLabs, act: actions.FaultAction
) -> None:
    sim.set_faults(act)
    with pytest.raises(httpx.ReadTimeout):
        spoken(eleven, request_options={"timeout_in_seconds": 0.3})
    assert sim.charged == len(TEXT)


def test_dripping_response_outlives_every_read_timeout(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    sim.set_faults(actions.Drip(bytes=400, every=0.05))
    audio = spoken(eleven, text="Hi", request_options={"timeout_in_seconds": 0.3})
    entry = sim.ledger()[-1]
    assert entry.ended is not None
    assert entry.ended - entry.received > 0.3
    assert words_in(audio, "pcm_8000") == ["Hi"]


def test_partial_line_with_timestamps_is_dropped_without_an_error(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    sim.set_faults(actions.HalfLine(after=0.5))
    pieces = list(eleven.text_to_speech.stream_with_timestamps(GEORGE, text=TEXT, output_format="pcm_8000"))
    audio = b"".join(base64.b64decode(piece.audio_base_64) for piece in pieces)
    assert audio
    assert words_in(audio, "pcm_8000") != WORDS


def test_error_line_is_a_piece_without_audio(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    sim.set_faults(actions.ErrorLine("quota_exceeded", after=0.5))
    *pieces, last = eleven.text_to_speech.stream_with_timestamps(GEORGE, text=TEXT)
    assert all(piece.audio_base_64 for piece in pieces)
    assert last.audio_base_64 is None
    assert last.model_dump()["detail"]["code"] == "quota_exceeded"


def test_odd_splits_and_gzip_are_tolerated(sim: BackgroundSimulator, eleven: ElevenLabs) -> None:
    for act in (actions.OddSplits(), actions.Gzip()):
        sim.set_faults(act)
        assert words_in(spoken(eleven), "pcm_8000") == WORDS


def test_early_disconnect_is_charged_in_full(sim: BackgroundSimulator) -> None:
    sim.set_faults(actions.Stall(after=0.2))
    with httpx.Client() as http:
        eleven = ElevenLabs(api_key=KEY, base_url=sim.url, httpx_client=http)
        assert next(iter(eleven.text_to_speech.stream(GEORGE, text=TEXT, output_format="pcm_8000")))
    assert sim.ledger()[-1].ending is Ending.CLIENT_LEFT
    assert sim.charged == len(TEXT)


def test_request_over_the_concurrency_limit_is_refused() -> None:
    with background_simulator(concurrency=1, queue_seconds=0.01) as sim, httpx.Client() as http:
        eleven = ElevenLabs(api_key=KEY, base_url=sim.url, httpx_client=http)
        sim.set_faults(actions.Stall(after=0.2))
        first = eleven.text_to_speech.stream(GEORGE, text=TEXT, output_format="pcm_8000")
        assert next(iter(first))
        with pytest.raises(ApiError) as refused:
            spoken(eleven)
        assert (refused.value.status_code, refused.value.body["detail"]["code"]) == (429, "concurrent_limit_exceeded")
