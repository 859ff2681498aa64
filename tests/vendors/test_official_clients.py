"""Vendors' official Python clients at the simulator."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any, cast, get_args

import boto3
import cartesia
import deepgram
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cartesia import Cartesia
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment
from deepgram.speak.v1.audio.types import AudioGenerateRequestEncoding, AudioGenerateRequestModel
from google.api_core import exceptions as google_errors
from google.auth.credentials import AnonymousCredentials
from google.cloud import texttospeech
from google.cloud.texttospeech_v1.services.text_to_speech.transports.rest import TextToSpeechRestTransport

from steadyvoice.simulator import words_in
from steadyvoice.simulator.fault_injection.actions import Refuse
from steadyvoice.speech.format import AudioFormat
from steadyvoice.wire import azure as azure_wire
from steadyvoice.wire import cartesia as cartesia_wire
from steadyvoice.wire import deepgram as deepgram_wire
from steadyvoice.wire import google as google_wire
from steadyvoice.wire import polly as polly_wire
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

    def test_projects_are_listed(self, client: deepgram.DeepgramClient) -> None:
        assert [project.name for project in client.manage.v1.projects.list().projects or ()] == ["simulator"]

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


class TestCartesia:
    @pytest.fixture
    def client(self, sim: BackgroundSimulator) -> Iterator[Cartesia]:
        sim.set_faults()
        with Cartesia(api_key=KEY, base_url=sim.url, max_retries=0, timeout=30) as client:
            yield client

    @pytest.mark.parametrize("format", cartesia_wire.FORMATS, ids=lambda format: format.name)
    def test_every_format_contains_every_word(self, client: Cartesia, format: AudioFormat) -> None:
        answer = client.tts.generate(
            model_id="sonic-3",
            transcript=TEXT,
            voice={"id": cartesia_wire.DEFAULT_VOICE},
            output_format=cast(Any, cartesia_wire.FORMATS[format]),
        )
        assert words_in(answer.read(), format) == WORDS

    def test_events_have_audio_and_word_times(self, client: Cartesia) -> None:
        events = client.tts.generate_sse(
            model_id="sonic-3.5",
            transcript=TEXT,
            voice=cartesia_wire.DEFAULT_VOICE,
            output_format={"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000},
            add_timestamps=True,
        )
        audio, words, kinds = b"", list[str](), list[str]()
        for event in events:
            kinds.append(event.type)
            if event.type == "chunk":
                audio += event.audio or b""
            elif event.type == "timestamps":
                words += event.word_timestamps.words
                assert event.word_timestamps.start == sorted(event.word_timestamps.start)
        assert (words_in(audio, "pcm_24000"), words, kinds[-1]) == (WORDS, WORDS, "done")

    def test_voices_are_listed(self, client: Cartesia) -> None:
        assert cartesia_wire.DEFAULT_VOICE in {voice.id for voice in client.voices.list()}

    @pytest.mark.parametrize(
        ("fault", "kind", "code"),
        [
            (Refuse("invalid_api_key"), cartesia.AuthenticationError, "unauthorized"),
            (Refuse("concurrent_limit_exceeded"), cartesia.RateLimitError, "concurrency_limited"),
            (Refuse("voice_not_found"), cartesia.NotFoundError, "voice_not_found"),
            (Refuse(status=503), cartesia.InternalServerError, "internal_error"),
        ],
    )
    def test_faults(
        self, sim: BackgroundSimulator, client: Cartesia, fault: Refuse, kind: type[cartesia.APIStatusError], code: str
    ) -> None:
        sim.set_faults(fault)
        with pytest.raises(kind) as refused:
            client.tts.generate(
                model_id="sonic-3",
                transcript=TEXT,
                voice=cartesia_wire.DEFAULT_VOICE,
                output_format={"container": "mp3", "sample_rate": 44_100, "bit_rate": 128_000},
            )
        assert cast(Any, refused.value.body)["error_code"] == code


class TestPolly:
    @pytest.fixture(scope="class")
    @classmethod
    def made(cls, sim: BackgroundSimulator) -> Any:
        session = boto3.Session(aws_access_key_id=KEY, aws_secret_access_key="secret", region_name="eu-central-1")
        config = Config(retries={"total_max_attempts": 1})
        return session.client("polly", endpoint_url=sim.url, config=config)

    @pytest.fixture
    def client(self, sim: BackgroundSimulator, made: Any) -> Any:
        sim.set_faults()
        return made

    @pytest.mark.parametrize("format", polly_wire.FORMATS, ids=lambda format: format.name)
    def test_every_format_contains_every_word(self, client: Any, format: AudioFormat) -> None:
        output, rate = polly_wire.FORMATS[format]
        answer = client.synthesize_speech(
            Text=TEXT, VoiceId="Joanna", Engine="neural", OutputFormat=output, SampleRate=rate
        )
        assert words_in(answer["AudioStream"].read(), format) == WORDS
        assert answer["RequestCharacters"] == len(TEXT)

    def test_voices_are_listed(self, client: Any) -> None:
        voices = {voice["Id"]: voice["LanguageCode"] for voice in client.describe_voices()["Voices"]}
        assert voices[polly_wire.DEFAULT_VOICE] == "en-US"
        assert set(voices.values()) <= set(client.meta.service_model.shape_for("LanguageCode").enum)

    def test_model_of_the_client_has_our_names(self, client: Any) -> None:
        shapes = client.meta.service_model
        assert set(polly_wire.ENGINES) == set(shapes.shape_for("Engine").enum)
        assert {output for output, _ in polly_wire.FORMATS.values()} < set(shapes.shape_for("OutputFormat").enum)
        known = {shape.name for shape in shapes.operation_model("SynthesizeSpeech").error_shapes}
        assert known - {"MarksNotSupportedForFormatException", "SsmlMarksNotSupportedForTextTypeException"} <= set(
            polly_wire.ERRORS.codes
        )

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"VoiceId": "Nicole"}, "ValidationException"),
            ({"SampleRate": "44100"}, "InvalidSampleRateException"),
            ({"Text": "a" * 3001}, "TextLengthExceededException"),
            ({"TextType": "ssml", "Text": "<speak>"}, "ValidationException"),
        ],
    )
    def test_refusals(self, client: Any, fields: dict[str, str], code: str) -> None:
        with pytest.raises(ClientError) as refused:
            client.synthesize_speech(
                **{"Text": TEXT, "VoiceId": "Joanna", "OutputFormat": "pcm", "SampleRate": "16000", **fields}
            )
        assert refused.value.response["Error"]["Code"] == code

    def test_faults(self, sim: BackgroundSimulator, client: Any) -> None:
        for fault, code in (
            (Refuse("system_busy"), "ThrottlingException"),
            (Refuse("invalid_api_key"), "UnrecognizedClientException"),
            (Refuse(status=503), "ServiceFailureException"),
        ):
            sim.set_faults(fault)
            with pytest.raises(ClientError) as refused:
                client.synthesize_speech(Text=TEXT, VoiceId="Joanna", OutputFormat="pcm", SampleRate="16000")
            assert refused.value.response["Error"]["Code"] == code


class TestGoogle:
    @pytest.fixture
    def client(self, sim: BackgroundSimulator) -> texttospeech.TextToSpeechClient:
        sim.set_faults()
        rest = TextToSpeechRestTransport(
            host=sim.url.removeprefix("http://"),
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            url_scheme="http",
        )
        rest._session.headers["X-Goog-Api-Key"] = KEY
        return texttospeech.TextToSpeechClient(transport=rest)

    @pytest.mark.parametrize("format", google_wire.FORMATS, ids=lambda format: format.name)
    def test_every_format_contains_every_word(
        self, client: texttospeech.TextToSpeechClient, format: AudioFormat
    ) -> None:
        encoding, rate = google_wire.FORMATS[format]
        answer = client.synthesize_speech(
            input=texttospeech.SynthesisInput(text=TEXT),
            voice=texttospeech.VoiceSelectionParams(language_code="en-US", name=google_wire.DEFAULT_VOICE),
            audio_config=texttospeech.AudioConfig(
                audio_encoding=getattr(texttospeech.AudioEncoding, encoding), sample_rate_hertz=rate
            ),
            retry=None,
        )
        assert words_in(answer.audio_content, format) == WORDS

    def test_voices_are_listed(self, client: texttospeech.TextToSpeechClient) -> None:
        assert google_wire.DEFAULT_VOICE in {voice.name for voice in client.list_voices(retry=None).voices}

    def test_faults(self, sim: BackgroundSimulator, client: texttospeech.TextToSpeechClient) -> None:
        for fault, kind in (
            (Refuse("system_busy"), google_errors.TooManyRequests),
            (Refuse("voice_not_found"), google_errors.BadRequest),
            (Refuse(status=500), google_errors.InternalServerError),
        ):
            sim.set_faults(fault)
            with pytest.raises(kind):
                client.synthesize_speech(
                    input=texttospeech.SynthesisInput(text=TEXT),
                    voice=texttospeech.VoiceSelectionParams(language_code="en-US"),
                    audio_config=texttospeech.AudioConfig(audio_encoding=texttospeech.AudioEncoding.LINEAR16),
                    retry=None,
                )


class TestAzure:
    """Azure's client speaks a protocol of its own over websockets, so that the documented requests are sent."""

    @pytest.fixture
    def client(self, sim: BackgroundSimulator) -> Iterator[httpx.Client]:
        sim.set_faults()
        with httpx.Client(base_url=sim.url, timeout=30, headers={azure_wire.KEY_HEADER: KEY}) as client:
            yield client

    @pytest.mark.parametrize("format", azure_wire.FORMATS, ids=lambda format: format.name)
    def test_every_format_contains_every_word(self, client: httpx.Client, format: AudioFormat) -> None:
        # https://learn.microsoft.com/azure/ai-services/speech-service/rest-text-to-speech#sample-request
        body = (
            "<speak version='1.0' xml:lang='en-US'><voice xml:lang='en-US' xml:gender='Male' name='en-US-GuyNeural'>"
            f"{TEXT}</voice></speak>"
        )
        headers = {"Content-Type": "application/ssml+xml", azure_wire.FORMAT_HEADER: azure_wire.FORMATS[format]}
        answer = client.post("/cognitiveservices/v1", content=body, headers=headers)
        assert (answer.status_code, words_in(answer.content, format)) == (200, WORDS)

    def test_voices_are_listed(self, client: httpx.Client) -> None:
        voices = client.get("/cognitiveservices/voices/list").json()
        assert {"ShortName": "en-US-JennyNeural", "Locale": "en-US"}.items() <= voices[0].items()

    def test_refusals(self, client: httpx.Client) -> None:
        named = {azure_wire.FORMAT_HEADER: "raw-24khz-16bit-mono-pcm", "Content-Type": "application/ssml+xml"}
        for body, headers, status in (
            ("<speak/>", {}, 415),
            ("<speak", named, 400),
            ("<speak><voice name='nobody'>Hello</voice></speak>", named, 400),
            ("<speak><voice name='en-US-JennyNeural'>Hello</voice></speak>", {**named, azure_wire.KEY_HEADER: ""}, 401),
        ):
            assert client.post("/cognitiveservices/v1", content=body, headers=headers).status_code == status
