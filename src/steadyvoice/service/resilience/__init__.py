"""Resilience around provider calls: failover, retries, error handling, concurrency limits, latency and hedging."""
