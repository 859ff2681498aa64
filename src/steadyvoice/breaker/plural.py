"""Counts in sentences: 1 failure, 2 failures, 0.5 failures."""

from __future__ import annotations


def counted(number: float, noun: str) -> str:
    """Return a number and its noun, in the singular for exactly one."""
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"


def were(number: float) -> str:
    """Return the verb for so many."""
    return "was" if number == 1 else "were"
