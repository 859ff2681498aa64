"""Several gateway processes on one port: their supervisor, and what a worker shares with the others."""
