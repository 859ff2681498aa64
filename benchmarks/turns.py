"""Latency and cost of turns: with a vendor in this process, and over websockets to the simulator in another one.

Prints milliseconds from push to the vendor's first byte, from push to first audio beyond the vendor's own, of an
interruption, of a provider that is known to be down and of one that hangs. Over the websocket: from a flush, and from
the first token, to the first audio, beside what a bare client gets; and from an interruption to silence. Then 200 turns
at once on one core, and the memory of a turn. Run: `make bench`, or `python benchmarks/turns.py` where steadyvoice is
installed. About a minute.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import time
import tracemalloc
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable
from statistics import median
from typing import Self

from aiohttp import ClientSession
from streams.simulator_process import simulator_process

from steadyvoice import (
    Accepted,
    AsyncConversation,
    AsyncTTSService,
    AsyncTurn,
    Audio,
    AudioChunk,
    AudioFormat,
    CircuitBreakerConfig,
    ElevenLabs,
    Ended,
    SpeechRequest,
    SynthesisOffer,
    TimeoutConfig,
    Tone,
)
from steadyvoice.audio.word_tones import synthesize_tones

TEXT = "It rains today. We stay at home, and we read a good book. Tomorrow the sun will shine again for all of us."
SENTENCE = "It rains today. "
ROUNDS = 50
AT_ONCE = 200
RATE = 24_000  # Hz
TOKEN = 0.02
"""Seconds between two tokens, as a fast language model writes."""
VENDOR = 0.1
"""Seconds from text to the vendor's first audio."""


class ConversationVendor:
    """Vendor in this process with a fixed latency, which speaks sentence by sentence."""

    local = False

    def __init__(self, name: str = "vendor", *, hangs: bool = False) -> None:
        self.name, self.hangs = name, hangs
        self.received: float | None = None

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Offer any voice, with timestamps."""
        return SynthesisOffer(request.format, "voice", timed=True, for_any_text=True)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Speak in word tones after the latency."""
        self.received = self.received or time.perf_counter()
        yield Accepted()
        await asyncio.sleep(1000 if self.hangs else VENDOR)
        pcm, times = synthesize_tones(request.text, sample_rate=offer.format.sample_rate)
        yield AudioChunk(pcm, times)

    async def aclose(self) -> None:
        """Do nothing."""


class Stream:
    """Text stream of the vendor."""

    def __init__(self, vendor: StreamingVendor, format: AudioFormat) -> None:
        self._vendor, self._rate = vendor, format.sample_rate
        self.released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.characters_sent = 0
        self._text, self._due = "", asyncio.Event()
        self._ready: list[str] = []
        self._finished = self._accepted = False
        self._seconds = 0.0

    @property
    def expects_audio(self) -> bool:
        """Whether flushed text waits."""
        return bool(self._ready) or self._finished

    def send(self, text: str) -> None:
        """Note text."""
        self._vendor.received = self._vendor.received or time.perf_counter()
        self._text += text
        self.characters_sent += len(text)

    def flush(self) -> None:
        """Speak what there is."""
        if self._text:
            self._ready.append(self._text)
            self._text = ""
        self._due.set()

    def finish(self) -> None:
        """Speak what there is, and end."""
        self.flush()
        self._finished = True

    def close(self) -> None:
        """Release the slot."""
        if not self.released.done():
            self.released.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Accepted | AudioChunk:
        if not self._accepted:
            self._accepted = True
            return Accepted()
        while not self._ready:
            if self._finished:
                self.close()
                raise StopAsyncIteration
            self._due.clear()
            await self._due.wait()
        await asyncio.sleep(1000 if self._vendor.hangs else VENDOR)
        pcm, times = synthesize_tones(self._ready.pop(0), sample_rate=self._rate)
        begin, self._seconds = self._seconds, self._seconds + len(pcm) / 2 / self._rate
        moved = type(times)(
            times.characters, tuple(begin + each for each in times.starts), tuple(begin + each for each in times.ends)
        )
        return AudioChunk(pcm, moved)


class StreamingVendor(ConversationVendor):
    """Vendor in this process that takes text while it is written."""

    def open_text_stream(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> Stream:
        """Return a stream."""
        return Stream(self, offer.format)

    async def prewarm(self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float) -> None:
        """Do nothing: there is no connection."""


async def first_audio(conversation: AsyncConversation, text: str = SENTENCE) -> tuple[float, float]:
    """Return the clock readings of a push and of the first audio."""
    turn = conversation.turn()
    pushed = time.perf_counter()
    turn.push(text)
    turn.end()
    heard = pushed
    async for event in turn:
        if isinstance(event, Audio):
            heard = time.perf_counter()
            break
    await turn.aclose()
    return pushed, heard


async def latencies(make: Callable[[], ConversationVendor]) -> None:
    """Print push to vendor, first audio over the vendor's, and interruption."""
    vendor = make()
    async with AsyncTTSService([vendor]) as tts:
        conversation = tts.conversation()
        # The first turn of a process imports modules and fills caches; it is not measured.
        await first_audio(conversation)
        to_vendor, over, interrupts = list[float](), list[float](), list[float]()
        for _ in range(ROUNDS):
            vendor.received = None
            pushed, heard = await first_audio(conversation)
            to_vendor.append((vendor.received or pushed) - pushed)
            over.append(heard - pushed - VENDOR)
            turn = conversation.turn()
            turn.push(TEXT)
            async for event in turn:
                if isinstance(event, Audio):
                    break
            began = time.perf_counter()
            await turn.interrupt(played=0.1)
            interrupts.append(time.perf_counter() - began)
    kind = "text stream" if isinstance(vendor, StreamingVendor) else "sentence by sentence"
    report(f"push to vendor, {kind}", to_vendor)
    report(f"first audio over the vendor's, {kind}", over)
    report(f"interruption, {kind}", interrupts)


async def outages() -> None:
    """Print what a provider that is known to be down costs, and one that hangs."""
    circuit = CircuitBreakerConfig.consecutive(1, cooldown_period=600)
    async with AsyncTTSService([ConversationVendor("down"), Tone()], circuit=circuit) as tts:
        tts.circuits["down"].force_open("benchmark")
        conversation = tts.conversation()
        times = [await first_audio(conversation) for _ in range(ROUNDS)]
        report("known to be down, local stand-in", [heard - pushed for pushed, heard in times])
    brisk = TimeoutConfig(connection_timeout=1, total_timeout=15, first_audio_timeout=0.5, stall_timeout=0.5)
    for kind in (ConversationVendor, StreamingVendor):
        over = list[float]()
        for _ in range(3):
            async with AsyncTTSService([kind("hangs", hangs=True), Tone()], timeouts=brisk) as tts:
                pushed, heard = await first_audio(tts.conversation())
                over.append(heard - pushed - 0.5)
        how = "text stream" if kind is StreamingVendor else "sentence by sentence"
        report(f"unknown hang, over the first-audio timeout, {how}", over)


async def over_websocket() -> None:
    """Print latencies over a websocket to the simulator, beside those of a client that only sends and receives."""
    with simulator_process(real_time_factor=0.3) as url:
        bare = await bare_client(url)
        report("websocket: text and flush until the first word has come, bare client", bare)
        async with AsyncTTSService([ElevenLabs("any", base_url=url)]) as tts:
            conversation = tts.conversation()
            await conversation.prewarm()
            await first_audio(conversation)  # not measured, as above
            await flushes_and_tokens(conversation, median(bare))
            await interruptions(conversation)


async def bare_client(url: str) -> list[float]:
    """Return the seconds from a flushed text until its first word has come, without steadyvoice."""
    first_word = synthesize_tones(SENTENCE, sample_rate=RATE)[1].words()[1].start
    query = f"model_id=eleven_flash_v2_5&output_format=pcm_{RATE}&sync_alignment=true"
    path = f"/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/multi-stream-input?{query}"
    times = list[float]()
    async with (
        ClientSession() as session,
        session.ws_connect(f"{url}{path}", headers={"xi-api-key": "any"}) as socket,
    ):
        for number in range(ROUNDS + 1):
            context = {"context_id": f"bare{number}"}
            await socket.send_json({"text": " ", **context})
            began = time.perf_counter()
            await socket.send_json({"text": SENTENCE, "flush": True, **context})
            seconds = 0.0
            while seconds < first_word:
                message = await socket.receive_json()
                seconds += len(b64decode(message.get("audio") or "")) / 2 / RATE
            times.append(time.perf_counter() - began)
            await socket.send_json({"close_context": True, **context})
            while not (await socket.receive_json()).get("isFinal"):
                pass
    return times[1:]


async def flushes_and_tokens(conversation: AsyncConversation, bare: float) -> None:
    """Print the latency of first audio, from a flush and from the first of several tokens."""
    flushed, tokens = list[float](), list[float]()
    for _ in range(ROUNDS):
        turn = conversation.turn()
        turn.push(SENTENCE.strip())
        began = time.perf_counter()
        turn.flush()
        flushed.append(await until_audio(turn) - began)
        turn = conversation.turn()
        began = time.perf_counter()
        for token in (*SENTENCE.split(), "We "):
            turn.push(f"{token} ")
            await asyncio.sleep(TOKEN)
        tokens.append(await until_audio(turn) - began)
    report("websocket: flush to first audio", flushed)
    report("websocket: the same beyond the bare client's", [each - bare for each in flushed])
    report(f"websocket: first of four tokens, {1000 * TOKEN:.0f} ms apart, to first audio", tokens)


async def until_audio(turn: AsyncTurn) -> float:
    """Return the clock reading of a turn's first audio, and end the turn."""
    async for event in turn:
        if isinstance(event, Audio):
            break
    heard = time.perf_counter()
    await turn.aclose()
    # The connection is closed, because nothing else stops the vendor, and the next one is opened.
    await asyncio.sleep(0.1)
    return heard


async def interruptions(conversation: AsyncConversation) -> None:
    """Print how long it takes from an interruption to its result, and until the reader has got the end."""
    results, ends = list[float](), list[float]()
    for _ in range(ROUNDS):
        turn = conversation.turn()
        turn.push(TEXT)
        silent = asyncio.get_running_loop().create_future()

        async def read(turn: AsyncTurn = turn, silent: asyncio.Future[float] = silent) -> None:
            async for event in turn:
                if isinstance(event, Ended):
                    silent.set_result(time.perf_counter())

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.2)
        began = time.perf_counter()
        await turn.interrupt(played=0.1)
        results.append(time.perf_counter() - began)
        ends.append(await silent - began)
        await reading
        await asyncio.sleep(0.1)
    report("websocket: interruption to its result", results)
    report("websocket: interruption to silence", ends)


async def at_once() -> None:
    """Print the processor time of many turns at once, and the memory of a turn."""
    async with AsyncTTSService([StreamingVendor()]) as tts:

        async def speak() -> None:
            turn = tts.conversation().turn()

            async def read() -> None:
                async for _ in turn:
                    pass

            reading = asyncio.create_task(read())
            for token in TEXT.split(" "):
                turn.push(f"{token} ")
                await asyncio.sleep(TOKEN)
            turn.end()
            await reading

        await speak()
        before = time.process_time()
        began = time.perf_counter()
        await asyncio.gather(*(speak() for _ in range(AT_ONCE)))
        used, elapsed = time.process_time() - before, time.perf_counter() - began
        print(f"{AT_ONCE} turns at once: {1000 * used / AT_ONCE:.1f} ms of processor time each, all in {elapsed:.1f} s")
        gc.collect()
        tracemalloc.start()
        conversation = tts.conversation()
        turns = []
        # Python's own allocations only: resident memory grows in steps that are larger than a turn.
        start = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            turn = conversation.turn()
            turn.push("It rains")
            turns.append(turn)
        await asyncio.sleep(0.05)
        size = (tracemalloc.get_traced_memory()[0] - start) / 100
        print(f"memory of an open turn: {size / 1024:.1f} KiB")
        tracemalloc.stop()
        await conversation.aclose()


def report(what: str, seconds: list[float]) -> None:
    """Print the median and the slowest of some durations."""
    print(f"{what}: median {1000 * median(seconds):.2f} ms, slowest {1000 * max(seconds):.2f} ms")


async def main() -> None:
    """Run all parts."""
    await latencies(ConversationVendor)
    await latencies(StreamingVendor)
    await over_websocket()
    await outages()
    await at_once()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    print(f"peak memory of the process: {peak:.0f} MB; processors: {os.cpu_count()}")


if __name__ == "__main__":
    asyncio.run(main())
