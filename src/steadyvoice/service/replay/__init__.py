"""Replay of a journal: what callers would have met with under other settings, beside what happened."""
