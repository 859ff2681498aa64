"""Tests of a service's life: closing, forking, reconfiguration, streams and their resources."""
