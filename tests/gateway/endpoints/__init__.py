"""Speech endpoints and vendors' lists, seen through real HTTP clients."""
