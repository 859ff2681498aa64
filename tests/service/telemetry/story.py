"""Spans as a story: traces in the order in which they began, each span with what a reader looks at first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from steadyvoice import TelemetryConfig

SHOWN = {
    "steadyvoice.outcome": "{}",
    "steadyvoice.circuit.cause": "{}",
    "steadyvoice.attempt.role": "{}",
    "steadyvoice.attempt.result": "{}",
    "error.type": "{}",
}


class CollectedSpans:
    """Spans of one service, collected in memory."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.config = TelemetryConfig(tracer_provider=self.provider, **options)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """Spans that have ended."""
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans of this name."""
        return [span for span in self.spans if span.name == name]

    def children(self, span: ReadableSpan) -> list[ReadableSpan]:
        """Return the children of a span, in the order in which they began."""
        found = [each for each in self.spans if each.parent and each.parent.span_id == id_of(span)]
        return sorted(found, key=lambda each: each.start_time or 0)

    def linked(self, span: ReadableSpan) -> list[tuple[str, ReadableSpan]]:
        """Return the spans that a span is linked to, each with what the link means."""
        by_id = {id_of(each): each for each in self.spans}
        return [(str((link.attributes or {})["steadyvoice.link"]), by_id[link.context.span_id]) for link in span.links]

    def story(self) -> list[str]:
        """Return all traces as lines, each indented by the span's depth."""
        roots = [span for span in self.spans if span.parent is None]
        return [line for root in sorted(roots, key=lambda each: each.start_time or 0) for line in self._lines(root, 0)]

    def _lines(self, span: ReadableSpan, depth: int) -> Iterable[str]:
        attributes = values(span)
        words = [str(attributes[name]) for name in SHOWN if name in attributes]
        links = [f"-> {meaning} {other.name}" for meaning, other in self.linked(span)]
        yield "  " * depth + " ".join([span.name, *words, *links])
        for child in self.children(span):
            yield from self._lines(child, depth + 1)


def id_of(span: ReadableSpan) -> int:
    """Return the id of a span."""
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def values(span: ReadableSpan) -> Mapping[str, Any]:
    """Return the attributes of a span."""
    return dict(span.attributes or {})
