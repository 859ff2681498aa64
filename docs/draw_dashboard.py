"""Screenshots of the dashboard: a calm hour, an outage, and the outage on a narrow screen.

python docs/draw_dashboard.py [FOLDER]    # needs Debian's chromium; the font is Inter if fonts-inter is installed

A gateway in front of the simulator handles an hour of calls in half a minute; nothing in the pictures is made up.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random

import aiohttp
import av
from playwright.async_api import Browser, Page, async_playwright

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, ElevenLabs, OpenAICompatible, RetryConfig, Tone
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.simulator import Fault, Simulator, actions

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("STEADYVOICE_CHROMIUM", "/usr/bin/chromium")
STEPS, STEP = 240, 15.0
CIRCUIT = CircuitBreakerConfig(
    failure_threshold=0.5,
    window_size=20,
    minimum_calls=6,
    cooldown_period=45,
    cooldown_backoff=1.2,
    success_threshold=3,
)
TEXTS = (
    "Your table is booked for eight o'clock tonight. We keep it for a quarter of an hour.",
    "The rain has stopped at last. We walk home now, slowly.",
    "Turn left at the next crossing, then keep right.",
    "There are three new messages for you.",
)
SPEECH = "text-to-speech*"


@dataclass
class Clock:
    """Clock of this machine, moved ahead by an hour in steps."""

    ahead: float = 0.0
    begun: float = field(default_factory=time.time)

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic() + self.ahead

    def wall_clock(self) -> float:
        """Return the time of day in seconds since 1970, at first an hour ago."""
        return time.time() - STEPS * STEP + self.ahead


@dataclass
class Setup:
    """Gateway, simulated vendors, and the clock of the hour."""

    sim: Simulator
    gateway: Gateway
    client: aiohttp.ClientSession
    clock: Clock
    rng: Random = field(default_factory=lambda: Random(8))

    async def run_steps(self, steps: int, *faults: Fault) -> None:
        """Run calls for a number of steps with these faults in force."""
        slow = Fault(actions.SlowFirstByte(seconds=0.09), probability=0.2)
        self.sim.faults.set(*faults, slow)
        for _ in range(steps):
            many = 3 + self.rng.randrange(7)
            await asyncio.gather(*(self.call() for _ in range(many)))
            self.clock.ahead += STEP

    async def run_until(self, until: asyncio.Event) -> None:
        """Keep calling in real time until the event is set."""
        while not until.is_set():
            await self.call()
            await asyncio.sleep(self.rng.expovariate(0.5))

    async def call(self) -> None:
        """Make one call."""
        document = {"text": self.rng.choice(TEXTS)}
        path = "/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream?output_format=pcm_16000"
        async with self.client.post(self.gateway.url + path, json=document) as answer:
            await answer.read()


@asynccontextmanager
async def gateway_setup() -> AsyncIterator[Setup]:
    """Open a gateway with three providers; one of them has an account with credit."""
    clock = Clock()
    async with Simulator(voice="tones", character_limit=2_000_000, character_count=1_420_000, concurrency=10) as sim:
        providers = [
            ElevenLabs("any", base_url=sim.url),
            OpenAICompatible("any", base_url=f"{sim.url}/v1"),
            Tone(),
        ]
        async with (
            AsyncTTSService(
                providers,
                circuit=CIRCUIT,
                retry=RetryConfig(max_attempts=1),
                clock=clock.now,
                wall_clock=clock.wall_clock,
            ) as service,
            Gateway(
                service, ServerConfig(port=0, log_texts=True), clock=clock.now, wall_clock=clock.wall_clock
            ) as gateway,
            aiohttp.ClientSession() as client,
        ):
            await service.check_credit()
            yield Setup(sim, gateway, client, clock)


async def calm(setup: Setup) -> None:
    """Run an hour with one short outage early in it."""
    await setup.run_steps(60)
    await setup.run_steps(10, Fault(actions.Refuse(status=503), endpoint=SPEECH, probability=0.9))
    await setup.run_steps(110, Fault(actions.Cut(after=1.5), endpoint=SPEECH, probability=0.03))
    await setup.run_steps(60)


async def outage(setup: Setup) -> None:
    """Run an hour that ends in an outage: streams break off first, and another vendor fails at times."""
    stumble = Fault(actions.Refuse(status=500), endpoint="audio/speech", probability=0.2)
    await setup.run_steps(50, Fault(actions.Refuse(status=503), endpoint=SPEECH, probability=0.01))
    await setup.run_steps(9, Fault(actions.Refuse(status=503), endpoint=SPEECH, probability=0.9))
    await setup.run_steps(150)
    await setup.run_steps(4, Fault(actions.Cut(after=1.5), endpoint=SPEECH, probability=0.4))
    await setup.run_steps(27, Fault(actions.Refuse(status=503), endpoint=SPEECH), stumble)


async def take_screenshot(browser: Browser, setup: Setup, *, width: int, height: int, dark: bool = False) -> bytes:
    """Take one screenshot while calls continue, and return it as a PNG."""
    scheme = "dark" if dark else "light"
    page: Page = await browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    until = asyncio.Event()
    callers = asyncio.create_task(setup.run_until(until))
    await page.goto(setup.gateway.url)
    await page.wait_for_selector(".card")
    await asyncio.sleep(6)
    screenshot = reduce_colours(await page.screenshot())
    until.set()
    await callers
    await page.close()
    return screenshot


def reduce_colours(png: bytes) -> bytes:
    """Reduce a PNG to 256 of its colours, each other pixel to the nearest of them: a third of the size."""
    with av.open(BytesIO(png), "r") as file:
        frame = next(file.decode(video=0)).reformat(format="rgb24")
    plane, wide = frame.planes[0], 3 * frame.width
    samples = bytes(plane)
    rows = [samples[offset : offset + wide] for offset in range(0, frame.height * plane.line_size, plane.line_size)]
    found = Counter(row[x : x + 3] for row in rows for x in range(0, wide, 3))
    place, palette = _palette(found)
    lines = b"".join(b"\0" + bytes(place[row[x : x + 3]] for x in range(0, wide, 3)) for row in rows)
    head = struct.pack(">IIBBBBB", frame.width, frame.height, 8, 3, 0, 0, 0)  # 8 bits, by palette
    parts = ((b"IHDR", head), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _palette(found: Counter[bytes]) -> tuple[dict[bytes, int], list[bytes]]:
    """Return each colour's palette index: the 128 most frequent colours, then the most distant from all chosen."""
    palette: list[bytes] = []
    place, far = dict.fromkeys(found, 0), dict.fromkeys(found, 1 << 20)
    common = [colour for colour, _ in found.most_common(128)]
    for number in range(min(256, len(found))):
        new = common[number] if number < len(common) else max(far, key=far.__getitem__)
        palette.append(new)
        for colour, off in far.items():
            if (now := sum((a - b) ** 2 for a, b in zip(colour, new, strict=True))) < off:
                place[colour], far[colour] = number, now
    return place, palette


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Encode one chunk of a PNG: https://www.w3.org/TR/png-3/#5Chunk-layout."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def main(folder: Path) -> None:
    """Write all three screenshots into a folder."""
    for name, data in asyncio.run(screenshots()).items():
        (folder / f"dashboard-{name}.png").write_bytes(data)


async def screenshots() -> dict[str, bytes]:
    """Take all three screenshots, and return them by name."""
    found: dict[str, bytes] = {}
    async with async_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        async with gateway_setup() as setup:
            await calm(setup)
            found["calm"] = await take_screenshot(browser, setup, width=1440, height=1080, dark=True)
        async with gateway_setup() as setup:
            await outage(setup)
            found["outage"] = await take_screenshot(browser, setup, width=1440, height=1080)
            found["narrow"] = await take_screenshot(browser, setup, width=360, height=1200)
        await browser.close()
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
