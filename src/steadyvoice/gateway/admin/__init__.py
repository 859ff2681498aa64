"""Admin API: state, settings and manual control of the circuits."""
