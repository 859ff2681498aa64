"""`steadyvoice init`: a file for every combination of keys, which holds no secret and only true defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from steadyvoice import CacheConfig, CircuitBreakerConfig, HedgeConfig, RetryConfig, TimeoutConfig
from steadyvoice.cli.app import app
from steadyvoice.cli.init import configuration_text
from steadyvoice.providers.environment import VENDORS, find_providers, installed_voices
from steadyvoice.service.config_file import ConfigFile, FallbackConfig, LoadedConfig, ServerConfig, load_config

VALUES = {
    "ELEVENLABS_API_KEY": "sk_1f0e9d8c7b6a5948",
    "OPENAI_API_KEY": "sk-proj-2f0e9d8c7b6a",
    "CARTESIA_API_KEY": "sk_car_3f0e9d8c7b6a",
    "DEEPGRAM_API_KEY": "4f0e9d8c7b6a59483726",
    "AZURE_SPEECH_KEY": "5f0e9d8c7b6a59483726",
    "AZURE_SPEECH_REGION": "westeurope",
    "GOOGLE_API_KEY": "AIza6f0e9d8c7b6a5948",
    "AWS_ACCESS_KEY_ID": "AKIA7F0E9D8C7B6A5948",
    "AWS_SECRET_ACCESS_KEY": "8f0e9d8c7b6a59483726",
    "AWS_PROFILE": "production-account",
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
}

environments = st.sets(st.sampled_from(sorted(VALUES))).map(lambda names: {name: VALUES[name] for name in names})


def expected_kinds(environ: Mapping[str, str]) -> list[str]:
    """Return the kinds of vendors whose variables are all set."""
    simple = {"elevenlabs": "ELEVENLABS", "openai": "OPENAI", "cartesia": "CARTESIA", "deepgram": "DEEPGRAM"}
    kinds = [kind for kind, prefix in simple.items() if f"{prefix}_API_KEY" in environ]
    kinds += ["azure"] * ({"AZURE_SPEECH_KEY", "AZURE_SPEECH_REGION"} <= environ.keys())
    kinds += ["google"] * ("GOOGLE_API_KEY" in environ)
    has_credentials = "AWS_PROFILE" in environ or {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= environ.keys()
    kinds += ["polly"] * bool(has_credentials and {"AWS_REGION", "AWS_DEFAULT_REGION"} & environ.keys())
    return kinds


def loaded(text: str, path: Path, environ: Mapping[str, str]) -> LoadedConfig:
    path.write_text(text, "utf-8")
    return load_config(path, environ)


def uncommented(text: str) -> str:
    """Return a file with every commented setting and table in force."""
    return re.sub(r"^#(?=[\w\[])", "", text, flags=re.MULTILINE)


@settings(max_examples=15, deadline=None)
@given(environ=environments, local=st.sampled_from([["tone"], ["espeak", "tone"]]))
def test_file_of_every_environment_loads_and_holds_none_of_its_values(
    environ: dict[str, str], local: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = configuration_text(find_providers(environ, local).providers)
    plan = loaded(text, tmp_path_factory.getbasetemp() / "init.toml", environ).plan
    assert [provider.name for provider in plan["providers"]] == [*expected_kinds(environ), *local]
    assert [value for value in VALUES.values() if value in text] == []


@pytest.fixture
def text() -> str:
    return configuration_text(find_providers(VALUES, installed_voices()).providers)


def test_order_and_other_values_of_the_variables_do_not_change_the_file(text: str) -> None:
    others = {name: value.replace("1", "2") for name, value in reversed(VALUES.items())}
    assert configuration_text(find_providers(others, installed_voices()).providers) == text


def test_commented_settings_are_the_defaults(text: str, tmp_path: Path) -> None:
    whole = loaded(uncommented(text), tmp_path / "whole.toml", VALUES)
    assert (whole.server, whole.file.fallback) == (ServerConfig(), FallbackConfig())
    plan = whole.plan
    assert plan["timeouts"] == TimeoutConfig()
    assert plan["retry"] == RetryConfig()
    assert plan["circuit"] == CircuitBreakerConfig.adaptive()
    assert (plan["cache"], plan["hedging"]) == (CacheConfig(), HedgeConfig())
    for plain, provider in zip(
        loaded(text, tmp_path / "c.toml", VALUES).plan["providers"], plan["providers"], strict=True
    ):
        for setting in ("name", "model", "voices", "base_url", "_words_per_minute", "_pitch", "_prewarm"):
            assert getattr(provider, setting, None) == getattr(plain, setting, None)


def test_file_as_it_is_changes_no_default(text: str, tmp_path: Path) -> None:
    plan = loaded(text, tmp_path / "c.toml", VALUES).plan
    assert (plan["cache"], plan["hedging"], plan["fleet"]) == (None, None, None)
    assert (plan["circuit"], plan["timeouts"]) == (CircuitBreakerConfig.adaptive(), TimeoutConfig())


def test_every_table_has_a_comment_above_it(text: str) -> None:
    lines = text.splitlines()
    tables = {line.strip("#[]"): above for above, line in pairwise(lines) if line.strip("#")[:1] == "["}
    assert tables.keys() | {"fleet", "telemetry"} == set(ConfigFile.model_fields)
    assert all(above.startswith("# ") for above in tables.values())
    assert "# Table [fleet]" in text
    assert "# Table [telemetry]" in text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory in which the command runs, with one key."""
    monkeypatch.chdir(tmp_path)
    for name in VALUES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", VALUES["OPENAI_API_KEY"])
    return tmp_path


def run(*arguments: str, status: int = 0) -> tuple[str, str]:
    """Run the command without standard input, and return its output and messages."""
    result = CliRunner().invoke(app, ["init", *arguments])
    assert result.exit_code == status
    return result.stdout, result.stderr


def test_written_file_is_in_the_current_directory_and_the_next_commands_name_it(folder: Path) -> None:
    out, messages = run()
    assert out == ""
    assert "steadyvoice.toml: providers, in order of preference: openai, " in messages
    assert "steadyvoice serve --config steadyvoice.toml" in messages
    assert "steadyvoice check --config steadyvoice.toml" in messages
    assert [path.name for path in folder.iterdir()] == ["steadyvoice.toml"]
    arguments = ["say", "Hello", "-o", "a.wav", "--config", "steadyvoice.toml", "--provider", "tone"]
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_messages_are_those_of_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")
    shown = page.partition("```console\n$ steadyvoice init\n")[2].partition("```")[0]
    monkeypatch.setenv("ELEVENLABS_API_KEY", VALUES["ELEVENLABS_API_KEY"])
    monkeypatch.setenv("AZURE_SPEECH_KEY", VALUES["AZURE_SPEECH_KEY"])
    # The neural voice is no part of the extras that the page installs.
    assert run()[1].replace("neural, ", "") == shown


def test_existing_file_is_replaced_only_by_force(folder: Path) -> None:
    (folder / "mine.toml").write_text("precious")
    message = run("-o", "mine.toml", status=2)[1]
    assert message.startswith("usage error: mine.toml exists; replace it with --force")
    assert (folder / "mine.toml").read_text() == "precious"
    run("-o", "mine.toml", "--force")
    assert load_config(folder / "mine.toml", VALUES).plan["providers"][0].name == "openai"


def test_forced_file_behind_a_symbolic_link_keeps_the_link(folder: Path) -> None:
    (folder / "real.toml").write_text("old")
    (folder / "link.toml").symlink_to("real.toml")
    run("-o", "link.toml", "--force")
    assert (folder / "link.toml").is_symlink()
    assert "[[providers]]" in (folder / "real.toml").read_text()


def test_standard_output_gets_the_same_file(folder: Path) -> None:
    run()
    assert run("--output", "-")[0] == (folder / "steadyvoice.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", "steadyvoice.toml"),
        ("nowhere/c.toml", "mkdir -p"),
        ("/dev/null", "is not a regular file"),
    ],
)
def test_path_that_cannot_be_written_is_a_usage_error(folder: Path, path: str, message: str) -> None:
    assert message in run("--output", path, "--force", status=2)[1]
    assert list(folder.iterdir()) == []


def test_unusable_key_is_left_out_with_the_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", "your_key_here")
    monkeypatch.setenv("AZURE_SPEECH_KEY", VALUES["AZURE_SPEECH_KEY"])
    messages = run()[1]
    assert "left out: elevenlabs: the environment variable ELEVENLABS_API_KEY is a placeholder" in messages
    assert "left out: azure: AZURE_SPEECH_REGION is not set" in messages
    assert "your_key_here" not in messages
    assert "preference: openai, " in messages


def test_vendor_that_is_left_out_is_not_called_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    messages = run()[1]
    assert "left out: openai: the environment variable HTTPS_PROXY is a SOCKS proxy" in messages
    assert "no vendor can be used yet; correct what is named above" in messages
    assert "no vendor's key was found" not in messages


def test_environment_without_keys_gets_local_voices_and_the_names_of_the_keys(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " \n")
    messages = run()[1]
    assert "no vendor's key was found" in messages
    assert all(vendor.credentials[0][0] in messages for vendor in VENDORS)
    assert load_config(folder / "steadyvoice.toml", {}).plan["providers"][-1].name == "tone"


def test_shell_completion_lists_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        environ = {
            "_STEADYVOICE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        return CliRunner().invoke(app, [], env=environ, prog_name="steadyvoice").stdout.split()

    assert completed("steadyvoice s") == ["say", "serve", "sim", "status"]
    assert completed("steadyvoice init --f") == ["--force"]
    assert completed("steadyvoice serve --l") == []
