"""The breaker under threads, signals, forks, garbage collection and trio."""
