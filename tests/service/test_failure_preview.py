"""Preview of failures: what it says is what a service does."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from steadyvoice import (
    CircuitBreakerConfig,
    RetryConfig,
    TimeoutConfig,
    Tone,
    TTSServerError,
    TTSVoiceUnknownError,
)
from steadyvoice.service.failure_preview import EXAMPLE_TEXT, preview_failures
from steadyvoice.service.options import ServiceArguments, SynthesisOptions

from .conftest import MakeService
from .scripted_provider import Hang, Say, ScriptedProvider

pytestmark = pytest.mark.looptime

SETTINGS: list[dict[str, Any]] = [
    {},
    {"timeouts": TimeoutConfig.conversation()},
    {"timeouts": TimeoutConfig(read_timeout=3.0)},
    {"timeouts": TimeoutConfig(total_timeout=5.0)},
    {"timeouts": TimeoutConfig(first_audio_timeout=1.5), "provider_timeouts": {"p1": {"first_audio_timeout": 0.5}}},
    {"retry": RetryConfig(max_attempts=1)},
    {"provider_timeouts": {"p0": {"total_timeout": 2.0}}},
]


def arguments(*providers: Any, **settings: Any) -> ServiceArguments:
    return cast(ServiceArguments, {"providers": list(providers), **settings})


def providers(count: int, failing: int, *, hang: bool) -> list[ScriptedProvider]:
    """Return providers of which the first ones hang or refuse."""
    failure: Any = Hang() if hang else TTSServerError("down", status=503)
    return [ScriptedProvider([failure if each < failing else Say()], name=f"p{each}") for each in range(count)]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(("count", "failing"), [(2, 1), (3, 1), (3, 2), (4, 3)])
async def test_next_provider_is_asked_when_the_preview_says(
    make_service: MakeService, settings: dict[str, Any], count: int, failing: int
) -> None:
    (expected_course,) = [each for each in preview(count, settings).failures if len(each.failed) == failing]
    for hang, after in ((True, expected_course.after_hang), (False, expected_course.after_error)):
        made = providers(count, failing, hang=hang)
        start = asyncio.get_running_loop().time()
        async with make_service(*made, **settings) as service:
            report = (await service.synthesize(EXAMPLE_TEXT, format="pcm_8000")).report
        asked = made[failing].requested_at[0] - start if made[failing].requested_at else None
        assert expected_course.speaks is not None
        assert expected_course.speaks.provider == f"p{failing}"
        assert asked is not None
        if expected_course.time_left > 0.5:  # enough to speak
            assert report.provider == expected_course.speaks.provider
        # The pauses of the preview are the longest ones.
        assert (asked == pytest.approx(after, abs=0.01)) if hang else (after / 2 - 0.01 <= asked <= after + 0.01)


def preview(count: int, settings: dict[str, Any], **options: Any) -> Any:
    made = providers(count, 0, hang=False)
    return preview_failures(arguments(*made, **settings), cast(SynthesisOptions, {"format": "pcm_8000", **options}))


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_total_outage_is_silent_no_later_than_the_preview_says(make_service: MakeService, count: int) -> None:
    settings = {"timeouts": TimeoutConfig(total_timeout=6.0)}
    expected_course = preview(count, settings).failures[-1]
    start = asyncio.get_running_loop().time()
    async with make_service(*providers(count, count, hang=True), **settings) as service:
        speech = await service.synthesize(EXAMPLE_TEXT, format="pcm_8000")
    assert (speech.outcome, expected_course.otherwise, expected_course.speaks) == ("muted", "silence", None)
    assert asyncio.get_running_loop().time() - start == pytest.approx(expected_course.after_hang, abs=0.05)


def test_without_muted_mode_an_error_follows() -> None:
    assert preview(2, {"muted": False}).failures[-1].otherwise == "error"


@pytest.mark.parametrize(
    ("circuit", "expected"),
    [(CircuitBreakerConfig.consecutive(5), 5), (CircuitBreakerConfig(0.5, 10, minimum_calls=4), 4), (None, 7)],
)
def test_preview_counts_the_failures_that_open_a_circuit(circuit: CircuitBreakerConfig | None, expected: int) -> None:
    assert preview(1, {"circuit": circuit}).failures[0].opens_after == expected


@pytest.mark.parametrize(
    ("settings", "resume"),
    [({}, "word"), ({"on_midstream": "restart"}, "restart"), ({"on_midstream": "error"}, "error")],
)
def test_preview_tells_what_follows_a_stream_that_breaks_off(settings: dict[str, Any], resume: str) -> None:
    assert preview_failures(arguments(Tone(), **settings)).failures[0].resume == resume


def test_stream_without_word_times_is_resumed_by_the_sentence() -> None:
    assert preview(1, {}).failures[0].resume == "sentence"


async def test_only_the_same_voice_follows_where_no_other_may(make_service: MakeService) -> None:
    (only,) = preview(2, {"voice_substitution": "never"}).voices
    assert only.provider == "p0"


def test_voice_that_no_provider_knows_is_refused() -> None:
    with pytest.raises(TTSVoiceUnknownError):
        preview_failures(arguments(ScriptedProvider()), {"voice": "nobody"})
