"""Configuration of OpenTelemetry. Importing this loads nothing of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from steadyvoice._extras import MissingExtraError, require
from steadyvoice._option_rules import FLAG
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.option_validation import validate_option


@dataclass(frozen=True, slots=True)
class TelemetryConfig:
    """Settings of the reports to OpenTelemetry: which are made, and by which providers of its SDK.

    - `traces`: spans of calls, attempts and changes of circuits;
    - `metrics`: metrics by the definitions of the gateway's `/metrics`;
    - `texts`: the texts that are spoken, and vendors' error messages, which quote them;
    - `tracer_provider`, `meter_provider`: the application's own, if they are not those that it has set for the whole
      process. The command `steadyvoice serve` makes some by the variables `OTEL_*` of the environment.

    Raises TTSConfigurationError.
    """

    traces: bool = True
    metrics: bool = True
    texts: bool = False
    tracer_provider: Any = field(default=None, repr=False)
    meter_provider: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("traces", "metrics", "texts"):
            validate_option(name, getattr(self, name), FLAG)
        for name, method in (("tracer_provider", "get_tracer"), ("meter_provider", "get_meter")):
            given = getattr(self, name)
            if given is not None and not callable(getattr(given, method, None)):
                raise TTSConfigurationError(f"{name}: must be a provider of OpenTelemetry, got {given!r:.100}")


def parse_telemetry(setting: object) -> TelemetryConfig | None:
    """Return the configuration of the setting `telemetry`; None if it is off.

    True is everything but texts. Raises TTSConfigurationError.
    """
    if setting is None or setting is False:
        return None
    if setting is True:
        return TelemetryConfig()
    if not isinstance(setting, TelemetryConfig):
        raise TTSConfigurationError(f"telemetry: must be a TelemetryConfig, or True, got {setting!r:.100}")
    return setting


def require_opentelemetry(*modules: str) -> None:
    """Check that OpenTelemetry is installed, with these further modules. Raises TTSConfigurationError."""
    try:
        require("otel", "opentelemetry.trace", *modules, package="OpenTelemetry")
    except MissingExtraError as error:
        raise TTSConfigurationError(f"telemetry: {error}") from None
