"""`steadyvoice check`: configuration, keys, reachability, voices, store, and what follows when each provider fails."""
