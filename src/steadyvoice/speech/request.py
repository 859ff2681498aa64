"""Speech request: one utterance as the caller wants it, checked, and cheap copies of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, TypeVar

from steadyvoice.speech.errors import TTSBadRequestError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.text import is_encodable
from steadyvoice.speech.voice import Voice

Copied = TypeVar("Copied")


def field_copier(kind: type[Copied], field: str) -> Callable[[Copied, Any], Copied]:
    """Make what copies a frozen dataclass with slots, and gives one field of it another value."""
    slots: list[Any] = [kind.__dict__[name] for name in vars(kind)["__slots__"]]
    copied = [(slot.__set__, slot.__get__) for slot in slots if slot.__name__ != field]
    changed = kind.__dict__[field].__set__

    def copy(original: Copied, value: Any) -> Copied:
        twin = object.__new__(kind)
        for set_it, get_it in copied:
            set_it(twin, get_it(original))
        changed(twin, value)
        return twin

    return copy


OnMidstream = Literal["resume", "restart", "error"]
VoiceSubstitution = Literal["any", "never"]
UnknownVoice = Literal["refuse", "passthrough", "default"]

DEFAULT_VOICE = "default"
MIN_SPEED, MAX_SPEED = 0.25, 4.0


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """One utterance, as the caller wants it. Voice and model are the caller's names; each provider maps them.

    Raises TTSBadRequestError, which names the field.
    """

    text: str
    format: AudioFormat
    voice: str = DEFAULT_VOICE
    model: str | None = None
    language: str | None = None  # BCP 47, such as "en" or "de-AT"
    speed: float = 1.0  # 1.0 is the voice's own pace
    seed: int | None = None
    previous_text: str | None = None  # said just before, for the prosody
    next_text: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # one vendor's own fields, passed on as they are
    unknown_voice: UnknownVoice = "refuse"  # what becomes of a voice that a provider's map does not know
    dialect: str | None = None  # whose words voice and options are, such as "elevenlabs": no other provider gets them
    like: Voice | None = None  # how the voice asked for is declared, for whoever stands in for it
    timestamps: bool = False  # wanted with the audio: each character's own, as far as the provider has them
    previous_request_ids: tuple[str, ...] = ()  # the provider's own, of what was said just before

    def __post_init__(self) -> None:
        for name, (kinds, said) in _FIELD_TYPES.items():
            value = getattr(self, name)
            # True is an int to Python, and to nobody else.
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise TTSBadRequestError(f"{name}: must be {said}, got {type(value).__name__}")
            if isinstance(value, str) and not value.isascii() and name != "text":  # of which it would be dropped
                self._refuse_unencodable(name, value)
        if self.options:
            self._refuse_unencodable("options", self.options)
        if not MIN_SPEED <= self.speed <= MAX_SPEED:
            raise TTSBadRequestError(f"speed: must lie between 0.25 and 4, got {self.speed}")
        if self.unknown_voice not in ("refuse", "passthrough", "default"):
            raise TTSBadRequestError(
                f"unknown_voice: must be refuse, passthrough or default, got {self.unknown_voice!r}"
            )

    def _refuse_unencodable(self, name: str, value: Any) -> None:
        if not _is_encodable_value(value):
            told = "half of a surrogate pair, which cannot be encoded"
            raise TTSBadRequestError(f"{name}: must not have {told}, got {value!a:.100}")

    def with_text(self, text: str) -> SpeechRequest:
        """The same for another text. What has been checked is not checked again."""
        if not isinstance(text, str):
            raise TTSBadRequestError(f"text: must be a string, got {type(text).__name__}")
        return _copy_with_text(self, text)


_TEXT = ((str,), "a string")
_TEXT_OR_NONE = ((str, NoneType), "a string or None")
_FIELD_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "text": _TEXT,
    "format": ((AudioFormat,), "an AudioFormat"),
    "voice": _TEXT,
    "model": _TEXT_OR_NONE,
    "language": _TEXT_OR_NONE,
    "speed": ((int, float), "a number"),
    "seed": ((int, NoneType), "a whole number or None"),
    "previous_text": _TEXT_OR_NONE,
    "next_text": _TEXT_OR_NONE,
    "options": ((dict, Mapping), "a mapping"),
    "dialect": _TEXT_OR_NONE,
}


def _is_encodable_value(value: Any) -> bool:
    """Whether all strings in a value have bytes in UTF-8."""
    match value:
        case str():
            return is_encodable(value)
        case Mapping():
            return all(_is_encodable_value(name) and _is_encodable_value(each) for name, each in value.items())
        case list() | tuple():
            return all(map(_is_encodable_value, value))
        case _:
            return True


_copy_with_text = field_copier(SpeechRequest, "text")
