"""Latency and cost of the gateway's websockets, beside the same clients at the vendor directly.

Prints the first audio of a turn at the simulated vendor and through the gateway, in alternation; 200 websockets whose
turns begin in the same moment, or within four seconds, token by token as a language model writes; turns a second at
saturation; processor time and memory of the gateway. Where LiveKit Agents and
`livekit-plugins-elevenlabs` are installed, also the first audio of that plugin, directly and at the gateway, and of
steadyvoice's.

Run: `python benchmarks/sockets.py` on Linux with two processors; half a minute. The gateway has one processor, the
vendor and the clients the other.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.processes import VENDOR, Running, gateway, vendor
from websockets.asyncio.client import ClientConnection, connect

from steadyvoice import AsyncTTSService, ElevenLabs

VOICE = "JBFqnCBsd6RMkjVDRZzb"
SENTENCES = ("It rains today. ", "We stay at home, and we read a good book. ")
TEXT = "".join(SENTENCES)
MODEL = "eleven_turbo_v2_5"
ROUNDS = 100
AT_ONCE = 200
BUSY, SECONDS = 32, 5.0
"""Websockets and seconds of the part at saturation."""
IMMEDIATE = VENDOR.replace("real_time_factor = 0.02", "real_time_factor = 0")
"""Settings of a vendor that sends its audio at once. The gateway waits for the message after the first word."""
TOKEN = 0.02
"""Seconds between two tokens of a fast language model."""

Turn = Callable[[ClientConnection, str], Awaitable[float]]


async def open_socket(url: str, mode: str = "true") -> ClientConnection:
    """Connect as LiveKit's plugin does; `mode` is that of `auto_mode`."""
    query = f"?model_id={MODEL}&output_format=pcm_24000&inactivity_timeout=180&sync_alignment=true&auto_mode={mode}"
    address = f"{url.replace('http', 'ws', 1)}/v1/text-to-speech/{VOICE}/multi-stream-input{query}"
    return await connect(address, additional_headers={"xi-api-key": "any"}, compression=None, max_size=None)


async def speak_sentences(socket: ClientConnection, name: str) -> float:
    """Speak a turn sentence by sentence, and return the seconds to its first audio."""
    await send(socket, {"text": " ", "voice_settings": {}, "context_id": name})
    began = time.perf_counter()
    for sentence in SENTENCES:
        await send(socket, {"text": sentence, "context_id": name, "flush": True})
    await send(socket, {"text": "", "context_id": name, "flush": True})
    await send(socket, {"context_id": name, "close_context": True})
    return await first_audio(socket) - began


async def speak_tokens(socket: ClientConnection, name: str) -> float:
    """Speak a turn token by token, and return the seconds from its last token to the end."""
    await send(socket, {"text": " ", "context_id": name})
    for token in TEXT.split():
        await send(socket, {"text": f"{token} ", "context_id": name})
        await asyncio.sleep(TOKEN)
    began = time.perf_counter()
    await send(socket, {"context_id": name, "flush": True})
    await send(socket, {"context_id": name, "close_context": True})
    await first_audio(socket)
    return time.perf_counter() - began


async def send(socket: ClientConnection, message: dict[str, Any]) -> None:
    """Send a message."""
    await socket.send(json.dumps(message))


async def first_audio(socket: ClientConnection) -> float:
    """Receive a turn to its end, and return the clock reading of its first audio. Raises RuntimeError for an error."""
    heard = None
    while True:
        message = str(await socket.recv())
        if heard is None and message.startswith('{"audio":"'):
            heard = time.perf_counter()
        if '"error"' in message[-300:]:
            raise RuntimeError(message[-300:])
        if '"isFinal":true' in message[-200:]:
            return heard or time.perf_counter()


@asynccontextmanager
async def sockets(url: str, count: int, mode: str = "true") -> AsyncIterator[list[ClientConnection]]:
    """Open websockets, each of which has spoken one turn."""
    opened = [await open_socket(url, mode) for _ in range(count)]
    for socket in opened:
        await speak_sentences(socket, "first")
    yield opened
    await asyncio.gather(*(socket.close() for socket in opened))


async def one_at_a_time(subjects: Sequence[Running]) -> None:
    """Print the first audio of turns that speak alone, at the vendor and at the gateway in alternation."""
    async with AsyncExitStack() as stack:
        opened = [(await stack.enter_async_context(sockets(each.url, 1)))[0] for each in subjects]
        times: list[list[float]] = [[], []]
        before = subjects[1].cpu()
        for number in range(ROUNDS):
            for socket, seconds in zip(opened, times, strict=True):
                seconds.append(await speak_sentences(socket, f"turn{number}"))
        used = subjects[1].cpu() - before
    report("one turn at a time, first audio at the vendor", times[0])
    report("one turn at a time, first audio at the gateway", times[1])
    report("difference, turn by turn", [ours - theirs for theirs, ours in zip(*times, strict=True)])
    print(f"processor time of the gateway: {1000 * used / ROUNDS:.1f} ms a turn")


async def at_once(subject: Running, what: str, turn: Turn, mode: str, within: float = 0.0) -> None:
    """Print how many turns that begin within some seconds fare, and what they cost."""

    async def speak(number: int, socket: ClientConnection) -> float:
        await asyncio.sleep(within * number / AT_ONCE)
        return await turn(socket, "turn")

    async with sockets(subject.url, AT_ONCE, mode) as opened:
        before = subject.cpu()
        seconds = await asyncio.gather(*(speak(number, socket) for number, socket in enumerate(opened)))
        used, memory = subject.cpu() - before, subject.sample(0.0).memory_mb
    report(f"{AT_ONCE} websockets, turns begin within {within:g} s, {what}", seconds)
    print(f"  processor time {1000 * used / AT_ONCE:.1f} ms a turn, memory {memory:.0f} MB")


async def saturated(subject: Running, what: str) -> None:
    """Print the turns a second of websockets that speak one after the other."""
    async with sockets(subject.url, BUSY) as opened:
        end = time.perf_counter() + SECONDS

        async def speak(socket: ClientConnection) -> int:
            count = 0
            while time.perf_counter() < end:
                await speak_sentences(socket, f"turn{count}")
                count += 1
            return count

        before, began = subject.cpu(), time.perf_counter()
        count = sum(await asyncio.gather(*map(speak, opened)))
        elapsed, used = time.perf_counter() - began, subject.cpu() - before
    print(
        f"{BUSY} websockets without a pause, {what}: {count / elapsed:.0f} turns/s, {1000 * used / count:.1f} ms each"
    )


async def plugins(subjects: Sequence[Running]) -> None:
    """Print the first audio of LiveKit's plugin at the vendor and at the gateway, and of steadyvoice's."""
    try:
        import aiohttp  # only here, as LiveKit itself
        from livekit.plugins import elevenlabs

        from steadyvoice.livekit import TTS
    except ImportError:
        print("LiveKit's plugin: not installed")
        return
    async with (
        aiohttp.ClientSession() as session,
        AsyncTTSService([ElevenLabs("any", base_url=subjects[0].url, voices={"default": VOICE})]) as service,
    ):
        theirs = [
            elevenlabs.TTS(
                base_url=f"{each.url}/v1", api_key="any", encoding="pcm_24000", voice_id=VOICE, http_session=session
            )
            for each in subjects
        ]
        names = ("LiveKit's plugin at the vendor", "LiveKit's plugin at the gateway", "steadyvoice's plugin")
        speakers = dict(zip(names, (*theirs, TTS(service, model=MODEL)), strict=True))
        times: dict[str, list[float]] = {name: [] for name in speakers}
        for number in range(ROUNDS // 2 + 1):
            for name, tts in speakers.items():
                seconds = await plugin_turn(tts)
                if number:
                    times[name].append(seconds)
        for name, seconds_of_all in times.items():
            report(f"{name}, first audio", seconds_of_all)
        for tts in speakers.values():
            await tts.aclose()


async def plugin_turn(tts: Any) -> float:
    """Speak a turn through a plugin, and return the seconds from its text to its first frame."""
    heard: float | None = None
    async with tts.stream() as stream:
        began = time.perf_counter()
        for token in TEXT.split():
            stream.push_text(f"{token} ")
        stream.end_input()
        async for _ in stream:
            heard = heard or time.perf_counter()
    return (heard or time.perf_counter()) - began


def report(what: str, seconds: Sequence[float]) -> None:
    """Print the median, the 99th percentile and the slowest of some durations."""
    ordered = sorted(seconds)
    late = ordered[int(len(ordered) * 0.99)]
    print(f"{what}: median {1000 * median(ordered):.1f} ms, p99 {1000 * late:.1f} ms")


async def measure(subjects: Sequence[Running]) -> None:
    """Run all parts."""
    await one_at_a_time(subjects)
    for subject, name in zip(subjects, ("the vendor", "the gateway"), strict=True):
        await at_once(subject, f"first audio at {name}", speak_sentences, "true")
        await at_once(subject, f"tokens, last token to the end at {name}", speak_tokens, "false", 4.0)
        await saturated(subject, name)
    await plugins(subjects)


def main() -> None:
    """Run the vendor and the gateway, and measure."""
    limits = f"max_connections = {4 * AT_ONCE}\nmax_active = {4 * AT_ONCE}\naccess_log = false"
    with (
        tempfile.TemporaryDirectory() as home,
        vendor(Path(home), 1, IMMEDIATE) as simulator,
        gateway(Path(home), 0, simulator.url, (), limits) as front,
    ):
        asyncio.run(measure((simulator, front)))


if __name__ == "__main__":
    main()
