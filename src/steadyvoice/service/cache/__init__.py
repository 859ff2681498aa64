"""Speech cache: keys, storage, lookup, and coalescing of identical requests in flight."""
