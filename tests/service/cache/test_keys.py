"""Cache keys: whatever changes the sound changes the key, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import Alignment, AudioFormat, ElevenLabs, OpenAICompatible, SpeechRequest, Tone, Voice
from steadyvoice.service.cache.keys import CacheConfig, cache_key
from steadyvoice.service.result import Recording

VOICES = {"default": "JBFqnCBsd6RMkjVDRZzb", "also": "JBFqnCBsd6RMkjVDRZzb", "other": "nPczCjzI2devNBz1zQrb"}
REQUEST = SpeechRequest("Hello", AudioFormat.parse("mp3"))


def elevenlabs(**settings: Any) -> ElevenLabs:
    return ElevenLabs("sk_test", **{"voices": VOICES, **settings})


def key(request: SpeechRequest = REQUEST, provider: Any = None) -> str | None:
    provider = provider or elevenlabs()
    return cache_key(request, provider, provider.offer(request))


@pytest.mark.parametrize(
    "other",
    [
        {"text": "Hello!"},
        {"format": AudioFormat.parse("wav")},
        {"voice": "other"},
        {"model": "eleven_v3"},
        {"language": "de"},
        {"speed": 1.1},
        {"seed": 7},
        {"previous_text": "It rains."},
        {"next_text": "It rains."},
        {"options": {"voice_settings": {"stability": 0.5}}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_changes_of_the_sound_change_the_key(other: dict[str, Any]) -> None:
    assert key(replace(REQUEST, **other)) not in (None, key())


@pytest.mark.parametrize(
    "same",
    [
        {"voice": "also"},
        {"speed": 1},
        {"timestamps": True},
        {"previous_request_ids": ("x",)},
        {"unknown_voice": "passthrough"},
        {"dialect": "openai"},  # when there is nothing said in it
    ],
    ids=lambda same: next(iter(same)),
)
def test_other_changes_do_not_change_the_key(same: dict[str, Any]) -> None:
    assert key(replace(REQUEST, **same)) == key()


def test_options_of_another_dialect_change_the_key() -> None:
    asked = replace(REQUEST, options={"brand": "new"})
    assert key(replace(asked, dialect="openai")) != key(asked)


def test_same_names_at_another_server_change_the_key() -> None:
    here, there = (OpenAICompatible("sk", base_url=f"https://{host}.example/v1") for host in ("here", "there"))
    assert key(provider=here) != key(provider=there)
    assert key(provider=elevenlabs(model="eleven_v3")) != key()
    assert key(provider=Tone()) != key(provider=Tone(name="other"))


def test_matched_voice_changes_the_key() -> None:
    asked = replace(REQUEST, voice="other", like=Voice("x", rate=150, loudness=-18.0))
    plain = {"default": "d", "other": Voice("x")}
    faster = {"default": "d", "other": Voice("x", rate=160)}
    louder = {"default": "d", "other": Voice("x", loudness=-17.0)}
    keys = {key(asked, elevenlabs(voices=voices)) for voices in (plain, faster, louder)}
    assert len(keys) == 3
    assert key(replace(asked, like=None), elevenlabs(voices=louder)) == key(asked, elevenlabs(voices=plain))


def test_two_accounts_of_one_vendor_share_keys() -> None:
    assert key(provider=elevenlabs(name="spare")) == key()


def test_order_of_options_is_irrelevant_and_non_json_has_no_key() -> None:
    options = {"a": 1, "b": {"c": 2, "d": 3}}
    backwards = {"b": {"d": 3, "c": 2}, "a": 1}
    assert key(replace(REQUEST, options=options)) == key(replace(REQUEST, options=backwards))
    assert key(replace(REQUEST, options={"a": object()})) is None
    assert key(replace(REQUEST, options={"a": float("nan")})) is None


@given(
    times=st.lists(
        st.tuples(st.text(min_size=1, max_size=3), st.floats(0, 1e4), st.floats(0, 1e4)),
    ),
    seconds=st.floats(0, 1e4),
    exact=st.booleans(),
)
def test_stored_recording_can_be_read_again(times: list[tuple[str, float, float]], seconds: float, exact: bool) -> None:
    characters, starts, ends = (tuple(each[index] for each in times) for index in range(3))
    recording = Recording(b"audio", seconds, Alignment(characters, starts, ends, exact=exact))  # type: ignore[arg-type]
    assert Recording.unpacked(b"audio", recording.packed(), fresh=True) == recording


@given(made=st.floats(-1e12, 1e12), now=st.floats(-1e12, 1e12))
def test_old_and_future_recordings_are_not_fresh(made: float, now: float) -> None:
    config = CacheConfig(max_age_days=2)
    assert config.fresh(made, now) == (-3600 <= now - made <= 2 * 86400)
