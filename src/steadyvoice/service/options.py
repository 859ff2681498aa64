"""Options of a call (keyword arguments of `synthesize`) and settings of a service: types, validation, resolved forms.

Both services take them as keyword arguments. Values are checked once, and resolved options are kept, because most
callers repeat the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from random import Random
from typing import TYPE_CHECKING, Any, Required, TypedDict, cast

from steadyvoice._option_rules import FLAG, Number, OneOf
from steadyvoice.breaker import CircuitBreakerConfig
from steadyvoice.providers.base import PreparedRequest, Provider, SynthesisOffer
from steadyvoice.service.cache.keys import CacheConfig, parse_cache_config
from steadyvoice.service.journal.writer import JournalConfig, parse_journal_config
from steadyvoice.service.pipeline.audio_limits import MAX_AUDIO_BYTES, MIN_AUDIO_BYTES
from steadyvoice.service.pipeline.candidates import Candidates
from steadyvoice.service.pipeline.recorded_message import RecordedMessage, load_recorded_message
from steadyvoice.service.pipeline.timeouts import TimeoutConfig, check_deadline, provider_timeouts
from steadyvoice.service.resilience.admission_control import MAX_ACTIVE, MAX_QUEUED, QUEUE_TIMEOUT, AdmissionLimits
from steadyvoice.service.resilience.hedging import HedgeConfig
from steadyvoice.service.resilience.retry import RetryConfig
from steadyvoice.service.telemetry.config import TelemetryConfig, parse_telemetry
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.option_validation import validate_option
from steadyvoice.speech.request import OnMidstream, SpeechRequest, UnknownVoice, VoiceSubstitution
from steadyvoice.speech.writing_systems import is_latin

if TYPE_CHECKING:
    from steadyvoice.fleet import FleetConfig, FleetStore


@dataclass(frozen=True, slots=True)
class UtterancePolicy:
    """Settings in force for one utterance, from the call's options and the service's settings.

    `deadline` is the caller's own, in seconds. With `hold` no audio is delivered before its piece is complete, which
    costs nothing where the whole is wanted anyway. `announced`: the outcome was sent with the first byte and cannot
    change, so that silence after speech would pass for the whole. At most `max_audio_bytes` of audio are held.
    `segment`: the text is a segment of a turn, whose output goes on behind it; audio without timestamps is then
    delivered as it comes, and a segment that breaks off is spoken again from its start, unless `hold_back` has it wait
    until it is complete. `recorded` is played instead of silence, where `muted` allows that.
    """

    timeouts: TimeoutConfig
    muted: bool
    on_midstream: OnMidstream
    voice_substitution: VoiceSubstitution
    max_attempts: int
    deadline: float | None = None
    hold: bool = False
    announced: bool = False
    max_audio_bytes: int = MAX_AUDIO_BYTES
    segment: bool = False
    hold_back: bool = False
    recorded: RecordedMessage | None = None

    @property
    def resumes(self) -> bool:
        """True if another provider continues an interrupted utterance."""
        return self.on_midstream == "resume"

    @property
    def own_deadline(self) -> bool:
        """True if the caller's deadline is shorter than the configured one."""
        return self.deadline is not None and self.deadline < self.timeouts.total_timeout

    @property
    def total(self) -> float:
        """Seconds for the whole utterance."""
        return min(self.timeouts.total_timeout, self.deadline or self.timeouts.total_timeout)


class SynthesisOptions(TypedDict, total=False):
    """Keyword arguments of `synthesize()` and `stream()`."""

    voice: str  # name that each provider maps to its own; "default" if absent
    format: str | AudioFormat  # ElevenLabs name such as "mp3_44100_128" (the default), or "mp3", "wav", ...
    model: str | None  # each provider maps it to its own; the provider's `model` if absent
    language: str | None  # BCP 47, such as "en" or "de-AT"
    speed: float  # 1.0 is the voice's own speed
    seed: int | None  # for vendors that make the same audio of the same seed
    previous_text: str | None  # spoken just before, for the prosody
    next_text: str | None  # spoken just after, for the prosody
    options: Mapping[str, Any]  # a vendor's own fields, passed through unchanged
    unknown_voice: UnknownVoice  # for a voice missing in a provider's `voices`; "refuse" if absent
    dialect: str | None  # vendor whose names voice and options are: "elevenlabs", "openai"
    timestamps: bool  # request the times of each character, even where resume does not need them
    deadline: float | None  # seconds for the whole utterance, if shorter than `total_timeout`
    on_midstream: OnMidstream  # "resume", "restart" or "error" when a stream breaks off; the service's if absent
    voice_substitution: VoiceSubstitution  # "any" or "never"; the service's if absent
    cache: bool  # False: neither read nor write the cache
    hedging: bool  # False: no second request when the first provider is only late


class ServicePolicies(TypedDict, total=False):
    """Settings of a service that can be changed while it runs."""

    circuit: CircuitBreakerConfig | None  # for every provider; adaptive if None
    circuits: Mapping[str, CircuitBreakerConfig]  # of single providers, by name; overrides `circuit`
    timeouts: TimeoutConfig | None  # seconds; the defaults of TimeoutConfig if None
    provider_timeouts: Mapping[str, Mapping[str, float | None]]  # single fields, by provider; override `timeouts`
    retry: RetryConfig | None  # the defaults of RetryConfig if None
    muted: bool  # True: silence when no provider can speak; False: an error
    recorded: RecordedMessage | str | os.PathLike[str] | None  # file played before silence; only if `muted`
    on_midstream: OnMidstream  # "resume" (the default), "restart" or "error" when a stream breaks off
    voice_substitution: VoiceSubstitution  # "any" (the default) or "never": whether another voice may speak
    cache: CacheConfig | str | os.PathLike[str] | None  # folder or configuration; None: no cache
    max_audio_bytes: int | None  # bytes of audio that one request may hold in memory; 64 MiB if None
    hedging: HedgeConfig | None  # second request when the first provider is late; None: never
    max_active: int | None  # utterances synthesised at once; 4096 if None
    max_queued: int | None  # utterances waiting for that; 2048 if None
    queue_timeout: float | None  # seconds that they wait before TTSOverloadedError; 5.0 if None
    journal: JournalConfig | str | os.PathLike[str] | None  # folder or configuration; None: no journal
    fleet: FleetConfig | FleetStore | str | None  # shares circuits with other processes; address, name, or a store


class ServiceSettings(ServicePolicies, total=False):
    """Settings of a service at construction: those that can be changed, and those that cannot."""

    clock: Callable[[], float]  # monotonic, in seconds
    wall_clock: Callable[[], float]  # seconds since 1970
    rng: Random  # random numbers of pauses and of the cooldown; the system's if absent
    telemetry: TelemetryConfig | bool | None  # spans and metrics for OpenTelemetry; True: all but texts


class ServiceArguments(ServicePolicies, total=False):
    """Keyword arguments of a service's constructor, as a configuration file gives them."""

    providers: Required[Sequence[Provider]]
    telemetry: TelemetryConfig | None


class SettingChanges(ServicePolicies, total=False):
    """Keyword arguments of `reconfigure()`: settings and providers; absent ones stay."""

    providers: Sequence[Provider]  # in order of preference, in place of the present ones


def options_from_request(request: SpeechRequest) -> SynthesisOptions:
    """Return the options of a request, for `tts.stream(request.text, **options_from_request(request))`."""
    names = SynthesisOptions.__annotations__
    return cast(SynthesisOptions, {name: getattr(request, name) for name in names if hasattr(request, name)})


def validate_settings(providers: Sequence[Provider], settings: ServiceSettings) -> None:
    """Check the settings of a service and its providers. Raises TypeError, TTSConfigurationError."""
    _reject_unknown(settings, ServiceSettings, "service")
    if settings.get("muted") is not None:
        validate_option("muted", settings["muted"], FLAG)
    for key, kind in _SETTING_TYPES.items():
        value = settings.get(key)
        if value is not None and not isinstance(value, kind):
            raise TTSConfigurationError(f"{key}: must be a {kind.__name__}, got {value!r}")
    parse_cache_config(settings.get("cache"))
    parse_journal_config(settings.get("journal"))
    AdmissionLimits.from_settings(settings)
    _validate_policies(settings)
    _validate_max_audio_bytes(settings.get("max_audio_bytes"))
    _validate_fleet(settings.get("fleet"))
    parse_telemetry(settings.get("telemetry"))
    names = [provider.name for provider in validated_providers(providers)]
    _validate_names(names)
    for key, named in (
        ("circuits", settings.get("circuits")),
        ("provider_timeouts", settings.get("provider_timeouts")),
    ):
        for name in named or {}:
            if name not in names:
                raise TTSConfigurationError(f"{key}.{name}: no provider has this name")
    for name, circuit in (settings.get("circuits") or {}).items():
        if not isinstance(circuit, CircuitBreakerConfig):
            raise TTSConfigurationError(f"circuits.{name}: must be a CircuitBreakerConfig, got {circuit!r:.100}")
    _validate_timeouts(providers, settings)


_SETTING_TYPES: Mapping[str, type] = {
    "circuit": CircuitBreakerConfig,
    "timeouts": TimeoutConfig,
    "retry": RetryConfig,
    "hedging": HedgeConfig,
}


def recorded_message(setting: RecordedMessage | str | os.PathLike[str] | None) -> RecordedMessage | None:
    """Return the message of the setting `recorded`, decoded. Raises TTSConfigurationError."""
    if setting is None or isinstance(setting, RecordedMessage):
        return setting
    if not isinstance(setting, str | os.PathLike):
        raise TTSConfigurationError(f"recorded: must be the path of an audio file, got {setting!r:.100}")
    return load_recorded_message(setting, "recorded")


def _validate_max_audio_bytes(max_audio_bytes: object) -> None:
    if max_audio_bytes is not None:
        validate_option("max_audio_bytes", max_audio_bytes, Number("bytes", integer=True, minimum=MIN_AUDIO_BYTES))


def _validate_fleet(setting: FleetConfig | FleetStore | str | None) -> None:
    if setting is None:
        return
    # Imported here, so that only services of a fleet load it.
    from steadyvoice.fleet import FleetConfig, FleetURLError

    try:
        if isinstance(setting, str):
            FleetConfig(setting)
    except FleetURLError as error:
        raise TTSConfigurationError(f"fleet.{error}") from None
    if not isinstance(setting, str | FleetConfig) and not callable(getattr(setting, "beat", None)):
        raise TTSConfigurationError(f"fleet: must be an address, a FleetConfig or a FleetStore, got {setting!r:.100}")


def validated_providers(providers: Any) -> Sequence[Provider]:
    """Return the providers, if they are a sequence of objects that can speak. Raises TTSConfigurationError."""
    if not isinstance(providers, Sequence) or isinstance(providers, str):
        found = type(providers).__name__
        raise TTSConfigurationError(f"providers: must be a list, such as [ElevenLabs(), Tone()], got {found}")
    for provider in providers:
        if isinstance(provider, type) or not callable(getattr(provider, "speak", None)):
            instead = f"{provider.__name__}()" if isinstance(provider, type) else "such as Tone()"
            raise TTSConfigurationError(f"providers: must be objects, {instead}, got {provider!r:.100}")
    return providers


def _validate_names(names: Sequence[str]) -> None:
    if not names:
        raise TTSConfigurationError("providers: at least one is needed; Tone() always works")
    for name in names:
        if not name:
            raise TTSConfigurationError("providers: a provider's name must not be empty")
        if not name.isprintable():
            reason = "must be printable: it is used in headers, metric labels and JSON keys"
            raise TTSConfigurationError(f"providers: the name {name!a:.100} {reason}")
        if names.count(name) > 1:
            raise TTSConfigurationError(f"providers: duplicate name {name!r}; give one of them another `name`")


def _validate_timeouts(providers: Sequence[Provider], settings: ServiceSettings) -> None:
    general = settings.get("timeouts") or TimeoutConfig()
    for name, overrides in (settings.get("provider_timeouts") or {}).items():
        if not isinstance(overrides, Mapping):
            raise TTSConfigurationError(
                f"provider_timeouts.{name}: must be a mapping of fields to seconds, got {overrides!r}"
            )
        try:
            general.laid_over(overrides)
        except TTSConfigurationError as error:
            raise TTSConfigurationError(f"provider_timeouts.{name}.{error.message}") from None
    for provider in providers:
        provider_timeouts(provider, general, {})


def merge_settings(
    settings: ServiceSettings, providers: Sequence[Provider], changes: SettingChanges
) -> ServiceSettings:
    """Return the settings with changes applied, checked for these providers.

    Raises TypeError, TTSConfigurationError.
    """
    _reject_unknown(changes, SettingChanges, "reconfiguration")
    given = {name: value for name, value in changes.items() if name != "providers"}
    names = {provider.name for provider in providers}
    for key in ("circuits", "provider_timeouts"):
        if key not in changes:  # settings of removed providers go with them
            kept = cast(Mapping[str, Any], settings.get(key) or {})
            given[key] = {name: setting for name, setting in kept.items() if name in names}
    changed = cast(ServiceSettings, {**settings, **given})
    validate_settings(providers, changed)
    return changed


def validate_options(options: SynthesisOptions) -> None:
    """Check the options of a call. Raises TypeError, TTSConfigurationError."""
    _reject_unknown(options, SynthesisOptions, "call")
    for key in ("cache", "hedging"):
        validate_option(key, options.get(key, True), FLAG)
    _validate_policies(options)


def _reject_unknown(arguments: Mapping[str, Any], known: type, where: str) -> None:
    for key in arguments:
        if key not in known.__annotations__:
            near = get_close_matches(key, known.__annotations__, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f": known ones are {', '.join(known.__annotations__)}"
            raise TypeError(f"unexpected keyword argument {key!r} of this {where}{hint}")


def _validate_policies(options: Mapping[str, Any]) -> None:
    for key, words in {"on_midstream": ("resume", "restart", "error"), "voice_substitution": ("any", "never")}.items():
        validate_option(key, options.get(key, words[0]), OneOf(words))


@dataclass(slots=True)
class UtteranceTemplate:
    """Options resolved against the settings of one service: the policy, and what does not depend on the text.

    `candidates` is filled if they are the same for every text, `latin_candidates` if they are the same for every text
    in ASCII that has letters, `prepared` by name of the provider, `relay_plan` with the plan of the fast lane, if a
    request `may_be_relayed`: by neither the cache nor hedging.
    """

    request: SpeechRequest  # without a text
    policy: UtterancePolicy
    candidates: Candidates | None = None
    latin_candidates: Candidates | None = None
    prepared: dict[str, tuple[SynthesisOffer, PreparedRequest | None]] = field(default_factory=dict)
    relay_plan: object = None
    may_be_relayed: bool = True

    def candidates_for(self, text: str) -> Candidates | None:
        """Return the candidates for a text, if they are known."""
        known = self.candidates or (self.latin_candidates if self.latin_candidates and is_latin(text) else None)
        return known if known and known.is_current else None


@dataclass(slots=True, eq=False)
class ResolvedOptions:
    """Checked options of a call, reusable for any text. `request` has no text."""

    request: SpeechRequest
    on_midstream: OnMidstream | None = None
    voice_substitution: VoiceSubstitution | None = None
    deadline: float | None = None
    cache: bool = True
    hedging: bool = True
    settings: object = None  # of the service, for which the templates were made
    templates: dict[tuple[bool, bool], UtteranceTemplate] = field(default_factory=dict)  # by (hold, announced)

    @classmethod
    def resolve(cls, options: SynthesisOptions) -> ResolvedOptions:
        """Check the options of a call and fill in defaults.

        Raises TypeError, TTSConfigurationError, TTSBadRequestError and TTSUnsupportedFormatError.
        """
        validate_options(options)
        return cls(
            _request_from(options),
            options.get("on_midstream"),
            options.get("voice_substitution"),
            check_deadline(options.get("deadline")),
            options.get("cache", True),
            options.get("hedging", True),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SettingsInForce:
    """Checked settings of a service until the next change, those that are absent filled in."""

    given: ServiceSettings
    timeouts: TimeoutConfig
    retry: RetryConfig
    recorded: RecordedMessage | None
    on_midstream: OnMidstream
    voice_substitution: VoiceSubstitution
    cache: CacheConfig | None
    hedging: HedgeConfig | None
    max_audio_bytes: int
    journal: JournalConfig | None

    @classmethod
    def of(cls, settings: ServiceSettings) -> SettingsInForce:
        """Return checked settings in force. Raises TTSConfigurationError if the recorded message cannot be read."""
        # Kept among the settings, so that later changes of others do not read the file again.
        recorded = recorded_message(settings.get("recorded"))
        return cls(
            {**settings, "recorded": recorded},
            settings.get("timeouts") or TimeoutConfig(),
            settings.get("retry") or RetryConfig(),
            recorded,
            settings.get("on_midstream", "resume"),
            settings.get("voice_substitution", "any"),
            parse_cache_config(settings.get("cache")),
            settings.get("hedging"),
            settings.get("max_audio_bytes") or MAX_AUDIO_BYTES,
            parse_journal_config(settings.get("journal")),
        )

    def utterance_policy(self, options: ResolvedOptions, *, hold: bool, announced: bool) -> UtterancePolicy:
        """Return the policy of an utterance."""
        return UtterancePolicy(
            timeouts=self.timeouts,
            muted=self.given.get("muted", True),
            on_midstream=options.on_midstream or self.on_midstream,
            voice_substitution=options.voice_substitution or self.voice_substitution,
            max_attempts=self.retry.max_attempts,
            deadline=options.deadline,
            hold=hold,
            announced=announced,
            max_audio_bytes=self.max_audio_bytes,
            recorded=self.recorded,
        )

    def turn_policy(self, options: ResolvedOptions, timeouts: TimeoutConfig | None, muted: bool) -> UtterancePolicy:
        """Return the policy of the segments of a turn, whose conversation may have its own `timeouts`."""
        return UtterancePolicy(
            timeouts=timeouts or self.timeouts,
            muted=muted,
            on_midstream="resume",
            voice_substitution=options.voice_substitution or self.voice_substitution,
            max_attempts=self.retry.max_attempts,
            deadline=options.deadline,
            max_audio_bytes=self.max_audio_bytes,
            segment=True,
            recorded=self.recorded,
        )

    def with_defaults(self) -> ServiceSettings:
        """Return the settings, defaults included."""
        defaults: ServiceSettings = {
            "timeouts": self.timeouts,
            "retry": self.retry,
            "muted": True,
            "on_midstream": "resume",
            "voice_substitution": "any",
            "cache": None,
            "max_active": MAX_ACTIVE,
            "max_queued": MAX_QUEUED,
            "queue_timeout": QUEUE_TIMEOUT,
            "max_audio_bytes": MAX_AUDIO_BYTES,
        }
        given = {name: value for name, value in self.given.items() if value is not None}
        return cast(ServiceSettings, {**defaults, **given})


def _request_from(options: SynthesisOptions) -> SpeechRequest:
    form = options.get("format", "mp3_44100_128")
    return SpeechRequest(
        text="",
        format=form if isinstance(form, AudioFormat) else AudioFormat.parse(form),
        voice=options.get("voice", "default"),
        model=options.get("model"),
        language=options.get("language"),
        speed=options.get("speed", 1.0),
        seed=options.get("seed"),
        previous_text=options.get("previous_text"),
        next_text=options.get("next_text"),
        options=options.get("options", {}),
        unknown_voice=options.get("unknown_voice", "refuse"),
        dialect=options.get("dialect"),
        timestamps=options.get("timestamps", False),
    )
