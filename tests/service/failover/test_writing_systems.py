"""Texts in scripts that a voice cannot read: failover, or an error before any request."""

from __future__ import annotations

import pytest

from steadyvoice import ElevenLabs, OpenAICompatible, Tone
from steadyvoice.speech.errors import TTSServerError, TTSUnsupportedScriptError
from steadyvoice.speech.writing_systems import LATIN

from ..conftest import MakeService
from ..scripted_provider import ScriptedProvider

pytestmark = pytest.mark.looptime

RUSSIAN = "Сегодня идет дождь, и мы идем домой."


def english(name: str = "english", **settings: object) -> ScriptedProvider:
    return ScriptedProvider(name=name, scripts=LATIN, **settings)  # type: ignore[arg-type]


async def test_voice_that_cannot_read_the_text_is_skipped(make_service: MakeService) -> None:
    first, second = english(), ScriptedProvider(name="second")
    tts = make_service(first, second)
    speech = await tts.synthesize(RUSSIAN, format="pcm_8000")
    assert (speech.provider, first.requests) == ("second", [])
    assert tts.handler("english").get_error_state()["totals"]["failures"] == 0
    assert (await tts.synthesize("It rains.", format="pcm_8000")).provider == "english"


async def test_error_tells_what_to_do_when_no_voice_can_read(make_service: MakeService) -> None:
    first, second = english(), english("another")
    with pytest.raises(TTSUnsupportedScriptError) as caught:
        make_service(first, second).stream(RUSSIAN, format="pcm_8000")
    assert str(caught.value) == (
        "the text is in Cyrillic, and no provider reads it: english (english-voice), another (another-voice); "
        "name the `language`, choose a voice or model that reads it, or add a provider that does"
    )
    assert first.requests == second.requests == []


async def test_tone_substitutes_for_failures_and_not_for_unreadable_text(
    make_service: MakeService,
) -> None:
    with pytest.raises(TTSUnsupportedScriptError, match=r"no provider reads it: english \("):
        make_service(english(), Tone()).stream(RUSSIAN, format="pcm_8000")
    speech = await make_service(ScriptedProvider([TTSServerError("down")]), Tone()).synthesize(
        RUSSIAN, format="pcm_8000"
    )
    assert speech.provider == "tone"


async def test_tone_alone_accepts_any_text(make_service: MakeService) -> None:
    assert (await make_service(Tone()).synthesize(RUSSIAN, format="pcm_8000")).outcome == "spoken"


async def test_known_voice_that_cannot_read_may_be_substituted(make_service: MakeService) -> None:
    first, second = english(voices=("Anna",)), ScriptedProvider(name="second")
    tts = make_service(first, second)
    assert (await tts.synthesize(RUSSIAN, format="pcm_8000", voice="Anna")).provider == "second"
    with pytest.raises(TTSUnsupportedScriptError, match="english"):
        tts.stream(RUSSIAN, format="pcm_8000", voice="Anna", voice_substitution="never")


async def test_silence_follows_when_the_only_reader_fails(make_service: MakeService) -> None:
    """The text is no mistake of the caller: the failed provider could have read it."""
    tts = make_service(ScriptedProvider([TTSServerError("down")]), english())
    assert (await tts.synthesize(RUSSIAN, format="pcm_8000")).outcome == "muted"


@pytest.mark.parametrize("text", ["😀🎉", "...", "-- !!", "42"])
async def test_text_without_letters_suits_every_voice(make_service: MakeService, text: str) -> None:
    speech = await make_service(english()).synthesize(text, format="pcm_8000")
    assert speech.outcome == "spoken"


async def test_elevenlabs_model_decides_the_scripts(make_service: MakeService) -> None:
    tts = make_service(ElevenLabs("sk_test", model="eleven_flash_v2"))
    with pytest.raises(TTSUnsupportedScriptError, match="eleven_flash_v2"):
        tts.stream(RUSSIAN)
    tts.stream(RUSSIAN, model="eleven_flash_v2_5")
    with pytest.raises(TTSUnsupportedScriptError, match="Thai"):
        tts.stream("วันนี้ฝนตก", model="eleven_flash_v2_5")
    tts.stream("วันนี้ฝนตก", model="eleven_v3")


async def test_scripts_of_a_compatible_server_have_to_be_declared(make_service: MakeService) -> None:
    server = "http://127.0.0.1:1"
    make_service(OpenAICompatible(base_url=server)).stream(RUSSIAN)
    with pytest.raises(TTSUnsupportedScriptError, match=r"Cyrillic.*openai \(gpt-4o-mini-tts\)"):
        make_service(OpenAICompatible(base_url=server, languages=["en", "ja"])).stream(RUSSIAN)
    make_service(OpenAICompatible(base_url=server, languages=["en", "uk"])).stream(RUSSIAN)
