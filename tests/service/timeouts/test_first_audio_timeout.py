"""First-audio timeout: shorter while another provider is left, with overrides per provider."""

from __future__ import annotations

import asyncio
import json
import pickle
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from steadyvoice import (
    AsyncTTSService,
    AudioFormat,
    CircuitBreakerConfig,
    OpenAICompatible,
    TimeoutConfig,
    TTSConfigurationError,
    TTSService,
)
from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.service.config_file import load_arguments
from steadyvoice.speech.errors import TTSInvalidKeyError, TTSServerError
from steadyvoice.speech.request import SpeechRequest

from ..conftest import MakeService, loop_clock
from ..scripted_provider import Hang, Say, ScriptedProvider

pytestmark = pytest.mark.looptime

TEXT = "Good morning"
PCM = "pcm_8000"
NEVER_OPENS = CircuitBreakerConfig(consecutive_failures=1000, failure_threshold=None)


async def first_heard(tts: AsyncTTSService, text: str = TEXT, **options: Any) -> tuple[str | None, float]:
    """Return the provider that was first_heard, and after how many seconds."""
    before = loop_clock()
    async with tts.stream(text, format=PCM, on_midstream="error", **options) as stream:
        await anext(stream)
        return stream.provider, round(loop_clock() - before, 3)


async def timed_synthesis(tts: AsyncTTSService, text: str = TEXT) -> tuple[str | None, float]:
    before = loop_clock()
    speech = await tts.synthesize(text, format=PCM)
    return speech.provider, round(loop_clock() - before, 3)


@pytest.mark.parametrize("way", [first_heard, timed_synthesis])
@pytest.mark.parametrize("local", [False, True])
async def test_failover_from_a_hanging_vendor_takes_eight_seconds(
    make_service: MakeService, way: Any, local: bool
) -> None:
    tts = make_service(ScriptedProvider([Hang()], name="first"), ScriptedProvider(name="second", local=local))
    assert await way(tts) == ("second", 8.1)


async def test_last_provider_has_its_read_timeout(
    make_service: MakeService,
) -> None:
    last = ScriptedProvider([Say(first_after=20.0)], name="third")
    tts = make_service(ScriptedProvider([Hang()], name="first"), ScriptedProvider([Hang()], name="second"), last)
    assert await first_heard(tts) == ("third", 36.0)


async def test_single_provider_has_the_read_timeout(make_service: MakeService) -> None:
    assert await first_heard(make_service(ScriptedProvider([Say(first_after=29.0)]))) == ("scripted", 29.0)


async def test_refusing_provider_does_not_count_as_left(make_service: MakeService) -> None:
    slow = [Say(first_after=0.1), Say(first_after=20.0)]
    held = make_service(
        ScriptedProvider(slow, name="first"), ScriptedProvider([TTSInvalidKeyError("no")], name="second")
    )
    open_circuit = make_service(
        ScriptedProvider(slow, name="first"), ScriptedProvider([TTSServerError("no")], name="second")
    )
    open_circuit.circuits["second"].force_open("down")
    assert (await held.synthesize(TEXT, format=PCM)).provider == "first"
    await open_circuit.synthesize(TEXT, format=PCM)
    with pytest.raises(TTSInvalidKeyError), held.handler("second").attempt():
        raise TTSInvalidKeyError("no")
    assert await first_heard(held) == ("first", 20.0)
    assert await first_heard(open_circuit) == ("first", 20.0)


async def test_failed_provider_does_not_count_as_left(make_service: MakeService) -> None:
    first, second = (
        ScriptedProvider([TTSServerError("no")], name="first"),
        ScriptedProvider([Say(first_after=20.0)], name="second"),
    )
    tts = make_service(first, second, circuit=NEVER_OPENS)
    provider, seconds = await first_heard(tts)
    assert (provider, 20 < seconds < 22) == ("second", True)


@pytest.mark.parametrize(
    "timeouts",
    [
        TimeoutConfig(read_timeout=30.0),
        TimeoutConfig(read_timeout=30),
        replace(TimeoutConfig(), read_timeout=30.0),
        TimeoutConfig(10.0, 30.0, 45.0),
        TimeoutConfig(first_audio_timeout=25.0),
    ],
)
async def test_configured_timeout_holds_while_others_are_left(
    make_service: MakeService, timeouts: TimeoutConfig
) -> None:
    tts = make_service(
        ScriptedProvider([Say(first_after=20.0)], name="first"), ScriptedProvider(name="second"), timeouts=timeouts
    )
    assert await first_heard(tts) == ("first", 20.0)


@pytest.mark.parametrize(
    "timeouts",
    [
        TimeoutConfig(total_timeout=40),
        replace(TimeoutConfig(), total_timeout=40),
        pickle.loads(pickle.dumps(TimeoutConfig())),
        deepcopy(TimeoutConfig()),
    ],
)
def test_default_read_timeout_stays_a_default(timeouts: TimeoutConfig) -> None:
    assert (timeouts.read_timeout, timeouts.read_timeout_is_set) == (30.0, False)
    assert timeouts.first_audio_while(others=True) == 8.0
    assert timeouts.first_audio_while(others=False) == timeouts.first_audio == timeouts.stall == 30.0


def test_configurations_compare_by_value() -> None:
    assert TimeoutConfig() == TimeoutConfig(10.0, 30.0, 45.0) == pickle.loads(pickle.dumps(TimeoutConfig()))
    assert repr(TimeoutConfig()).startswith("TimeoutConfig(connection_timeout=10.0, read_timeout=30.0,")
    assert len({TimeoutConfig(), TimeoutConfig(read_timeout=30.0)}) == 1


async def test_conversation_preset_fails_over_in_time(make_service: MakeService) -> None:
    preset = TimeoutConfig.conversation()
    tts = make_service(ScriptedProvider([Hang()], name="first"), ScriptedProvider(name="second"), timeouts=preset)
    assert await first_heard(tts) == ("second", 2.1)
    stalled = make_service(
        ScriptedProvider([Say(pieces=2, every=9.0)], name="first"), ScriptedProvider(name="second"), timeouts=preset
    )
    stream = stalled.stream(TEXT, format=PCM)
    before = loop_clock()
    assert [chunk async for chunk in stream]
    assert loop_clock() - before < 3
    both = make_service(
        ScriptedProvider([Hang()], name="first"), ScriptedProvider([Hang()], name="second"), timeouts=preset
    )
    before = loop_clock()
    assert (await both.synthesize(TEXT, format=PCM)).outcome == "muted"
    assert loop_clock() - before <= 15


async def test_provider_timeouts_override_the_general_ones(make_service: MakeService) -> None:
    first, second = ScriptedProvider([Hang()], name="first"), ScriptedProvider([Hang()], name="second")
    tts = make_service(
        first,
        second,
        ScriptedProvider(name="third"),
        timeouts=TimeoutConfig(first_audio_timeout=4.0, stall_timeout=3.0),
        provider_timeouts={"first": {"first_audio_timeout": 1.0}, "second": {"stall_timeout": 9.0}},
        circuit=NEVER_OPENS,
    )
    assert await first_heard(tts) == ("third", 5.1)
    shown = {name: state["timeouts"] for name, state in tts.get_error_state()["providers"].items()}
    assert [each["first_audio_timeout"] for each in shown.values()] == [1.0, 4.0, 4.0]
    assert [each["stall_timeout"] for each in shown.values()] == [3.0, 9.0, 3.0]
    assert tts.get_error_state()["timeouts"] == shown["first"]
    json.dumps(tts.get_error_state())
    await tts.reconfigure(provider_timeouts={"second": {"first_audio_timeout": 2.0}})
    assert await first_heard(tts) == ("third", 6.1)
    await tts.reconfigure(providers=[first, ScriptedProvider(name="third")])
    assert await first_heard(tts) == ("third", 4.1)


async def test_read_timeout_of_a_provider_is_its_first_audio_timeout(make_service: MakeService) -> None:
    own = {"first": {"read_timeout": 20.0}}
    tts = make_service(ScriptedProvider([Hang()], name="first"), ScriptedProvider(name="second"), provider_timeouts=own)
    assert await first_heard(tts) == ("second", 20.1)


async def test_total_timeout_of_a_provider_bounds_each_attempt(make_service: MakeService) -> None:
    own = {"first": {"total_timeout": 5.0}}
    tts = make_service(ScriptedProvider([Hang()], name="first"), ScriptedProvider(name="second"), provider_timeouts=own)
    assert await first_heard(tts) == ("second", 5.1)


class NonStreaming(ScriptedProvider):
    """Provider that synthesizes all of its audio before it sends any."""

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return replace(super().offer(request), streams=False)


async def test_non_streaming_provider_has_time_per_character(make_service: MakeService) -> None:
    long = "Good morning. " * 100
    tts = make_service(
        NonStreaming([Hang()], name="first"),
        ScriptedProvider(name="second"),
        timeouts=TimeoutConfig(character_timeout=0.01),
    )
    assert await first_heard(tts, long) == ("second", round(8 + 0.01 * len(long.strip()) + 0.1, 3))


async def test_non_streaming_provider_is_overdue_later(make_service: MakeService) -> None:
    tts = make_service(NonStreaming([Hang()]), circuit=NEVER_OPENS)
    text = "Good morning, everybody! " * 4  # 100 characters: three seconds more
    failures = []
    for patience in (5.5, 6.5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(tts.synthesize(text, format=PCM), patience)
        failures.append(tts.get_error_state()["totals"]["failures"])
    assert failures == [0, 1]


class SlowStartEngine(ScriptedProvider):
    """Engine that loads a model first."""

    timeouts: ClassVar = {"first_audio_timeout": 20.0}


async def test_default_of_the_kind_yields_to_settings(make_service: MakeService) -> None:
    def tts(**settings: Any) -> AsyncTTSService:
        return make_service(SlowStartEngine([Hang()], name="first"), ScriptedProvider(name="second"), **settings)

    assert await first_heard(tts()) == ("second", 20.1)
    assert await first_heard(tts(timeouts=TimeoutConfig(first_audio_timeout=2.0))) == ("second", 2.1)
    assert await first_heard(tts(timeouts=TimeoutConfig(read_timeout=12.0))) == ("second", 12.1)
    assert await first_heard(tts(provider_timeouts={"first": {"first_audio_timeout": 3.0}})) == ("second", 3.1)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"nobody": {}}, "provider_timeouts.nobody: no provider has this name"),
        ({"scripted": 3}, "provider_timeouts.scripted: must be a mapping"),
        ({"scripted": {"first_audio": 3}}, "provider_timeouts.scripted.first_audio: unknown key; did you mean"),
        (
            {"scripted": {"stall_timeout": 0}},
            "provider_timeouts.scripted.stall_timeout: must be a number of seconds",
        ),
        ({"scripted": {"read_timeout": None}}, "provider_timeouts.scripted.read_timeout: must be a number"),
        ({"scripted": {"overdue_after": "3"}}, "provider_timeouts.scripted.overdue_after: must be a number"),
    ],
)
def test_invalid_provider_timeouts_are_rejected(own: Any, message: str) -> None:
    with pytest.raises(TTSConfigurationError, match=message):
        TTSService([ScriptedProvider()], provider_timeouts=own)


FILE = """
[timeouts]
{general}

[[providers]]
kind = "tone"
name = "first"

[[providers]]
kind = "tone"
name = "second"
{own}
"""


def config_of(folder: Path, general: str = "", own: str = "") -> Any:
    path = folder / "steadyvoice.toml"
    path.write_text(FILE.format(general=general, own=own and f"[providers.timeouts]\n{own}"), "utf-8")
    return load_arguments(path, {})


def test_file_has_a_preset_and_fields_over_it(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'preset = "conversation"\nstall_timeout = 4', "first_audio_timeout = 6.5")
    assert config["timeouts"] == replace(TimeoutConfig.conversation(), stall_timeout=4)
    assert config["provider_timeouts"] == {"second": {"first_audio_timeout": 6.5}}
    tts = TTSService(**config)
    assert tts.get_error_state()["providers"]["second"]["timeouts"]["first_audio_timeout"] == 6.5
    assert tts.get_error_state()["providers"]["second"]["timeouts"]["stall_timeout"] == 4


def test_file_without_read_timeout_leaves_the_default(tmp_path: Path) -> None:
    assert not config_of(tmp_path, "total_timeout = 60")["timeouts"].read_timeout_is_set
    assert not config_of(tmp_path, 'preset = "default"')["timeouts"].read_timeout_is_set
    assert config_of(tmp_path, "read_timeout = 30.0")["timeouts"].read_timeout_is_set


def test_single_provider_may_have_a_preset(tmp_path: Path) -> None:
    tts = TTSService(**config_of(tmp_path, "", 'preset = "conversation"\nconnection_timeout = 1'))
    first, second = (each["timeouts"] for each in tts.get_error_state()["providers"].values())
    assert (first["first_audio_timeout"], second["first_audio_timeout"]) == (8.0, 2.0)
    assert (first["connection_timeout"], second["connection_timeout"]) == (10.0, 1)


@pytest.mark.parametrize(
    ("general", "own", "message"),
    [
        ('preset = "conversations"', "", r"timeouts.preset: must be one of default, conversation, got 'conversations'"),
        ("preset = []", "", r"timeouts.preset: must be one of"),
        ("read_timout = 3", "", r"timeouts.read_timout: unknown key; did you mean read_timeout"),
        (
            "",
            "first_audio_timeout = -1",
            r"providers.1.timeouts.first_audio_timeout: must be a number of seconds",
        ),
        ("", "stall = 3", r"providers.1.timeouts.stall: unknown key"),
        ("", 'preset = "slow"', r"providers.1.timeouts.preset: must be one of"),
        ("", "overdue_after = true", r"providers.1.timeouts.overdue_after: must be a number"),
    ],
)
def test_invalid_timeouts_in_a_file_are_rejected_with_their_path(
    tmp_path: Path, general: str, own: str, message: str
) -> None:
    with pytest.raises(TTSConfigurationError, match=message):
        config_of(tmp_path, general, own)


def test_offer_of_a_non_streaming_server_is_marked() -> None:
    def streams(**more: Any) -> bool:
        provider = OpenAICompatible("sk", base_url="http://localhost:1/v1", **more)
        return provider.offer(SpeechRequest(TEXT, format=AudioFormat.parse(PCM), voice="alloy")).streams

    assert streams() is True
    assert streams(streams=False) is False
    with pytest.raises(TTSConfigurationError, match=r"openai.streams: must be true or false"):
        streams(streams="no")
