"""HTTP server: connections, limits, half-close, shutdown."""
