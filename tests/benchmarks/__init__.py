"""Decisions of the benchmarks that can be tested without running them."""
