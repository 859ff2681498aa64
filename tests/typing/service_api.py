"""The service's public types, checked by the type checker as a user's code would be; nothing here is run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, assert_never, assert_type

from steadyvoice import (
    Alignment,
    AsyncConversation,
    AsyncSpeechStream,
    AsyncTTSService,
    AsyncTurn,
    Attempt,
    Audio,
    AudioFormat,
    CacheConfig,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitState,
    Conversation,
    Credit,
    ElevenLabs,
    Ended,
    Espeak,
    Flushed,
    Heard,
    HedgeConfig,
    OpenAICompatible,
    Provider,
    RetryConfig,
    Span,
    Speech,
    SpeechStream,
    Switched,
    TimeoutConfig,
    Tone,
    TTSAllProvidersFailedError,
    TTSCircuitOpenError,
    TTSError,
    TTSErrorHandler,
    TTSErrorState,
    TTSService,
    TTSStreamInterruptedError,
    Turn,
    Voice,
    Words,
)
from steadyvoice.service.result import Outcome
from steadyvoice.speech.failure_kinds import FailureKind, FailureMeaning

named: dict[str, str] = {"narrator": "JBFqnCBsd6RMkjVDRZzb"}
described: dict[str, Voice] = {"narrator": Voice("onyx", language="en", gender="male", rate=165, loudness=-22.0)}
providers: list[Provider] = [
    ElevenLabs(api_key="k", voices=named, max_concurrency=5),
    OpenAICompatible(api_key="k", voices=described, max_concurrency=5),
    Espeak(voices={"narrator": "en-us", "other": {"id": "de", "rate": 150}, "third": Voice("fr")}),
    Tone(),
]


def aloud() -> None:
    with TTSService(
        providers,
        circuit=CircuitBreakerConfig.production(),
        circuits={"tone": CircuitBreakerConfig.development()},
        timeouts=TimeoutConfig(connection_timeout=5, read_timeout=10.0, total_timeout=20, stall_timeout=None),
        provider_timeouts={"tone": {"first_audio_timeout": 3, "stall_timeout": None}},
        retry=RetryConfig(max_attempts=2),
        muted=False,
        on_midstream="restart",
        voice_substitution="never",
        cache=CacheConfig(Path("kept"), max_megabytes=100, max_age_days=7),
        hedging=HedgeConfig(percentile=0.95, budget=0.05, minimum_samples=20, window_seconds=3600),
    ) as tts:
        assert_type(tts, TTSService)
        assert_type(tts.synthesize("Hello"), Speech)
        assert_type(tts.synthesize("Hello", voice="narrator", format="mp3_44100_128", deadline=2.5), Speech)
        assert_type(tts.synthesize("Hello", format=AudioFormat.parse("wav")), Speech)
        assert_type(tts.stream("Hello", speed=1.2, language="de"), SpeechStream)
        assert_type(tts.check_credit(), dict[str, Credit])
        assert_type(tts.synthesize("Hello").wasted, float)
        assert_type(tts.stream("Your code is 1 2 3", cache=False), SpeechStream)
        assert_type(tts.synthesize("Hello", hedging=False).attempts[0].hedge, bool)
        for chunk in tts.stream("A long story..."):
            assert_type(chunk, bytes)
        with tts.stream("A long story...") as stream:
            assert_type(stream, SpeechStream)
            assert_type(next(stream), bytes)
            assert_type(stream.format, AudioFormat)
        assert_type(tts.get_error_state(), dict[str, Any])
        assert_type(tts.circuits, dict[str, CircuitBreaker])
        tts.reset_circuit_breaker()
        tts.reset_circuit_breaker("elevenlabs")
    assert_type(TTSService.from_config("steadyvoice.toml"), TTSService)
    assert_type(TTSService.from_env(), TTSService)


async def aloud_on_a_loop() -> None:
    async with AsyncTTSService(providers=[Tone()], cache="~/.cache/steadyvoice") as tts:
        assert_type(tts, AsyncTTSService)
        assert_type(await tts.synthesize("Hello", voice="narrator"), Speech)
        assert_type(tts.stream("Hello"), AsyncSpeechStream)
        async for chunk in tts.stream("A long story..."):
            assert_type(chunk, bytes)
        async with tts.stream("A long story...") as stream:
            assert_type(await anext(stream), bytes)
        assert_type(tts.handler("tone"), TTSErrorHandler)
        assert_type(tts.get_error_state(), dict[str, Any])
    assert_type(AsyncTTSService.from_env({"ELEVENLABS_API_KEY": "k"}), AsyncTTSService)


def the_account(speech: Speech) -> None:
    assert_type(speech.audio, bytes)
    assert_type(speech.format, AudioFormat)
    assert_type(speech.duration, float)
    assert_type(speech.provider, str | None)
    assert_type(speech.voice, str | None)
    assert_type(speech.attempts, Sequence[Attempt])
    assert_type(speech.report.spans, list[Span])
    assert_type(speech.alignment, Alignment)
    assert_type(speech.captions(), str)
    assert_type(speech.captions("srt"), str)
    assert_type(speech.attempts[0].error, TTSError | None)
    match speech.outcome:
        case "spoken" | "substituted" | "resumed" | "cached" | "recorded" | "muted" | "interrupted" | "failed":
            pass
        case never:
            assert_never(never)


class Weather:
    """Result of an operation."""


async def any_operation(handler: TTSErrorHandler) -> None:
    async def ask() -> Weather:
        return Weather()

    async def nothing() -> None: ...

    def awaitable() -> asyncio.Future[int]:
        return asyncio.get_running_loop().create_future()

    assert_type(await handler.execute_with_retry(ask), Weather)
    assert_type(await handler.execute_with_retry(awaitable), int)
    handler.execute_with_retry(nothing)  # type: ignore[unused-coroutine]  # a forgotten await is seen
    assert_type(handler.state, TTSErrorState)
    assert_type(handler.state.circuit_state, CircuitState)
    assert_type(handler.state.circuit_opened_at, datetime | None)
    assert_type(handler.get_error_state(), dict[str, Any])
    handler.reset_circuit_breaker()
    TTSErrorHandler("weather", CircuitBreakerConfig(window_seconds=30), RetryConfig(max_attempts=1))


def what_errors_carry(tts: TTSService) -> None:
    try:
        tts.synthesize("Hello")
    except TTSStreamInterruptedError as error:
        assert_type(error.delivered, float)
        assert_type(error.causes, tuple[TTSError, ...])
    except TTSAllProvidersFailedError as error:
        assert_type(error.causes, tuple[TTSError, ...])
        assert_type(error.retry_after, float | None)
    except TTSCircuitOpenError as error:
        refusal: CircuitOpenError = error  # an error of both worlds
        assert_type(refusal.name, str)
        assert_type(error.state, CircuitState)
        assert_type(error.reason, str)
    except TTSError as error:
        assert_type(error.message, str)
        assert_type(error.provider, str | None)
        assert_type(error.status, int | None)
        assert_type(error.request_id, str | None)
        assert_type(error.kind, FailureKind)
        assert_type(error.meaning, FailureMeaning)


def wrong_arguments(tts: TTSService) -> None:
    tts.synthesize(5)  # type: ignore[arg-type]
    tts.synthesize("Hello", voise="narrator")  # type: ignore[call-arg]
    tts.synthesize("Hello", speed="fast")  # type: ignore[arg-type]
    tts.stream("Hello", on_midstream="truncate")  # type: ignore[arg-type]
    TTSService(providers, cache=True)  # type: ignore[arg-type]
    TTSService(providers, mutd=True)  # type: ignore[call-arg]
    TTSService([object()])  # type: ignore[list-item]
    TimeoutConfig(read_timeout="10 s")  # type: ignore[arg-type]


async def conversing(tts: AsyncTTSService, threaded: TTSService, tokens: AsyncIterator[str]) -> None:
    conversation = tts.conversation(
        voice="narrator",
        format="pcm_24000",
        timeouts=TimeoutConfig.conversation(),
        muted=False,
        max_text_characters=5_000,
    )
    assert_type(conversation, AsyncConversation)
    await conversation.prewarm()
    conversation.update(voice="other", speed=1.1)
    turn = conversation.turn(id=None)
    assert_type(turn, AsyncTurn)
    turn.push("tok")
    assert_type(turn.flush(), int)
    turn.end()
    await turn.feed(tokens)
    async for event in turn:
        match event:
            case Audio(data, at, seconds):
                assert_type((data, at, seconds), tuple[bytes, float, float])
            case Words(words):
                assert_type([word.exact for word in words], list[bool])
            case Switched(at, before, after, reason):
                assert_type((at, before, after, reason), tuple[float, str | None, str | None, str])
            case Flushed(mark):
                assert_type(mark, int)
            case Ended(outcome):
                assert_type(outcome, Outcome)
            case _:
                assert_never(event)
    heard = await turn.interrupt(played=1.84)
    assert_type(heard, Heard)
    assert_type((heard.text, heard.begin, heard.end), tuple[str, int, int])
    assert_type((heard.unheard, heard.exact, heard.billed, heard.wasted), tuple[str, bool, float, float])
    await conversation.aclose()
    assert_type(tts.stream(tokens), AsyncSpeechStream)
    with threaded.conversation(format="mp3") as session, session.turn() as answer:
        assert_type(session, Conversation)
        assert_type(answer, Turn)
        answer.feed(["It ", "rains."])
        for each in answer:
            assert_type(each, Audio | Words | Switched | Flushed | Ended)
        assert_type(answer.interrupt(played=1.0), Heard)
    assert_type(threaded.stream(iter(["It ", "rains."])), SpeechStream)
    threaded.conversation(voicee="x")  # type: ignore[call-arg]
    turn.push(3)  # type: ignore[arg-type]
