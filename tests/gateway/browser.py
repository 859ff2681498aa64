"""Chromium, and a live gateway with simulated vendors in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, TypeVar

import aiohttp
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, ElevenLabs, OpenAICompatible, RetryConfig, Tone
from steadyvoice.breaker import Event, StateChanged
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection import actions
from tests.required_tools import require_tool

from .running_gateway import ELEVENLABS, Clock, elevenlabs_body

T = TypeVar("T")

CIRCUIT = CircuitBreakerConfig(failure_threshold=0.5, window_size=4, cooldown_period=60, success_threshold=1)
_VIOLATIONS = """
  addEventListener("securitypolicyviolation", (e) => console.error("CSP", e.violatedDirective, e.blockedURI));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser; skip the test where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    require_tool(found is not None, "chromium")
    # Chromium refuses to run its sandbox as root, as which CI runs in a container.
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=[*sandbox, "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class GatewayThread:
    """Gateway in a thread, which a test can break, heal, restart and call."""

    def __init__(self, *, server: dict[str, Any] | None = None, **settings: Any) -> None:
        self.clock = Clock()
        self.moves: list[StateChanged] = []
        self._server = {"port": 0, "log_texts": True, "access_log": False, **(server or {})}
        self._settings = settings  # of the service
        self._ready: Future[None] = Future()
        self._enough = asyncio.Event()
        self._thread = Thread(target=self._run, name="gateway")

    def __enter__(self) -> GatewayThread:
        self._thread.start()
        self._ready.result(timeout=30)
        return self

    def __exit__(self, *error: object) -> None:
        self.loop.call_soon_threadsafe(self._enough.set)
        self._thread.join(timeout=30)

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def context(self) -> GatewayContext:
        return self.gateway.context

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run work in the gateway's event loop."""
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(timeout=30)

    def break_vendor(self) -> None:
        """Let ElevenLabs refuse; four calls open its circuit."""

        async def work() -> None:
            self.sim.faults.set(Fault(actions.Refuse(status=503), endpoint="text-to-speech*"))

        self.run(work)
        self.call(4)

    def repair_vendor(self) -> None:
        """Let ElevenLabs answer again."""

        async def work() -> None:
            self.sim.faults.clear()
            self.service.reset_circuit_breaker(reason="a new scenario")
            for circuit in self.service.circuits.values():
                circuit.update(CIRCUIT)

        self.run(work)

    def call(self, times: int = 1) -> None:
        """Make so many calls, one after the other."""

        async def work() -> None:
            async with aiohttp.ClientSession() as client:
                for _ in range(times):
                    path = f"{self.url}{ELEVENLABS}?output_format=pcm_16000"
                    async with client.post(path, json=elevenlabs_body()) as answer:
                        await answer.read()

        self.run(work)

    async def cut_readers(self) -> None:
        """End all event streams, as a proxy does with idle connections."""
        event_log = self.gateway.context.event_log
        # Readers notice within one iteration; the log is then opened again for those that reconnect.
        event_log.close()
        await asyncio.sleep(0.05)
        event_log.closed = False

    def stop(self) -> None:
        """Stop the gateway."""
        # The page reconnects to the address that it was loaded from.
        self._server["port"] = int(self.url.rpartition(":")[2])
        self.run(self.gateway.stop)

    def start(self) -> None:
        """Start another gateway at the same address."""

        async def work() -> None:
            self.gateway = await self._opened()

        self.run(work)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            # An error before the start is raised in the test; one after it in this thread, where it is printed.
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        async with Simulator(voice="tones") as self.sim:
            providers = ElevenLabs("any", base_url=self.sim.url), OpenAICompatible("any", base_url=self.sim.url + "/v1")
            settings: Any = {
                "circuit": CIRCUIT,
                "retry": RetryConfig(max_attempts=1),
                "clock": self.clock,
            } | self._settings
            async with AsyncTTSService([*providers, Tone()], **settings) as self.service:
                self.service.subscribe(self._note)
                self.gateway = await self._opened()
                self._ready.set_result(None)
                await self._enough.wait()
                await self.gateway.stop()

    async def _opened(self) -> Gateway:
        return await Gateway(self.service, ServerConfig(**self._server)).__aenter__()

    def _note(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self.moves.append(event)


@dataclass
class PageVisit:
    """Open page with all its requests and errors."""

    page: Page
    requests: list[Request] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def record_console(self, message: ConsoleMessage) -> None:
        """Record errors of the browser's console."""
        if message.type == "error":
            self.errors.append(f"{message.text} {message.location}")

    def ignore_errors(self, *parts: str) -> None:
        """Ignore expected errors."""
        self.errors = [each for each in self.errors if not any(part in each for part in parts)]

    def open(self, url: str) -> Page:
        """Open the dashboard, and wait for its first card."""
        self.page.goto(url)
        self.page.locator(".card").first.wait_for()
        return self.page


@contextmanager
def page_visit(browser: Browser, **options: Any) -> Iterator[PageVisit]:
    """Open a window; at its end, fail on errors and on violations of the policy."""
    context: BrowserContext = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(10_000)
    context.add_init_script(_VIOLATIONS)
    seen = PageVisit(context.new_page())
    seen.page.on("request", lambda request: seen.requests.append(request))
    seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
    seen.page.on("console", seen.record_console)
    try:
        yield seen
    finally:
        context.close()
    assert not seen.errors, seen.errors


def card(page: Page, name: str = "elevenlabs") -> Any:
    """Return a provider's card."""
    return page.locator(f'[data-provider="{name}"]')


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for a condition outside of the page."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, f"it never came: {what}"
        time.sleep(0.02)
