"""Synchronous service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from steadyvoice import CircuitState, HedgeConfig, TTSError, TTSService
from steadyvoice.speech.errors import TTSServerError

from ..conftest import BRIEF
from ..scripted_provider import Hang, Say, ScriptedProvider, pcm

SAY = Say(first_after=0.0)


@pytest.fixture
def vendor() -> ScriptedProvider:
    return ScriptedProvider([SAY], name="vendor")


@pytest.fixture
def tts(vendor: ScriptedProvider) -> Iterator[TTSService]:
    with TTSService([vendor], circuit=BRIEF) as service:
        yield service


def test_synthesize_returns_audio(tts: TTSService) -> None:
    speech = tts.synthesize("Good morning", format="pcm_8000")
    assert (speech.outcome, speech.audio) == ("spoken", pcm(0.72))


def test_stream_yields_audio(tts: TTSService) -> None:
    stream = tts.stream("Good morning", format="pcm_8000")
    assert b"".join(stream) == pcm(0.72)
    assert (stream.outcome, stream.provider) == ("spoken", "vendor")


def test_abandoned_stream_is_closed(tts: TTSService, vendor: ScriptedProvider) -> None:
    with tts.stream("Good morning", format="pcm_8000", on_midstream="error") as stream:
        next(stream)
    assert vendor.cut_short == 1
    assert tts.get_error_state()["totals"]["failures"] == 0


def test_invalid_arguments_are_rejected_before_the_loop_starts(vendor: ScriptedProvider) -> None:
    threads = threading.active_count()
    service = TTSService([vendor])
    with pytest.raises(TTSError, match="unknown audio format"):
        service.stream("Hello", format="mp4")
    assert threading.active_count() == threads


def test_circuit_is_the_same_object_in_every_thread() -> None:
    vendor = ScriptedProvider([TTSServerError("HTTP 503")], name="vendor")
    with TTSService([vendor], circuit=BRIEF) as tts, ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: tts.synthesize("Hi", format="pcm_8000").outcome, range(16)))
        assert outcomes == ["muted"] * 16
        assert tts.circuits["vendor"].state is CircuitState.OPEN
        tts.reset_circuit_breaker("vendor")
        assert tts.get_error_state()["circuit_state"] == "closed"
        with pytest.raises(KeyError, match="known ones are vendor"):
            tts.reset_circuit_breaker("nobody")


def test_many_threads_speak_at_once(tts: TTSService) -> None:
    with ThreadPoolExecutor(16) as threads:
        durations = list(threads.map(lambda n: tts.synthesize("word " * n, format="pcm_8000").duration, range(1, 40)))
    assert durations == [pytest.approx(len(("word " * n).strip()) * 0.06, abs=0.001) for n in range(1, 40)]


def test_closing_ends_the_loop_and_the_providers(vendor: ScriptedProvider) -> None:
    before = threading.active_count()
    service = TTSService([vendor])
    service.synthesize("Hello", format="pcm_8000")
    service.close()
    service.close()
    assert vendor.closed == 1
    assert threading.active_count() == before
    service.synthesize("Hello again", format="pcm_8000")
    service.close()
    assert vendor.closed == 2


def test_deadline_ends_a_call_to_a_hanging_vendor() -> None:
    with TTSService([ScriptedProvider([Hang()])], circuit=BRIEF) as tts:
        assert tts.synthesize("Hello", format="pcm_8000", deadline=0.05).outcome == "muted"


def test_sync_service_hedges() -> None:
    first, second = ScriptedProvider([SAY, SAY, Hang()], name="first"), ScriptedProvider([SAY], name="second")
    with TTSService([first, second], hedging=HedgeConfig(minimum_samples=2, budget=1.0)) as tts:
        providers = [tts.synthesize("Good morning", format="pcm_8000").provider for _ in range(3)]
        assert (providers[-1], tts.get_error_state()["hedging"]["won"]) == ("second", 1)
