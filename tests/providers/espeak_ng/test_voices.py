"""Selection of eSpeak's voices, before any process is started."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from steadyvoice.audio.crossfade import speech_level
from steadyvoice.providers.espeak import Espeak, is_installed
from steadyvoice.providers.espeak_ng.voices import EspeakFiles, EspeakVoices, readable_scripts
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.voice import Voice
from tests.providers.synthesis import pcm_request, synthesize
from tests.required_tools import require_tool

require_tool(is_installed(), "espeakng-loader")


@pytest.fixture(scope="module")
def espeak() -> Espeak:
    return Espeak(voices={"narrator": "en-gb+f3", "erzähler": "de"})


@pytest.mark.parametrize(
    ("options", "voice", "knows"),
    [
        ({}, "en-us", True),
        ({"voice": "narrator"}, "en+f3", True),  # espeak calls British English just "en"
        ({"voice": "narrator", "language": "de"}, "en+f3", True),  # the caller's choice of voice stands
        ({"voice": "rachel"}, "en-us", False),
        ({"voice": "rachel", "language": "fr"}, "fr", False),
        ({"voice": "rachel", "unknown_voice": "default"}, "en-us", True),
        ({"voice": "rachel", "unknown_voice": "passthrough"}, "en-us", False),
        ({"voice": "fr", "unknown_voice": "passthrough"}, "fr", True),
        ({"voice": "fr", "unknown_voice": "passthrough", "dialect": "openai"}, "en-us", False),
        ({"voice": "chr", "unknown_voice": "passthrough"}, "chr", True),  # the id of a voice that no language tag names
        ({"voice": "fr", "unknown_voice": "refuse"}, "en-us", False),
        ({"voice": "../../etc/passwd", "unknown_voice": "passthrough"}, "en-us", False),
    ],
)
def test_offer_names_the_voice(espeak: Espeak, options: dict[str, Any], voice: str, knows: bool) -> None:
    offer = espeak.offer(pcm_request("Hello", **options))

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
def test_default_voice_speaks_the_language_of_the_request(espeak: Espeak, language: str, voice: str) -> None:
    assert espeak.offer(pcm_request("Hello", language=language)).voice == voice


@pytest.mark.parametrize(
    ("text", "language", "voice"),
    [
        ("Сегодня идет дождь", None, "ru"),
        ("Сегодня идет дождь", "bg", "bg"),
        ("Сегодня идет дождь", "en", "ru"),  # whoever says so always, whatever the text
        ("今天下雨", None, "cmn"),
        ("きょうはあめです", None, "ja"),
        ("วันนี้ฝนตก", None, "th"),
        ("आज बारिश", None, "en-us"),  # espeak itself lets its Hindi voice say it
        ("Hello", "ja", "en-us"),
        ("ᏣᎳᎩ", None, "en-us"),  # nobody can; the service sees that
    ],
)
def test_default_voice_reads_the_script_of_the_text(
    espeak: Espeak, text: str, language: str | None, voice: str
) -> None:
    assert espeak.offer(pcm_request(text, language=language)).voice == voice


SAMPLES = {
    "Arabic": "اليوم تمطر ونحن نمشي",
    "Armenian": "Այսօր անձրևում է և",
    "Bengali": "আজ বৃষ্টি হচ্ছে আর",
    "Cyrillic": "Сегодня идет дождь и мы",
    "Devanagari": "आज बारिश हो रही है",
    "Ethiopic": "ዛሬ እየዘነበ ነው",
    "Georgian": "დღეს წვიმს და ჩვენ",
    "Greek": "Σήμερα βρέχει και εμείς",
    "Gujarati": "આજે વરસાદ પડી રહ્યો",
    "Gurmukhi": "ਅੱਜ ਮੀਂਹ ਪੈ ਰਿਹਾ",
    "Hangul": "오늘은 비가 와요",
    "Hebrew": "היום יורד גשם ואנחנו",
    "Hiragana": "きょうはあめです",
    "Kannada": "ಇಂದು ಮಳೆ ಬರುತ್ತಿದೆ",
    "Khmer": "ថ្ងៃនេះភ្លៀង",
    "Lao": "ມື້ນີ້ຝົນຕົກ",
    "Latin": "This is a sentence",
    "Malayalam": "ഇന്ന് മഴ പെയ്യുന്നു",
    "Myanmar": "ဒီနေ့မိုးရွာနေတယ်",
    "Oriya": "ଆଜି ବର୍ଷା ହେଉଛି",
    "Sinhala": "අද වැස්ස වැටෙනවා",
    "Tamil": "இன்று மழை பெய்கிறது",
    "Telugu": "ఈరోజు వర్షం పడుతోంది",
    "Thai": "วันนี้ฝนตกและเรา",
}
READ = 0.16  # seconds a letter; a name such as "Chinese letter" takes much longer


async def test_readable_scripts_are_really_read() -> None:
    voices = ("am", "ar", "de", "el", "en-us", "he", "ja", "ka", "ky", "my", "sr", "te", "th")
    espeak = Espeak(voices={voice: voice for voice in voices})
    pairs = [(voice, script) for voice in voices for script in SAMPLES]
    heard = await asyncio.gather(*(synthesize(espeak, SAMPLES[script], voice=voice) for voice, script in pairs))
    await espeak.aclose()

    really = {pair for pair, one in zip(pairs, heard, strict=True) if one.seconds / len(SAMPLES[pair[1]]) < READ}
    assert {pair for pair in pairs if pair[1] in (readable_scripts(pair[0]) or ())} == really


async def test_chinese_is_read_by_its_own_voice_and_not_by_the_japanese() -> None:
    espeak = Espeak(voices={"cmn": "cmn", "ja": "ja"})
    read, spelt = [await synthesize(espeak, "今天下雨我们回家", voice=voice) for voice in ("cmn", "ja")]
    await espeak.aclose()

    assert spelt.seconds > 2 * read.seconds
    assert "Han" in (readable_scripts("cmn") or ())
    assert "Han" not in (readable_scripts("ja") or ())


@pytest.mark.parametrize(
    ("like", "language", "voice"),
    [
        (Voice("x", "de", "female"), None, "de+f3"),
        (Voice("x", "de-AT", "male"), None, "de"),
        (Voice("x", gender="female"), None, "en-us+f3"),
        (Voice("x", gender="neutral"), None, "en-us"),
        (Voice("x", "en-GB", "female"), None, "en+f3"),
        (Voice("x", "en", "female"), "fr", "fr+f3"),
        (Voice("x", "tlh", "female"), None, "en-us+f3"),
        (Voice("x"), None, "en-us"),
        (Voice("x"), "de@@", "en-us"),
    ],
)
def test_substitute_matches_language_and_gender(like: Voice, language: str | None, voice: str) -> None:
    offer = Espeak().offer(pcm_request("Hello", voice="rachel", like=like, language=language))

    assert (offer.voice, offer.knows_voice) == (voice, False)


def test_named_voice_is_preferred_to_an_equal_one() -> None:
    anna = {"id": "de+f4", "rate": 160, "loudness": -20}
    espeak = Espeak(voices={"anna": anna, "again": "de+f1"}, words_per_minute=160)
    like = Voice("x", "de", "female", 160, -17.0)

    offer = espeak.offer(pcm_request("Guten Tag", voice="rachel", like=like))
    assert (offer.voice, offer.speed, round(offer.gain, 3)) == ("de+f4", None, 1.413)
    assert offer.declared == Voice("de+f4", "de", "female", 160, -20)


def test_speed_is_matched_within_espeaks_range() -> None:
    like = Voice("x", "en", "male", 180)

    assert Espeak(words_per_minute=200).offer(pcm_request("Hi", voice="rachel", like=like)).speed == pytest.approx(0.75)
    assert Espeak(words_per_minute=100).offer(pcm_request("Hi", voice="rachel", like=like, speed=4.0)).speed == 4.0
    assert Espeak().offer(pcm_request("Hi", voice="rachel")).speed is None


async def test_declared_rate_and_loudness_match_measurements() -> None:
    espeak = Espeak()
    text = "The rainbow is a division of white light into many beautiful colors. Sunlight strikes raindrops in the air."
    offer, heard = espeak.offer(pcm_request(text)), await synthesize(espeak, text)
    await espeak.aclose()

    assert offer.declared is not None
    assert offer.declared.rate == pytest.approx(len(text.split()) * 60 / heard.seconds, rel=0.1)
    amplitude = speech_level(heard.samples, 22_050) or 1.0
    assert offer.declared.loudness == pytest.approx(20 * math.log10(amplitude / 32_768), abs=4), "as far as that tells"


def test_named_variant_has_no_gender() -> None:
    assert Espeak(voices={"a": "en-us+Alicia"}).voices["a"].gender is None
    alicia = Espeak(voices={"default": "en-us+Alicia"})
    assert alicia.offer(pcm_request("Hi", voice="rachel", like=Voice("x", gender="male"))).voice == "en-us+Alicia"
    assert Espeak(voices={"m": "de+m2"}).voices["m"].gender == "male"


def test_variant_is_kept_when_the_language_changes() -> None:
    espeak = Espeak(voices={"default": "en-us+f3"})

    assert espeak.offer(pcm_request("Guten Tag", language="de")).voice == "de+f3"


async def test_another_language_sounds_different(espeak: Espeak) -> None:
    english = await synthesize(espeak, "777", voice="default")
    german = await synthesize(espeak, "777", voice="erzähler")
    await espeak.aclose()

    assert abs(english.seconds - german.seconds) > 0.05


async def test_every_known_voice_speaks() -> None:
    files = EspeakFiles.bundled()
    assert files is not None
    espeak = Espeak(voices={voice: voice for voice in EspeakVoices.read(files.data).ids})
    names = sorted(EspeakVoices.read(files.data).ids)
    heard = await asyncio.gather(*(synthesize(espeak, "Hello 1 2 3", voice=name) for name in names))
    await espeak.aclose()

    assert len(names) > 120
    assert [name for name, one in zip(names, heard, strict=True) if one.seconds < 0.3] == []
