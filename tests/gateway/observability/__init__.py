"""Metrics, logs, alerts and the state file."""
