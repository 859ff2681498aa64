"""A text in letters that a voice cannot read: another one speaks, or the caller is told before anything is spent."""

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


async def test_who_cannot_read_the_text_is_passed_over(make_service: MakeService) -> None:
    first, second = english(), ScriptedProvider(name="second")
    tts = make_service(first, second)
    speech = await tts.synthesize(RUSSIAN, format="pcm_8000")
    assert (speech.provider, first.asked) == ("second", [])
    assert tts.handler("english").get_error_state()["totals"]["failures"] == 0
    assert (await tts.synthesize("It rains.", format="pcm_8000")).provider == "english"


async def test_when_nobody_can_the_caller_is_told_what_to_do(make_service: MakeService) -> None:
    first, second = english(), english("another")
    with pytest.raises(TTSUnsupportedScriptError) as caught:
        make_service(first, second).stream(RUSSIAN, format="pcm_8000")
    assert str(caught.value) == (
        "the text is in Cyrillic, and none of these reads it: english (english-voice), another (another-voice); "
        "name the `language`, choose a voice or model that reads it, or add a provider that does"
    )
    assert first.asked == second.asked == []


async def test_tones_stand_in_for_a_voice_that_fails_and_not_for_one_that_cannot_read(
    make_service: MakeService,
) -> None:
    with pytest.raises(TTSUnsupportedScriptError, match=r"none of these reads it: english \("):
        make_service(english(), Tone()).stream(RUSSIAN, format="pcm_8000")
    speech = await make_service(ScriptedProvider([TTSServerError("down")]), Tone()).synthesize(
        RUSSIAN, format="pcm_8000"
    )
    assert speech.provider == "tone"


async def test_tones_alone_take_any_text(make_service: MakeService) -> None:
    assert (await make_service(Tone()).synthesize(RUSSIAN, format="pcm_8000")).outcome == "spoken"


async def test_a_voice_that_is_known_and_cannot_read_may_be_stood_in_for(make_service: MakeService) -> None:
    first, second = english(voices=("Anna",)), ScriptedProvider(name="second")
    tts = make_service(first, second)
    assert (await tts.synthesize(RUSSIAN, format="pcm_8000", voice="Anna")).provider == "second"
    with pytest.raises(TTSUnsupportedScriptError, match="english"):
        tts.stream(RUSSIAN, format="pcm_8000", voice="Anna", voice_substitution="never")


async def test_silence_stands_in_for_who_could_have_read_it(make_service: MakeService) -> None:
    """The text was no mistake: on another day somebody reads it."""
    tts = make_service(ScriptedProvider([TTSServerError("down")]), english())
    assert (await tts.synthesize(RUSSIAN, format="pcm_8000")).outcome == "muted"


@pytest.mark.parametrize("text", ["😀🎉", "...", "-- !!", "42"])
async def test_a_text_without_letters_is_anybodys(make_service: MakeService, text: str) -> None:
    speech = await make_service(english()).synthesize(text, format="pcm_8000")
    assert speech.outcome == "spoken"


async def test_of_elevenlabs_the_model_decides(make_service: MakeService) -> None:
    tts = make_service(ElevenLabs("sk_test", model="eleven_flash_v2"))
    with pytest.raises(TTSUnsupportedScriptError, match="eleven_flash_v2"):
        tts.stream(RUSSIAN)
    tts.stream(RUSSIAN, model="eleven_flash_v2_5")
    with pytest.raises(TTSUnsupportedScriptError, match="Thai"):
        tts.stream("วันนี้ฝนตก", model="eleven_flash_v2_5")
    tts.stream("วันนี้ฝนตก", model="eleven_v3")


async def test_of_a_server_nothing_is_known_unless_it_is_said(make_service: MakeService) -> None:
    server = "http://127.0.0.1:1"
    make_service(OpenAICompatible(base_url=server)).stream(RUSSIAN)
    with pytest.raises(TTSUnsupportedScriptError, match=r"Cyrillic.*openai \(gpt-4o-mini-tts\)"):
        make_service(OpenAICompatible(base_url=server, languages=["en", "ja"])).stream(RUSSIAN)
    make_service(OpenAICompatible(base_url=server, languages=["en", "uk"])).stream(RUSSIAN)
