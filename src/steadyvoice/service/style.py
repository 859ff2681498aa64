"""Everything about an utterance but its text, checked once: most callers ask for the same again and again."""

from __future__ import annotations

from dataclasses import dataclass, field

from steadyvoice.providers.base import PreparedRequest, SynthesisOffer
from steadyvoice.service.pipeline.candidates import Candidates
from steadyvoice.service.pipeline.timeouts import check_deadline
from steadyvoice.service.terms import Terms
from steadyvoice.service.wishes import Wishes, check_wishes
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import OnMidstream, SpeechRequest, VoiceSubstitution


@dataclass(slots=True)
class Staging:
    """A style in one service, as that is now: on which terms, and who may speak, once that is known for every text."""

    request: SpeechRequest  # without a text
    terms: Terms
    cast: Candidates | None = None
    ready: dict[str, tuple[SynthesisOffer, PreparedRequest | None]] = field(
        default_factory=dict
    )  # by the provider's name


@dataclass(slots=True, eq=False)
class Style:
    """What was wished for, in the shape in which it is used. `request` has no text."""

    request: SpeechRequest
    on_midstream: OnMidstream | None = None
    voice_substitution: VoiceSubstitution | None = None
    deadline: float | None = None
    cache: bool = True
    hedging: bool = True
    era: object = None  # of the service that it was staged in
    staged: dict[tuple[bool, bool], Staging] = field(default_factory=dict)

    @classmethod
    def of(cls, wishes: Wishes) -> Style:
        """Raises TypeError, TTSConfigurationError, TTSBadRequestError and TTSUnsupportedFormatError."""
        check_wishes(wishes)
        return cls(
            _request(wishes),
            wishes.get("on_midstream"),
            wishes.get("voice_substitution"),
            check_deadline(wishes.get("deadline")),
            wishes.get("cache", True),
            wishes.get("hedging", True),
        )


def _request(wishes: Wishes) -> SpeechRequest:
    form = wishes.get("format", "mp3_44100_128")
    return SpeechRequest(
        text="",
        format=form if isinstance(form, AudioFormat) else AudioFormat.parse(form),
        voice=wishes.get("voice", "default"),
        model=wishes.get("model"),
        language=wishes.get("language"),
        speed=wishes.get("speed", 1.0),
        seed=wishes.get("seed"),
        previous_text=wishes.get("previous_text"),
        next_text=wishes.get("next_text"),
        options=wishes.get("options", {}),
        unknown_voice=wishes.get("unknown_voice", "refuse"),
        dialect=wishes.get("dialect"),
        timestamps=wishes.get("timestamps", False),
    )
