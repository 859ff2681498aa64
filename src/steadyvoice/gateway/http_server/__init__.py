"""HTTP/1.1 server of the gateway: sockets, connections and their limits, on uvicorn's protocol."""
