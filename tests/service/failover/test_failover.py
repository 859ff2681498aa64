"""Failover to the next provider, and the report of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable

import pytest

from steadyvoice import TTSAllProvidersFailedError, TTSError, TTSStreamInterruptedError
from steadyvoice.speech.errors import (
    TTSBadRequestError,
    TTSConcurrencyError,
    TTSConfigurationError,
    TTSCutError,
    TTSInvalidKeyError,
    TTSQuotaExceededError,
    TTSServerError,
    TTSUnsupportedFormatError,
    TTSVoiceUnknownError,
)

from ..conftest import MakeService
from ..scripted_provider import RATE, Hang, Say, ScriptedProvider, Send, pcm

pytestmark = pytest.mark.looptime

DOWN = TTSServerError("HTTP 503", status=503)
CUT = TTSCutError("the connection broke")


async def read_into(stream: AsyncIterable[bytes], heard: list[bytes]) -> None:
    async for chunk in stream:
        heard += [chunk]


async def test_preferred_provider_speaks(make_service: MakeService) -> None:
    first, second = ScriptedProvider(name="first"), ScriptedProvider(name="second")
    speech = await make_service(first, second).synthesize("Good morning", format="pcm_8000")
    assert (speech.outcome, speech.provider) == ("spoken", "first")
    assert speech.duration == pytest.approx(len("Good morning") * 0.06, abs=0.001)
    assert speech.audio == pcm(speech.duration)
    assert not second.requests


async def test_second_provider_speaks_after_one_retry_of_the_first(make_service: MakeService) -> None:
    first, second = ScriptedProvider([DOWN], name="first"), ScriptedProvider(name="second")
    speech = await make_service(first, second).synthesize("Good morning", format="pcm_8000")
    assert (speech.outcome, speech.provider) == ("substituted", "second")
    assert [(a.provider, bool(a.error)) for a in speech.attempts] == [
        ("first", True),
        ("first", True),
        ("second", False),
    ]


async def test_open_circuit_causes_no_delay(make_service: MakeService) -> None:
    first, second = ScriptedProvider([DOWN], name="first"), ScriptedProvider([Say(first_after=0.0)], name="second")
    tts = make_service(first, second)
    await tts.synthesize("Good morning", format="pcm_8000")
    asked, before = len(first.requests), asyncio.get_running_loop().time()
    speech = await tts.synthesize("Good morning", format="pcm_8000")
    # Not when it ends: audio is validated in a thread, for which a virtual clock does not always wait.
    assert second.requested_at[-1] == before
    assert len(first.requests) == asked
    assert [(a.provider, a.refused) for a in speech.attempts] == [("first", True), ("second", False)]
    assert tts.get_error_state()["totals"]["refused"] == 1


async def test_text_that_was_not_heard_is_spoken_by_the_next_provider(make_service: MakeService) -> None:
    first, second = ScriptedProvider([Say(then=CUT)], name="first"), ScriptedProvider(name="second")
    speech = await make_service(first, second).synthesize("Good morning", format="pcm_8000")
    assert speech.audio == pcm(speech.duration)
    assert speech.duration == pytest.approx(len("Good morning") * 0.06, abs=0.001)
    assert len(first.requests) == 1, "what is billed already is not asked of the same vendor again"


async def test_error_after_acceptance_does_not_cause_a_second_bill(
    make_service: MakeService,
) -> None:
    first, second = ScriptedProvider([Say(then=DOWN)], name="first"), ScriptedProvider(name="second")
    speech = await make_service(first, second).synthesize("Good morning", format="pcm_8000")
    assert speech.provider == "second"
    assert len(first.requests) == 1


async def test_local_voice_is_free_and_retried(make_service: MakeService) -> None:
    first, second = ScriptedProvider([Say(then=DOWN), Say()], name="first", local=True), ScriptedProvider(name="second")
    assert (await make_service(first, second).synthesize("Good morning", format="pcm_8000")).provider == "first"


async def test_half_an_utterance_is_never_a_success(make_service: MakeService) -> None:
    first, second = ScriptedProvider([Say(then=CUT)], name="first"), ScriptedProvider(name="second")
    heard: list[bytes] = []
    stream = make_service(first, second).stream("Good morning", format="pcm_8000", on_midstream="error")
    with pytest.raises(TTSStreamInterruptedError) as broken:
        await read_into(stream, heard)
    assert broken.value.delivered == pytest.approx(len(b"".join(heard)) / 2 / RATE)
    assert broken.value.delivered > 0.5
    assert "first" in str(broken.value)


async def test_restart_speaks_again_from_the_start(make_service: MakeService) -> None:
    first, second = (
        ScriptedProvider([Say(seconds=1.0, then=CUT)], name="first"),
        ScriptedProvider([Say(seconds=1.0)], name="second"),
    )
    stream = make_service(first, second).stream("Good morning", format="pcm_8000", on_midstream="restart")
    heard = b"".join([chunk async for chunk in stream])
    assert len(heard) == 2 * len(pcm(1.0)) + len(pcm(0.25)), "a pause before the words that are heard again"
    assert (stream.outcome, stream.provider) == ("resumed", "first"), "both were heard"


async def test_spans_include_the_pauses_before_repetitions(make_service: MakeService) -> None:
    providers = [ScriptedProvider([Say(seconds=1.0, then=CUT)], name=name) for name in ("first", "second")]
    third = ScriptedProvider([Say(seconds=1.0)], name="third")
    heard: list[bytes] = []
    stream = make_service(*providers, third).stream("Good morning", format="pcm_8000", on_midstream="restart")
    await read_into(stream, heard)
    assert stream.duration == pytest.approx(len(b"".join(heard)) / 2 / RATE)
    assert [span.start for span in stream.report.spans] == pytest.approx([0.0, 1.0, 2.25])
    assert stream.report.times[-1][0] == pytest.approx(2.5), "its words begin behind the pause"


async def test_later_piece_by_another_provider_is_a_resumption(make_service: MakeService) -> None:
    first = ScriptedProvider([Say(), DOWN], name="first", max_characters=20)
    second = ScriptedProvider(name="second")
    speech = await make_service(first, second).synthesize("This is one. And this is two.", format="pcm_8000")
    assert speech.outcome == "resumed"
    assert [(span.provider, span.begin, span.end) for span in speech.report.spans] == [
        ("first", 0, 13),
        ("second", 13, 29),
    ]


async def test_substitute_speaks_the_rest(make_service: MakeService) -> None:
    first = ScriptedProvider([Say(), DOWN, DOWN, Say()], name="first", max_characters=10)
    second = ScriptedProvider(name="second", max_characters=10)
    speech = await make_service(first, second).synthesize("First one. Then two. And three.", format="pcm_8000")
    assert [span.provider for span in speech.report.spans] == ["first", "second", "second", "second"]


async def test_concurrency_refusal_counts_against_no_provider(make_service: MakeService) -> None:
    crowded = TTSConcurrencyError("HTTP 429", status=429)
    tts = make_service(ScriptedProvider([crowded, Say()], name="first"))
    assert (await tts.synthesize("Good morning", format="pcm_8000")).outcome == "spoken"
    assert tts.get_error_state()["totals"]["failures"] == 0
    first, second = ScriptedProvider([crowded, Say()], name="first"), ScriptedProvider(name="second")
    assert (await make_service(first, second).synthesize("Good morning", format="pcm_8000")).provider == "second"


async def test_callers_mistake_is_not_failed_over(make_service: MakeService) -> None:
    first, second = (
        ScriptedProvider([TTSBadRequestError("no such field")], name="first"),
        ScriptedProvider(name="second"),
    )
    tts = make_service(first, second)
    with pytest.raises(TTSBadRequestError):
        await tts.synthesize("Good morning", format="pcm_8000")
    assert not second.requests
    assert tts.get_error_state()["totals"] == {"calls": 1, "successes": 0, "failures": 0, "refused": 0, "ignored": 1}


async def test_vendor_specific_fields_are_no_mistake_to_the_next_provider(make_service: MakeService) -> None:
    first, second = (
        ScriptedProvider([TTSBadRequestError("voice_settings.stability: too large")], name="first"),
        ScriptedProvider(name="second"),
    )
    options = {"voice_settings": {"stability": 9}}
    speech = await make_service(first, second).synthesize("Good morning", format="pcm_8000", options=options)
    assert speech.provider == "second"
    with pytest.raises(TTSBadRequestError, match="too large"):
        await make_service(first).synthesize("Good morning", format="pcm_8000", options=options)


async def test_when_all_fail_the_error_names_each(make_service: MakeService) -> None:
    first = ScriptedProvider([TTSInvalidKeyError("HTTP 401", provider="first", status=401)], name="first")
    second = ScriptedProvider([TTSServerError("HTTP 500", provider="second", request_id="r-7")], name="second")
    with pytest.raises(TTSAllProvidersFailedError) as failed:
        await make_service(first, second, muted=False).synthesize("Good morning", format="pcm_8000")
    assert "first (HTTP 401" in str(failed.value)
    assert "request r-7" in str(failed.value)


async def test_invalid_key_is_held_until_the_hold_ends(make_service: MakeService) -> None:
    bad = TTSQuotaExceededError("out of credit", provider="first", status=401)
    first, second = ScriptedProvider([bad, Say()], name="first"), ScriptedProvider(name="second")
    tts = make_service(first, second)
    for _ in range(4):
        assert (await tts.synthesize("Good morning", format="pcm_8000")).provider == "second"
    assert len(first.requests) == 1
    state = tts.get_error_state()
    assert state["circuit_state"] == "closed", "a quota says nothing of the vendor's health"
    assert [(hold["key"], hold["kind"]) for hold in state["holds"]] == [("first/credential", "quota_exceeded")]
    assert state["holds"][0]["until"] == "2026-01-01T00:15:00.000Z"
    assert state["providers"]["first"]["is_muted"]
    await asyncio.sleep(15 * 60)
    assert (await tts.synthesize("Good morning", format="pcm_8000")).provider == "first"


async def test_unknown_voice_alone_is_held(make_service: MakeService) -> None:
    first = ScriptedProvider([TTSVoiceUnknownError("no such voice", provider="first"), Say()], name="first")
    tts = make_service(first, ScriptedProvider(name="second"))
    await tts.synthesize("Good morning", format="pcm_8000")
    assert [hold["key"] for hold in tts.get_error_state()["holds"]] == ["first/voice/first-voice"]


async def test_provider_that_knows_the_voice_comes_first(make_service: MakeService) -> None:
    stranger, friend = ScriptedProvider(name="stranger"), ScriptedProvider(name="friend", voices=("narrator",))
    tts = make_service(stranger, friend)
    speech = await tts.synthesize("Good morning", voice="narrator", format="pcm_8000")
    assert (speech.outcome, speech.provider) == ("spoken", "friend")


async def test_unknown_voice_is_an_error_before_any_request(make_service: MakeService) -> None:
    first, second = ScriptedProvider(name="first"), ScriptedProvider(name="second")
    with pytest.raises(TTSVoiceUnknownError, match=r"nobody.*first, second"):
        make_service(first, second).stream("Good morning", voice="nobody", format="pcm_8000")
    assert not first.requests


async def test_substitution_never_raises_instead_of_another_voice(make_service: MakeService) -> None:
    first, second = ScriptedProvider([DOWN], name="first"), ScriptedProvider(name="second")
    speech = await make_service(first, second).synthesize("Good morning", format="pcm_8000", voice_substitution="never")
    assert speech.outcome == "muted"
    assert not second.requests


async def test_provider_without_the_format_is_skipped(make_service: MakeService) -> None:
    first = ScriptedProvider(name="first", refuse=lambda request: TTSUnsupportedFormatError("not me"))
    second = ScriptedProvider(name="second")
    assert (await make_service(first, second).synthesize("Good morning", format="pcm_8000")).provider == "second"
    with pytest.raises(TTSUnsupportedFormatError, match="not me"):
        await make_service(first).synthesize("Good morning", format="pcm_8000")


async def test_json_instead_of_audio_is_a_failure(make_service: MakeService) -> None:
    first, second = ScriptedProvider([Send(b'{"detail": "sorry"}')], name="first"), ScriptedProvider(name="second")
    first.format = None
    tts = make_service(first, second)
    speech = await tts.synthesize("Good morning", format="mp3_44100_128")
    assert speech.provider == "second"
    assert tts.get_error_state()["last_error"]["kind"] == "not_audio"


async def test_empty_audio_is_a_failure(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Send(b"")], name="first"), ScriptedProvider(name="second"))
    assert (await tts.synthesize("Good morning", format="pcm_8000")).provider == "second"
    assert tts.get_error_state()["last_error"]["kind"] == "empty_audio"


async def test_audio_much_shorter_than_its_text_is_a_failure(make_service: MakeService) -> None:
    text = "a text that is long enough for anyone to tell that it cannot be over yet" * 2
    tts = make_service(ScriptedProvider([Say(seconds=1.0)], name="first"), ScriptedProvider(name="second"))
    assert (await tts.synthesize(text, format="pcm_8000")).provider == "second"
    assert tts.get_error_state()["last_error"]["kind"] == "too_short"


async def test_any_exception_of_a_plugin_is_a_failure(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([RuntimeError("oops")], name="first"), ScriptedProvider(name="second"))
    assert (await tts.synthesize("Good morning", format="pcm_8000")).provider == "second"
    last = tts.get_error_state()["last_error"]
    assert (last["kind"], last["message"]) == ("unexpected", "RuntimeError: oops")


async def test_listener_that_leaves_counts_against_no_provider(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Say(every=1.0)], name="vendor")
    tts = make_service(vendor)
    async with tts.stream("Good morning", format="pcm_8000", on_midstream="error") as stream:
        await anext(stream)
    assert vendor.cut_short == 1
    state = tts.get_error_state()
    assert state["totals"]["failures"] == 0
    assert state["consecutive_failures"] == 0


async def test_cancelled_caller_counts_against_no_provider(make_service: MakeService) -> None:
    vendor = ScriptedProvider([Hang()], name="vendor")
    tts = make_service(vendor)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await tts.synthesize("Good morning", format="pcm_8000")
    assert vendor.cut_short == 1
    assert tts.get_error_state()["totals"] == {"calls": 1, "successes": 0, "failures": 0, "refused": 0, "ignored": 1}


async def test_two_providers_of_one_name_are_rejected(make_service: MakeService) -> None:
    with pytest.raises(TTSConfigurationError, match="duplicate name 'twin'"):
        make_service(ScriptedProvider(name="twin"), ScriptedProvider(name="twin"))


async def test_service_without_providers_is_rejected(make_service: MakeService) -> None:
    with pytest.raises(TTSConfigurationError, match="at least one"):
        make_service()


@pytest.mark.parametrize("option", [{"speed": 9}, {"speed": float("nan")}, {"format": "mp4"}, {"deadline": 0}])
async def test_invalid_options_are_rejected_before_any_request(
    make_service: MakeService, option: dict[str, object]
) -> None:
    vendor = ScriptedProvider()
    with pytest.raises(TTSError) as refused:
        make_service(vendor).stream("Hello", **option)  # type: ignore[arg-type]
    assert next(iter(option)) in str(refused.value)
    assert not vendor.requests
