"""Configuration file: the arguments that it builds, and its errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from steadyvoice import (
    CacheConfig,
    CircuitBreakerConfig,
    HedgeConfig,
    OpenAICompatible,
    TTSConfigurationError,
    TTSService,
    Voice,
)
from steadyvoice.service.config_file import arguments_from_environment, load_arguments, parse_file

NARRATOR = '[[providers]]\nkind = "openai"\nbase_url = "http://here"\nvoices = {{ narrator = {} }}'
KEY = "sk-not-for-anyones-eyes"
WHOLE = """
[server]
host = "127.0.0.1"
port = 8040
api_keys = ["env:GATE_KEY"]

[timeouts]
connection_timeout = 5.0
total_timeout = 20

[retry]
max_attempts = 2

[circuit]
preset = "production"
window_size = 30

[fallback]
on_midstream = "error"
voice_substitution = "never"
muted = false

[cache]
max_megabytes = 0

[[providers]]
name = "main"
kind = "elevenlabs"
api_key = "env:ELEVENLABS_API_KEY"
voices = { narrator = "JBFqnCBsd6RMkjVDRZzb" }

[[providers]]
kind = "tone"

[providers.circuit]
failure_threshold = 0.9
"""
ENVIRON = {"ELEVENLABS_API_KEY": KEY, "GATE_KEY": "gate"}


def write(folder: Path, text: str) -> Path:
    path = folder / "steadyvoice.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_complete_file_sets_every_option(tmp_path: Path) -> None:
    plan = load_arguments(write(tmp_path, WHOLE), ENVIRON)
    assert [provider.name for provider in plan["providers"]] == ["main", "tone"]
    assert plan["circuit"] == CircuitBreakerConfig(0.6, 30, 120, 5)
    assert plan["circuits"] == {"tone": CircuitBreakerConfig(0.9)}
    assert plan["timeouts"] is not None
    assert (plan["timeouts"].connection_timeout, plan["timeouts"].total_timeout) == (5.0, 20)
    assert plan["retry"] is not None
    assert plan["retry"].max_attempts == 2
    assert (plan["muted"], plan["on_midstream"], plan["voice_substitution"]) == (False, "error", "never")
    assert parse_file(write(tmp_path, WHOLE), ENVIRON).server.api_keys == ["gate"]


def test_cache_is_enabled_by_its_table_only(tmp_path: Path) -> None:
    tone = '[[providers]]\nkind = "tone"'
    assert load_arguments(write(tmp_path, tone), {})["cache"] is None
    usual = load_arguments(write(tmp_path, f"[cache]\n{tone}"), {})["cache"]
    assert usual == CacheConfig("~/.cache/steadyvoice", max_megabytes=1024)
    with TTSService.from_config(write(tmp_path, f"[cache]\nmax_megabytes = 0\n{tone}")) as off:
        assert off.get_error_state()["cache"] is None


def test_voice_is_an_id_or_a_table(tmp_path: Path) -> None:
    table = '{ id = "n", language = "en", gender = "female", rate = 150, loudness = -18.5 }'
    for value, voice in (('"n"', Voice("n")), (table, Voice("n", "en", "female", 150, -18.5))):
        provider = load_arguments(write(tmp_path, NARRATOR.format(value)), {})["providers"][0]
        assert isinstance(provider, OpenAICompatible)
        assert provider.voices == {"default": Voice("alloy"), "narrator": voice}


def test_hedging_is_enabled_by_its_table_only(tmp_path: Path) -> None:
    tone = '[[providers]]\nkind = "tone"'
    assert load_arguments(write(tmp_path, tone), {})["hedging"] is None
    assert load_arguments(write(tmp_path, f"[hedge]\n{tone}"), {})["hedging"] == HedgeConfig()
    own = "percentile = 0.9\nbudget = 0.1\nminimum_samples = 50\nwindow_seconds = 600"
    assert load_arguments(write(tmp_path, f"[hedge]\n{own}\n{tone}"), {})["hedging"] == HedgeConfig(0.9, 0.1, 50, 600)
    with pytest.raises(
        TTSConfigurationError, match=r"hedge\.budget: must be a number, more than 0 and at most 1, got 5"
    ):
        load_arguments(write(tmp_path, f"[hedge]\nbudget = 5\n{tone}"), {})
    with pytest.raises(TTSConfigurationError, match=r"hedge\.delay: unknown key"):
        load_arguments(write(tmp_path, f"[hedge]\ndelay = 0.5\n{tone}"), {})
    with TTSService.from_config(write(tmp_path, f"[hedge]\n{tone}")) as tts:
        assert tts.get_error_state()["hedging"]["started"] == 0


@pytest.mark.parametrize(
    ("circuit", "expected"),
    [
        ("", CircuitBreakerConfig.adaptive()),
        ("[circuit]", CircuitBreakerConfig.adaptive()),
        ("[circuit]\nwindow_size = 8", CircuitBreakerConfig(window_size=8)),
        ('[circuit]\npreset = "default"', CircuitBreakerConfig()),
        ('[circuit]\npreset = "development"\ncooldown_period = 3', CircuitBreakerConfig(0.5, 4, 3, 2)),
        ('[circuit]\npreset = "consecutive"', CircuitBreakerConfig.consecutive(5)),
        ('[circuit]\npreset = "consecutive"\nconsecutive_failures = 20', CircuitBreakerConfig.consecutive(20)),
        (
            '[circuit]\npreset = "consecutive"\nconsecutive_failures = 3\ncooldown_period = 7',
            CircuitBreakerConfig.consecutive(3, cooldown_period=7),
        ),
        ("[circuit]\nfailure_threshold = false\nconsecutive_failures = 20", CircuitBreakerConfig.consecutive(20)),
        ("[circuit]\ncooldown_period = 0", CircuitBreakerConfig(cooldown_period=0)),
        (
            '[circuit]\npreset = "adaptive"\nsignificance = false\nhung_factor = false\nmax_cooldown = false',
            replace(CircuitBreakerConfig.adaptive(), significance=None, hung_factor=None, max_cooldown=None),
        ),
    ],
)
def test_circuit_fields_lie_over_a_preset(tmp_path: Path, circuit: str, expected: CircuitBreakerConfig) -> None:
    plan = load_arguments(write(tmp_path, f'{circuit}\n[[providers]]\nkind = "tone"'), {})
    assert plan["circuit"] == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[timeouts]\nread_timeout = 0", "timeouts.read_timeout: must be a number of seconds, more than 0"),
        ("[timeouts]\nread_tmeout = 1", "timeouts.read_tmeout: unknown key"),
        ('[timeouts]\nread_timeout = "10"', "timeouts.read_timeout: must be a number"),
        ("[retry]\nmax_attempts = 0", "retry.max_attempts:"),
        ("[circuit]\nfailure_threshold = 2", "circuit.failure_threshold"),
        ("[circuit]\nwindow_size = 4\nminimum_calls = 9", "circuit.minimum_calls"),
        ('[circuit]\npreset = "brave"', "circuit.preset: must be one of"),
        ("[circuit]\nwindow = 4", "circuit.window: unknown key"),
        ("[circuit]\nfailure_treshold = 0.4", "circuit.failure_treshold: unknown key; did you mean failure_threshold?"),
        ("[retry]\nmax_atempts = 2", "retry.max_atempts: unknown key; did you mean max_attempts?"),
        ('[circuit]\npreset = ["production"]', "circuit.preset: must be one of"),
        ("[circuit]\nfailure_threshold = 5", r"circuit.failure_threshold=5: .*consecutive\(5\).*preset = .consecutive"),
        ("[circuit]\nfailure_threshold = false", "circuit.failure_threshold=None: no rule would open the circuit"),
        ("[circuit]\nfailure_threshold = true", "circuit.failure_threshold=True"),
        ("[circuit]\ncooldown_period = false", "circuit.cooldown_period=False"),
        ("[circuit]\nfail_max = 5", "circuit.fail_max: unknown key; use preset = .consecutive. with"),
        ("[circuit]\nrecovery_timeout = 5", "circuit.recovery_timeout: unknown key; use cooldown_period"),
        (f"[circuit]\nwindow_size = {10**400}", "circuit.window_size=10.*: must be a whole number, at most"),
        ('[circuit]\npreset = "consecutive"\nconsecutive_failures = 0', "circuit.consecutive_failures=0: must be"),
        ('[circuit]\npreset = "consecutive"\nconsecutive_failures = false', "circuit.failure_threshold=None: no rule"),
        ("circuit = 3", "circuit:"),
        ('[fallback]\non_midstream = "pray"', "fallback.on_midstream:"),
        ("[fallback]\nmute = true", "fallback.mute: unknown key; did you mean muted?"),
        ("[server]\nport = 99999", "server.port: must be less than or equal to 65535"),
        ('[server]\nport = "eighty"', "server.port: must be a valid integer;"),
        ("[server]\nprot = 80", "server.prot: unknown key; did you mean port?"),
        ("[sever]\nport = 1", "sever: unknown key; did you mean server?"),
        ("[cache]\nmax_megabytes = -1", "cache.max_megabytes:"),
        ("[cache]\nmax_age_days = 0", "cache.max_age_days: must be"),
        ("[cache]\nfolder = 3", "cache.folder: unknown key"),
        ('[providers]\nkind = "tone"', r"providers: must be tables with double brackets: \[\[providers\]\]"),
        ('[[providers]]\nkind = "espeak"\nvoces = {}', "providers.0.voces: unknown key; did you mean voices?"),
        ('[[providers]]\nkind = "elevenlab"', "providers.0.kind: unknown kind .*; did you mean elevenlabs?"),
        ('[[providers]]\nname = "x"', "providers.0.kind:"),
        ('[[providers]]\nkind = "gramophone"', "providers.0.kind:"),
        ('[[providers]]\nkind = "tone"\nvolume = 3', "providers.0.volume: unknown key"),
        ('[[providers]]\nkind = "elevenlabs"\napi_key = "k"\nmodel = 3', "providers.0.model:"),
        ('[[providers]]\nkind = "tone"\n[providers.circuit]\nwindow_size = 0', "providers.0.circuit.window_size"),
        ('[[providers]]\nkind = "elevenlabs"\napi_key = "env:NOWHERE"', "providers.0.api_key: .*NOWHERE is not set"),
        ('[server]\nallowed_origins = ["*"]', r"server.allowed_origins: '\*' is not an origin"),
        ('[server]\nallowed_origins = ["https://a.example/app"]', "server.allowed_origins: .*without a path"),
        ('[[providers]]\nkind = "openai"\nbase_url = "http://x"\nvoices = 3', "providers.0.voices: must be a table"),
        (NARRATOR.format('"n"') + "\nmax_concurrency = 0", "providers.0.max_concurrency: must be a whole number"),
        (NARRATOR.format(5), "providers.0.voices.narrator: not a voice id: 5"),
        (NARRATOR.format('{ language = "en" }'), "providers.0.voices.narrator.id: missing"),
        (NARRATOR.format('{ id = "n", sex = "f" }'), "providers.0.voices.narrator.sex: unknown key"),
        (NARRATOR.format('{ id = "n", rate = "150" }'), "providers.0.voices.narrator.rate: must be a number"),
        ("", "providers: at least one"),
        ("[[[", "not valid TOML"),
    ],
)  # fmt: skip
def test_invalid_value_is_rejected_with_the_path_of_its_key(tmp_path: Path, text: str, complaint: str) -> None:
    tone = "" if "providers" in text or not text else '\n[[providers]]\nkind = "tone"\n'
    with pytest.raises(TTSConfigurationError, match=complaint):
        load_arguments(write(tmp_path, text + tone), {"GATE": "x"})


def test_errors_contain_no_secret(tmp_path: Path) -> None:
    text = '[[providers]]\nkind = "elevenlabs"\napi_key = "env:ELEVENLABS_API_KEY"\nmodel = 3'
    with pytest.raises(TTSConfigurationError) as refused:
        load_arguments(write(tmp_path, text), ENVIRON)
    assert KEY not in str(refused.value)
    assert KEY not in repr(refused.value)
    provider = load_arguments(write(tmp_path, text.replace("\nmodel = 3", "")), ENVIRON)["providers"][0]
    assert KEY not in repr(provider)


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(TTSConfigurationError, match="cannot be read"):
        load_arguments(tmp_path / "missing.toml", {})
    with pytest.raises(TTSConfigurationError, match="cannot be read"):
        load_arguments(tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe4"')
    with pytest.raises(TTSConfigurationError, match="not valid"):
        load_arguments(tmp_path / "latin.toml", {})


def test_providers_from_the_environment_are_those_with_a_key_and_a_local_voice() -> None:
    names = [provider.name for provider in arguments_from_environment(ENVIRON | {"OPENAI_API_KEY": "k"})["providers"]]
    assert names[:2] == ["elevenlabs", "openai"]
    assert names[2:] in (["espeak"], ["tone"], ["neural", "espeak"], ["neural", "tone"])
    assert arguments_from_environment({})["providers"][0].local


def test_environment_variable_names_the_configuration_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[[providers]]\nkind = "tone"\nname = "beeper"')
    assert [p.name for p in arguments_from_environment({"STEADYVOICE_CONFIG": str(path)})["providers"]] == ["beeper"]


def test_service_is_built_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[[providers]]\nkind = "tone"')
    with TTSService.from_config(path) as tts:
        assert list(tts.circuits) == ["tone"]
