"""`steadyvoice check`: what it finds at every simulated vendor, on this machine, and in configuration files."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from steadyvoice import (
    Accepted,
    AudioChunk,
    Google,
    OpenAICompatible,
    SpeechRequest,
    SynthesisOffer,
    Tone,
    TTSServerError,
)
from steadyvoice.cli.app import app
from steadyvoice.cli.check.command import CheckOptions, run_checks
from steadyvoice.cli.check.machine import check_fleet
from steadyvoice.cli.check.providers import check_provider
from steadyvoice.cli.check.reachability import check_reachability
from steadyvoice.cli.check.report import CheckExit, CheckReport, Finding, Verdict
from steadyvoice.fleet import FleetConfig
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection.actions import Refuse
from tests.fleet.redis_server import RedisServer
from tests.vendors.test_key_check import ENDPOINTS

from .shell import Shell

KEY = "key-of-a-vendor-0123456789"
BAD_KEY = "another-key-0123456789"
SETTINGS: Mapping[str, str] = {
    "elevenlabs": "",
    "openai": "",
    "cartesia": "",
    "deepgram": "",
    "azure": 'region = "westeurope"',
    "google": "",
    "polly": 'region = "eu-central-1"\nsecret_key = "secret-0123456789"',
}
TONE = '[[providers]]\nkind = "tone"\n'


def vendor(kind: str, url: str, key: str = KEY, more: str = "") -> str:
    """Return a provider's table."""
    table = f'[[providers]]\nkind = "{kind}"\nbase_url = "{url}"\napi_key = "{key}"\n{SETTINGS[kind]}\n{more}\n'
    return f"{table}{TONE}"


async def checked(path: Path, text: str, **options: Any) -> CheckReport:
    """Return the report on a file. The port is any that is free."""
    file = path / "steadyvoice.toml"
    file.write_text(text if "[server]" in text else f"[server]\nport = 0\n{text}", "utf-8")
    return await run_checks(CheckOptions(file, **options), {})


def found(report: CheckReport, subject: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in report.findings if finding.subject == subject}


def verdicts(report: CheckReport, subject: str) -> dict[str, str]:
    return {check: finding.verdict.value for check, finding in found(report, subject).items()}


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(keys=(KEY,)) as simulator:
        yield simulator


@pytest.mark.parametrize("kind", SETTINGS)
async def test_vendor_in_order_passes_every_check_and_bills_nothing(kind: str, sim: Simulator, tmp_path: Path) -> None:
    report = await checked(tmp_path, vendor(kind, sim.url))
    voices = "not checked" if kind == "openai" else "ok"  # a compatible server that has no list of voices
    assert verdicts(report, kind) == {"reachability": "ok", "key": "ok", "voices": voices}
    assert report.exit_status is CheckExit.WELL
    await sim.idle()
    assert sim.ledger.charged == 0


@pytest.mark.parametrize("kind", SETTINGS)
async def test_refused_key_fails_and_is_not_shown(kind: str, sim: Simulator, tmp_path: Path) -> None:
    report = await checked(tmp_path, vendor(kind, sim.url, BAD_KEY))
    key = found(report, kind)["key"]
    assert key.verdict is Verdict.FAILED
    assert key.advice
    assert report.exit_status is CheckExit.FAILED
    shown = f"{report.as_dict()}"
    assert BAD_KEY not in shown
    assert "secret-0123456789" not in shown


async def test_refused_key_of_google_may_be_one_of_the_gemini_api(sim: Simulator) -> None:
    (_, key, _) = await check_provider(Google(BAD_KEY, base_url=sim.url), seconds=5)
    assert "Gemini API" in key.advice


@pytest.mark.parametrize("kind", sorted({*SETTINGS} - {"openai"}))
async def test_voice_that_does_not_exist_fails_by_its_name(kind: str, sim: Simulator, tmp_path: Path) -> None:
    report = await checked(tmp_path, vendor(kind, sim.url, more='voices = { narrator = "no-such-voice" }'))
    voices = found(report, kind)["voices"]
    assert voices.verdict is Verdict.FAILED
    assert "narrator (no-such-voice)" in voices.message


async def test_vendor_that_limits_requests_has_not_refused_the_key(sim: Simulator, tmp_path: Path) -> None:
    sim.faults.set(Fault(Refuse(status=429), endpoint=ENDPOINTS["cartesia"]))
    report = await checked(tmp_path, vendor("cartesia", sim.url))
    assert found(report, "cartesia")["key"].verdict is Verdict.WARNING
    assert report.exit_status is CheckExit.WELL


async def test_server_error_is_no_refused_key(sim: Simulator, tmp_path: Path) -> None:
    sim.faults.set(Fault(Refuse(status=503), endpoint=ENDPOINTS["deepgram"]))
    key = found(await checked(tmp_path, vendor("deepgram", sim.url)), "deepgram")["key"]
    assert (key.verdict, "failover covers it" in key.advice) == (Verdict.FAILED, True)


# Reachability


async def test_refused_connection_is_a_failure_of_tcp(closed_port: str, tmp_path: Path) -> None:
    report = await checked(tmp_path, vendor("openai", closed_port))
    assert found(report, "openai")["reachability"].message.startswith("TCP failed: 127.0.0.1:")
    assert verdicts(report, "openai") == {"reachability": "failed", "key, voices": "not checked"}


async def test_name_without_an_address_is_a_failure_of_dns() -> None:
    finding = await check_reachability("x", "https://no-such-host.invalid", seconds=20)
    assert finding.message.startswith("DNS failed: no-such-host.invalid:443: ")


async def test_server_without_tls_is_a_failure_of_tls(sim: Simulator) -> None:
    finding = await check_reachability("x", sim.url.replace("http:", "https:"), seconds=20)
    assert finding.message.startswith("TLS failed: 127.0.0.1:")
    assert finding.advice == "is this port of the server for https?"


async def test_certificate_has_to_be_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Simulator(tls=True) as sim:
        untrusted = await check_reachability("x", sim.url, seconds=20)
        assert (untrusted.verdict, "SSL_CERT_FILE" in untrusted.advice) == (Verdict.FAILED, True)
        monkeypatch.setenv("SSL_CERT_FILE", str(sim.ca_file))
        trusted = await check_reachability("x", sim.url, seconds=20)
        assert trusted.message.endswith("DNS, TCP and TLS work")


async def test_server_behind_a_proxy_is_reached_through_it(closed_port: str) -> None:
    provider = OpenAICompatible(
        KEY, base_url="https://no-such-host.invalid", proxy=closed_port.replace("//", "//u:pw@")
    )
    reached, _ = await check_provider(provider, seconds=5)
    assert reached.message.startswith("TCP failed: the proxy 127.0.0.1:")
    assert "pw" not in reached.message


# Time


async def never(*_: object) -> Any:
    await asyncio.Event().wait()


class HangingVendor(Tone):
    """Vendor whose answers never come."""

    local = False

    async def check_key(self) -> bool:
        return bool(await never())

    async def find_missing_voices(self) -> Sequence[str] | None:
        await never()
        return None


@pytest.mark.looptime
async def test_each_step_is_bounded() -> None:
    began = asyncio.get_running_loop().time()
    finding = await check_reachability("x", "https://host", seconds=5, resolver=never)
    assert finding.message == "DNS failed: host:443: no answer within 5 s"
    key, voices = await check_provider(HangingVendor(name="slow"), seconds=5)
    assert (key.message, voices.verdict) == ("no answer within 5 s", Verdict.UNKNOWN)
    assert asyncio.get_running_loop().time() - began == pytest.approx(10)


@pytest.mark.looptime
async def test_providers_are_checked_at_the_same_time() -> None:
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(check_provider(HangingVendor(name=f"v{each}"), seconds=5) for each in range(7)))
    assert asyncio.get_running_loop().time() - began == pytest.approx(5)


class BrokenPlugin(HangingVendor):
    """Plugin that raises anything."""

    async def check_key(self) -> bool:
        raise ZeroDivisionError("oops")


async def test_error_of_a_plugin_is_a_finding() -> None:
    (finding,) = await check_provider(BrokenPlugin(name="odd"), seconds=5)
    assert finding.message == "unexpected error: ZeroDivisionError: oops"


async def test_vendor_without_free_requests_is_not_checked() -> None:
    class Plain(Tone):
        local = False

    assert [each.verdict for each in await check_provider(Plain(), seconds=5)] == [Verdict.UNKNOWN, Verdict.UNKNOWN]


class SilentVoice(Tone):
    """Local voice whose engine is broken."""

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        yield Accepted()
        raise TTSServerError("the engine does not start", provider="tone")


async def test_local_voice_speaks_a_word() -> None:
    (speaks,) = await check_provider(Tone(), seconds=5)
    (broken,) = await check_provider(SilentVoice(), seconds=5)
    assert (speaks.verdict, broken.verdict) == (Verdict.OK, Verdict.FAILED)
    assert broken.message == "the engine does not start"


# This machine


async def test_store_that_is_not_reached_fails(closed_port: str, tmp_path: Path) -> None:
    report = await checked(tmp_path, f'[fleet]\nurl = "{closed_port.replace("http", "redis")}"\n{TONE}')
    store = found(report, "fleet")["store"]
    assert (store.verdict, "works alone" in store.advice) == (Verdict.FAILED, True)


async def test_silent_store_is_given_up(silent_server: socket.socket) -> None:
    url = f"redis://:secret-password@127.0.0.1:{silent_server.getsockname()[1]}"
    store = await check_fleet(FleetConfig(url), seconds=0.3)
    assert store.verdict is Verdict.FAILED
    assert "secret-password" not in store.message


async def test_port_in_use_fails_where_the_file_is_for_a_gateway(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        report = await checked(tmp_path, f"[server]\nport = {number}\n{TONE}", timeout=0.2)
    assert found(report, "server")["port"].message == f"127.0.0.1 port {number}: in use by another program"
    assert report.exit_status is CheckExit.FAILED


async def test_places_on_disk_have_to_be_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "state").mkdir()
    server = f'[server]\nport = 0\nstate_file = "{tmp_path}/state/circuits.json"\n'
    report = await checked(tmp_path, f'{server}[cache]\npath = "{tmp_path}/file/cache"\n{TONE}')
    assert verdicts(report, "cache") == {"path": "failed"}
    assert verdicts(report, "server") == {"state_file": "ok", "port": "ok"}


# Configuration

INVALID = """\
[server]
prot = 1

[circuit]
failure_treshold = 0.4

[[providers]]
kind = "elevenlabs"
api_key = "env:NOWHERE"
model = 3

[[providers]]
kind = "gramophone"
"""


async def test_all_errors_of_a_file_are_shown_with_their_lines(tmp_path: Path) -> None:
    report = await checked(tmp_path, INVALID)
    assert [(finding.line, finding.check) for finding in report.findings] == [
        (2, "server.prot"),
        (5, "circuit.failure_treshold"),
        (9, "providers.0.api_key"),
        (10, "providers.0.model"),
        (13, "providers.1.kind"),
    ]
    assert report.exit_status is CheckExit.INVALID
    assert report.preview is None


async def test_duplicate_names_are_found(tmp_path: Path) -> None:
    (finding,) = (await checked(tmp_path, TONE + TONE)).findings
    assert "duplicate name 'tone'" in finding.message


async def test_unknown_voice_and_format_fail(tmp_path: Path) -> None:
    for options, message in (({"voice": "nobody"}, "nobody"), ({"format": "mp3_99"}, "mp3_99")):
        report = await checked(tmp_path, TONE, **options)
        assert message in found(report, "speech")["voice and format"].message
        assert report.exit_status is CheckExit.FAILED


async def test_environment_is_checked_without_a_file() -> None:
    report = await run_checks(CheckOptions(timeout=0.5), {"AZURE_SPEECH_KEY": KEY})
    keys = [finding for finding in report.findings if finding.check == "keys"]
    assert [finding.verdict for finding in keys] == [Verdict.WARNING, Verdict.WARNING]
    assert keys[1].message == "left out: azure: AZURE_SPEECH_REGION is not set"
    invalid = await run_checks(CheckOptions(), {"OPENAI_API_KEY": "your_key_here"})
    assert invalid.exit_status is CheckExit.INVALID


async def test_second_table_is_that_of_the_page(sim: Simulator, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")
    shown = page.partition("```text\nWhen providers fail")[2].partition("```")[0].splitlines()[1:]
    providers = [vendor(kind, sim.url).removesuffix(TONE) for kind in ("elevenlabs", "openai")]
    report = await checked(tmp_path, "".join(providers))
    printed = StringIO()
    report.show(Console(file=printed, width=len(shown[1])))
    assert [line.rstrip() for line in shown] == [
        line.rstrip() for line in printed.getvalue().splitlines()[-1 - len(shown) : -1]
    ]


# The command


def run(*arguments: str, width: int = 100) -> tuple[int, str, str]:
    """Run the command, and return its exit status, output and messages."""
    result = CliRunner().invoke(app, ["check", *arguments], env={"COLUMNS": str(width)})
    return result.exit_code, result.stdout, result.stderr


def test_command_prints_json_or_tables_and_its_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.toml").write_text(f"[server]\nport = 0\n{TONE}", "utf-8")
    status, printed, messages = run("--config", "good.toml", "--json")
    document = json.loads(printed)
    assert (status, messages, document["status"]) == (0, "", "well")
    assert document["failures"][0]["otherwise"] == "silence"
    _, tables, _ = run("--config", "good.toml")
    assert "speaks, voice tone" in tables
    assert "muted: silence" in tables
    Path("bad.toml").write_text(INVALID, "utf-8")
    status, errors, _ = run("--config", "bad.toml")
    assert status == 2
    assert errors.splitlines()[0] == "bad.toml:2: server.prot: unknown key; did you mean port?"


def test_preview_names_the_next_provider_and_its_time(tmp_path: Path, closed_port: str) -> None:
    file = tmp_path / "two.toml"
    file.write_text(f"[server]\nport = 0\n{vendor('openai', closed_port)}", "utf-8")
    status, printed, _ = run("--config", str(file), "--timeout", "1", width=200)
    text = " ".join(printed.split())
    assert status == 1
    assert "openai tone speaks: voice tone, with word times, converted from pcm_44100" in text
    assert "8 s (no answer), 0.5 s (errors)" in text


@pytest.mark.slow
def test_reader_that_closes_the_pipe_is_no_failed_check(shell: Shell) -> None:
    shell.write("good.toml", f"[server]\nport = 0\n{TONE}")
    with shell.start("check", "--config", "good.toml") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(50) == 141


@pytest.mark.slow
async def test_store_is_joined_for_a_moment_and_a_wrong_password_fails(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", "secret-password")
    try:
        right = await check_fleet(FleetConfig(server.url.replace("//", "//:secret-password@")), seconds=5)
        wrong = await check_fleet(FleetConfig(server.url.replace("//", "//:not-the-password@")), seconds=5)
    finally:
        server.kill()
    assert right.message.endswith("name 'default', 0 other replicas")
    assert wrong.verdict is Verdict.FAILED
    assert "password" in wrong.message.lower()
    assert "not-the-password" not in wrong.message
