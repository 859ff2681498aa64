"""Common base of vendors: the format of an offer, and responses that pack their audio."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import AudioFormat, SpeechRequest, SynthesisOffer
from steadyvoice.providers.base import Accepted, AudioChunk
from steadyvoice.providers.http.client import PreparedHTTPRequest
from steadyvoice.providers.http.response_decoders import DocumentAudioDecoder
from steadyvoice.providers.vendor import VendorProvider, closest_format, utc_now
from steadyvoice.speech import errors as speech
from steadyvoice.speech.format import FORMAT_NAMES, Codec
from steadyvoice.wire.openai.errors import parse_error
from tests.providers.scripted_vendor import ScriptedVendor, collect_events, error_response, speech_request

FORMATS = st.sampled_from([AudioFormat.parse(name) for name in FORMAT_NAMES])
LOSSLESS = (Codec.PCM, Codec.WAV, Codec.FLAC)


@given(FORMATS, st.lists(FORMATS, min_size=1))
def test_closest_format_loses_least(requested: AudioFormat, formats: list[AudioFormat]) -> None:
    chosen = closest_format(requested, formats)
    assert chosen in formats
    if requested in formats:
        assert chosen == requested
        return
    lossless = [each for each in formats if each.codec in LOSSLESS]
    assert not lossless or chosen in lossless
    same = [each for each in formats if each.codec is chosen.codec]
    enough = [each.sample_rate for each in same if each.sample_rate >= requested.sample_rate]
    assert chosen.sample_rate == (min(enough) if enough else max(each.sample_rate for each in same))


class DocumentVoice(VendorProvider):
    """Provider of a vendor that answers with one document."""

    def __init__(self, url: str) -> None:
        super().__init__(
            name="document",
            base_url=url,
            endpoints="",
            model="m1",
            voices={"narrator": "v2"},
            default_voice="v1",
            parse_error=parse_error,
            wall_clock=utc_now,
        )
        self._use_account("key", "host", {"x-key": "key"}, max_concurrency=None, proxy=None, trust_env=True)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        formats = [AudioFormat.parse("pcm_16000"), AudioFormat.parse("pcm_24000")]
        return self.offer_in(request, formats, dialect="document", models=("m1", "m2"), max_characters=50, timed=True)

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        body = {"voice": offer.voice, "model": offer.model}
        return self._http.prepare(
            "/speak",
            body,
            accepted=lambda _: Accepted(),
            decoder=lambda *_: DocumentAudioDecoder(_chunk, provider=self.name),
        )


def _chunk(document: bytes) -> AudioChunk | None:
    audio = json.loads(document)["audio"]
    return AudioChunk(audio.encode()) if audio else None


async def test_offer_names_voice_model_and_format(vendor: ScriptedVendor) -> None:
    provider = DocumentVoice(vendor.url)
    offer = provider.offer(speech_request(voice="narrator", model="m2", format="mp3_22050_32"))
    assert (offer.voice, offer.model, offer.format.name, offer.knows_voice) == ("v2", "m2", "pcm_24000", True)
    assert (offer.max_characters, offer.timed, offer.source) == (50, True, vendor.url)
    other = provider.offer(speech_request(voice="unheard", model="tts-1", format="pcm_16000"))
    assert (other.model, other.format.name, other.knows_voice) == ("m1", "pcm_16000", False)


async def test_document_is_read_to_its_audio(vendor: ScriptedVendor) -> None:
    provider = DocumentVoice(vendor.url)
    vendor.enqueue(error_response(200, {"audio": "samples"}))
    collected = await collect_events(provider, speech_request(voice="narrator"))
    assert collected.data == b"samples"
    assert vendor.requests[0].json == {"voice": "v2", "model": "m1", "text": "Hello"}
    await provider.aclose()


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"audio": ""}, speech.TTSEmptyAudioError),
        ({"other": 1}, speech.TTSNotAudioError),
        ([], speech.TTSNotAudioError),
    ],
)
async def test_document_without_audio_is_an_error(
    vendor: ScriptedVendor, document: object, kind: type[Exception]
) -> None:
    provider = DocumentVoice(vendor.url)
    vendor.enqueue(error_response(200, document))
    with pytest.raises(kind):
        await collect_events(provider, speech_request())
    await provider.aclose()
