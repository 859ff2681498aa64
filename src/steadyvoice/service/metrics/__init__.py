"""Metrics: definitions, counts of calls and circuits, and values of the error state."""
