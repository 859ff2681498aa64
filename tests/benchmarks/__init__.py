"""The gateway, knocked at over real sockets, with the simulator behind it."""
