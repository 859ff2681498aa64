"""Files in deploy/ are valid, and agree with each other and with the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
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
from tests.required_tools import release_tool, require_tool

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


PARSER = """
import json, sys
from dockerfile import parse_file
print(json.dumps([(each.cmd.upper(), list(each.flags), list(each.value)) for each in parse_file(sys.argv[1])]))
"""

Instruction = tuple[str, list[str], list[str]]


@pytest.fixture(scope="module")
def container() -> list[Instruction]:
    """Return the instructions of the container file, by BuildKit's parser: name, flags, and values."""
    command = [release_tool("python"), "-c", PARSER, str(DEPLOY / "Containerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [(name, flags, values) for name, flags, values in json.loads(done.stdout)]


def values_of(container: list[Instruction], name: str) -> list[str]:
    """Return the values of the last instruction of this name, which is the one that counts."""
    return [values for each, _, values in container if each == name][-1]


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


def test_container_copies_existing_files_and_runs_unprivileged(container: list[Instruction]) -> None:
    copied = {name for each, flags, values in container if each == "COPY" and not flags for name in values[:-1]}
    assert all((ROOT / each).exists() for each in copied)
    assert int(values_of(container, "USER")[0]) > 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bases = [values[0] for name, _, values in container if name == "FROM"]
    for base in bases:
        version = re.fullmatch(r"docker\.io/library/python:(3\.\d+)-slim", base)
        assert version
        assert f"Programming Language :: Python :: {version[1]}" in project["classifiers"]
    needed = {"README.md", "LICENSE", "NOTICE", "src", "pyproject.toml", "constraints.txt"}
    assert copied == {*needed, "deploy/steadyvoice.toml"}, "what the wheel is made of, and its configuration"


def test_context_of_the_container_is_what_it_copies(container: list[Instruction]) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    copied = {name for each, flags, values in container if each == "COPY" and not flags for name in values[:-1]}
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied


def test_stage_that_is_shipped_has_no_sources_and_no_build_tools(container: list[Instruction]) -> None:
    last = [number for number, each in enumerate(container) if each[0] == "FROM"][-1]
    shipped = container[last:]
    copied = [(flags, values) for name, flags, values in shipped if name == "COPY"]
    assert copied == [
        (["--from=build"], ["/opt/steadyvoice", "/opt/steadyvoice"]),
        ([], ["deploy/steadyvoice.toml", "/etc/steadyvoice/steadyvoice.toml"]),
    ]
    assert not [
        values for name, _, values in shipped if name == "RUN" and re.search(r"\b(pip|apt-get|curl)\b", values[0])
    ]
    order = [name for name, _, _ in shipped]
    assert order.index("RUN") < order.index("USER"), "what root has to do is done before"


@pytest.mark.slow
def test_container_command_serves_and_its_health_check_passes(container: list[Instruction], tmp_path: Path) -> None:
    """Run the command of the image with its own configuration, its folders and its port moved."""
    entry, command = values_of(container, "ENTRYPOINT"), values_of(container, "CMD")
    assert entry == ["/opt/steadyvoice/bin/steadyvoice"]
    assert command == ["serve", "--config", "/etc/steadyvoice/steadyvoice.toml", "--host", "0.0.0.0"]
    config = (DEPLOY / "steadyvoice.toml").read_text()
    for folder in values_of(container, "VOLUME"):
        assert f'"{folder}' in config, "the folders that it writes to are volumes"
        config = config.replace(folder, str(tmp_path / Path(folder).parent.name))
        (tmp_path / Path(folder).parent.name).mkdir()
    (tmp_path / "steadyvoice.toml").write_text(config)
    arguments = ["serve", "--config", str(tmp_path / "steadyvoice.toml"), *command[3:], "--port", "0"]
    keys = {name: f"{value}-0123456789" for name, value in ENVIRON.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "steadyvoice", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **keys},
    )  # fmt: skip
    with process:
        assert process.stdout
        url = ""
        for line in process.stdout:
            url = line.split()[-1] if "ElevenLabs" in line else url
            if "Ctrl-C" in line:
                break
        health = values_of(container, "HEALTHCHECK")
        (port,) = values_of(container, "EXPOSE")
        assert f"127.0.0.1:{port}/healthz" in health[-1]
        program = health[-1].replace(f":{port}/", f":{url.rpartition(':')[2]}/")
        checks = [subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)]
        process.send_signal(getattr(signal, values_of(container, "STOPSIGNAL")[0]))
        assert process.wait(20) == 0
        checks.append(subprocess.run([sys.executable, "-c", program], capture_output=True, check=False))
        assert [each.returncode for each in checks] == [0, 1], "healthy while it runs, and not afterwards"
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"steadyvoice.toml", "lib", "cache"}


def test_container_without_a_key_says_which(container: list[Instruction]) -> None:
    command = values_of(container, "CMD")
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
