"""WebSocket side of the simulator: routes, sessions and connections."""
