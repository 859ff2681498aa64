"""Which of espeak's voices speaks a request: settled before anything is started."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from steadyvoice.providers.espeak import Espeak, installed
from steadyvoice.providers.espeak_voices import EspeakFiles, EspeakVoices
from steadyvoice.speech.format import AudioFormat
from tests.providers.speaking import asking, listen
from tests.tools import require_tool

require_tool(installed(), "espeakng-loader")


@pytest.fixture(scope="module")
def espeak() -> Espeak:
    return Espeak(voices={"narrator": "en-gb+f3", "erzähler": "de"})


@pytest.mark.parametrize(
    ("wishes", "voice", "knows"),
    [
        ({}, "en-us", True),
        ({"voice": "narrator"}, "en+f3", True),  # espeak calls British English just "en"
        ({"voice": "narrator", "language": "de"}, "en+f3", True),  # the caller's choice of voice stands
        ({"voice": "rachel"}, "en-us", False),
        ({"voice": "rachel", "language": "fr"}, "fr", False),
        ({"voice": "rachel", "foreign_voice": "default"}, "en-us", True),
        ({"voice": "rachel", "foreign_voice": "pass"}, "en-us", False),
        ({"voice": "fr", "foreign_voice": "pass"}, "fr", True),
        ({"voice": "fr", "foreign_voice": "pass", "dialect": "openai"}, "en-us", False),
        ({"voice": "chr", "foreign_voice": "pass"}, "chr", True),  # the id of a voice that no language tag names
        ({"voice": "fr", "foreign_voice": "refuse"}, "en-us", False),
        ({"voice": "../../etc/passwd", "foreign_voice": "pass"}, "en-us", False),
    ],
)
def test_an_offer_names_the_voice(espeak: Espeak, wishes: dict[str, Any], voice: str, knows: bool) -> None:
    offer = espeak.offer(asking("Hello", **wishes))

    assert (offer.voice, offer.knows_voice) == (voice, knows)
    assert offer.format == AudioFormat.parse("pcm_22050")


@pytest.mark.parametrize(
    ("language", "voice"),
    [
        ("de", "de"),
        ("de-AT", "de"),
        ("zh-CN", "cmn"),
        ("pt-BR", "pt-br"),
        ("pt_BR", "pt-br"),
        ("no", "nb"),
        ("en", "en-us"),  # the default voice speaks it already
        ("en-AU", "en-us"),
        ("en-GB", "en"),
        ("tlh", "en-us"),  # nobody here does
        ("fo", "en-us"),  # listed, but its dictionary is missing in the wheel
        ("", "en-us"),
    ],
)
def test_the_default_voice_speaks_the_language_of_the_request(espeak: Espeak, language: str, voice: str) -> None:
    assert espeak.offer(asking("Hello", language=language)).voice == voice


def test_the_timbre_stays_when_the_language_changes() -> None:
    espeak = Espeak(voices={"default": "en-us+f3"})

    assert espeak.offer(asking("Guten Tag", language="de")).voice == "de+f3"


async def test_another_language_sounds_different(espeak: Espeak) -> None:
    english = await listen(espeak, "777", voice="default")
    german = await listen(espeak, "777", voice="erzähler")
    await espeak.aclose()

    assert abs(english.seconds - german.seconds) > 0.05


async def test_every_voice_it_knows_of_can_really_be_spoken_with() -> None:
    files = EspeakFiles.bundled()
    assert files is not None
    espeak = Espeak(voices={voice: voice for voice in EspeakVoices.read(files.data).ids})
    names = sorted(EspeakVoices.read(files.data).ids)
    heard = await asyncio.gather(*(listen(espeak, "Hello 1 2 3", voice=name) for name in names))
    await espeak.aclose()

    assert len(names) > 120
    assert [name for name, one in zip(names, heard, strict=True) if one.seconds < 0.3] == []
