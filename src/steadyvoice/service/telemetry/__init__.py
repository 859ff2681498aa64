"""OpenTelemetry: spans of calls, attempts and circuits."""
