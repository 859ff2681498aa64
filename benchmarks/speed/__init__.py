"""Cost of a guarded call, compared with other circuit breakers."""
