"""Dashboard in a browser."""
