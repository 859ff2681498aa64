"""Resilience around provider calls: error handling, retries, concurrency, latency and hedging."""
