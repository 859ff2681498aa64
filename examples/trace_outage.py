"""OpenTelemetry: an outage as its traces tell it, from the first failure to the recovery.

Needs the extra `steadyvoice[otel]`, and no API key: the vendor is simulated. The spans are printed here; an application
would give its SDK an exporter that sends them to a collector, and the service would need `telemetry=True` alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, ElevenLabs, RetryConfig, TelemetryConfig, Tone
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection import actions

TEXT = "Good morning, this is the hotline. Please hold the line, somebody will be with you in a moment."
BRISK = CircuitBreakerConfig(
    window_size=4, minimum_calls=4, cooldown_period=0.3, cooldown_jitter=0, success_threshold=1
)


async def main() -> None:
    """Speak before, during and after an outage, and print the traces."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = TelemetryConfig(tracer_provider=provider)
    async with Simulator(voice="tones") as sim:
        vendor = ElevenLabs("no-key-needed", base_url=sim.url)
        once = RetryConfig(max_attempts=1)
        async with AsyncTTSService([vendor, Tone()], circuit=BRISK, retry=once, telemetry=telemetry) as tts:
            for _ in range(2):
                await speak(tts)
            sim.faults.set(Fault(actions.Cut(after=2.0)))  # the stream breaks off after two seconds of audio
            await speak(tts)
            sim.faults.set(Fault(actions.Refuse(status=503)))
            for _ in range(3):
                await speak(tts)
            sim.faults.clear()
            await asyncio.sleep(0.4)
            await speak(tts)
    print(*story(spans.get_finished_spans()), sep="\n")


async def speak(tts: AsyncTTSService) -> None:
    """Speak as to a listener, who hears a voice from the first words on."""
    async for _ in tts.stream(TEXT, format="pcm_16000"):
        pass


def story(spans: Sequence[ReadableSpan]) -> list[str]:
    """Return all traces as lines: what happened, what it was part of, and what led to it."""
    numbers: dict[int, int] = {}
    for span in sorted(spans, key=lambda each: each.start_time or 0):
        numbers.setdefault(ids(span)[0], len(numbers) + 1)
    names = {ids(span): f"{span.name} [{numbers[ids(span)[0]]}]" for span in spans}
    lines = []
    for trace, number in numbers.items():
        within = [span for span in spans if ids(span)[0] == trace]
        for span in sorted(within, key=lambda each: (each.parent is not None, each.start_time or 0)):
            indent = "      " if span.parent else f"[{number}]   "
            lines.append(indent + described(span, names))
    return lines


def described(span: ReadableSpan, names: dict[tuple[int, int], str]) -> str:
    """Return a span in a line."""
    facts = dict(span.attributes or {})
    keys = ("outcome", "attempt.role", "attempt.result", "circuit.reason")
    words = [str(facts[f"steadyvoice.{key}"]) for key in keys if f"steadyvoice.{key}" in facts]
    words += [f"({facts['error.type']!s})"] if "error.type" in facts else []
    for event in span.events:
        if event.name == "switched":
            change = dict(event.attributes or {})
            speaker, character = change["steadyvoice.switch.to"], change["steadyvoice.switch.character"]
            words.append(f"- {speaker!s} goes on at character {character!s}")
    for link in span.links:
        meaning = str((link.attributes or {})["steadyvoice.link"]).replace("_", " ")
        words.append(f"-> {meaning}: {names[link.context.trace_id, link.context.span_id]}")
    return f"{span.name}: {' '.join(words)}"


def ids(span: ReadableSpan) -> tuple[int, int]:
    """Return the ids of a span's trace and of the span."""
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


if __name__ == "__main__":
    asyncio.run(main())
