"""Admin API."""
