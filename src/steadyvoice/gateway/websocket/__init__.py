"""Websocket endpoints of the gateway."""
