"""HTTP side of the simulator: listener, routes, responses, and the faults applied to them."""
