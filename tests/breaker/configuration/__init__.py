"""Settings, arguments, registry, persistence and documentation of the breaker."""
