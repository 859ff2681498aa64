"""Shared parts of the streaming benchmarks: a simulator in a process of its own, and a byte counter."""
