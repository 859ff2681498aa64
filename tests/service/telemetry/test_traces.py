"""Traces of calls and circuits, as an operator reads them: what was tried, what it cost, and what led to what."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from steadyvoice import AsyncTTSService, TelemetryConfig, Tone, TTSConfigurationError, TTSError, TTSService
from steadyvoice.service.telemetry.config import require_opentelemetry
from steadyvoice.speech.errors import TTSInvalidKeyError, TTSServerError

from ...leaked_objects import no_garbage
from ..conftest import MakeService
from ..hedging.late_provider import READY, TEXT, late_provider, warm_up
from ..scripted_provider import Hang, Say, ScriptedProvider
from ..word_tone_provider import SHORT_TEXT, TIMES, Fault, WordToneProvider, read_all
from .story import CollectedSpans, id_of, values

pytestmark = pytest.mark.looptime

DOWN = TTSServerError("HTTP 503: secret reasons", status=503)


async def test_outage_is_lines_from_the_first_failure_to_the_recovery(make_service: MakeService) -> None:
    collected = CollectedSpans()
    first = ScriptedProvider([Say(), DOWN, DOWN, Say()], name="first")
    async with make_service(first, ScriptedProvider(name="second"), telemetry=collected.config) as tts:
        for _ in range(4):
            await tts.synthesize(TEXT, format="pcm_8000")
        await asyncio.sleep(61)
        for _ in range(3):
            await tts.synthesize(TEXT, format="pcm_8000")
    assert collected.story() == [
        "utterance spoken",
        "  generate_content first first completed",
        "circuit open failure_rate",
        "  circuit half_open cooldown_over",
        "  circuit open probe_failed",
        "utterance substituted",
        "  generate_content first first failed server_error -> changed_circuit circuit open",
        "  generate_content second failover completed",
        "utterance substituted",
        "  generate_content first first refused circuit_open -> refused_by circuit open",
        "  generate_content second failover completed",
        "utterance substituted",
        "  generate_content first first refused circuit_open -> refused_by circuit open",
        "  generate_content second failover completed",
        "utterance substituted",
        "  generate_content first first failed server_error"
        " -> changed_circuit circuit half_open -> changed_circuit circuit open",
        "  generate_content second failover completed",
        "utterance substituted",
        "  generate_content first first refused circuit_open -> refused_by circuit open",
        "  generate_content second failover completed",
        "utterance substituted",
        "  generate_content first first refused circuit_open -> refused_by circuit open",
        "  generate_content second failover completed",
    ]
    opened, reopened = collected.named("circuit open")
    refusals = [span for span in collected.spans if values(span).get("steadyvoice.attempt.result") == "refused"]
    causes = [id_of(collected.linked(span)[0][1]) for span in refusals]
    assert causes == [id_of(opened), id_of(opened), id_of(reopened), id_of(reopened)]


async def test_recovery_ends_the_trace_of_the_outage(make_service: MakeService) -> None:
    collected = CollectedSpans()
    first = ScriptedProvider([DOWN, DOWN, Say()], name="first")
    async with make_service(first, ScriptedProvider(name="second"), telemetry=collected.config) as tts:
        await tts.synthesize(TEXT, format="pcm_8000")
        await asyncio.sleep(61)
        await tts.synthesize(TEXT, format="pcm_8000")
        await tts.synthesize(TEXT, format="pcm_8000")
        tts.circuits["first"].force_open("maintenance")
    outage, maintenance = [span for span in collected.spans if span.name.startswith("circuit") and not span.parent]
    assert [span.name for span in collected.children(outage)] == ["circuit half_open", "circuit closed"]
    closed = values(collected.children(outage)[1])
    assert closed["steadyvoice.circuit.outage"] == pytest.approx(61.4, abs=0.5)
    assert (closed["steadyvoice.circuit.cause"], closed["steadyvoice.circuit.from"]) == (
        "probes_succeeded",
        "half_open",
    )
    probe = [
        span for span in collected.spans if ("changed_circuit", collected.children(outage)[1]) in collected.linked(span)
    ]
    assert values(probe[0])["steadyvoice.attempt.result"] == "completed"
    assert values(maintenance)["steadyvoice.circuit.reason"] == "maintenance"
    assert maintenance.get_span_context().trace_id != outage.get_span_context().trace_id  # type: ignore[union-attr]


async def test_refusal_is_linked_to_the_opening_before_it_though_others_followed_until_its_call_ended(
    make_service: MakeService,
) -> None:
    collected = CollectedSpans()
    first = ScriptedProvider([DOWN, DOWN, DOWN], name="first")
    second = ScriptedProvider([Say(), Say(pieces=8, every=0.1), Say()], name="second")
    async with make_service(first, second, telemetry=collected.config) as tts:
        await tts.synthesize(TEXT, format="pcm_8000")
        async with tts.stream(TEXT, format="pcm_8000") as long_call:
            await anext(long_call)
            await asyncio.sleep(61)
            await tts.synthesize(TEXT, format="pcm_8000")  # the probe, which fails
        await tts.synthesize(TEXT, format="pcm_8000")
    opened, reopened = collected.named("circuit open")
    refusals = [span for span in collected.spans if values(span).get("steadyvoice.attempt.result") == "refused"]
    refusals.sort(key=lambda span: span.start_time or 0)
    assert [collected.linked(span)[0][1] for span in refusals] == [opened, reopened]


async def test_spans_have_times_costs_and_the_words_of_the_conventions(make_service: MakeService) -> None:
    collected = CollectedSpans()
    first = ScriptedProvider([Say(first_after=0.25)], name="first")
    async with make_service(first, telemetry=collected.config) as tts:
        await tts.synthesize(TEXT, format="pcm_8000", model="fast", seed=7)
    (utterance,) = collected.named("utterance")
    (attempt,) = collected.children(utterance)
    assert (utterance.kind, attempt.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    assert utterance.status.status_code is attempt.status.status_code is StatusCode.UNSET
    call = values(utterance)
    assert call["gen_ai.operation.name"] == "generate_content"
    assert call["gen_ai.output.type"] == "speech"
    assert (call["gen_ai.request.model"], call["gen_ai.request.seed"]) == ("fast", 7)
    assert (call["steadyvoice.characters"], call["steadyvoice.format"]) == (len(TEXT), "pcm_8000")
    assert (call["steadyvoice.characters.billed"], call["steadyvoice.characters.wasted"]) == (
        len(TEXT),
        0.0,
    )
    assert call["steadyvoice.audio"] == pytest.approx(len(TEXT) * 0.06, abs=0.01)
    tried = values(attempt)
    assert tried["gen_ai.provider.name"] == "scriptedprovider"
    assert tried["gen_ai.response.id"] == "request-1"
    assert tried["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.25)
    assert (tried["steadyvoice.attempt.begin"], tried["steadyvoice.attempt.end"]) == (0, len(TEXT))
    assert tried["steadyvoice.attempt.charge"] == "billed"
    assert [event.name for event in attempt.events] == ["accepted", "first_audio"]
    assert attempt.events[1].timestamp - (attempt.start_time or 0) == pytest.approx(0.25e9, abs=1e3)
    assert seconds_of(utterance) == pytest.approx(0.25, abs=0.01)


async def test_provider_changed_in_midstream_is_shown_with_the_place(make_service: MakeService) -> None:
    collected = CollectedSpans()
    first, second = WordToneProvider([Fault("cut", 0.47)], name="first"), WordToneProvider(name="second")
    async with make_service(first, second, timeouts=TIMES, telemetry=collected.config) as tts:
        stream = tts.stream(SHORT_TEXT, format="pcm_8000")
        await read_all(stream)
    assert stream.outcome == "resumed"
    (utterance,) = collected.named("utterance")
    broken, resumed = collected.children(utterance)
    assert values(broken)["steadyvoice.attempt.result"] == "failed"
    assert values(broken)["steadyvoice.characters.wasted"] > 0
    place = stream.report.spans[1].begin
    assert values(resumed)["steadyvoice.attempt.role"] == "resume"
    assert values(resumed)["steadyvoice.attempt.begin"] == place
    (switched,) = utterance.events
    assert switched.name == "switched"
    assert dict(switched.attributes or {}) == {
        "steadyvoice.switch.from": "first",
        "steadyvoice.switch.to": "second",
        "steadyvoice.switch.second": stream.report.spans[1].start,
        "steadyvoice.switch.character": place,
    }
    assert utterance.status.status_code is StatusCode.UNSET


async def test_silence_is_an_error_of_the_utterance(make_service: MakeService) -> None:
    collected = CollectedSpans()
    async with make_service(ScriptedProvider([DOWN], name="first"), telemetry=collected.config) as tts:
        await tts.synthesize(TEXT, format="pcm_8000")
        with pytest.raises(TTSError):
            await AsyncTTSService([ScriptedProvider([DOWN])], muted=False, telemetry=collected.config).synthesize("Hi.")
    muted, failed = collected.named("utterance")
    assert (values(muted)["steadyvoice.outcome"], values(failed)["steadyvoice.outcome"]) == ("muted", "failed")
    assert (values(muted)["error.type"], values(failed)["error.type"]) == ("muted", "server_error")
    assert muted.status.status_code is failed.status.status_code is StatusCode.ERROR


async def test_hedge_and_the_attempt_that_lost_are_shown(make_service: MakeService) -> None:
    collected = CollectedSpans()
    first, second = late_provider(Hang()), ScriptedProvider(name="second")
    async with await warm_up(make_service(first, second, hedging=READY, telemetry=collected.config)) as tts:
        await tts.synthesize(TEXT, format="pcm_8000")
    hedged = collected.named("utterance")[-1]
    late, hedge = collected.children(hedged)
    assert values(late)["steadyvoice.attempt.role"] == "first"
    assert values(late)["steadyvoice.attempt.result"] == "cancelled"
    assert values(hedge)["steadyvoice.attempt.role"] == "hedge"
    assert values(hedge)["steadyvoice.attempt.hedge"] is True
    assert late.status.status_code is hedge.status.status_code is StatusCode.UNSET
    assert values(hedged)["steadyvoice.characters.wasted"] == len(TEXT)


async def test_refused_key_is_linked_from_the_calls_that_it_holds_back(make_service: MakeService) -> None:
    collected = CollectedSpans()
    first = ScriptedProvider([TTSInvalidKeyError("HTTP 401", status=401)], name="first")
    async with make_service(first, ScriptedProvider(name="second"), telemetry=collected.config) as tts:
        await tts.synthesize(TEXT, format="pcm_8000")
        await tts.synthesize(TEXT, format="pcm_8000")
    refused = collected.named("generate_content first")
    assert [values(span)["error.type"] for span in refused] == ["invalid_key", "on_hold"]
    assert collected.linked(refused[1]) == [("refused_by", refused[0])]


async def test_turn_of_two_providers_is_one_span(make_service: MakeService) -> None:
    collected = CollectedSpans()
    first = WordToneProvider([Fault("hush", 1.0), Fault("cut", 0.3)], name="first")
    async with make_service(first, WordToneProvider(name="second"), timeouts=TIMES, telemetry=collected.config) as tts:
        turn = tts.conversation().turn(id="answer")
        turn.push("It rains today. We stay at home and read a good book.")
        turn.end()
        async for _ in turn:
            pass
    assert turn.outcome == "resumed"
    (span,) = collected.named("turn")
    assert values(span)["steadyvoice.turn.id"] == "answer"
    assert values(span)["steadyvoice.characters"] == len(turn.text)
    assert [values(each)["steadyvoice.attempt.role"] for each in collected.children(span)] == [
        "first", "continuation", "resume",
    ]  # fmt: skip


async def test_interrupted_turn_has_the_attempt_that_it_cut(make_service: MakeService) -> None:
    collected = CollectedSpans()
    first = ScriptedProvider([Say(60.0, pieces=60, every=0.5)], name="first")
    async with make_service(first, telemetry=collected.config) as tts:
        turn = tts.conversation().turn()
        turn.push("It rains today, and we stay at home.")
        turn.end()
        await anext(turn)
        await turn.interrupt()
        await asyncio.sleep(1)
    (span,) = collected.named("turn")
    (attempt,) = collected.children(span)
    assert values(span)["steadyvoice.outcome"] == "interrupted"
    assert values(attempt)["steadyvoice.attempt.result"] == "cancelled"
    assert values(attempt)["steadyvoice.characters.wasted"] > 0
    assert span.status.status_code is StatusCode.UNSET


async def test_stream_that_is_left_is_interrupted_and_one_that_was_never_read_is_none(
    make_service: MakeService,
) -> None:
    collected = CollectedSpans()
    async with make_service(ScriptedProvider([Say(pieces=40, every=0.1)]), telemetry=collected.config) as tts:
        async with tts.stream(TEXT, format="pcm_8000") as stream:
            await anext(stream)
        async with tts.stream(TEXT, format="pcm_8000"):
            pass
    assert [values(span)["steadyvoice.outcome"] for span in collected.named("utterance")] == ["interrupted"]


async def test_text_in_pieces_is_one_turn(make_service: MakeService) -> None:
    collected = CollectedSpans()
    async with make_service(WordToneProvider(name="first"), telemetry=collected.config) as tts:
        async for _ in tts.stream(["It rains today. ", "We stay at home."], format="pcm_8000"):
            pass
    assert [line.split()[0] for line in collected.story()] == ["turn", "generate_content", "generate_content"]


async def test_spans_belong_to_the_trace_of_the_caller(make_service: MakeService) -> None:
    collected = CollectedSpans()
    caller = collected.provider.get_tracer("application")
    async with make_service(ScriptedProvider([DOWN], name="first"), telemetry=collected.config) as tts:
        with caller.start_as_current_span("answer the phone") as outer:
            await tts.synthesize(TEXT, format="pcm_8000")
            stream = tts.stream(TEXT, format="pcm_8000")
        await read_all(stream)
    (answer,) = collected.named("answer the phone")
    assert [span.name for span in collected.children(answer)] == ["utterance", "utterance"]
    (opened,) = collected.named("circuit open")
    assert collected.linked(opened) == [("called_from", answer)]
    assert outer.get_span_context().span_id == id_of(answer)


@pytest.mark.parametrize("texts", [False, True])
async def test_texts_are_lines_only_if_they_are_wanted(make_service: MakeService, texts: bool) -> None:
    collected = CollectedSpans(texts=texts)
    secret = "My secret words."
    first = ScriptedProvider([DOWN, DOWN, DOWN], name="first")
    async with make_service(first, WordToneProvider(name="second"), telemetry=collected.config) as tts:
        await tts.synthesize(secret, format="pcm_8000")
        await asyncio.sleep(61)
        await tts.synthesize(secret, format="pcm_8000")
        turn = tts.conversation().turn()
        turn.push(secret)
        turn.end()
        async for _ in turn:
            pass
    exported = "".join(span.to_json() for span in collected.spans)
    assert ("secret" in exported) is texts
    if texts:
        for span in [*collected.named("utterance"), *collected.named("turn")]:
            (message,) = json.loads(values(span)["gen_ai.input.messages"])
            assert message["parts"][0]["content"] == secret


async def test_nothing_of_a_traced_call_is_left_to_the_garbage_collector(make_service: MakeService) -> None:
    collected = CollectedSpans()
    async with make_service(ScriptedProvider([DOWN], name="first"), Tone(), telemetry=collected.config) as tts:
        await tts.synthesize("Hello.", format="pcm_8000")
        with no_garbage():
            await read_all(tts.stream("Hello.", format="pcm_8000"))
            await tts.synthesize("Hello.", format="pcm_8000")


def test_calls_of_threads_belong_to_the_trace_of_their_thread() -> None:
    collected = CollectedSpans()
    tracer = collected.provider.get_tracer("application")
    with TTSService([Tone()], telemetry=collected.config) as tts:

        def speak(name: str) -> None:
            with tracer.start_as_current_span(name):
                tts.synthesize("Hello.", format="pcm_8000")
                for _ in tts.stream("Hello.", format="pcm_8000"):
                    pass
                with tts.conversation() as conversation, conversation.turn() as turn:
                    turn.push("Hello.")
                    turn.end()
                    for _ in turn:
                        pass

        threads = [threading.Thread(target=speak, args=[name]) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in ("one", "two"):
        (span,) = collected.named(name)
        assert sorted(each.name for each in collected.children(span)) == ["turn", "utterance", "utterance"]


def test_impossible_settings_are_refused() -> None:
    for wrong, message in [
        ({"telemetry": "yes"}, "telemetry: must be a TelemetryConfig, or True, got 'yes'"),
        ({"telemetry": 1}, "telemetry: must be a TelemetryConfig, or True, got 1"),
    ]:
        settings: Any = wrong
        with pytest.raises(TTSConfigurationError, match=message):
            AsyncTTSService([Tone()], **settings)
    with pytest.raises(TTSConfigurationError, match="tracer_provider: must be a provider of OpenTelemetry, got 3"):
        TelemetryConfig(tracer_provider=3)
    with pytest.raises(TTSConfigurationError, match="texts: must be true or false, got 1"):
        TelemetryConfig(texts=1)  # type: ignore[arg-type]


def test_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    require_opentelemetry("opentelemetry.sdk.trace")
    with pytest.raises(TTSConfigurationError) as missing:
        require_opentelemetry("opentelemetry.exporter.none")
    assert str(missing.value.message) == ('telemetry: OpenTelemetry is not installed: pip install "steadyvoice[otel]"')


async def test_process_without_an_sdk_loses_the_spans_and_nothing_else(make_service: MakeService) -> None:
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    async with make_service(ScriptedProvider([DOWN], name="first"), Tone(), telemetry=True) as tts:
        for _ in range(4):
            assert (await tts.synthesize("Hello.", format="pcm_8000")).outcome == "substituted"
        assert tts.circuits["first"].state.value == "open"


def seconds_of(span: ReadableSpan) -> float:
    """Return how long a span lasted."""
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9
