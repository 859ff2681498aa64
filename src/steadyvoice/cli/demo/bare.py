"""The same without us: a client as one would write it in five minutes, asking the vendor and believing the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiohttp

from steadyvoice.audio.accept import plausible
from steadyvoice.cli.demo.chronicle import BareAnswer, BareOutcome
from steadyvoice.cli.demo.record import FORMAT, RATE

TIMEOUT = 240.0
"""Seconds: the vendor's own Python SDK allows as much when nobody says otherwise.

https://github.com/elevenlabs/elevenlabs-python, `client.py`, `_defaulted_timeout`
"""


class BareClient:
    """Asks in the background, each utterance for itself, so that one that hangs delays no other."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url, self._clock = url, clock
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        self._asked: dict[int, float] = {}
        self._tasks: dict[int, asyncio.Task[BareAnswer]] = {}

    def ask(self, number: int, text: str) -> None:
        """Send it off."""
        self._asked[number] = self._clock()
        self._tasks[number] = asyncio.create_task(self._answer(number, text))

    async def end(self) -> tuple[BareAnswer, ...]:
        """Stop the clock: give what each one has come to, and hang up on those that still wait."""
        now = self._clock()
        waiting = [number for number, task in self._tasks.items() if not task.done()]
        await self.aclose()
        return tuple(
            BareAnswer(number, self._asked[number], now, "still waiting", f"Its timeout is {TIMEOUT:g} s.")
            if number in waiting
            else task.result()
            for number, task in self._tasks.items()
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Hang up."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._session.close()

    async def _answer(self, number: int, text: str) -> BareAnswer:
        outcome, told = await self._ask(text)
        return BareAnswer(number, self._asked[number], self._clock(), outcome, told)

    async def _ask(self, text: str) -> tuple[BareOutcome, str]:
        path = f"{self._url}/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream"
        try:
            async with self._session.post(
                path, params={"output_format": FORMAT}, json={"text": text}, headers={"xi-api-key": "demo"}
            ) as reply:
                audio = await reply.read()
                if reply.status != 200:
                    return "failed", f"HTTP {reply.status}."
        except (aiohttp.ClientError, TimeoutError) as error:
            return "failed", f"{type(error).__name__}."
        seconds = len(audio) / 2 / RATE
        if not plausible(text, seconds):
            return "cut short", f"Only {seconds:.1f} s of audio came, and it was called a success."
        return "spoken", ""
