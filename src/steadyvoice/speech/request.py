"""Speech request: one utterance as the caller wants it, checked, and cheap copies of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, TypeVar, get_args

from steadyvoice._option_rules import Number, OneOf, short_repr
from steadyvoice.speech.errors import TTSBadRequestError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.text import is_encodable
from steadyvoice.speech.voice import Voice

Copied = TypeVar("Copied")


def field_copier(kind: type[Copied], field: str) -> Callable[[Copied, Any], Copied]:
    """Return a function that copies an instance of a frozen dataclass with slots, with another value for one field.

    `dataclasses.replace` runs `__post_init__` again, which checks all fields. For an object made for every request this
    copy takes a third of the time.
    """
    slots: list[Any] = [kind.__dict__[name] for name in vars(kind)["__slots__"]]
    accessors = [(slot.__set__, slot.__get__) for slot in slots if slot.__name__ != field]
    changed = kind.__dict__[field].__set__

    def copy(original: Copied, value: Any) -> Copied:
        copied = object.__new__(kind)
        for set_it, get_it in accessors:
            set_it(copied, get_it(original))
        changed(copied, value)
        return copied

    return copy


OnMidstream = Literal["resume", "restart", "error"]
VoiceSubstitution = Literal["any", "never"]
UnknownVoice = Literal["refuse", "passthrough", "default"]

DEFAULT_VOICE = "default"
MIN_SPEED, MAX_SPEED = 0.25, 4.0

_SPEED = Number(minimum=MIN_SPEED, maximum=MAX_SPEED)
_SEED = Number(integer=True)
_UNKNOWN_VOICE = OneOf(get_args(UnknownVoice))


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """Utterance as the caller wants it.

    `voice` and `model` are the caller's names, which each provider maps to its own. Raises TTSBadRequestError, which
    names the field, for a value of the wrong type or out of range.
    """

    text: str  # with its markup
    format: AudioFormat  # format of the audio that the caller gets
    voice: str = DEFAULT_VOICE
    model: str | None = None
    language: str | None = None  # BCP 47, such as "en" or "de-AT"
    speed: float = 1.0  # factor of the voice's usual speech rate
    seed: int | None = None  # for vendors that make the same audio of the same seed
    previous_text: str | None = None  # spoken just before, for the prosody
    next_text: str | None = None  # spoken just after, for the prosody
    options: Mapping[str, Any] = field(default_factory=dict)  # one vendor's own fields, passed on unchanged
    unknown_voice: UnknownVoice = "refuse"  # treatment of a voice that is not among the provider's `voices`
    dialect: str | None = None  # vendor whose names voice and options are, such as "elevenlabs"; others do not get them
    like: Voice | None = None  # declaration of the requested voice, by which fallback voices are chosen
    timestamps: bool = False  # whether character timestamps are wanted, if the provider has them
    previous_request_ids: tuple[str, ...] = ()  # the provider's ids of the requests just before

    def __post_init__(self) -> None:
        for name, (types, description) in _FIELD_TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, types):
                raise TTSBadRequestError(f"{name}: must be {description}, got {type(value).__name__}")
            # The text is not checked: `clean_text` removes what cannot be encoded.
            if isinstance(value, str) and not value.isascii() and name != "text":
                self._refuse_unencodable(name, value)
        if self.options:
            self._refuse_unencodable("options", self.options)
        if not _SPEED.accepts(self.speed):
            raise TTSBadRequestError(f"speed: {_SPEED.expected}, got {short_repr(self.speed)}")
        if self.seed is not None and not _SEED.accepts(self.seed):
            raise TTSBadRequestError(f"seed: {_SEED.expected}, got {short_repr(self.seed)}")
        if self.unknown_voice not in _UNKNOWN_VOICE.choices:
            raise TTSBadRequestError(f"unknown_voice: {_UNKNOWN_VOICE.expected}, got {short_repr(self.unknown_voice)}")

    def _refuse_unencodable(self, name: str, value: Any) -> None:
        if not _is_encodable_value(value):
            problem = "half of a surrogate pair, which cannot be encoded"
            raise TTSBadRequestError(f"{name}: must not contain {problem}, got {value!a:.100}")

    def with_text(self, text: str) -> SpeechRequest:
        """Return a copy with another text. The other fields are not checked again.

        - `text`: the other text.
        """
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
    "previous_text": _TEXT_OR_NONE,
    "next_text": _TEXT_OR_NONE,
    "options": ((dict, Mapping), "a mapping"),
    "dialect": _TEXT_OR_NONE,
}


def _is_encodable_value(value: Any) -> bool:
    """Return whether all strings in a value, at any depth, can be encoded in UTF-8."""
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
