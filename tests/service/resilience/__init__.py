"""Tests of retries, holds, limits, admission control and recovery."""
