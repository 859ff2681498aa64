"""Holds: bounded in number, though callers may invent voices and models."""

from __future__ import annotations

from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.service.resilience.holds import Holds
from steadyvoice.speech.errors import TTSBusyError, TTSVoiceUnknownError
from steadyvoice.speech.format import AudioFormat

FORMAT = AudioFormat.parse("pcm_16000")


def test_of_a_thousand_made_up_voices_the_latest_are_remembered_and_the_provider_itself() -> None:
    holds = Holds("main")
    holds.place(TTSBusyError("it is busy", retry_after=30.0), None, 0.0)
    for number in range(1000):
        holds.place(TTSVoiceUnknownError("there is none"), SynthesisOffer(FORMAT, f"voice-{number}"), number / 1000)
    assert 100 < len(holds.current(1.0)) < 300
    for voice, kind in (("voice-999", "voice_unknown"), ("voice-0", "busy")):
        found = holds.find(SynthesisOffer(FORMAT, voice), 1.0)
        assert found
        assert found.kind.value == kind


def test_of_a_thousand_made_up_voices_the_latest_are_not_new() -> None:
    holds = Holds("main")

    def is_new(number: int) -> bool:
        hold = holds.place(TTSVoiceUnknownError("there is none"), SynthesisOffer(FORMAT, f"voice-{number}"), 0.0)
        assert hold
        return holds.is_new(hold)

    assert all(is_new(number) for number in range(1000))
    assert not is_new(999)
    assert is_new(0), "it was forgotten, for memory has an end"
