"""Record outages for the tests of the alerting rules: `python deploy/prometheus/record.py [FOLDER]`, some minutes.

A gateway in front of two simulated vendors serves the calls of some hours, whose clock is moved ahead between them, so
that circuits, probes and answers are real. What Prometheus would have scraped becomes outages_test.yml, with the time
within which each alert has to fire, and has to end again.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.simulator import Fault, Simulator, actions

HERE = Path(__file__).parent
CALLS = (3, 9)  # calls in a step, at least and at most
LATENESS = 3.0  # seconds; the objective is 2, which a busy machine keeps
RECORDED = ("steadyvoice_service_level_total", "steadyvoice_muted", "steadyvoice_circuit_state")
ALERTS = (
    "SteadyvoiceUnheard",
    "SteadyvoiceServiceLevel",
    "SteadyvoiceServiceLevelSlowly",
    "SteadyvoiceMuted",
    "SteadyvoiceCircuitOpen",
)

SPEECH, OTHER = "text-to-speech*", "audio/speech"
TEXTS = ("Your table is booked for eight o'clock.", "The rain has stopped at last.", "Turn left at the next crossing.")


@dataclass(frozen=True)
class Phase:
    """Minutes with faults, each for a share of the calls."""

    minutes: int
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """Recorded story. `fires`: alerts by the minutes within which they fire, from the beginning of the second phase.

    `ends`: minutes after the end of the second phase in which all of them are over. Other alerts never fire.
    """

    name: str
    phases: Sequence[Phase]
    fires: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    on_midstream: str = "resume"
    step: int = 15  # seconds between two scrapes


# What happens to a healthy vendor, too: some calls fail over, and some are late.
NOISE = (
    Fault(actions.Refuse(status=503), endpoint=SPEECH, probability=0.002),
    Fault(actions.SlowFirstByte(seconds=LATENESS), endpoint=SPEECH, probability=0.001),
)
DOWN = Fault(actions.Refuse(status=503), endpoint=SPEECH)
BOTH_DOWN = (DOWN, Fault(actions.Refuse(status=503), endpoint=OTHER))

LATE = Fault(actions.SlowFirstByte(seconds=LATENESS), endpoint=SPEECH, probability=0.085)
CUT = Fault(actions.Cut(after=0.8), endpoint=SPEECH, probability=0.1)

SCENARIOS = (
    Scenario("calm hours, with a vendor's usual failures", [Phase(120, NOISE)]),
    Scenario(
        "first vendor down for half an hour, the second one speaks",
        [Phase(30, NOISE), Phase(30, (DOWN,)), Phase(45, NOISE)],
        fires={"SteadyvoiceCircuitOpen": 3, "SteadyvoiceServiceLevelSlowly": 40, "SteadyvoiceServiceLevel": 10},
        ends={"SteadyvoiceCircuitOpen": 5, "SteadyvoiceServiceLevel": 35},
    ),
    Scenario(
        "both vendors down for ten minutes, callers get silence",
        [Phase(30, NOISE), Phase(10, BOTH_DOWN), Phase(45, NOISE)],
        fires={
            "SteadyvoiceMuted": 3,
            "SteadyvoiceCircuitOpen": 3,
            "SteadyvoiceUnheard": 2,
            "SteadyvoiceServiceLevelSlowly": 40,
            "SteadyvoiceServiceLevel": 10,
        },
        ends={
            "SteadyvoiceMuted": 5,
            "SteadyvoiceCircuitOpen": 5,
            "SteadyvoiceUnheard": 35,
            "SteadyvoiceServiceLevel": 35,
            "SteadyvoiceServiceLevelSlowly": 65,  # an hour without five worse calls
        },
    ),
    Scenario(
        "one answer in ten is cut for twenty minutes, and not resumed",
        [Phase(30, NOISE), Phase(20, (CUT,)), Phase(45, NOISE)],
        fires={"SteadyvoiceUnheard": 6, "SteadyvoiceServiceLevelSlowly": 40},
        ends={"SteadyvoiceUnheard": 35},
        on_midstream="error",
    ),
    Scenario(
        "one answer in twelve is late for three hours",
        [Phase(30, NOISE), Phase(180, (LATE,)), Phase(45, NOISE)],
        fires={"SteadyvoiceServiceLevelSlowly": 60, "SteadyvoiceServiceLevel": 170},
        ends={"SteadyvoiceServiceLevel": 35},
        step=60,
    ),
)


@dataclass
class Clock:
    """Clock of this machine, moved ahead."""

    ahead: float = 0.0

    def __call__(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic() + self.ahead


@dataclass
class Recorder:
    """Gateway with simulated vendors, and the samples of every step by series."""

    sim: Simulator
    gateway: Gateway
    client: aiohttp.ClientSession
    clock: Clock
    random: Random
    step: int
    steps: int = 0
    series: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    async def run(self, phase: Phase) -> None:
        """Run the calls of a phase, and scrape after each step."""
        self.sim.faults.set(*phase.faults)
        for _ in range(phase.minutes * 60 // self.step):
            await asyncio.gather(*(self.call() for _ in range(self.random.randint(*CALLS))))
            await self.scrape()
            self.clock.ahead += self.step
            self.steps += 1

    async def call(self) -> None:
        """Make one call, and listen to its end."""
        path = "/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream?output_format=pcm_16000"
        with suppress(aiohttp.ClientError):
            async with self.client.post(self.gateway.url + path, json={"text": self.random.choice(TEXTS)}) as answer:
                await answer.read()

    async def scrape(self) -> None:
        """Keep the samples that the rules ask for."""
        async with self.client.get(f"{self.gateway.url}/metrics") as answer:
            text = await answer.text()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in RECORDED and sample.labels.get("state", "open") in ("open", "half_open"):
                    labels = {"job": "steadyvoice", "instance": "a", **sample.labels}
                    shown = ",".join(f'{name}="{value}"' for name, value in labels.items())
                    self.series[f"{sample.name}{{{shown}}}"][self.steps] = sample.value


@asynccontextmanager
async def recorder(scenario: Scenario) -> AsyncIterator[Recorder]:
    """Open a gateway with two vendors."""
    clock = Clock()
    async with Simulator(voice="tones", concurrency=100) as sim:
        providers = [ElevenLabs("any", base_url=sim.url), OpenAICompatible("any", base_url=f"{sim.url}/v1")]
        settings = ServerConfig(port=0, access_log=False)
        async with (
            AsyncTTSService(providers, clock=clock, on_midstream=scenario.on_midstream) as service,  # type: ignore[arg-type]
            Gateway(service, settings) as gateway,
            aiohttp.ClientSession() as client,
        ):
            yield Recorder(sim, gateway, client, clock, Random(7), scenario.step)


async def recorded(scenario: Scenario) -> dict[str, dict[int, float]]:
    """Return the samples of a scenario by series and step."""
    async with recorder(scenario) as at:
        for phase in scenario.phases:
            await at.run(phase)
        return at.series


def values_of(samples: dict[int, float]) -> str:
    """Return samples in promtool's notation: runs of equal increases are one term, missing samples are `_`."""
    terms, step = [], 0
    values = [samples.get(each) for each in range(max(samples) + 1)]
    while step < len(values):
        value, run = values[step], 0
        if value is None:
            terms.append("_")
            step += 1
            continue
        increase = (values[step + 1] or 0) - value if step + 1 < len(values) and values[step + 1] is not None else 0
        while step + run + 1 < len(values) and values[step + run + 1] == value + increase * (run + 1):
            run += 1
        terms.append(f"{value:g}+{increase:g}x{run}" if run else f"{value:g}")
        step += run + 1
    return " ".join(terms).replace("+-", "-")


def test_of(scenario: Scenario, series: dict[str, dict[int, float]]) -> str:
    """Return a test of promtool: what fires when, and what does not."""
    lines = [f'  - name: "{scenario.name}"', f"    interval: {scenario.step}s", "    input_series:"]
    for name, samples in sorted(series.items()):
        lines += [f"      - series: '{name}'", f'        values: "{values_of(samples)}"']
    lines.append("    promql_expr_test:")
    minutes = sum(phase.minutes for phase in scenario.phases)
    begin = scenario.phases[0].minutes
    end = begin + scenario.phases[1].minutes if len(scenario.phases) > 1 else begin
    for alert in ALERTS:
        series_of = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
        fires, over = scenario.fires.get(alert), scenario.ends.get(alert)
        silent = minutes if fires is None else begin - 1
        lines += expectation(f"sum(count_over_time({series_of}[{silent}m:30s])) or vector(0)", silent, 0)
        if fires is not None:
            lines += expectation(f"count({series_of}) > bool 0", begin + fires, 1)
        if over is not None:
            lines += expectation(f"count({series_of}) or vector(0)", end + over, 0)
    return "\n".join(lines)


def expectation(query: str, minute: int, value: int) -> list[str]:
    """Return the expectation that a query has a value at a minute."""
    return [
        f"      - expr: '{query}'",
        f"        eval_time: {minute}m",
        f"        exp_samples: [{{ labels: '{{}}', value: {value} }}]",
    ]


async def main() -> None:
    """Record all scenarios."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    head = [
        "# Recorded by deploy/prometheus/record.py: `promtool test rules outages_test.yml`.",
        "rule_files: [alerts.yml]",
        "evaluation_interval: 30s",
        "tests:",
    ]
    logging.disable()
    tests = []
    for scenario in SCENARIOS:
        tests.append(test_of(scenario, await recorded(scenario)))
        print(scenario.name, file=sys.stderr)
    (folder / "outages_test.yml").write_text("\n".join([*head, *tests]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
