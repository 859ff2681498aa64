"""Events, logs, snapshots and explanations."""
