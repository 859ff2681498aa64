"""A voice that keeps speaking when its provider does not."""
