"""Metrics, access log, event log and statistics of the gateway."""
