"""Length validation: every complete answer is accepted, whatever the text and the voice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from steadyvoice import Accepted, Alignment, AudioChunk, AudioFormat, SpeechRequest, SynthesisOffer
from steadyvoice.speech.errors import TTSError, TTSServerError
from steadyvoice.speech.format import Codec
from steadyvoice.speech.voice import Voice

from ..conftest import MakeService
from ..scripted_provider import RATE, Say, ScriptedProvider, pcm

pytestmark = pytest.mark.looptime

ENGLISH = "The committee will meet again on Thursday to talk about what became of the old harbour and its ships."
CHINESE = "委员会将在星期四再次开会，讨论旧港口和船只的情况，并决定以后应该怎么办。"
NUMBERS = "Call 555 010 9922 or 555 010 4471 or 555 010 8830, then 49 30 1234567 and 44 20 7946 0958."


@dataclass
class Vendor:
    """Vendor that speaks each text for `seconds(request)`, or a share of it while `cut` is below 1."""

    seconds: Callable[[SpeechRequest], float]
    name: str = "vendor"
    cut: float = 1.0
    timed: bool = False
    drift: float = 1.0  # of its times
    declared: Voice | None = None
    local: bool = False
    requests: list[SpeechRequest] = field(default_factory=list)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        form = AudioFormat(Codec.PCM, RATE)
        timed = self.timed and request.timestamps
        return SynthesisOffer(form, voice=request.voice, knows_voice=True, timed=timed, declared=self.declared)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.requests.append(request)
        yield Accepted()
        await asyncio.sleep(0.1)
        seconds = self.seconds(request)
        times = Alignment.spread(request.text, seconds * self.drift, exact=True) if offer.timed else None
        yield AudioChunk(pcm(seconds * self.cut), times)

    async def aclose(self) -> None:
        pass


def per_character(rate: float) -> Callable[[SpeechRequest], float]:
    return lambda request: rate * len(request.text)


def natural_duration(request: SpeechRequest) -> float:
    """Natural duration of a text: 0.25 s a Chinese character, 0.06 s any other, 0.35 s a digit."""
    rates = (0.35 if c.isdecimal() else 0.25 if c > "\u2e80" else 0.06 for c in request.text)
    return sum(rates)


async def speak(tts: Any, text: str, how: str = "whole", **options: Any) -> Any:
    if how == "whole":
        return await tts.synthesize(text, format="pcm_8000", **options)
    stream = tts.stream(text, format="pcm_8000", on_midstream="error" if how == "passed on" else "resume", **options)
    async for _ in stream:
        pass
    return stream


def is_healthy(tts: Any, name: str = "vendor") -> bool:
    state = tts.get_error_state()["providers"][name]
    return state["circuit_state"] == "closed" and state["window"]["failures"] == 0 and state["last_error"] is None


@pytest.mark.parametrize("how", ["whole", "streamed", "passed on"])
@pytest.mark.parametrize(
    "texts",
    [
        [CHINESE, *[ENGLISH] * 6],
        [*[ENGLISH] * 10, CHINESE, CHINESE, *[ENGLISH] * 4],
        [NUMBERS, *[ENGLISH] * 6],
        [NUMBERS, NUMBERS, CHINESE, NUMBERS, ENGLISH, CHINESE, ENGLISH],
    ],
    ids=["Chinese first", "Chinese in between", "numbers first", "mixed"],
)
async def test_texts_of_one_kind_teach_no_wrong_rate_for_others(
    make_service: MakeService, how: str, texts: list[str]
) -> None:
    tts = make_service(Vendor(natural_duration))
    for text in texts:
        answer = await speak(tts, text, how)
        assert answer.outcome == "spoken"
        assert answer.duration == pytest.approx(
            natural_duration(SpeechRequest(text, AudioFormat(Codec.PCM, RATE))), abs=0.1
        )
    assert is_healthy(tts), tts.get_error_state()["last_error"]


@pytest.mark.parametrize("slow", [1, 3, 12])
@pytest.mark.parametrize("how", ["whole", "streamed"])
async def test_slow_style_teaches_no_wrong_rate(make_service: MakeService, slow: int, how: str) -> None:
    def seconds(request: SpeechRequest) -> float:
        return len(request.text) * (0.06 if "cheerful" in str(request.options) else 0.13)

    tts = make_service(Vendor(seconds))
    for number in range(slow + 6):
        style = "sad and slow" if number < slow else "cheerful"
        answer = await speak(tts, f"{ENGLISH} Number {number}.", how, options={"instructions": style})
        assert answer.outcome == "spoken"
    assert is_healthy(tts), tts.get_error_state()["last_error"]


@pytest.mark.parametrize("slow", [1, 3, 12])
async def test_unrequested_slow_style_teaches_no_wrong_rate(make_service: MakeService, slow: int) -> None:
    rates = iter([0.11] * slow + [0.06] * 6)
    tts = make_service(Vendor(lambda request: len(request.text) * next(rates)))
    for _ in range(slow + 6):
        assert (await speak(tts, ENGLISH)).outcome == "spoken"
    assert is_healthy(tts), tts.get_error_state()["last_error"]


@pytest.mark.parametrize("speed", [0.25, 0.7, 1.0, 1.2, 2.0, 4.0])
@pytest.mark.parametrize("obeys", [True, False])
@pytest.mark.parametrize("in_options", [True, False])
async def test_requested_speed_may_be_ignored(
    make_service: MakeService, speed: float, obeys: bool, in_options: bool
) -> None:
    def seconds(request: SpeechRequest) -> float:
        wished = request.options.get("voice_settings", {}).get("speed", request.speed)
        return natural_duration(request) / (wished if obeys else 1.0)

    tts = make_service(Vendor(seconds))
    options = {"options": {"voice_settings": {"speed": speed}}} if in_options else {"speed": speed}
    for text in (CHINESE, ENGLISH, NUMBERS, ENGLISH):
        assert (await speak(tts, text, **options)).outcome == "spoken"
        assert (await speak(tts, text)).outcome == "spoken"
    assert is_healthy(tts), tts.get_error_state()["last_error"]


MARKUP = [
    'Hello <phoneme alphabet="cmu-arpabet" ph="M AE1 D IH0 S AH0 N">Madison</phoneme>, how are you?',
    '<speak><prosody rate="medium" pitch="+2st">Hello there</prosody>, <emphasis level="strong">you</emphasis></speak>',
    '<speak version="1.0" xmlns="http://www.w3.org/2001/10/synthesis" xml:lang="en-US">It rains again.</speak>',
    'Your code is <say-as interpret-as="characters">ABC</say-as>, <sub alias="doctor">Dr.</sub> Who said so.',
    "[sighs] [whispers softly] I do not know. [long pause] [laughs harder] No.",
    "The word is /məˈdɪsən/ [məˈdɪsən], and nothing else was said about it.",
    "See https://example.com/a/very/long/path/to/some/page.html?with=query&and=more#fragment for this.",
    "Well 👍👍🏽 👩‍👩‍👧‍👧🏳️‍🌈🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉 ♪♪♪♪♪♪♪♪♪♪ ★★★★★★★★★★ done --- *** ... …… !!!!!!!!!!!!!!!!!!!!",
    "so\u00adft\u200b hy\u00adphens\u200d and\u2060 \ufeffzero\u200c-wi\u00addth \u202amarks\u202c every\u00adwhere",
]


@pytest.mark.parametrize("text", MARKUP)
@pytest.mark.parametrize("how", ["whole", "streamed", "passed on"])
@pytest.mark.parametrize("timed", [False, True])
async def test_silent_characters_take_no_time(make_service: MakeService, text: str, how: str, timed: bool) -> None:
    tts = make_service(Vendor(lambda request: 1.8, timed=timed))
    for _ in range(5):
        answer = await speak(tts, text, how)
        assert answer.outcome == "spoken"
    assert is_healthy(tts), tts.get_error_state()["last_error"]


@pytest.mark.parametrize("how", ["whole", "streamed"])
async def test_complete_timestamps_outrank_an_estimate(make_service: MakeService, how: str) -> None:
    """Even an impossible rate is accepted: 0.015 s a character is eight hundred words a minute."""
    vendor = Vendor(per_character(0.015), timed=True)
    tts = make_service(vendor)
    answer = await speak(tts, ENGLISH, how)
    assert answer.outcome == "spoken"
    assert is_healthy(tts), tts.get_error_state()["last_error"]


@pytest.mark.parametrize("drift", [0.97, 0.99, 1.01, 1.02])
@pytest.mark.parametrize("sentences", [1, 10, 30])
@pytest.mark.parametrize("how", ["whole", "streamed"])
async def test_drifting_timestamps_are_judged_in_proportion(
    make_service: MakeService, drift: float, sentences: int, how: str
) -> None:
    tts = make_service(Vendor(per_character(0.06), timed=True, drift=drift))
    answer = await speak(tts, " ".join([ENGLISH] * sentences), how)
    assert answer.outcome == "spoken"
    assert is_healthy(tts), tts.get_error_state()["last_error"]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.45])
@pytest.mark.parametrize("how", ["whole", "streamed"])
async def test_half_an_answer_is_spoken_again_and_opens_no_circuit(
    make_service: MakeService, text: str, share: float, how: str
) -> None:
    first, second = Vendor(natural_duration, cut=share), Vendor(natural_duration, name="second")
    tts = make_service(first, second)
    for _ in range(8):
        answer = await speak(tts, text, how)
        assert (answer.outcome, answer.provider) == ("substituted", "second")
    state = tts.get_error_state()["providers"]["vendor"]
    assert state["last_error"]["kind"] == "too_short"
    assert (state["circuit_state"], state["window"]["failures"]) == ("closed", 0)


async def test_timestamps_beyond_the_audio_are_evidence(make_service: MakeService) -> None:
    tts = make_service(Vendor(natural_duration, cut=0.8, timed=True), Vendor(natural_duration, name="second"))
    assert (await speak(tts, ENGLISH)).provider == "second"
    assert tts.get_error_state()["providers"]["vendor"]["window"]["failures"] == 1


async def test_unusually_fast_voice_is_accepted_after_a_few_answers(make_service: MakeService) -> None:
    fast = Vendor(per_character(0.032))
    tts = make_service(fast)
    requests = []
    for word in ("so", "on", "on", "it", "went"):
        assert (await speak(tts, f"{ENGLISH} And {word}.")).outcome == "spoken"
        requests.append(len(fast.requests))
    assert requests == [2, 4, 5, 6, 7], "requested again until the voice is known"
    assert tts.get_error_state()["circuit_state"] == "closed"


async def test_voice_declared_fast_is_accepted_at_once(make_service: MakeService) -> None:
    fast = Vendor(per_character(0.032), declared=Voice("fast", rate=300))
    tts = make_service(fast, Vendor(natural_duration, name="second"))
    assert (await speak(tts, ENGLISH)).provider == "vendor"
    assert is_healthy(tts)


@pytest.mark.parametrize("how", ["whole", "streamed"])
async def test_only_voice_is_heard_however_short(make_service: MakeService, how: str) -> None:
    vendor = Vendor(natural_duration, cut=0.5)
    tts = make_service(vendor)
    answer = await speak(tts, ENGLISH, how)
    assert (answer.outcome, answer.provider) == ("spoken", "vendor")
    assert len(vendor.requests) == 2, "requested again, and as long as before"
    assert tts.get_error_state()["circuit_state"] == "closed"


async def test_last_voice_is_heard_when_the_others_are_down(make_service: MakeService) -> None:
    down = ScriptedProvider([TTSServerError("HTTP 503", status=503)], name="down")
    tts = make_service(down, Vendor(natural_duration, cut=0.5))
    for _ in range(8):
        answer = await speak(tts, ENGLISH)
        assert (answer.outcome, answer.provider) == ("substituted", "vendor")


async def test_rejected_answer_is_never_replaced_by_silence(make_service: MakeService) -> None:
    down = TTSServerError("HTTP 503", status=503)
    tts = make_service(ScriptedProvider([Say(seconds=2.0), down], name="vendor"))
    with pytest.raises(TTSError, match="503"):
        await speak(tts, ENGLISH)
    assert (await speak(tts, ENGLISH)).outcome == "muted", "while nobody speaks at all it is silence, as ever"


async def test_cut_answer_is_not_cached(make_service: MakeService, tmp_path: Any) -> None:
    vendor = Vendor(natural_duration, cut=0.5)
    tts = make_service(vendor, cache=tmp_path)
    await speak(tts, ENGLISH)
    before = len(vendor.requests)
    await speak(tts, ENGLISH)
    assert len(vendor.requests) > before
    await tts.aclose()


UNPRONOUNCEABLE = ["👍", "...", "—", '<break time="1s"/>', "[sighs]", "👩‍👩‍👧‍👧", "\u200b.\u00ad", "♪♪", "✓ ✗ →", "?!"]


@pytest.mark.parametrize("how", ["whole", "streamed", "passed on"])
async def test_text_without_words_is_no_failure(make_service: MakeService, how: str) -> None:
    vendor = Vendor(lambda request: natural_duration(request) if request.text == ENGLISH else 0.0)
    tts = make_service(vendor)
    for text in UNPRONOUNCEABLE:
        answer = await speak(tts, text, how)
        assert answer.outcome == "spoken"
        assert answer.duration == pytest.approx(1.0 if "1s" in text else 0.0, abs=0.11)
    assert is_healthy(tts), tts.get_error_state()["last_error"]
    assert (await speak(tts, ENGLISH, how)).outcome == "spoken"
