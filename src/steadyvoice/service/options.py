"""Options of a call and settings of a service: types, validation, and the forms in which they are used.

Both services take them as keyword arguments. Values are checked once, and resolved options are kept, because most
callers repeat the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from random import Random
from typing import Any, TypedDict, cast

from steadyvoice.breaker import CircuitBreakerConfig
from steadyvoice.providers.base import PreparedRequest, Provider, SynthesisOffer
from steadyvoice.service.cache.keys import CacheConfig, parse_cache_config
from steadyvoice.service.pipeline.audio_limits import MAX_AUDIO_BYTES, MIN_AUDIO_BYTES
from steadyvoice.service.pipeline.candidates import Candidates
from steadyvoice.service.pipeline.timeouts import TimeoutConfig, check_deadline, provider_timeouts
from steadyvoice.service.resilience.admission_control import validate_admission
from steadyvoice.service.resilience.hedging import HedgeConfig
from steadyvoice.service.resilience.retry import RetryConfig
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import OnMidstream, SpeechRequest, UnknownVoice, VoiceSubstitution


@dataclass(frozen=True, slots=True)
class UtterancePolicy:
    """`deadline` is the caller's own, in seconds; `hold` lets nothing be heard before its piece is whole, which costs
    nothing to who wants the whole anyway. `announced`: the outcome is told with the first byte, for good, so that
    silence after speech would be taken for the whole. `most_bytes` of audio are held.
    """

    timeouts: TimeoutConfig
    muted: bool
    on_midstream: OnMidstream
    voice_substitution: VoiceSubstitution
    max_attempts: int
    deadline: float | None = None
    hold: bool = False
    announced: bool = False
    most_bytes: int = MAX_AUDIO_BYTES

    @property
    def resumes(self) -> bool:
        """Whether somebody goes on where a voice breaks off."""
        return self.on_midstream == "resume"

    @property
    def own_deadline(self) -> bool:
        """Whether the caller gives less time than the configuration allows."""
        return self.deadline is not None and self.deadline < self.timeouts.total_timeout

    @property
    def total(self) -> float:
        """Seconds in all."""
        return min(self.timeouts.total_timeout, self.deadline or self.timeouts.total_timeout)


class SynthesisOptions(TypedDict, total=False):
    """What a caller may ask of one utterance, besides its text."""

    voice: str  # a name that the providers map to their own; "default" unless said
    format: str | AudioFormat  # an ElevenLabs name such as "mp3_44100_128" (the default), or "mp3", "wav", ...
    model: str | None
    language: str | None
    speed: float  # 1.0 is the voice's own
    seed: int | None
    previous_text: str | None
    next_text: str | None
    options: Mapping[str, Any]  # a vendor's own fields, passed on as they are
    unknown_voice: UnknownVoice  # what becomes of a voice that a provider's map does not know; "refuse" unless said
    dialect: str | None  # whose words voice and options are: "elevenlabs", "openai"
    timestamps: bool  # each character's own are wanted, even where going on elsewhere does not need them
    deadline: float | None  # seconds for all of it, when shorter than `total_timeout`
    on_midstream: OnMidstream
    voice_substitution: VoiceSubstitution
    cache: bool  # False: neither look in the cache nor keep this there
    hedging: bool  # False: nobody else is asked while the first provider is only late


class ServicePolicies(TypedDict, total=False):
    """How a service behaves, until it is told otherwise."""

    circuit: CircuitBreakerConfig | None  # for every provider; adaptive when None
    circuits: Mapping[str, CircuitBreakerConfig]  # for single providers, by name; wins over `circuit`
    timeouts: TimeoutConfig | None
    provider_timeouts: Mapping[str, Mapping[str, float | None]]  # single fields, by provider; win over `timeouts`
    retry: RetryConfig | None
    muted: bool  # True: silence when nobody can speak. False: an error
    on_midstream: OnMidstream
    voice_substitution: VoiceSubstitution
    cache: CacheConfig | str | os.PathLike[str] | None  # a folder, or more about it; None: nothing is kept
    max_audio_bytes: int | None  # of audio that one request holds in memory; None: 64 MiB
    hedging: HedgeConfig | None  # ask the next provider as well when the first is late; None: never
    max_active: int | None  # utterances that are synthesised at once; 4096 when None
    max_queued: int | None  # utterances that wait for that; 2048 when None, and 0: none
    queue_timeout: float | None  # seconds that they wait, before TTSOverloadedError; 5.0 when None


class ServiceSettings(ServicePolicies, total=False):
    """The same, and what is for good."""

    clock: Callable[[], float]  # seconds that never go back
    wall_clock: Callable[[], float]  # the time of day, in seconds since 1970
    rng: Random


class ServiceArguments(ServicePolicies):
    """Everything a service is made of, as a configuration file says it."""

    providers: Sequence[Provider]


class SettingChanges(ServicePolicies, total=False):
    """What may be changed while it runs. What is not named stays."""

    providers: Sequence[Provider]


def options_from_request(request: SpeechRequest) -> SynthesisOptions:
    """Take apart what somebody else's door has made a request of: `tts.stream(request.text, **wishes_of(request))`."""
    return cast(
        SynthesisOptions,
        {name: getattr(request, name) for name in SynthesisOptions.__annotations__ if hasattr(request, name)},
    )


def validate_settings(providers: Sequence[Provider], settings: ServiceSettings) -> None:
    """Refuse what is unknown, of the wrong kind, or contradicts itself. Raises TypeError, TTSConfigurationError."""
    _reject_unknown(settings, ServiceSettings, "service")
    kinds = {
        "circuit": CircuitBreakerConfig,
        "timeouts": TimeoutConfig,
        "retry": RetryConfig,
        "hedging": HedgeConfig,
        "muted": bool,
    }
    for key, kind in kinds.items():
        value = settings.get(key)
        if value is not None and not isinstance(value, kind):
            raise TTSConfigurationError(f"{key}: must be a {kind.__name__}, got {value!r}")
    parse_cache_config(settings.get("cache"))
    validate_admission(settings)
    _validate_policies(settings)
    most = settings.get("max_audio_bytes")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < MIN_AUDIO_BYTES):
        raise TTSConfigurationError(
            f"max_audio_bytes: must be a whole number of bytes, {MIN_AUDIO_BYTES} or more, got {most!r}"
        )
    names = [provider.name for provider in providers]
    if not names:
        raise TTSConfigurationError("providers: at least one is needed; Tone() always works")
    for name in names:
        if not name:
            raise TTSConfigurationError("providers: a provider's name must not be empty")
        if not name.isprintable():
            told = "becomes a header, a label and a key of JSON; name it with characters that can be printed"
            raise TTSConfigurationError(f"providers: the name {name!a:.100} {told}")
        if names.count(name) > 1:
            raise TTSConfigurationError(f"providers: the name {name!r} is used twice; give one another `name`")
    for key, named in (
        ("circuits", settings.get("circuits")),
        ("provider_timeouts", settings.get("provider_timeouts")),
    ):
        for name in named or {}:
            if name not in names:
                raise TTSConfigurationError(f"{key}.{name}: there is no provider of this name")
    for name, own in (settings.get("circuits") or {}).items():
        if not isinstance(own, CircuitBreakerConfig):
            raise TTSConfigurationError(f"circuits.{name}: must be a CircuitBreakerConfig, got {own!r:.100}")
    _validate_timeouts(providers, settings)


def _validate_timeouts(providers: Sequence[Provider], settings: ServiceSettings) -> None:
    general = settings.get("timeouts") or TimeoutConfig()
    for name, own in (settings.get("provider_timeouts") or {}).items():
        if not isinstance(own, Mapping):
            raise TTSConfigurationError(
                f"provider_timeouts.{name}: must be a mapping of fields to seconds, got {own!r}"
            )
        try:
            general.laid_over(own)
        except TTSConfigurationError as error:
            raise TTSConfigurationError(f"provider_timeouts.{name}.{error.message}") from None
    for provider in providers:
        provider_timeouts(provider, general, {})


def merge_settings(
    settings: ServiceSettings, providers: Sequence[Provider], changes: SettingChanges
) -> ServiceSettings:
    """The settings with these in their stead, for these providers. Raises TypeError, TTSConfigurationError."""
    _reject_unknown(changes, SettingChanges, "reconfiguration")
    said = {name: value for name, value in changes.items() if name != "providers"}
    names = {provider.name for provider in providers}
    for key in ("circuits", "provider_timeouts"):
        if key not in changes:  # of who is not there any more, nothing is said
            kept = cast(Mapping[str, Any], settings.get(key) or {})
            said[key] = {name: own for name, own in kept.items() if name in names}
    changed = cast(ServiceSettings, {**settings, **said})
    validate_settings(providers, changed)
    return changed


def validate_options(wishes: SynthesisOptions) -> None:
    """Refuse what nobody could mean. Raises TypeError, TTSConfigurationError."""
    _reject_unknown(wishes, SynthesisOptions, "call")
    for key in ("cache", "hedging"):
        if not isinstance(wishes.get(key, True), bool):
            raise TTSConfigurationError(f"{key}: must be True or False in a call, got {wishes.get(key)!r}")
    _validate_policies(wishes)


def _reject_unknown(given: Mapping[str, Any], known: type, where: str) -> None:
    for key in given:
        if key not in known.__annotations__:
            near = get_close_matches(key, known.__annotations__, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f": there is {', '.join(known.__annotations__)}"
            raise TypeError(f"unexpected keyword argument {key!r} of this {where}{hint}")


def _validate_policies(given: Mapping[str, Any]) -> None:
    for key, words in {"on_midstream": ("resume", "restart", "error"), "voice_substitution": ("any", "never")}.items():
        if given.get(key, words[0]) not in words:
            raise TTSConfigurationError(f"{key}: must be one of {', '.join(words)}, got {given[key]!r}")


@dataclass(slots=True)
class UtteranceTemplate:
    """A style in one service, as that is now: on which terms, and who may speak, once that is known for every text."""

    request: SpeechRequest  # without a text
    policy: UtterancePolicy
    cast: Candidates | None = None
    ready: dict[str, tuple[SynthesisOffer, PreparedRequest | None]] = field(
        default_factory=dict
    )  # by the provider's name


@dataclass(slots=True, eq=False)
class ResolvedOptions:
    """What was wished for, in the shape in which it is used. `request` has no text."""

    request: SpeechRequest
    on_midstream: OnMidstream | None = None
    voice_substitution: VoiceSubstitution | None = None
    deadline: float | None = None
    cache: bool = True
    hedging: bool = True
    era: object = None  # of the service that it was staged in
    templates: dict[tuple[bool, bool], UtteranceTemplate] = field(default_factory=dict)

    @classmethod
    def of(cls, wishes: SynthesisOptions) -> ResolvedOptions:
        """Raises TypeError, TTSConfigurationError, TTSBadRequestError and TTSUnsupportedFormatError."""
        validate_options(wishes)
        return cls(
            _request_from(wishes),
            wishes.get("on_midstream"),
            wishes.get("voice_substitution"),
            check_deadline(wishes.get("deadline")),
            wishes.get("cache", True),
            wishes.get("hedging", True),
        )


def _request_from(wishes: SynthesisOptions) -> SpeechRequest:
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
