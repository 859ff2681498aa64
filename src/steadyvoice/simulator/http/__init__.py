"""HTTP side of the simulator: listener, routes and responses."""
