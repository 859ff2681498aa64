"""Files in deploy/ are valid, and agree with each other and with the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from steadyvoice.fleet import FleetConfig
from steadyvoice.service.config_file import ServerConfig, build_arguments, parse_file
from tests.required_tools import require_tool

from .layers import ROOT

DEPLOY = ROOT / "deploy"
NAMES = ("STEADYVOICE_API_KEY", "STEADYVOICE_ADMIN_TOKEN", "ELEVENLABS_API_KEY", "OPENAI_API_KEY")
ENVIRON = {name: f"a-secret-{number}" for number, name in enumerate(NAMES)}


@pytest.fixture
def server() -> ServerConfig:
    return parse_file(DEPLOY / "steadyvoice.toml", ENVIRON).server


@pytest.fixture
def compose() -> Any:
    """Return the compose file, with its anchors resolved."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def test_composed_replicas_form_a_fleet_over_a_server_without_persistence(compose: Any) -> None:
    config = parse_file(DEPLOY / "fleet.toml", {**ENVIRON, "STEADYVOICE_FLEET_URL": "redis://:secret@valkey:6379/0"})
    fleet = build_arguments(config)["fleet"]
    services = compose["services"]
    replicas = {name: each for name, each in services.items() if name.startswith("replica-")}
    assert isinstance(fleet, FleetConfig)
    assert fleet.expected_replicas == len(replicas) == 3
    assert len({each["ports"][0] for each in replicas.values()}) == 3
    for each in replicas.values():
        assert each["command"][:3] == ["serve", "--config", each["volumes"][0].split(":")[1]]
        assert each["environment"].keys() == {*NAMES, "STEADYVOICE_FLEET_URL"}
        assert all(value.startswith("${") or "@valkey:6379" in value for value in each["environment"].values())
        assert (
            float(each["stop_grace_period"].rstrip("s")) > config.server.shutdown_delay + config.server.shutdown_timeout
        )
        assert (each["read_only"], each["cap_drop"]) == (True, ["ALL"])
        assert all(port.startswith("127.0.0.1:") and port.endswith(":8040") for port in each["ports"])
    command = " ".join(services["valkey"]["command"])
    for setting in ("--save  ", "--appendonly no", "--maxmemory-policy noeviction", "--requirepass ${"):
        assert setting in command
    assert services["valkey"]["networks"] == ["fleet"]
    assert compose["networks"]["fleet"]["internal"]
    assert "ports" not in services["valkey"]


@pytest.fixture
def unit() -> RawConfigParser:
    """Return the systemd unit; of a repeated key, the last value."""
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "steadyvoice.service")
    return parser


@pytest.fixture
def container() -> list[tuple[str, str]]:
    """Return the container file's instructions, with continued lines joined."""
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    found = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in found if line.strip()]


def test_deployed_configuration_is_valid_and_requires_keys(server: ServerConfig) -> None:
    arguments = build_arguments(parse_file(DEPLOY / "steadyvoice.toml", ENVIRON))
    assert [provider.name for provider in arguments["providers"]] == [
        "elevenlabs", "openai", "espeak",
    ]  # fmt: skip
    assert server.is_local
    assert server.laid_over(host="0.0.0.0").api_keys
    assert not set(ENVIRON.values()) & set((DEPLOY / "steadyvoice.toml").read_text().split('"'))


def test_systemd_unit_has_the_limits_directories_and_timeout_that_the_gateway_needs(
    unit: RawConfigParser, server: ServerConfig
) -> None:
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"].endswith("/bin/steadyvoice serve --config /etc/steadyvoice/steadyvoice.toml")
    assert int(service["TimeoutStopSec"]) > server.shutdown_delay + server.shutdown_timeout
    assert int(service["LimitNOFILE"]) >= 2 * server.max_connections + 256
    assert server.state_file
    assert Path(server.state_file).parent == Path("/var/lib") / service["StateDirectory"]
    cache = tomllib.loads((DEPLOY / "steadyvoice.toml").read_text())["cache"]["path"]
    assert Path(cache) == Path("/var/cache") / service["CacheDirectory"]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    require_tool(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    unit = tmp_path / "steadyvoice.service"
    text = (DEPLOY / "steadyvoice.service").read_text()
    unit.write_text(text.replace("/opt/steadyvoice/bin/steadyvoice", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "steadyvoice" in line]) == (0, [])


def test_container_copies_existing_files_and_runs_unprivileged(container: list[tuple[str, str]]) -> None:
    copied = [what.split()[:-1] for name, what in container if name == "COPY" and not what.startswith("--from=build")]
    assert len(copied) == 3
    assert all((ROOT / each).exists() for names in copied for each in names)
    (user,) = [what for name, what in container if name == "USER"]
    assert int(user) > 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, what in container:
        if name == "FROM" and (version := re.search(r"python:(3\.\d+)-slim", what)):
            assert f"Programming Language :: Python :: {version[1]}" in project["classifiers"]
    needed = {"README.md", "LICENSE", "NOTICE", "src", "pyproject.toml", "constraints.txt"}
    assert needed <= {each for names in copied for each in names}, "what the wheel is made of"


def test_container_command_serves_on_the_port_of_the_health_check(
    container: list[tuple[str, str]], server: ServerConfig
) -> None:
    environment = dict(container)
    assert json.loads(environment["ENTRYPOINT"])[0].endswith("/bin/steadyvoice")
    command = json.loads(environment["CMD"])
    assert command[:3] == ["serve", "--config", "/etc/steadyvoice/steadyvoice.toml"]
    assert environment["EXPOSE"] == str(server.port)
    assert f":{server.port}/healthz" in environment["HEALTHCHECK"]
    assert json.loads(environment["VOLUME"]) == ["/var/lib/steadyvoice", "/var/cache/steadyvoice"]
    result = subprocess.run(
        [sys.executable, "-m", "steadyvoice", *command[:2], str(DEPLOY / "steadyvoice.toml"), *command[3:]],
        capture_output=True, text=True, check=False, env={**os.environ, "STEADYVOICE_API_KEY": ""},
    )  # fmt: skip
    assert result.returncode == 2
    assert "server.api_keys.0: the environment variable STEADYVOICE_API_KEY is not set" in result.stderr


def test_constraints_pin_every_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    kept = [re.sub(r" *\\$", "", line) for line in lines if "--hash=" not in line]
    assert all(re.fullmatch(r"[\w.\[\]-]+==\S+( ;.*)?", line) for line in kept if line and not line.startswith("#"))
    names = {line.partition("==")[0].lower() for line in kept}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = [each for each in extras["audio"] + extras["gateway"] if not each.startswith("steadyvoice[")]
    assert {re.split(r"[><=;\[]", each)[0].strip().lower() for each in needed} <= names
