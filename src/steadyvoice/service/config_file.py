"""Configuration file (TOML), or environment variables, as the arguments of a service.

The file is validated as a whole, by pydantic: unknown keys and impossible values raise an error with the key's full
path. Values with a class of their own are checked by that class.
"""

from __future__ import annotations

import inspect
import ipaddress
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from steadyvoice._option_rules import OneOf
from steadyvoice.breaker import CircuitBreakerConfig
from steadyvoice.breaker.migration_hints import setting_in_files
from steadyvoice.providers import plugins
from steadyvoice.providers.base import Provider
from steadyvoice.providers.credentials import api_key_problem, strip_secret, token_problem
from steadyvoice.providers.environment import find_providers, installed_voices
from steadyvoice.providers.voices import VoiceMap
from steadyvoice.service.cache.keys import CacheConfig
from steadyvoice.service.journal.writer import JournalConfig
from steadyvoice.service.options import ServiceArguments
from steadyvoice.service.pipeline.audio_limits import MAX_AUDIO_BYTES, MIN_AUDIO_BYTES
from steadyvoice.service.pipeline.recorded_message import RecordedMessage, load_recorded_message
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.admission_control import MAX_ACTIVE, MAX_QUEUED, QUEUE_TIMEOUT
from steadyvoice.service.resilience.hedging import HedgeConfig
from steadyvoice.service.resilience.retry import RetryConfig
from steadyvoice.service.telemetry.config import TelemetryConfig
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.option_validation import validate_option
from steadyvoice.speech.request import OnMidstream, VoiceSubstitution
from steadyvoice.wire.error_response import redact
from steadyvoice.wire.text_file import UnreadableFileError, parse_toml, read_text_file

if TYPE_CHECKING:
    from steadyvoice.fleet import FleetConfig

T = TypeVar("T")

_log = logging.getLogger("steadyvoice.config")

_UNCHECKED_TYPES = (inspect.Parameter.empty, VoiceMap, VoiceMap | None)
"""Annotations of a provider's constructor that are not checked here, because the constructor does it better."""

PRESETS: dict[str, Callable[[], CircuitBreakerConfig]] = {
    "adaptive": CircuitBreakerConfig.adaptive,
    "default": CircuitBreakerConfig,
    "production": CircuitBreakerConfig.production,
    "development": CircuitBreakerConfig.development,
    "consecutive": partial(CircuitBreakerConfig.consecutive, 5),  # overridden by consecutive_failures
}

_OPTIONAL_SETTINGS = frozenset(field.name for field in fields(CircuitBreakerConfig) if field.default is None) | {
    "failure_threshold"
}


_CIRCUIT_KEYS = ("preset", *(field.name for field in fields(CircuitBreakerConfig)))

TIMEOUT_PRESETS: dict[str, Callable[[], TimeoutConfig]] = {
    "default": TimeoutConfig,
    "conversation": TimeoutConfig.conversation,
}


class ConfigTable(BaseModel):
    """Table of the file, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _validate_token(token: str) -> str:
    if problem := token_problem(token) if token else "must not be empty":
        raise PydanticCustomError("token", problem)
    return token


Secret = Annotated[str, AfterValidator(_validate_token)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


MAX_WORKERS = 128

_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@*\s]+/?")


class ServerConfig(ConfigTable):
    """Table `[server]`: addresses, authentication, limits and timeouts of the gateway."""

    host: str = "127.0.0.1"  # address to listen on; anything but the loopback interface needs `api_keys`
    port: Annotated[int, Field(ge=0, le=65535)] = 8040  # port to listen on; 0: any free port
    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] = 1  # worker processes that serve the port
    api_keys: Annotated[list[Secret], Field(repr=False)] = []  # keys of clients
    admin_token: Annotated[Secret | None, Field(repr=False)] = None  # token for `/admin`; without it, this machine only
    allowed_origins: list[str] = []  # origins of web pages that may call the speech endpoints (CORS)
    allowed_hosts: list[str] = []  # `Host` names besides the gateway's addresses
    max_body_bytes: Count = 1024 * 1024  # bytes of a request body
    max_text_characters: Count = 100_000  # characters of a text
    max_answer_bytes: Annotated[int, Field(ge=MIN_AUDIO_BYTES)] = MAX_AUDIO_BYTES
    """Bytes of audio held in memory for one request."""
    body_timeout: Seconds = 10.0  # seconds for a request's body
    header_timeout: Seconds = 10.0  # seconds for a request's head
    idle_timeout: Seconds = 75.0  # seconds that an idle connection is kept
    write_timeout: Seconds = 60.0  # seconds without progress of a reader before its connection is closed
    max_connections: Count = 8192  # open connections, of all workers together
    max_active: Count = MAX_ACTIVE  # utterances synthesized at the same time
    max_queued: Annotated[int, Field(ge=0)] = MAX_QUEUED  # utterances that wait for that
    queue_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] = QUEUE_TIMEOUT  # seconds that one waits
    shutdown_delay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds between a failing `/readyz` and the closed port."""
    shutdown_timeout: Seconds = 30.0  # seconds for streams in progress to end
    state_file: str | None = None  # file in which circuits and holds survive a restart
    first_audio_objective: Seconds = 2.0  # seconds after which first audio counts as late in the service level
    metrics: Literal["open", "admin"] = "open"  # whether `/metrics` needs no token, or that of `/admin`
    access_log: StrictBool = True  # one log line per request
    log_texts: StrictBool = False  # whether texts may appear in logs and `/admin/calls`

    @property
    def is_local(self) -> bool:
        """True if the host is a loopback address."""
        if self.host.lower().rstrip(".") == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def laid_over(self, **changes: Any) -> ServerConfig:
        """Return the table with some values replaced, validated again. Raises TTSConfigurationError."""
        return _validate(ServerConfig, {**self.model_dump(), **changes}, "server")

    @model_validator(mode="after")
    def _origins_that_can_be(self) -> Self:
        for origin in self.allowed_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"allowed_origins: {origin!r} is not an origin such as https://app.example, with a port if it has "
                    "one and without a path; wildcards are not supported"
                )
        return self

    @model_validator(mode="after")
    def _keyed_when_open(self) -> Self:
        if self.admin_token in self.api_keys:
            raise ValueError("admin_token: must differ from api_keys, whose holders have no access to the admin API")
        if not self.is_local and not self.api_keys:
            raise ValueError(
                f"api_keys: required to listen on {self.host}, where other machines can use the gateway at your "
                "expense; add some, or listen on 127.0.0.1"
            )
        return self


class FallbackConfig(ConfigTable):
    """Table `[fallback]`: what happens when the first provider fails."""

    on_midstream: OnMidstream = "resume"
    """When a stream breaks off: continue with another provider, begin again, or raise an error."""
    voice_substitution: VoiceSubstitution = "any"  # whether another voice may speak
    muted: StrictBool = True  # true: silence when no provider can speak; false: an error
    recorded: str | None = None  # audio file that is played instead of silence


class TelemetryTable(ConfigTable):
    """Table `[telemetry]`: what is reported to OpenTelemetry, whose own settings are variables `OTEL_*`."""

    traces: StrictBool = True  # spans of calls, attempts and changes of circuits
    metrics: StrictBool = True  # counts and times of calls, circuits and providers
    texts: StrictBool = False
    """Whether spans may have the texts that are spoken, and vendors' messages, which quote them."""


class ConfigFile(ConfigTable):
    """Whole file. Tables whose fields belong to a class outside this module are checked by that class."""

    server: ServerConfig = ServerConfig()
    timeouts: dict[str, Any] = {}
    retry: dict[str, Any] = {}
    circuit: dict[str, Any] = {}
    fallback: FallbackConfig = FallbackConfig()
    cache: dict[str, Any] | None = None  # no cache without the table
    hedge: dict[str, Any] | None = None  # no hedging without the table
    journal: dict[str, Any] | None = None  # no journal without the table
    fleet: dict[str, Any] | None = None  # each process stands alone without the table
    telemetry: TelemetryTable | None = None  # nothing is reported without the table
    providers: list[dict[str, Any]] = []


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """Configuration file as read, and the arguments built from it."""

    file: ConfigFile
    server: ServerConfig
    plan: ServiceArguments


def load_config(path: Path, environ: Mapping[str, str], former: LoadedConfig | None = None) -> LoadedConfig:
    """Read a configuration file; providers with the same settings as in `former` stay the same objects.

    Raises TTSConfigurationError.
    """
    file = parse_file(path, environ)
    return LoadedConfig(file, file.server, build_arguments(file, former))


def load_arguments(path: Path, environ: Mapping[str, str]) -> ServiceArguments:
    """Return the arguments of a service from a configuration file. Raises TTSConfigurationError."""
    return build_arguments(parse_file(path, environ))


def parse_file(path: Path, environ: Mapping[str, str]) -> ConfigFile:
    """Parse a configuration file and insert the secrets that it refers to. Raises TTSConfigurationError."""
    return _validate(ConfigFile, resolve_secrets(read_document(path), environ), "")


def read_document(path: Path) -> dict[str, Any]:
    """Return a configuration file as it is written. Raises TTSConfigurationError."""
    try:
        return parse_toml(read_text_file(path))
    except OSError as error:
        raise TTSConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnreadableFileError as error:
        raise TTSConfigurationError(f"{path}: {error}") from None


Report = Callable[[TTSConfigurationError], None]
"""Function that takes an error of the configuration, and raises it unless it collects all of them."""


def _raise(error: TTSConfigurationError) -> None:
    raise error


def parse_document(document: dict[str, Any], report: Report) -> ConfigFile:
    """Validate a whole file without its secrets' references; tables with errors that do not raise are left out."""
    try:
        return ConfigFile.model_validate(document)
    except ValidationError as error:
        for problem in _problems(error, ConfigFile):
            report(TTSConfigurationError(problem))
        wrong = {str(each["loc"][0]) for each in error.errors(include_input=False, include_url=False) if each["loc"]}
        return ConfigFile.model_validate({name: table for name, table in document.items() if name not in wrong})


def build_arguments(
    config: ConfigFile, former: LoadedConfig | None = None, report: Report = _raise
) -> ServiceArguments:
    """Build the arguments of a service; a provider with the same settings as in `former` is not built again.

    Raises TTSConfigurationError, unless `report` collects the errors: then what is wrong has its default instead.
    """

    def attempt(build: Callable[[], T], otherwise: T) -> T:
        try:
            return build()
        except TTSConfigurationError as error:
            report(error)
            return otherwise

    built = list(zip(former.file.providers, former.plan["providers"], strict=True)) if former else []
    if not config.providers:
        report(TTSConfigurationError("providers: at least one [[providers]] table is needed"))
    circuits: dict[str, CircuitBreakerConfig] = {}
    timeouts: dict[str, dict[str, float | None]] = {}
    nothing: dict[str, float | None] = {}
    general = attempt(lambda: parse_timeouts(config.timeouts, "timeouts"), TimeoutConfig())
    providers = []
    for index, table in enumerate(config.providers):
        built_provider = attempt(partial(_provider_of, table, f"providers.{index}", built), None)
        name = built_provider.name if built_provider else str(index)
        if built_provider:
            providers.append(built_provider)
        if (circuit := table.get("circuit")) is not None:
            own_circuit = partial(parse_circuit, circuit, f"providers.{index}.circuit")
            circuits[name] = attempt(own_circuit, CircuitBreakerConfig())
        if "timeouts" in table:
            own_timeouts = partial(parse_provider_timeouts, table["timeouts"], f"providers.{index}.timeouts", general)
            timeouts[name] = attempt(own_timeouts, nothing)
    return ServiceArguments(
        providers=providers,
        circuits=circuits,
        circuit=attempt(lambda: parse_circuit(config.circuit, "circuit"), CircuitBreakerConfig()),
        timeouts=general,
        provider_timeouts=timeouts,
        retry=attempt(lambda: _build(RetryConfig, config.retry, "retry"), RetryConfig()),
        muted=config.fallback.muted,
        recorded=attempt(lambda: _load_recorded(config.fallback), None),
        on_midstream=config.fallback.on_midstream,
        voice_substitution=config.fallback.voice_substitution,
        cache=attempt(lambda: _build_optional(CacheConfig, config.cache, "cache"), None),
        max_audio_bytes=config.server.max_answer_bytes,
        hedging=attempt(lambda: _build_optional(HedgeConfig, config.hedge, "hedge"), None),
        max_active=config.server.max_active,
        max_queued=config.server.max_queued,
        queue_timeout=config.server.queue_timeout,
        journal=attempt(lambda: _build_optional(JournalConfig, config.journal, "journal"), None),
        fleet=attempt(lambda: None if config.fleet is None else _build_fleet(config.fleet), None),
        telemetry=None if config.telemetry is None else TelemetryConfig(**config.telemetry.model_dump()),
    )


def _provider_of(table: dict[str, Any], path: str, built: Sequence[tuple[dict[str, Any], Provider]]) -> Provider:
    """Return the provider of a table: the former one, if its settings are the same."""
    fields = _provider_fields(table)
    known = next((each for former_table, each in built if _provider_fields(former_table) == fields), None)
    return known or _build_provider(fields, path)


def _build_optional(build: Callable[..., T], table: dict[str, Any] | None, path: str) -> T | None:
    return None if table is None else _build(build, table, path)


def _load_recorded(fallback: FallbackConfig) -> RecordedMessage | None:
    if fallback.recorded is None:
        return None
    return load_recorded_message(fallback.recorded, "fallback.recorded")


def _build_fleet(table: dict[str, Any]) -> FleetConfig:
    # Imported here, so that only services of a fleet load it.
    from steadyvoice.fleet import FleetConfig

    return _build(FleetConfig, table, "fleet")


def parse_circuit(table: Any, path: str) -> CircuitBreakerConfig:
    """Return the configuration of a `[circuit]` table: its fields laid over its preset.

    Without fields and preset it is adaptive, with fields only they are laid over the default. `false` removes an
    optional setting, such as the rule of `failure_threshold`.
    """
    if not isinstance(table, dict):
        raise TTSConfigurationError(f"{path}: must be a table")
    settings = dict(table)
    preset = settings.pop("preset", "default" if settings else "adaptive")
    validate_option(f"{path}.preset", preset, OneOf(tuple(PRESETS)))
    for name in settings:
        if instead := setting_in_files(name):
            raise TTSConfigurationError(f"{path}.{name}: unknown key; use {instead}")
    return _with_path(path, lambda: replace(PRESETS[preset](), **false_to_none(settings)), _CIRCUIT_KEYS)


def false_to_none(circuit: Mapping[str, Any]) -> dict[str, Any]:
    """Return a circuit's settings with None for `false` where None is possible: TOML has no null."""
    return {name: None if value is False and name in _OPTIONAL_SETTINGS else value for name, value in circuit.items()}


def parse_timeouts(table: Any, path: str) -> TimeoutConfig:
    """Return the configuration of a `[timeouts]` table: its fields laid over its preset, or over the default."""
    settings = dict(table)
    preset = _take_timeout_preset(settings, path)
    return _with_path(path, lambda: (preset or TimeoutConfig()).laid_over(settings))


def parse_provider_timeouts(table: Any, path: str, general: TimeoutConfig) -> dict[str, float | None]:
    """Return the fields of one provider's timeouts that override the general ones; a preset overrides all."""
    if not isinstance(table, dict):
        raise TTSConfigurationError(f"{path}: must be a table")
    settings = dict(table)
    if preset := _take_timeout_preset(settings, path):
        settings = {field.name: getattr(preset, field.name) for field in fields(preset)} | settings
    _with_path(path, lambda: general.laid_over(settings))
    return settings


def _take_timeout_preset(settings: dict[str, Any], path: str) -> TimeoutConfig | None:
    """Remove the preset from a table's fields, and return it."""
    if "preset" not in settings:
        return None
    preset = settings.pop("preset")
    validate_option(f"{path}.preset", preset, OneOf(tuple(TIMEOUT_PRESETS)))
    return TIMEOUT_PRESETS[preset]()


def arguments_from_environment(environ: Mapping[str, str]) -> ServiceArguments:
    """Return the arguments of a service from environment variables. Raises TTSConfigurationError.

    STEADYVOICE_CONFIG names a file. Without it, the vendors whose credentials are set are used, as `steadyvoice init`
    finds them, followed by the local voices that are installed, the neural one first, or else by the tone voice.
    """
    if path := environ.get("STEADYVOICE_CONFIG"):
        return load_arguments(Path(path), environ)
    kinds = installed_voices()
    if len(kinds) > 1 and kinds[-2] != "neural":
        kinds.pop()  # the neural voice speaks English only; any other language has to be spoken, too
    found = find_providers(environ, kinds)
    for reason in found.left_out:
        # A key that cannot be one was meant to be used. What only lacks a region or an extra may serve other programs.
        if reason.by_its_key:
            raise TTSConfigurationError(reason.message)
        _log.warning("provider left out: %s", reason.message)
    return ServiceArguments(providers=[each.provider for each in found.providers])


def _provider_fields(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a provider's table that belong to its constructor."""
    return {key: value for key, value in table.items() if key not in ("circuit", "timeouts")}


def _reject_secret(problem: str | None, variable: str, where: str = "") -> None:
    if problem:
        raise TTSConfigurationError(f"{where}the environment variable {variable} {problem}")


def _build_provider(fields: dict[str, Any], path: str) -> Provider:
    kind = fields.pop("kind", None)
    if not isinstance(kind, str):
        raise TTSConfigurationError(
            f"{path}.kind: must name a kind of provider: {', '.join(plugins.installed_kinds())}"
        )
    try:
        factory = plugins.load_kind(kind)
    except TTSConfigurationError as error:
        raise TTSConfigurationError(f"{path}.kind: {error.message}") from None
    name = fields.get("name", kind)
    try:
        return factory(**_validate_fields(factory, fields, path))
    except TTSConfigurationError as error:  # A provider prefixes the key with its name, where here stands the path.
        if error.message.startswith(f"{path}."):
            raise
        raise TTSConfigurationError(f"{path}.{error.message.removeprefix(f'{name}.')}") from None


def _validate_fields(factory: Callable[..., Provider], fields: dict[str, Any], path: str) -> dict[str, Any]:
    """Validate a table by the annotations of the provider's constructor, so that plugins need no checks."""
    try:
        parameters = inspect.signature(factory, eval_str=True).parameters.values()
    except NameError:  # annotations that are imported for type checkers only
        return fields
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    declared: dict[str, Any] = {
        parameter.name: (
            Any if parameter.annotation in _UNCHECKED_TYPES else parameter.annotation,
            ... if parameter.default is parameter.empty else None,
        )
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    config = ConfigDict(
        extra="allow" if open_ended else "forbid", arbitrary_types_allowed=True, protected_namespaces=()
    )
    table = _validate(create_model("Table", __config__=config, **declared), fields, path)
    return {name: getattr(table, name) for name in table.model_fields_set}


def _build(build: Callable[..., T], fields: dict[str, Any], path: str) -> T:
    """Call a constructor with a table's fields, and prefix its errors with the table's path."""
    return _with_path(path, lambda: build(**fields), tuple(inspect.signature(build).parameters))


M = TypeVar("M", bound=BaseModel)


def _validate(model: type[M], fields: Mapping[str, Any], path: str) -> M:
    """Return a validated table; its errors begin with the path of the key. Raises TTSConfigurationError."""
    try:
        return _with_path(path, lambda: model.model_validate(fields))
    except ValidationError as error:
        prefix = f"{path}." if path else ""
        first, *further = (f"{prefix}{problem}" for problem in _problems(error, model))
        refused = TTSConfigurationError(first)
        for problem in further:
            refused.add_note(problem)
        raise refused from None


_UNKNOWN_ARGUMENT = re.compile(r"unexpected keyword argument '(\w+)'")


def _with_path(path: str, build: Callable[[], T], known: Sequence[str] = ()) -> T:
    """Build a value, and prefix the errors with a table's path; of its `known` keys, the most similar is suggested."""
    prefix = f"{path}." if path else ""
    try:
        return build()
    except ValidationError:
        raise
    except TTSConfigurationError as error:
        raise TTSConfigurationError(f"{prefix}{error.message}") from None
    except TypeError as error:
        if unknown := _UNKNOWN_ARGUMENT.search(str(error)):
            raise TTSConfigurationError(f"{prefix}{unknown[1]}: {_unknown_key(unknown[1], known)}") from None
        raise TTSConfigurationError(f"{path}: {error}") from None
    except ValueError as error:
        raise TTSConfigurationError(f"{prefix}{error}") from None


def _problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return the problems, each after its key's path. Errors of a whole table begin with the key themselves."""
    return [_problem(each, model) for each in error.errors(include_input=False, include_url=False)]


def _problem(error: ErrorDetails, model: type[BaseModel]) -> str:
    where = ".".join(str(step) for step in error["loc"])
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where}: {_unknown_key(str(error['loc'][-1]), _keys_of(model, error['loc'][:-1]))}"
    if error["type"] == "value_error":
        return f"{where}." * bool(where) + str(error["ctx"]["error"])
    if where == "providers":
        return "providers: must be tables with double brackets: [[providers]]"
    # The value is not shown, because it may be a secret.
    return f"{where}: {error['msg'].replace('Input should be', 'must be').partition(', unable to parse')[0]}"


def _keys_of(model: type[BaseModel], path: Sequence[object]) -> Sequence[str]:
    """Return the keys of the table at a path below a model; none where another class checks them."""
    for step in path:
        inner = model.model_fields[str(step)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ()
        model = inner
    return tuple(model.model_fields)


def _unknown_key(name: str, known: Sequence[str]) -> str:
    similar = get_close_matches(name, known, 1)
    return f"unknown key; did you mean {similar[0]}?" if similar else "unknown key"


_NOT_A_VARIABLE = "the environment variable named after `env:` is not set; is that the key itself?"


def _looks_like_secret(name: str) -> bool:
    """Return whether a name looks like a key itself, so that it must not be shown."""
    mixed = re.search("[0-9]", name) and re.search("[a-z]", name)
    return redact(name) != name or bool(mixed and len(name) >= _MIN_SECRET_LENGTH)


_MIN_SECRET_LENGTH = 13  # characters


_IN_PLACE_OF_A_SECRET = "0" * 32


def resolve_secrets(document: dict[str, Any], environ: Mapping[str, str], report: Report = _raise) -> dict[str, Any]:
    """Replace every "env:NAME" by the value of the environment variable, which never appears in an error.

    Where one is missing and the error does not raise, the value is one that is valid and opens nothing.
    """

    def resolve(value: Any, path: str) -> Any:
        match value:
            case dict():
                return {key: resolve(inner, f"{path}.{key}".lstrip(".")) for key, inner in value.items()}
            case list():
                return [resolve(inner, f"{path}.{index}") for index, inner in enumerate(value)]
            case str() if value.startswith("env:"):
                try:
                    return _secret(value.removeprefix("env:"), environ, path)
                except TTSConfigurationError as error:
                    report(error)
                    return _IN_PLACE_OF_A_SECRET
            case _:
                return value

    return {key: resolve(value, key) for key, value in document.items()}


def _secret(name: str, environ: Mapping[str, str], path: str) -> str:
    if not strip_secret(environ.get(name, "")):
        named = f"the environment variable {name} is not set"
        raise TTSConfigurationError(f"{path}: {_NOT_A_VARIABLE if _looks_like_secret(name) else named}")
    held = strip_secret(environ[name])  # env files and mounted secrets leave line ends
    if path.startswith(("server.api_keys.", "server.admin_token")):
        _reject_secret(token_problem(held), name, f"{path}: ")
    elif path.endswith(".api_key"):
        _reject_secret(api_key_problem(held, may_be_nothing=True), name, f"{path}: ")
    return held
