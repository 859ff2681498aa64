"""Checks of healthy answers: offers, events, formats, word times, any text, several requests, several event loops."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from urllib.parse import unquote_plus

from steadyvoice.audio.validation import is_long_enough, longest_plausible
from steadyvoice.providers.base import SupportsWarmUp, SynthesisOffer
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError, TTSRequestError
from steadyvoice.speech.format import FORMAT_NAMES
from steadyvoice.speech.request import DEFAULT_VOICE, SpeechRequest
from steadyvoice.speech.voice import Voice
from steadyvoice.testing.trial import Collected, ConformanceError, Trial

TIME_TOLERANCE = 0.15  # seconds
_LENGTH_TOLERANCE = 0.12  # seconds; encoders add a frame or two

AWKWARD_TEXTS = (
    "Hm.",
    'Tom & Jerry said: "3 < 5 > 2" and it\'s 100 % <b>bold</b>.',
    "Line one,\nline two,\tand \\ a {brace} or [two] $HOME %s.",
    "Café, naïve, 5 €, “quoted” — and an ellipsis…",
    "word " * 60,
)
"""Texts that break templates, quoting and markup."""


async def check_offer(trial: Trial) -> None:
    """Check that an offer is a value made without I/O, equal for equal requests."""
    provider = trial.provider
    if not (isinstance(provider.name, str) and provider.name):
        raise ConformanceError(f"has the name {provider.name!r}", "have a name that is text and not empty")
    if provider.local not in (True, False):
        raise ConformanceError(
            f"has local = {provider.local!r}", "say True or False: whether it works without a network"
        )
    first, second = provider.offer(trial.request()), provider.offer(trial.request())
    if not isinstance(first, SynthesisOffer):
        raise ConformanceError(f"offered {type(first).__name__}", "return a SynthesisOffer")
    if first != second:
        raise ConformanceError(
            "made different offers for the same request", "decide by the request and its settings only"
        )
    if first.max_characters is not None and first.max_characters < 1:
        raise ConformanceError(f"offered max_characters={first.max_characters}", "offer a positive number, or None")
    other = provider.offer(trial.request("Other words."))
    if first.for_any_text and other != first:
        raise ConformanceError(
            "offered for_any_text=True, and another offer for another text", "offer for_any_text=False"
        )
    with suppress(TTSRequestError):
        unknown = provider.offer(trial.request(voice="no-such-voice-of-anyone"))
        if unknown.knows_voice:
            raise ConformanceError(
                "offered a voice that it does not have, with knows_voice=True",
                "offer a substitute with knows_voice=False, or raise TTSVoiceUnknownError",
            )
    await asyncio.sleep(0.02)
    if trial.vendor and trial.vendor.connections:
        raise ConformanceError("connected to the vendor for an offer", "make offers without I/O")


async def check_events(trial: Trial) -> None:
    """Check that a request yields one `Accepted`, then audio."""
    collected = await trial.speak()
    if len(collected.accepted) != 1:
        raise ConformanceError(f"yielded Accepted {len(collected.accepted)} times", "yield it once, before the audio")
    if not collected.audio:
        raise ConformanceError("ended without audio", "yield AudioChunks, or raise TTSEmptyAudioError")
    if trial.vendor and len(trial.vendor.requests) > 1:
        raise ConformanceError(
            f"sent {len(trial.vendor.requests)} requests for one text", "send one: each may be billed"
        )


async def check_formats(trial: Trial) -> None:
    """Check each format that is offered: it can be decoded, and is as long as what the vendor spoke."""
    checked = set()
    for name in FORMAT_NAMES:
        request = trial.request(format=name)
        try:
            offered = trial.provider.offer(request).format
        except TTSRequestError:
            continue
        if offered not in checked:
            checked.add(offered)
            trial.step = f"speaking {offered.name}"
            _check_length(trial, await trial.speak(request))
    if not checked:
        raise ConformanceError("offers no format", "offer what it can send for any request: the service converts it")


def _check_length(trial: Trial, collected: Collected) -> None:
    seconds, format_ = collected.seconds(), collected.offer.format
    text = collected.request.text
    if trial.vendor:
        speech = next((each for each in reversed(trial.vendor.spoken) if each.text.split() == text.split()), None)
        if speech is None:
            return  # the check of texts reports it
        if speech.format != format_:
            raise ConformanceError(
                f"offered {format_.name} and had the vendor speak {speech.format.name}", "order the format it offers"
            )
        if abs(seconds - speech.seconds) > _LENGTH_TOLERANCE:
            raise ConformanceError(
                f"yielded {seconds:.2f} s of {format_.name} where the vendor spoke {speech.seconds:.2f} s",
                "yield all of the audio once, and offer its true sample rate",
            )
    elif not is_long_enough(text, seconds) or seconds > longest_plausible(text):
        raise ConformanceError(
            f"yielded {seconds:.2f} s of {format_.name} for {len(text)} characters",
            "speak all of the text once, and offer the true sample rate",
        )


async def check_word_times(trial: Trial) -> None:
    """Check that the times of words cover the text, ascend, lie within the audio, and are the vendor's."""
    request = trial.request(timestamps=True)
    collected = await trial.speak(request)
    alignment = collected.alignment
    if not collected.offer.timed:
        if alignment.characters:
            raise ConformanceError(
                "offered timed=False and yielded times of words",
                "offer timed=True: the service continues a stream that breaks off at a word with a time",
            )
        return
    if not alignment.characters:
        raise ConformanceError(
            "offered timed=True and yielded no alignment", "yield AudioChunks with an alignment, or offer timed=False"
        )
    if alignment.text.split() != request.text.split():
        raise ConformanceError(
            f"yielded times for {alignment.text!r:.90} where the text is {request.text!r:.90}",
            "align every character of the text in its order",
        )
    _check_order(alignment.starts, alignment.ends)
    seconds = collected.seconds()
    words = _by_character(alignment).words()
    if words[0].start < 0 or words[-1].stop > seconds + TIME_TOLERANCE:
        raise ConformanceError(
            f"yielded times from {words[0].start:.2f} s to {words[-1].stop:.2f} s for {seconds:.2f} s of audio",
            "count in seconds from the beginning of the request's audio",
        )
    if len(words) > 3 and words[-1].start < 0.3 * seconds:
        raise ConformanceError(
            f"says that the last word begins at {words[-1].start:.2f} s of {seconds:.2f} s",
            "count in seconds from the beginning of the request's audio, not of each chunk's",
        )
    spoken = trial.vendor.spoken[-1].words if trial.vendor and trial.vendor.spoken else []
    for word, true in zip(words, spoken, strict=False):
        for does, mine, theirs in (("begins", word.start, true.start), ("ends", word.stop, true.stop)):
            if abs(mine - theirs) > TIME_TOLERANCE:
                raise ConformanceError(
                    f"says that {word.text!r} {does} at {mine:.2f} s where the vendor says {theirs:.2f} s",
                    "map the vendor's times to the characters of the text",
                )
    await _check_delivered_times(trial, request)


def _by_character(alignment: Alignment) -> Alignment:
    """Return an alignment with an entry for each character: "The " as one entry is a word and a blank."""
    entries = list(zip(alignment.characters, alignment.starts, alignment.ends, strict=True))
    return Alignment(
        tuple(character for characters, _, _ in entries for character in characters),
        tuple(start for characters, start, _ in entries for _ in characters),
        tuple(end for characters, _, end in entries for _ in characters),
    )


async def _check_delivered_times(trial: Trial, request: SpeechRequest) -> None:
    """Check that the service takes all of the times for exact."""
    async with AsyncTTSService([trial.provider], muted=False) as service:
        speech = await service.synthesize(request.text, format=request.format.name, timestamps=True)
    if not speech.alignment.exact:
        raise ConformanceError(
            "yielded times that do not spell the text to its end, so that the service had to estimate some",
            "align the characters of the text, or words by `align_words`",
        )


def _check_order(starts: tuple[float, ...], ends: tuple[float, ...]) -> None:
    if any(later < earlier for earlier, later in pairwise(starts)) or any(
        end < start for start, end in zip(starts, ends, strict=True)
    ):
        raise ConformanceError("yielded times that go back", "yield starts that ascend, and ends after their starts")


async def check_texts(trial: Trial) -> None:
    """Check that quotes, markup and line breaks arrive at the vendor as they are; local engines survive them."""
    for text in AWKWARD_TEXTS:
        trial.step = f"speaking {text[:40]!r}"
        try:
            collected = await trial.speak(trial.request(text))
        except TTSRequestError:
            continue  # refused before it was spent on, or by a local engine
        if trial.vendor is None:
            collected.seconds()
            continue
        spoken = trial.vendor.spoken[-1].text if trial.vendor.spoken else ""
        if spoken.split() != text.split():
            raise ConformanceError(f"had the vendor speak {spoken!r:.90} for {text!r:.90}", "send the text unchanged")


async def check_voice_and_speed(trial: Trial) -> None:
    """Check that the voice and the speed of a request are sent to the vendor, as far as they were offered."""
    voice = (await trial.speak()).offer.voice
    usual = trial.fake.requests[-1]
    sent = "\n".join([unquote_plus(usual.target), *usual.headers.values(), usual.body.decode("utf-8", "replace")])
    if voice not in sent:
        raise ConformanceError(
            f"offered the voice {voice!r} and did not send it",
            'send offer.voice, or offer the voice "" if its vendor has one voice only',
        )
    if (speed := _offered_speed(trial)) is None:
        return
    await trial.speak()
    again = trial.fake.requests[-1]
    await trial.speak(trial.request(speed=speed))
    fast = trial.fake.requests[-1]
    fields = [{"target": each.target, "body": each.body, **each.headers} for each in (usual, again, fast)]
    # Dates and signatures differ from one request to the next. A body with an id of its own says nothing about speed.
    same = [name for name in fields[0] if fields[0][name] == fields[1].get(name)]
    if {"target", "body"} <= set(same) and all(fields[2].get(name) == fields[0][name] for name in same):
        raise ConformanceError(
            f"declares speeds and sent the same request for speed={speed:g} as for the usual speed",
            "send request.speed, or pass no speeds to offer_in: the service does not count on it then",
        )


def _offered_speed(trial: Trial) -> float | None:
    """Return a speed that the provider offers to match another voice by; None if it takes no speed."""
    provider = trial.make(trial.fake.url)
    voices = getattr(provider, "voices", None)
    if not isinstance(voices, dict) or not isinstance(voices.get(DEFAULT_VOICE), Voice):
        return None
    voices[DEFAULT_VOICE] = replace(voices[DEFAULT_VOICE], rate=150.0)
    return provider.offer(trial.request(like=Voice("another", rate=180.0))).speed


async def check_concurrency(trial: Trial) -> None:
    """Check that requests at the same time get their own audio each."""
    texts = ["Word. " * count for count in (1, 3, 6, 12)]
    alone = [(await trial.speak(trial.request(text))).seconds() for text in texts]
    together = await asyncio.gather(*(trial.speak(trial.request(text)) for text in texts))
    for text, before, collected in zip(texts, alone, together, strict=True):
        if abs(collected.seconds() - before) > max(_LENGTH_TOLERANCE, 0.1 * before):
            raise ConformanceError(
                f"yielded {collected.seconds():.2f} s for {len(text.split())} words among other requests, and "
                f"{before:.2f} s for them alone",
                "keep the state of requests apart",
            )


async def check_reuse(trial: Trial) -> None:
    """Check that the provider works again after `aclose()`, which may be called twice, and on another event loop."""
    await trial.speak()
    await trial.provider.aclose()
    await trial.provider.aclose()
    problem: list[BaseException] = []

    async def elsewhere() -> None:
        try:
            await trial.speak()
            await trial.provider.aclose()
        except Exception as error:
            problem.append(error)

    trial.step = "speaking after aclose() on another event loop"
    await asyncio.to_thread(asyncio.run, elsewhere())
    if problem:
        raise ConformanceError(
            f"raised {type(problem[0]).__name__} ({problem[0]}) after aclose() on a second event loop",
            "hold connections and locks for each event loop",
        ) from problem[0]


async def check_warm_up(trial: Trial) -> None:
    """Check that warming up returns at once, may be repeated, and can be followed by `aclose()` or speech."""
    provider = trial.provider
    assert isinstance(provider, SupportsWarmUp)  # noqa: S101 - listed for such providers only
    provider.warm_up()
    await provider.aclose()
    provider.warm_up()
    provider.warm_up()
    await trial.speak()


async def check_service(trial: Trial) -> None:
    """Check that the service gets a request spoken by the provider, as MP3 and as samples."""
    async with AsyncTTSService([trial.provider], muted=False) as service:
        for name in ("mp3_44100_128", "pcm_24000"):
            try:
                speech = await service.synthesize(trial.text, format=name)
            except TTSError as error:
                raise ConformanceError(f"fails behind the service: {error}", "speak the text for any format") from error
            if speech.outcome != "spoken":
                raise ConformanceError(f"led to the outcome {speech.outcome!r}", "speak the text by itself")
