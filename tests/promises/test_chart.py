"""The Helm chart: rendered by Helm, valid for Kubernetes, and with a configuration that the gateway accepts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from steadyvoice.fleet import FleetConfig
from steadyvoice.gateway.access_control import RequestHead, RouteClass, check_access
from steadyvoice.gateway.context import _access_rules
from steadyvoice.service.config_file import ConfigFile, build_arguments, parse_file
from tests.required_tools import release_tool

from .layers import ROOT

CHART = ROOT / "deploy" / "helm" / "steadyvoice"
NEEDED = "image.repository=registry.example/steadyvoice,existingSecret=keys"
FLEET = f"{NEEDED},replicas=3,fleet.enabled=true,serviceMonitor.enabled=true,server.metrics=admin"
SECRET = {
    name: f"a-secret-of-{name.lower()}"
    for name in ("STEADYVOICE_API_KEY", "STEADYVOICE_ADMIN_TOKEN", "ELEVENLABS_API_KEY", "OPENAI_API_KEY")
} | {"STEADYVOICE_FLEET_URL": "rediss://:password@store:6379/0"}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([release_tool("helm"), *arguments], capture_output=True, text=True, check=False)


def rendered(values: str) -> dict[str, Any]:
    """Return the chart's objects by kind."""
    done = helm("template", "voices", str(CHART), "--namespace", "speech", "--set", values)
    assert done.returncode == 0, done.stderr
    return {each["kind"]: each for each in yaml.safe_load_all(done.stdout) if each}


def config_of(objects: dict[str, Any], folder: Path) -> ConfigFile:
    file = folder / "steadyvoice.toml"
    file.write_text(objects["ConfigMap"]["data"]["steadyvoice.toml"])
    return parse_file(file, SECRET)


@pytest.mark.parametrize("values", [NEEDED, FLEET])
def test_helm_accepts_the_chart(values: str) -> None:
    done = helm("lint", "--strict", str(CHART), "--set", values)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_objects_are_valid_for_kubernetes(version: str, tmp_path: Path) -> None:
    objects = [*rendered(NEEDED).values(), *rendered(FLEET).values()]
    known = [each for each in objects if each["kind"] != "ServiceMonitor"]  # of the Prometheus operator
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(known))
    command = [release_tool("kubernetes-validate"), "-k", version, "--strict", str(tmp_path / "all.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_gateway_accepts_the_configuration_and_its_clients(tmp_path: Path) -> None:
    objects = rendered(f"{FLEET},server.max_active=500,allowedHosts={{voice.example}}")
    config = config_of(objects, tmp_path)
    fleet = build_arguments(config)["fleet"]
    assert isinstance(fleet, FleetConfig)
    assert fleet.expected_replicas == objects["Deployment"]["spec"]["replicas"] == 3
    assert (config.server.max_active, config.server.metrics) == (500, "admin")
    rules = _access_rules(config.server)
    name = objects["Service"]["metadata"]["name"]
    for host in (name, f"{name}.speech.svc.cluster.local:8040", "voice.example", "10.1.2.3:8040"):  # the last: probes
        head = RequestHead("GET", "http", RouteClass.PUBLIC, {b"host": host.encode()}, "10.0.0.1")
        assert check_access(head, rules) is None, host


def test_pod_drains_before_it_is_killed_and_is_probed_where_the_gateway_answers(tmp_path: Path) -> None:
    objects = rendered(f"{NEEDED},shutdown.preStopSeconds=7,shutdown.timeoutSeconds=50")
    server = config_of(objects, tmp_path).server
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (gateway,) = pod["containers"]
    sleep = gateway["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert (sleep, server.shutdown_timeout) == (7, 50)
    assert pod["terminationGracePeriodSeconds"] > sleep + server.shutdown_delay + server.shutdown_timeout
    assert gateway["ports"] == [{"name": "http", "containerPort": server.port}]
    paths = {name: gateway[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def test_pod_is_unprivileged_and_writes_to_volumes_only(tmp_path: Path) -> None:
    objects = rendered(NEEDED)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (gateway,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert gateway["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    config = config_of(objects, tmp_path)
    volumes = {each["name"]: each for each in pod["volumes"]}
    writable = {each["mountPath"] for each in gateway["volumeMounts"] if "emptyDir" in volumes[each["name"]]}
    assert config.server.state_file
    assert config.cache
    assert {str(Path(config.server.state_file).parent), config.cache["path"], "/tmp"} == writable


def test_secrets_are_named_and_never_contained() -> None:
    objects = rendered(FLEET)
    (gateway,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert gateway["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert "env" not in gateway
    assert "Secret" not in objects
    (endpoint,) = objects["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "keys", "key": "STEADYVOICE_ADMIN_TOKEN"}
    config = objects["ConfigMap"]["data"]["steadyvoice.toml"]
    assert all("env:" in line for line in config.splitlines() if "key" in line or "token" in line or "url =" in line)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (f"{NEEDED},replicas=2", "replicas: more than one needs fleet.enabled"),
        ("existingSecret=keys", "image/repository"),
        ("image.repository=x", "existingSecret"),
        (f"{NEEDED},server.host=127.0.0.1", "/server"),
        (f"{NEEDED},server.api_keys={{a}}", "/server"),
        (f"{NEEDED},replicas=0", "/replicas"),
    ],
)
def test_values_that_cannot_work_are_refused(values: str, complaint: str) -> None:
    done = helm("template", "voices", str(CHART), "--set", values)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_replicas_beyond_one_have_a_disruption_budget_and_one_has_none() -> None:
    assert "PodDisruptionBudget" not in rendered(NEEDED)
    objects = rendered(FLEET)
    budget, pods = objects["PodDisruptionBudget"]["spec"], objects["Deployment"]["spec"]["template"]["metadata"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= pods["labels"].items()
    assert objects["Service"]["spec"]["selector"].items() <= pods["labels"].items()
