"""Speech cache: keys, storage, lookup and coalescing of equal requests."""
