"""The command: loads the configuration, runs all checks at the same time, and prints the report."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rich.console import Console

from steadyvoice.cli.check.machine import check_fleet, check_places, check_port
from steadyvoice.cli.check.providers import check_provider
from steadyvoice.cli.check.report import CheckExit, CheckReport, Finding, Verdict
from steadyvoice.fleet import FleetConfig
from steadyvoice.providers.environment import find_providers
from steadyvoice.service.cache.keys import CacheConfig
from steadyvoice.service.config_file import ServerConfig, arguments_from_environment
from steadyvoice.service.config_problems import find_problems
from steadyvoice.service.failure_preview import ServicePreview, preview_failures
from steadyvoice.service.options import ServiceArguments, SynthesisOptions
from steadyvoice.speech.errors import TTSConfigurationError, TTSError


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Options of the command line. `timeout` bounds each step of each check, in seconds."""

    config: Path | None = None
    voice: str = "default"
    format: str = "mp3_44100_128"
    timeout: float = 5.0
    as_json: bool = False


def check(options: CheckOptions) -> CheckExit:
    """Run all checks, print the report, and return the exit status."""
    report = asyncio.run(run_checks(options, os.environ))
    if options.as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        console = Console(highlight=False)
        with console.capture() as captured:
            report.show(console)
        print(captured.get(), end="")  # rich itself would hide that the reader of a pipe has closed it
    return report.exit_status


async def run_checks(options: CheckOptions, environ: Mapping[str, str]) -> CheckReport:
    """Return the report on a configuration file, or on what the environment has without one."""
    path = options.config or (Path(named) if (named := environ.get("STEADYVOICE_CONFIG")) else None)
    source = "the environment" if path is None else str(path)
    findings, plan, server = _configuration(path, environ)
    if plan is None or server is None:
        return CheckReport(source, findings)
    preview = _preview(plan, options, findings)
    seconds = options.timeout
    checks = [asyncio.create_task(check_provider(each, seconds=seconds)) for each in plan["providers"]]
    has_server = path is not None and bool(server.model_fields_set)
    port = asyncio.create_task(check_port(server, seconds=seconds, is_needed=has_server))
    for each in checks:
        findings += await each
    fleet = plan.get("fleet")
    if isinstance(fleet, FleetConfig):
        findings.append(await check_fleet(fleet, seconds=seconds))
    findings += check_places(cast("CacheConfig | None", plan.get("cache")), server)
    findings.append(await port)
    return CheckReport(source, findings, options.format, preview)


def _configuration(
    path: Path | None, environ: Mapping[str, str]
) -> tuple[list[Finding], ServiceArguments | None, ServerConfig | None]:
    if path is None:
        return _from_environment(environ)
    loaded, problems = find_problems(path, environ)
    if loaded is None:
        found = [Finding("configuration", each.key, Verdict.INVALID, each.message, line=each.line) for each in problems]
        return found, None, None
    valid = Finding("configuration", "file", Verdict.OK, f"valid, {len(loaded.plan['providers'])} providers")
    return [valid], loaded.plan, loaded.server


def _from_environment(
    environ: Mapping[str, str],
) -> tuple[list[Finding], ServiceArguments | None, ServerConfig | None]:
    left_out = [
        Finding("environment", "keys", Verdict.WARNING, f"left out: {reason.message}")
        for reason in find_providers(environ, ()).left_out
    ]
    try:
        plan = arguments_from_environment(environ)
    except TTSConfigurationError as error:
        return [Finding("environment", "keys", Verdict.INVALID, error.message)], None, None
    names = ", ".join(provider.name for provider in plan["providers"])
    found = Finding("environment", "keys", Verdict.OK, f"providers, in order of preference: {names}")
    if all(provider.local for provider in plan["providers"]):
        found = Finding("environment", "keys", Verdict.WARNING, f"no vendor's key is set: {names} only",
                        "set one, such as ELEVENLABS_API_KEY, or name a file with --config")  # fmt: skip
    return [found, *left_out], plan, ServerConfig()


def _preview(plan: ServiceArguments, options: CheckOptions, findings: list[Finding]) -> ServicePreview | None:
    """Return the preview, and add what is wrong with the requested voice or format to the findings."""
    wanted: SynthesisOptions = {"voice": options.voice, "format": options.format}
    try:
        preview = preview_failures(plan, wanted)
    except TTSError as error:
        findings.append(Finding("speech", "voice and format", Verdict.FAILED, error.message))
        return None
    findings.append(Finding("speech", "format", Verdict.OK, f"{options.format}: {_conversions(preview)}"))
    findings += [
        Finding(refusal.provider or "speech", "voice and format", Verdict.WARNING, refusal.message)
        for refusal in preview.refusals
    ]
    return preview


def _conversions(preview: ServicePreview) -> str:
    parts = {
        "sent as it is requested by": [voice.provider for voice in preview.voices if not voice.converted],
        "converted here for": [voice.provider for voice in preview.voices if voice.converted],
    }
    return "; ".join(f"{how} {', '.join(names)}" for how, names in parts.items() if names)
