"""Failures of websockets: each close code, error message and refusal, and what they leave behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from steadyvoice.providers.base import AudioChunk, TextStreamingUnsupportedError
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.simulator import Simulator
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from tests.leaked_objects import no_garbage

from .collected import KEY, TEXT, Collected, collect, open_stream, say, speech_request
from .scripted_socket import (
    Script,
    ScriptedConnection,
    ScriptedSocketVendor,
    forever,
    scripted_socket_vendor,
    silence,
    speak_all,
    ticks,
)


@asynccontextmanager
async def provider_of(*scripts: Script) -> AsyncIterator[tuple[ElevenLabs, ScriptedSocketVendor]]:
    async with scripted_socket_vendor(*scripts) as vendor:
        provider = ElevenLabs(KEY, base_url=vendor.url)
        try:
            yield provider, vendor
        finally:
            await provider.aclose()


async def heard_from(*scripts: Script) -> Collected:
    async with provider_of(*scripts) as (provider, _):
        return await collect(say(open_stream(provider)))


def closing(code: int, reason: str = "", *, after_audio: bool = False) -> Script:
    async def script(connection: ScriptedConnection) -> None:
        context = await connection.next_flush()
        if after_audio:
            await connection.say(context, 0.1, TEXT[:5])
        await connection.socket.close(code=code, message=reason.encode())

    return script


def answering(*messages: dict[str, Any] | str) -> Script:
    """Return a script that answers a flush with these messages, in which CONTEXT stands for the context's id."""

    async def script(connection: ScriptedConnection) -> None:
        context = await connection.next_flush()
        for message in messages:
            text = message if isinstance(message, str) else json.dumps(message)
            await connection.send(text.replace("CONTEXT", context))
        await forever(connection)

    return script


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1000, "", speech.TTSNoAnswerError),
        (1001, "", speech.TTSSocketRestartedError),
        (1002, "protocol error", speech.TTSRefusedError),
        (1008, "Invalid API key", speech.TTSInvalidKeyError),
        (1008, "", speech.TTSInvalidKeyError),
        (1008, "Maximum simultaneous contexts exceeded (5)", speech.TTSConcurrencyError),
        (1008, "This request exceeds your quota of 10000 credits", speech.TTSQuotaExceededError),
        (1008, "Unusual activity detected. Free Tier usage disabled", speech.TTSAccountFlaggedError),
        (1008, "Have not received a new text input within the timeout of 20.0 seconds", speech.TTSSocketIdleError),
        (1008, "A voice with the voice_id abc does not exist", speech.TTSVoiceUnknownError),
        (1008, "A model with model ID abc does not exist", speech.TTSModelUnknownError),
        (1008, "something else", speech.TTSRefusedError),
        (1009, "", speech.TTSTextTooLongError),
        (1011, "internal error", speech.TTSServerError),
        (1012, "service restart", speech.TTSSocketRestartedError),
        (1013, "try again later", speech.TTSBusyError),
        (4401, "", speech.TTSInvalidKeyError),
        (4429, "", speech.TTSBusyError),
        (4000, "no", speech.TTSRefusedError),
    ],
)
async def test_close_code_means_its_failure(code: int, reason: str, kind: type[TTSError]) -> None:
    heard = await heard_from(closing(code, reason))
    assert type(heard.error) is kind, heard.error
    assert heard.failure.provider == "elevenlabs"
    assert heard.chunks == []


async def test_close_after_audio_is_a_cut() -> None:
    heard = await heard_from(closing(1000, after_audio=True))
    assert type(heard.error) is speech.TTSCutError
    assert heard.alignment.text == TEXT[:5]


@pytest.mark.parametrize("after_audio", [False, True])
async def test_connection_without_a_close_frame_is_lost(after_audio: bool) -> None:
    async def script(connection: ScriptedConnection) -> None:
        context = await connection.next_flush()
        if after_audio:
            await connection.say(context)
        connection.cut()

    heard = await heard_from(script)
    assert type(heard.error) is speech.TTSSocketDroppedError
    assert bool(heard.chunks) is after_audio


@pytest.mark.parametrize("context", ["CONTEXT", None])
@pytest.mark.parametrize(
    ("error", "message", "kind"),
    [
        ("quota_exceeded", "", speech.TTSQuotaExceededError),
        ("detected_unusual_activity", "", speech.TTSAccountFlaggedError),
        ("input_timeout_exceeded", "", speech.TTSSocketIdleError),
        ("max_contexts_exceeded", "", speech.TTSConcurrencyError),
        ("policy", "Maximum simultaneous contexts exceeded (5)", speech.TTSConcurrencyError),
        ("invalid_api_key", "", speech.TTSInvalidKeyError),
        ("voice_not_found", "", speech.TTSVoiceUnknownError),
        ("system_busy", "", speech.TTSBusyError),
        ("unheard_of", "no idea", speech.TTSRefusedError),
    ],
)
async def test_error_message_means_its_failure(
    error: str, message: str, kind: type[TTSError], context: str | None
) -> None:
    named = {"contextId": context} if context else {}
    sent = {"error": error, "message": f"{message} {KEY}", "code": 1008, **named}
    heard = await heard_from(answering(sent), answering(sent))
    assert type(heard.error) is kind
    assert KEY not in f"{heard.failure} {heard.failure.body}"


async def test_error_of_one_context_spares_the_others() -> None:
    async def script(connection: ScriptedConnection) -> None:
        first = await connection.next_flush()
        await connection.send({"error": "voice_not_found", "message": "", "code": 1008, "context_id": first})
        await speak_all(connection)

    async with provider_of(script) as (provider, vendor):
        one, two = open_stream(provider), open_stream(provider)
        say(one)
        refused = await collect(one)
        assert type(refused.error) is speech.TTSVoiceUnknownError
        assert (await collect(say(two))).alignment.text == TEXT
        assert len(vendor.connections) == 1


MALFORMED = {
    "no JSON": "{'audio': ",
    "a list": "[]",
    "bad base64": '{"audio": "***", "contextId": "CONTEXT"}',
    "audio that is no text": '{"audio": 5, "contextId": "CONTEXT"}',
    "a time that is NaN": '{"audio": "AAAA", "contextId": "CONTEXT", "alignment": '
    '{"chars": ["a"], "charStartTimesMs": [NaN], "charDurationsMs": [1]}}',
    "times of another length": '{"audio": "AAAA", "contextId": "CONTEXT", "alignment": '
    '{"chars": ["a", "b"], "charStartTimesMs": [0], "charDurationsMs": [1]}}',
    "an endless number": '{"audio": "AAAA", "contextId": "CONTEXT", "alignment": '
    '{"chars": ["a"], "charStartTimesMs": [1' + "0" * 400 + '], "charDurationsMs": [1]}}',
    "deep nesting": "[" * 100_000,
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_malformed_message_is_no_audio(what: str) -> None:
    heard = await heard_from(answering(MALFORMED[what]))
    assert type(heard.error) is speech.TTSNotAudioError


async def test_binary_message_is_no_audio() -> None:
    async def script(connection: ScriptedConnection) -> None:
        await connection.next_flush()
        await connection.socket.send_bytes(b"RIFF")
        await forever(connection)

    assert type((await heard_from(script)).error) is speech.TTSNotAudioError


async def test_long_message_is_taken_in_chunks_and_a_giant_one_refused() -> None:
    long = answering({"audio": silence(40), "contextId": "CONTEXT"}, {"isFinal": True, "contextId": "CONTEXT"})
    heard = await heard_from(long)
    assert (heard.error, len(heard.audio)) == (None, 40 * 48_000)
    assert max(len(chunk.data) for chunk in heard.chunks) <= 32 * 1024
    giant = answering({"audio": silence(70), "contextId": "CONTEXT"})
    assert type((await heard_from(giant)).error) is speech.TTSNotAudioError


@pytest.mark.parametrize("spelling", ["usual", "documented", "mixed", "snake"])
async def test_every_spelling_is_read(spelling: str) -> None:
    from steadyvoice.speech.alignment import Alignment
    from steadyvoice.wire.elevenlabs.websocket import AudioMessage, FieldSpelling, FinalMessage, encode_message

    times = Alignment(("H", "i"), (0.0, 0.1), (0.1, 0.25))
    messages = (AudioMessage(bytes(480), times, times, "CONTEXT"), FinalMessage("CONTEXT"))
    heard = await heard_from(answering(*(encode_message(each, FieldSpelling(spelling)) for each in messages)))
    assert (heard.error, heard.alignment) == (None, times)


async def test_unknown_contexts_and_messages_are_ignored() -> None:
    heard = await heard_from(
        answering(
            {"audio": silence(1), "contextId": "another"},
            {"isFinal": True, "contextId": "another"},
            {"error": "gone", "message": "", "contextId": "another"},
            {"is_final_audio_for_turn": True, "context_id": "CONTEXT"},
            {"news": 1},
            {"audio": silence(0.5), "contextId": "CONTEXT"},
            {"isFinal": True, "contextId": "CONTEXT"},
        )
    )
    assert (heard.error, len(heard.audio)) == (None, 24_000)


async def test_messages_without_a_context_belong_to_the_only_one() -> None:
    heard = await heard_from(answering({"audio": silence(0.5)}, {"isFinal": True}))
    assert (heard.error, len(heard.audio)) == (None, 24_000)


REFUSALS: dict[str, tuple[Callable[[], web.Response], type[Exception]]] = {
    "a bad key": (
        lambda: web.json_response({"detail": {"status": "invalid_api_key", "message": "no"}}, status=401),
        speech.TTSInvalidKeyError,
    ),
    "quota": (
        lambda: web.json_response({"detail": {"status": "quota_exceeded", "message": "no"}}, status=401),
        speech.TTSQuotaExceededError,
    ),
    "a firewall": (
        lambda: web.Response(text="<html><title>Access denied</title>", content_type="text/html", status=403),
        speech.TTSBlockedError,
    ),
    "no endpoint": (lambda: web.json_response({"detail": "Not Found"}, status=404), TextStreamingUnsupportedError),
    "no endpoint of ASGI": (lambda: web.Response(status=403), TextStreamingUnsupportedError),
    "an unknown voice": (
        lambda: web.json_response({"detail": {"status": "voice_not_found", "message": "no"}}, status=404),
        speech.TTSVoiceUnknownError,
    ),
    "concurrency": (
        lambda: web.json_response({"detail": {"status": "too_many_concurrent_requests"}}, status=429),
        speech.TTSConcurrencyError,
    ),
    "load": (lambda: web.Response(status=429, headers={"Retry-After": "7"}), speech.TTSBusyError),
    "an error of the server": (lambda: web.Response(status=500), speech.TTSServerError),
    "a gateway's page": (
        lambda: web.Response(text="<html><title>502 Bad Gateway</title>", content_type="text/html", status=502),
        speech.TTSServerError,
    ),
    "a page": (lambda: web.Response(text="<html>", content_type="text/html"), speech.TTSNotAudioError),
    "a redirect": (lambda: web.Response(status=302, headers={"Location": "/other"}), speech.TTSNotAudioError),
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_refused_upgrade_means_its_failure(what: str) -> None:
    response, kind = REFUSALS[what]
    async with provider_of(forever) as (provider, vendor):
        vendor.refusal = response
        heard = await collect(say(open_stream(provider)))
        assert type(heard.error) is kind
        assert len(vendor.upgrades) == 1
        assert KEY not in str(vendor.upgrades[0].rel_url)
        if what == "load":
            assert heard.failure.retry_after == 7
        request = speech_request()
        again = provider.open_text_stream(request, provider.offer(request), connection_timeout=1.0)
        assert (again is None) is (kind is TextStreamingUnsupportedError), "a missing endpoint is remembered"
        if again:
            again.close()


async def test_model_without_a_websocket_is_remembered() -> None:
    async with provider_of(answering({"error": "unsupported_model", "message": "no", "code": 1008})) as (provider, _):
        request = speech_request(model="eleven_flash_v2_5")
        heard = await collect(say(open_stream(provider, request)))
        assert type(heard.error) is TextStreamingUnsupportedError
        assert provider.open_text_stream(request, provider.offer(request), connection_timeout=1.0) is None
        other = speech_request(model="eleven_multilingual_v2")
        assert provider.open_text_stream(other, provider.offer(other), connection_timeout=1.0) is not None


async def test_unreachable_vendor_is_a_failed_connection() -> None:
    async with scripted_socket_vendor(forever) as vendor:
        url = vendor.url
    provider = ElevenLabs(KEY, base_url=url)
    heard = await collect(say(open_stream(provider)))
    assert type(heard.error) is speech.TTSConnectError
    request = speech_request()
    with pytest.raises(speech.TTSConnectError):
        await provider.prewarm(request, provider.offer(request), connection_timeout=1.0)
    await provider.aclose()


@pytest.mark.looptime(noop_cycles=50)
async def test_unanswered_upgrade_ends_with_the_connection_timeout() -> None:
    async with Simulator(voice="tones") as sim:
        sim.faults.set(actions.Hang())
        provider = ElevenLabs(KEY, base_url=sim.url)
        heard = await collect(say(open_stream(provider)))
        assert type(heard.error) is speech.TTSConnectTimeoutError
        await provider.aclose()


async def test_death_of_a_connection_is_one_failure_of_all_its_streams() -> None:
    async def script(connection: ScriptedConnection) -> None:
        contexts = [await connection.next_flush() for _ in range(5)]
        for context in contexts:
            await connection.say(context)
        connection.cut()

    async with provider_of(script, script) as (provider, vendor):
        streams = [say(open_stream(provider), finish=False) for _ in range(10)]
        heard = await asyncio.gather(*map(collect, streams))
        assert len(vendor.connections) == 2
    causes = [each.failure.shared_cause for each in heard]
    assert {type(each.error) for each in heard} == {speech.TTSSocketDroppedError}
    assert len({id(each.error) for each in heard}) == 10
    assert sorted(map(causes.count, causes)) == [5] * 10, "five streams for each of two connections"
    assert None not in causes


async def test_stream_on_a_connection_that_had_died_gets_another() -> None:
    async def idle_until_text(connection: ScriptedConnection) -> None:
        await speak_all_once(connection)
        await connection.next_flush()
        connection.cut()

    async def speak_all_once(connection: ScriptedConnection) -> None:
        context = await connection.next_flush()
        await connection.say(context)
        await connection.final(context)

    async with provider_of(idle_until_text, speak_all) as (provider, vendor):
        await collect(say(open_stream(provider)))
        heard = await collect(say(open_stream(provider)))
        assert (heard.error, heard.alignment.text) == (None, TEXT)
        assert len(vendor.connections) == 2


@pytest.mark.parametrize("code", [1001, 1012])
async def test_restart_before_audio_is_not_noticed(code: int) -> None:
    async with provider_of(closing(code), speak_all) as (provider, _):
        heard = await collect(say(open_stream(provider)))
        assert (heard.error, heard.alignment.text) == (None, TEXT)


@pytest.mark.parametrize("finish", [False, True])
async def test_connections_that_die_at_once_are_not_opened_for_ever(finish: bool) -> None:
    async def die(connection: ScriptedConnection) -> None:
        await connection.send({"error": "input_timeout_exceeded", "message": "", "code": 1008})
        await connection.socket.close(code=1008)

    async with provider_of(die) as (provider, vendor):
        stream = open_stream(provider)
        stream.send("Hello ")
        if finish:
            stream.finish()
        assert type((await collect(stream)).error) is speech.TTSSocketIdleError
        assert len(vendor.connections) == 2


async def test_connection_that_has_too_many_contexts_gets_no_more() -> None:
    async def full(connection: ScriptedConnection) -> None:
        context = await connection.next_flush()
        await connection.send({"error": "max_contexts_exceeded", "message": "", "contextId": context})
        await forever(connection)

    async with provider_of(full, speak_all) as (provider, vendor):
        assert type((await collect(say(open_stream(provider)))).error) is speech.TTSConcurrencyError
        assert (await collect(say(open_stream(provider)))).error is None
        assert len(vendor.connections) == 2


async def test_loss_while_nothing_is_owed_is_not_noticed() -> None:
    async def first(connection: ScriptedConnection) -> None:
        context = await connection.next_flush()
        await connection.say(context, 0.5, "Hello there. ")
        await connection.next()
        connection.cut()

    async with provider_of(first, speak_all) as (provider, vendor):
        stream = open_stream(provider)
        stream.send("Hello there. ")
        stream.flush()
        events = [await anext(stream), await anext(stream)]
        assert not stream.expects_audio
        stream.send("And ")
        await ticks()
        stream.send("goodbye. ")
        stream.finish()
        rest = await collect(stream)
        assert (rest.error, rest.alignment.text) == (None, "And goodbye. ")
        assert isinstance(events[1], AudioChunk)
        assert rest.alignment.starts[0] == pytest.approx(0.5), "times go on"
        assert len(vendor.connections) == 2


async def test_text_that_the_vendor_began_by_itself_is_not_sent_again() -> None:
    async def begin_unasked(connection: ScriptedConnection) -> None:
        opening = await connection.next()
        assert opening
        await connection.next()
        await connection.say(opening["context_id"], 0.5, "Good ")
        connection.cut()

    async with provider_of(begin_unasked, speak_all) as (provider, vendor):
        stream = open_stream(provider)
        stream.send(TEXT)  # without a flush
        heard = await collect(stream)
        assert (type(heard.error), heard.alignment.text) == (speech.TTSSocketDroppedError, "Good ")
        assert len(vendor.connections) == 1


async def test_end_of_a_repetition_shows_nothing() -> None:
    text = "no, " * 20

    async def break_off(connection: ScriptedConnection) -> None:
        context = await connection.next_flush()
        await connection.say(context, 3.0, text[:40])
        await connection.next()
        connection.cut()

    async with provider_of(break_off, speak_all) as (provider, vendor):
        stream = open_stream(provider)
        stream.send(text)
        stream.flush()
        await anext(stream)
        await anext(stream)
        assert stream.expects_audio
        stream.send("no. ")
        assert type((await collect(stream)).error) is speech.TTSSocketDroppedError
        assert len(vendor.connections) == 1


async def test_final_while_text_is_owed_is_a_cut() -> None:
    async def script(connection: ScriptedConnection) -> None:
        context = await connection.next_flush()
        await connection.say(context, 0.1, TEXT[:5])
        await connection.final(context)
        await forever(connection)

    async with provider_of(script) as (provider, _):
        heard = await collect(say(open_stream(provider), finish=False))
        assert type(heard.error) is speech.TTSCutError


@pytest.mark.usefixtures("frozen_heap")
@pytest.mark.parametrize("way", ["end", "close", "cut", "refused", "malformed", "aclose", "unread"])
async def test_nothing_is_left_open_or_to_the_collector(way: str) -> None:
    scripts: dict[str, Script] = {
        "cut": closing(1000),
        "malformed": answering("{"),
        "aclose": forever,
        "close": forever,
    }
    async with provider_of(scripts.get(way, speak_all)) as (provider, vendor):
        with no_garbage():
            if way == "refused":
                vendor.refusal = REFUSALS["a gateway's page"][0]
            stream = say(open_stream(provider))
            if way in ("close", "aclose"):
                await anext(stream)
                if way == "aclose":
                    await provider.aclose()
                stream.close()
            elif way != "unread":
                assert ((await collect(stream)).error is None) is (way == "end")
            else:
                await ticks()
                stream.close()
            await asyncio.wait_for(stream.released, 5)
            del stream
            await provider.aclose()
        for _ in range(100):
            if not vendor.running:
                break
            await asyncio.sleep(0.01)
        assert vendor.running == 0
        assert not [task for task in asyncio.all_tasks() if "ContextConnection" in repr(task)]
