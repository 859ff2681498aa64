"""Fast lane: usual speech requests between a client's and a vendor's connection, without a task."""
